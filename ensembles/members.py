"""The sources that take part in an ensemble, with what they say of the scored images and of test.

They are found in a workspace, or in folders of predictions that a user names.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.categories import CATEGORIES, UNKNOWN
from core.errors import ConfigError, LeakageError, MissingStageError, PredictionsError
from core.images import ImageTable
from core.predictions import AnyPredictions, read_predictions, restrict
from core.progress import say
from core.runs.detectors import GLOBAL, DetectorRun, find_runs, newest_of_each_preset
from core.runs.fused import PRIOR, FusedSource, find_guesses, newest_fused_members
from core.runs.out_of_fold import (
    check_out_of_sample,
    fold_folders,
    load_folds,
    prior_out_of_fold,
    read_folds,
)
from core.runs.workspace import Corpus, Workspace, is_run
from core.storage.documents import plain_file
from core.storage.folders import is_complete, read_meta
from core.storage.text import brief
from ensembles.stacking.registry import STACKERS
from ensembles.stacking.sources import Source


@dataclass(frozen=True, kw_only=True)
class Member:
    """A source of the ensemble.

    Attributes:
        name: as a reader would call it; no two members share one.
        folder: where it lies, resolved; None for the prior of given categories.
        origin: run folder and when it was made; empty for the prior of given categories, which is
            counted afresh; a digest of what was made elsewhere.
        scored: its predictions of the images that a second stage is fitted on, out of sample.
        test: its predictions of test.
    """

    name: str
    folder: Path | None
    origin: str
    scored: AnyPredictions
    test: AnyPredictions

    def source(self, split: str, table: ImageTable, *, corpus: Corpus) -> Source:
        """What it knows of these images, under its own name.

        Args:
            split: `test`, or `Corpus.scored`.
        """
        predictions = self.test if split == "test" else self.scored
        source = Source.of(predictions, image_ids=table.image_ids, labels=corpus.labels)
        return replace(source, name=self.name)


def gather_members(
    corpus: Corpus, workspace: Workspace, *, outside: Sequence[Path] = ()
) -> list[Member]:
    """The category prior, and the newest runs of fusion and of detectors.

    Of fusion these are the newest of each strategy on the features of each encoder, of detectors
    those of each category and preset.

    Last come members from their folders (see `outside_members`): made elsewhere, or runs that would
    else be passed over.

    A specialist that a fused source already includes is left out; so is one without a scored
    image, which nothing could weigh, and every run on another corpus. One line says which members
    there are and what was left out. Of images without a category, all of which a specialist
    predicts, it covers those that `fuse` guessed to be of its own.

    Raises:
        MissingStageError: neither a detector nor a fused source is there; the command is named.
        ConfigError, PredictionsError: a folder from outside can not be a member.
        LeakageError: a member was fitted on images that it predicts, or on others of their groups.
    """
    named = newest_fused_members(workspace, corpus.fingerprint)
    sources = list(named.values())
    runs = find_runs(workspace, corpus.fingerprint)
    detectors = newest_of_each_preset(runs)
    if not any(run.strategy != PRIOR for run in sources) and not detectors and not outside:
        raise MissingStageError(
            f"neither a detector nor a fused source of this corpus is in {workspace.root}; run"
            f" `{workspace.command('train-backbone')}`, then `fuse`, then this again"
        )
    contained = {name for run in sources for name in run.contains}
    found = [
        _member(name, run.folder, scored=corpus.scored)
        for name, run in named.items()
        if run.strategy != PRIOR
    ]
    guesses = find_guesses(workspace, corpus)
    found += [
        _of_its_images(
            _member(name, run.folder, scored=corpus.scored),
            run.category,
            corpus=corpus,
            guesses=guesses,
        )
        for name, run in detectors.items()
        if run.name not in contained
    ]
    members = [_prior(corpus, sources), *(member for member in found if len(member.scored))]
    members += outside_members(outside, corpus, beside=members)
    say(_line(members, found, runs, contained))
    _check(members, corpus)
    return members


def _line(
    members: Sequence[Member],
    found: Sequence[Member],
    runs: Sequence[DetectorRun],
    contained: Collection[str],
) -> str:
    """Which members there are, and what was left out of those found and of the detectors' runs."""
    used, newest = {member.folder for member in members}, newest_of_each_preset(runs)
    unused = [run for run in runs if run.folder.resolve() not in used]
    unknown = [member.name for member in found if member.folder not in used]
    merged = [name for name, run in newest.items() if run in unused and run.name in contained]
    n_older = sum(run not in newest.values() for run in unused)
    parts = [f"members: {', '.join(member.name for member in members)}"]
    if unknown:
        parts.append(f"left out, no labelled image to weigh it by: {', '.join(unknown)}")
    if merged:
        parts.append(f"already in a fused source: {', '.join(merged)}")
    if n_older:
        n_runs = "1 run" if n_older == 1 else f"{n_older} runs"
        parts.append(f"{n_runs} superseded by a newer one of the same category and preset")
    return "; ".join(parts)


def _check(members: Sequence[Member], corpus: Corpus) -> None:
    for member in members:
        try:
            check_out_of_sample([member.scored, member.test], corpus.table)
        except LeakageError as error:  # several may be of one category, as which they are known
            raise LeakageError(f"member {member.name}: {error}") from None


def _member(name: str, folder: Path, *, scored: str) -> Member:
    return Member(
        name=name,
        folder=folder.resolve(),
        origin=f"{folder.name} {read_meta(folder)['made']}",
        scored=load_folds(folder / "predictions", scored, copied=False),
        test=load_folds(folder / "predictions", "test", copied=False),
    )


