"""The predictions that an ensemble starts from, found in a workspace."""

from collections.abc import Collection, Sequence
from pathlib import Path

from core.categories import CATEGORIES
from core.errors import LeakageError, MissingStageError
from core.predictions import Predictions
from core.progress import say
from core.runs.detectors import DetectorRun, find_runs, newest_of_each_preset
from core.runs.fused import PRIOR, find_fused_sources
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from ensembles.member import Member
from ensembles.outside import outside_members
from ensembles.stacking.crossfit import check_out_of_sample


def gather(corpus: Corpus, workspace: Workspace, *, outside: Sequence[Path] = ()) -> list[Member]:
    """The category prior, the newest run of each fusion strategy, and of each detector and preset.

    Last come members from their folders (see `outside_members`): made elsewhere, or runs that would
    else be passed over.

    A specialist whose say is already in a fused source is left out; so is one without an image in
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
            f" `python cli.py train-backbone -w {workspace.root}`, then `fuse`, then this again"
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
