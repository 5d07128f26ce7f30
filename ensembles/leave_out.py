"""What each member is worth to the stack: the score without it."""

from collections.abc import Sequence

from core.images import ImageTable
from core.metrics import EmptyTruth, bootstrap
from core.progress import progress
from core.runs.ensemble import Step
from core.runs.workspace import Corpus
from ensembles.config import EnsembleConfig
from ensembles.member import Member
from ensembles.second_stage import SecondStage, background_of, candidates_of
from ensembles.stacking.crossfit import cross_fit, image_f1_of
from ensembles.stacking.registry import STACKERS

QUICK = ("mean", "greedy", "logistic", "logistic-offsets", "logistic-concepts")
"""Stackers that are fitted again without each member: seconds where a forest takes minutes."""


def judge(fitted: SecondStage) -> str | None:
    """The stacker that members are worth something to; None where no quick one was tried.

    That is the kept one if it is quick, else the best quick one: to a single member the others are
    worth nothing, and a forest would be grown once a member and fold.
    """
    quick = [rung for rung in fitted.tried if rung.name in QUICK]
    if not quick:
        return None
    if fitted.stacker_name in QUICK:
        return fitted.stacker_name
    return max(quick, key=lambda rung: rung.mean).name


def leave_one_out(
    corpus: Corpus,
    members: Sequence[Member],
    valid: ImageTable,
    config: EnsembleConfig,
    fitted: SecondStage,
    *,
    empty_truth: EmptyTruth,
) -> list[Step]:
    """A step a member: cross-fitted sample F1 without it, and what is gained by having it.

    Candidate pairs and all features are made anew without the member, at one threshold as stackers
    are compared. Two members that say the same are worth nothing each, though one of them may be
    needed: the gains do not add up.

    Returns:
        Steps named after the members; `gain` is the paired difference of the stack with and
        without it, with its 95 % interval. None without a quick stacker or with one member.
    """
    name = judge(fitted)
    if name is None or len(members) < 2 or not config.leave_one_out:
        return []
    whole = next(rung.image_f1 for rung in fitted.tried if rung.name == name)
    targets = valid.targets(corpus.labels)
    background = background_of(corpus)
    steps = []
    with progress("leaving out", total=len(members), unit="members") as advance:
        for member in members:
            others = [other for other in members if other is not member]
            pairs = candidates_of(
                corpus, others, valid, split="valid", config=config, background=background
            )
            true = pairs.true(targets)
            probs = cross_fit(STACKERS[name], pairs, true, folds=valid.folds)
            scores = image_f1_of(
                pairs, probs, true, targets=targets, folds=valid.folds, empty_truth=empty_truth
            )
            f1 = bootstrap(scores, groups=valid.groups)
            gain = bootstrap(whole - scores, groups=valid.groups)
            steps.append(Step(name=member.name, f1=f1, gain=gain))
            advance(1)
    return steps