def _of_its_images(
    member: Member, category: str, *, corpus: Corpus, guesses: Mapping[str, str]
) -> Member:
    """A detector with what it says of images of its category, given or else guessed, alone."""
    if category == GLOBAL:
        return member
    known = zip(corpus.table.image_ids, corpus.table.categories, strict=True)
    own = frozenset(i for i, given in known if (given or guesses.get(i)) == category)
    return replace(
        member,
        scored=restrict(member.scored, own, labels=member.scored.labels),
        test=restrict(member.test, own, labels=member.test.labels),
    )


def _prior(corpus: Corpus, sources: Sequence[FusedSource]) -> Member:
    """The category prior: of given categories, or of the guesses of `fuse` where some lack one."""
    guessed = [run for run in sources if run.strategy == PRIOR]
    asked = [corpus.table.of(split=split).categories for split in (corpus.scored, "test")]
    if guessed and any(UNKNOWN in categories for categories in asked):
        return _member(PRIOR, guessed[0].folder, scored=corpus.scored)
    return Member(
        name=PRIOR,
        folder=None,
        origin="",
        scored=prior_out_of_fold(corpus),
        test=corpus.prior.predict(corpus.table.of(split="test")),
    )


def constant_concepts(corpus: Corpus, *, at_least: int) -> dict[str, tuple[str, ...]]:
    """Concepts that stand on every training image of a category with that many images.

    They are decided for every image of the category, whatever the members say. With `at_least` 0
    there are none.
    """
    if not at_least:
        return {}
    constant = {c: corpus.prior.constant(c, at_least=at_least) for c in CATEGORIES}
    return {category: cuis for category, cuis in constant.items() if cuis}


_DECIDED = "submission"


def outside_members(
    folders: Sequence[Path], corpus: Corpus, *, beside: Sequence[Member]
) -> list[Member]:
    """The members in these folders, each once; of one that is a member already a line says so.

    A folder holds `valid` and `test`, or `predictions` with these, as the run of a detector or of a
    fusion strategy does. Where train and valid were dealt into folds together, it may hold a folder
    a fold, `labelled-1of5` and so on, in place of `valid`. Images that it does not predict and
    concepts that it does not have are unknown to it, as to a specialist; its images and concepts
    that the corpus does not have are left out. One line says how many of each.

    Args:
        folders: the last part is the member's name; a detector's run is called by its category as
            well, `DRCT/finetune-0a1b2c3d`.
        corpus: the prepared corpus.
        beside: the members from the workspace.

    Raises:
        ConfigError: a name is taken.
        PredictionsError: a folder is missing or unfinished, or it has no scored image.
    """
    known = {member.folder: member.name for member in beside}
    found: list[Member] = []
    for given in folders:
        folder = given.resolve()
        if folder.name == "predictions" and is_run(folder.parent):
            folder = folder.parent
        if folder in known:
            say(f"--member {given}: already a member, {known[folder]}")
            continue
        name = _name(folder)
        if name != brief(name):
            raise ConfigError(
                f"--member {given}: the folder's name has signs that are not seen, or more than"
                " 200; rename it"
            )
        if name in {*known.values(), *STACKERS, _DECIDED}:
            raise ConfigError(f"--member {given}: the name {name!r} is taken; rename the folder")
        known[folder] = name
        found.append(_read(folder, name, corpus, given=given))
    return found


def _name(folder: Path) -> str:
    """The member's name; of what was made elsewhere only a category that there is counts."""
    category = read_meta(folder).get("category") if is_complete(folder) else None
    if category is not None and category in (GLOBAL, *CATEGORIES):
        return f"{category}/{folder.name}"
    return folder.name


def _read(folder: Path, name: str, corpus: Corpus, *, given: Path) -> Member:
    home = folder / "predictions" if (folder / "predictions").is_dir() else folder
    scored = corpus.scored
    # Who fitted on train alone knows no fold, but valid is out of sample all the same.
    found = scored if all(map(is_complete, fold_folders(home, scored))) else "valid"
    whole = {scored: read_folds(home, found), "test": read_predictions(home / "test")}
    parts = {}
    for split, predictions in whole.items():
        ids = corpus.table.of(split=split).image_ids
        parts[split] = restrict(predictions, frozenset(ids), labels=corpus.labels)
    if not len(parts[scored]):
        raise PredictionsError(f"--member {given}: no {scored} image in it to weigh it by")
    say(_coverage(name, whole, parts, corpus))
    return Member(
        name=name,
        folder=folder,
        origin=_digest([*fold_folders(home, found), home / "test"]),
        scored=parts[scored],
        test=parts["test"],
    )


def _coverage(
    name: str, whole: dict[str, AnyPredictions], parts: dict[str, AnyPredictions], corpus: Corpus
) -> str:
    told = []
    for split, part in parts.items():
        n = len(corpus.table.of(split=split))
        told.append(f"{len(part):,} of {n:,} {split} images")
    n_foreign = sum(len(whole[split]) - len(parts[split]) for split in parts)
    labels = parts[corpus.scored].labels
    n_odd = len(whole[corpus.scored].labels) - len(labels)
    return (
        f"member {name}: {', '.join(told)}, {len(labels):,} of {len(corpus.labels):,} concepts;"
        f" what is missing is unknown to it; left out {n_foreign:,} images and {n_odd:,} concepts"
        " that the corpus lacks"
    )


def _digest(folders: Sequence[Path]) -> str:
    """Of all files: what was made elsewhere may be changed in place."""
    digest = hashlib.sha256()
    for folder in folders:
        read_meta(folder)
        for path in sorted(folder.iterdir()):
            if path.suffix in (".npy", ".txt"):
                digest.update(path.name.encode())
                with plain_file(path).open("rb") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
    return f"sha256 {digest.hexdigest()[:16]}"
