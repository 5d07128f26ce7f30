"""The predictions that an ensemble starts from, found in a workspace."""

from collections.abc import Sequence
from pathlib import Path

from core.categories import CATEGORIES
from core.detectors import find_detectors
from core.errors import MissingStageError
from core.fused_sources import PRIOR, find_fused_sources
from core.predictions import Predictions
from core.progress import say
from core.runs import read_meta
from core.workspace import Corpus, Workspace
from ensembles.crossfit import check_out_of_sample
from ensembles.member import Member
from ensembles.outside import outside_member
from ensembles.stackers import STACKERS


def gather(corpus: Corpus, workspace: Workspace, *, outside: Sequence[Path] = ()) -> list[Member]:
    """The category prior, then the newest run of each fusion strategy and of each detector.

    Last come members made elsewhere, from their folders (see `outside_member`).

    A specialist whose say is already in a fused source is left out; so is one without an image in
    valid, which nothing could weigh, and every run on another corpus.

    Raises:
        MissingStageError: neither a detector nor a fused source is there; the command is named.
        ConfigError, PredictionsError: a folder from outside can not be a member.
        LeakageError: a member was fitted on images that it predicts, or on others of their groups.
    """
    fused, contained = _fused(corpus, workspace)
    detectors = [
        _member(run.category, run.folder)
        for run in find_detectors(workspace, corpus.fingerprint)
        if run.name not in contained
    ]
    if not fused and not detectors and not outside:
        raise MissingStageError(
            f"neither a detector nor a fused source of this corpus is in {workspace.root}; run"
            f" `python cli.py train-backbone -w {workspace.root}`, then `fuse`, then this again"
        )
    if unknown := [member.name for member in detectors if not len(member.valid)]:
        say(f"left out, no image in valid to weigh it by: {', '.join(unknown)}")
    members = [_prior(corpus), *fused, *(member for member in detectors if len(member.valid))]
    for folder in outside:
        taken = {member.name for member in members} | set(STACKERS)
        members.append(outside_member(folder, corpus, taken=taken))
    for split in ("valid", "test"):
        check_out_of_sample([getattr(member, split) for member in members], corpus.table)
    return members


def _fused(corpus: Corpus, workspace: Workspace) -> tuple[list[Member], set[str]]:
    found = find_fused_sources(workspace, corpus.fingerprint)
    members = [_member(run.strategy, run.folder) for run in found if run.strategy != PRIOR]
    return members, {name for run in found for name in run.contains}


def _member(name: str, folder: Path) -> Member:
    return Member(
        name=name,
        origin=f"{folder.name} {read_meta(folder)['made']}",
        valid=Predictions.load(folder / "predictions" / "valid"),
        test=Predictions.load(folder / "predictions" / "test"),
    )


def _prior(corpus: Corpus) -> Member:
    return Member(
        name=PRIOR,
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
