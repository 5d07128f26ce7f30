"""The sources that take part in an ensemble, with what they say of valid and of test.

They are found in a workspace, or in folders of predictions that a user names.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.categories import CATEGORIES
from core.errors import ConfigError, LeakageError, MissingStageError, PredictionsError, as_typed
from core.images import ImageTable
from core.predictions import AnyPredictions, Predictions, read_predictions, restrict
from core.progress import say
from core.runs.detectors import DetectorRun, find_runs, newest_of_each_preset
from core.runs.fused import PRIOR, find_fused_sources
from core.runs.workspace import Corpus, Workspace, is_run
from core.storage.folders import is_complete, read_meta
from ensembles.stacking.crossfit import check_out_of_sample
from ensembles.stacking.registry import STACKERS
from ensembles.stacking.sources import Source


@dataclass(frozen=True, kw_only=True)
class Member:
    """A source of the ensemble.

    Attributes:
        name: as a reader would call it; no two members share one.
        folder: where it lies, resolved; None for the prior.
        origin: run folder and when it was made; empty for the prior, which is counted afresh; a
            digest of what was made elsewhere.
        valid, test: its predictions.
    """

    name: str
    folder: Path | None
    origin: str
    valid: AnyPredictions
    test: AnyPredictions

    def source(self, split: str, table: ImageTable, *, corpus: Corpus) -> Source:
        """What it knows of these images of `valid` or `test`, under its own name."""
        predictions = self.valid if split == "valid" else self.test
        source = Source.of(predictions, image_ids=table.image_ids, labels=corpus.labels)
        return replace(source, name=self.name)


def gather_members(
    corpus: Corpus, workspace: Workspace, *, outside: Sequence[Path] = ()
) -> list[Member]:
    """The category prior, the newest run of each fusion strategy, and of each detector and preset.

    Last come members from their folders (see `outside_members`): made elsewhere, or runs that would
    else be passed over.

    A specialist that a fused source already includes is left out; so is one without an image in
    valid, which nothing could weigh, and every run on another corpus. One line says which members
    there are and what was left out.

    Raises:
        MissingStageError: neither a detector nor a fused source is there; the command is named.
        ConfigError, PredictionsError: a folder from outside can not be a member.
        LeakageError: a member was fitted on images that it predicts, or on others of their groups.
    """
    sources = find_fused_sources(workspace, corpus.fingerprint)
    runs = find_runs(workspace, corpus.fingerprint)
    detectors = newest_of_each_preset(runs)
    if not any(run.strategy != PRIOR for run in sources) and not detectors and not outside:
        raise MissingStageError(
            f"neither a detector nor a fused source of this corpus is in {workspace.root}; run"
            f" `{as_typed(f'train-backbone -w {workspace.root}')}`, then `fuse`, then this again"
        )
    contained = {name for run in sources for name in run.contains}
    folders = {run.strategy: run.folder for run in sources if run.strategy != PRIOR}
    folders |= {name: run.folder for name, run in detectors.items() if run.name not in contained}
    found = [_member(name, folder) for name, folder in folders.items()]
    members = [_prior(corpus), *(member for member in found if len(member.valid))]
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
        parts.append(f"left out, no image in valid to weigh it by: {', '.join(unknown)}")
    if merged:
        parts.append(f"already in a fused source: {', '.join(merged)}")
    if n_older:
        n_runs = "1 run" if n_older == 1 else f"{n_older} runs"
        parts.append(f"{n_runs} superseded by a newer one of the same category and preset")
    return "; ".join(parts)


def _check(members: Sequence[Member], corpus: Corpus) -> None:
    for member in members:
        try:
            check_out_of_sample([member.valid, member.test], corpus.table)
        except LeakageError as error:  # several may be of one category, as which they are known
            raise LeakageError(f"member {member.name}: {error}") from None


def _member(name: str, folder: Path) -> Member:
    return Member(
        name=name,
        folder=folder.resolve(),
        origin=f"{folder.name} {read_meta(folder)['made']}",
        valid=Predictions.load(folder / "predictions" / "valid"),
        test=Predictions.load(folder / "predictions" / "test"),
    )


def _prior(corpus: Corpus) -> Member:
    return Member(
        name=PRIOR,
        folder=None,
        origin="",
        valid=corpus.prior.predict(corpus.table.of(split="valid")),
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
    fusion strategy does. Images of the split that it does not predict and concepts that it does not
    have are unknown to it, as to a specialist; its images and concepts that the corpus does not
    have are left out. One line says how many of each.

    Args:
        folders: the last part is the member's name; a detector's run is called by its category as
            well, `DRCT/finetune-0a1b2c3d`.
        corpus: the prepared corpus.
        beside: the members from the workspace.

    Raises:
        ConfigError: a name is taken.
        PredictionsError: a folder is missing or unfinished, or it has no image of valid.
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
        if name in {*known.values(), *STACKERS, _DECIDED}:
            raise ConfigError(f"--member {given}: the name {name!r} is taken; rename the folder")
        known[folder] = name
        found.append(_read(folder, name, corpus, given=given))
    return found


def _name(folder: Path) -> str:
    category = read_meta(folder).get("category") if is_complete(folder) else None
    return f"{category}/{folder.name}" if category else folder.name


def _read(folder: Path, name: str, corpus: Corpus, *, given: Path) -> Member:
    home = folder / "predictions" if (folder / "predictions").is_dir() else folder
    whole = {split: read_predictions(home / split) for split in ("valid", "test")}
    parts = {}
    for split, predictions in whole.items():
        ids = corpus.table.of(split=split).image_ids
        parts[split] = restrict(predictions, frozenset(ids), labels=corpus.labels)
    if not len(parts["valid"]):
        raise PredictionsError(f"--member {given}: no image of valid in it to weigh it by")
    say(_coverage(name, whole, parts, corpus))
    return Member(
        name=name,
        folder=folder,
        origin=_digest(home),
        valid=parts["valid"],
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
    labels = parts["valid"].labels
    n_odd = len(whole["valid"].labels) - len(labels)
    return (
        f"member {name}: {', '.join(told)}, {len(labels):,} of {len(corpus.labels):,} concepts;"
        f" what is missing is unknown to it; left out {n_foreign:,} images and {n_odd:,} concepts"
        " that the corpus lacks"
    )


def _digest(home: Path) -> str:
    """Of all files: what was made elsewhere may be changed in place."""
    digest = hashlib.sha256()
    for split in ("valid", "test"):
        read_meta(home / split)
        for path in sorted((home / split).iterdir()):
            if path.suffix in (".npy", ".txt"):
                digest.update(path.name.encode())
                with path.open("rb") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
    return f"sha256 {digest.hexdigest()[:16]}"
