"""From members to concept sets: stacker and decision chosen by cross-fitting, refitted on valid."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from core.images import ImageTable
from core.metrics import EmptyTruth, wins
from core.progress import progress
from core.runs.ensemble import Rung
from core.runs.fused import PRIOR
from core.runs.workspace import Corpus
from ensembles.background import Background
from ensembles.config import EnsembleConfig
from ensembles.decisions.choose import Choice, choose_rule
from ensembles.member import Member
from ensembles.members import constant_concepts
from ensembles.pairs import Floats, are_true
from ensembles.rungs import every_rung
from ensembles.single import MemberStacker
from ensembles.stacking.candidates import Candidates, make_candidates
from ensembles.stacking.crossfit import cross_fit, image_f1_of
from ensembles.stacking.registry import STACKERS
from ensembles.stacking.stacker import Stacker
from ensembles.tuning import Tuning

SUBMISSION = "submission"
"""The name of the decided concept sets beside those of members and stackers."""


@dataclass(frozen=True, kw_only=True)
class SecondStage:
    """The second stage, chosen on valid and refitted on all of it.

    Attributes:
        stacker_name: the stacker that was kept.
        stacker: fitted on all of valid.
        choice: the decision rule, and what the rules scored.
        rungs: from the prior to the decision, the simplest first, kept or not; the last one is
            what is submitted.
        tried: stackers and single members that were tried, by name.
        out_of_fold: (N, L) probabilities of the kept stacker on valid, fitted without the fold.
    """

    stacker_name: str
    stacker: Stacker
    choice: Choice
    rungs: Sequence[Rung]
    tried: Sequence[Rung]
    out_of_fold: Floats


def fit_second_stage(
    corpus: Corpus,
    members: Sequence[Member],
    valid: ImageTable,
    config: EnsembleConfig,
    *,
    empty_truth: EmptyTruth,
) -> SecondStage:
    """Choose and fit the second stage on labelled images of valid.

    Probabilities come from the best single member, or from a stacker that beats it by the margin,
    and so on to the last stacker: something less simple is used only where it pays.

    Args:
        corpus: the prepared corpus.
        members: the sources, the prior among them.
        valid: labelled images of valid.
        config: settings.
        empty_truth: what an image without true concepts scores where the decisions are judged.
    """
    targets = valid.targets(corpus.labels)
    candidates = candidates_of(corpus, members, valid, split="valid", config=config)
    true = are_true(targets, rows=candidates.rows, columns=candidates.columns)
    options: dict[str, Callable[[], Stacker]] = {m.name: _alone(m.name) for m in members}
    options |= {name: STACKERS[name] for name in config.stackers}

    tried: dict[str, Rung] = {}
    out_of_fold: dict[str, Floats] = {}  # of the candidates only: dense matrices would not fit
    with progress("stacking", total=len(options), unit="stackers") as advance:
        for name, make in options.items():
            out_of_fold[name] = cross_fit(make, candidates, true, folds=valid.folds)
            scores = image_f1_of(
                candidates,
                out_of_fold[name],
                true,
                targets=targets,
                folds=valid.folds,
                empty_truth=empty_truth,
            )
            tried[name] = Rung(name=name, image_f1=scores)
            advance(1)
    whole = [m.name for m in members if _covers(m, valid)]
    ladder = _climb_while_it_pays(tried, whole, config)
    kept = ladder[-1].name
    probs = candidates.to_dense(out_of_fold[kept])
    choice = choose_rule(
        probs,
        targets,
        labels=corpus.labels,
        categories=valid.categories,
        folds=valid.folds,
        tuning=Tuning(
            empty_truth=empty_truth,
            caution=config.caution,
            min_true=config.min_true,
            margin=config.margin,
            nomissing=config.nomissing and empty_truth == "left out",
        ),
        always=constant_concepts(corpus, at_least=config.constant_from),
    )
    return SecondStage(
        stacker_name=kept,
        stacker=options[kept]().fit(candidates, true),
        choice=choice,
        rungs=[
            *every_rung(ladder, tried, choice, config, words=CALIBRATED),
            Rung(
                name=SUBMISSION,
                title=f"submission: {describe(choice)}",
                image_f1=choice.image_f1,
                state="submitted",
            ),
        ],
        tried=list(tried.values()),
        out_of_fold=probs,
    )


def _climb_while_it_pays(
    tried: Mapping[str, Rung], members: Sequence[str], config: EnsembleConfig
) -> list[Rung]:
    """The prior, the best of the members, and each stacker that beats what was kept before it."""
    best = max((tried[name] for name in members), key=lambda rung: rung.mean)
    ladder = [tried[PRIOR]]
    if best.name != PRIOR:
        ladder.append(replace(best, title=f"best member: {best.name}"))
    for name in config.stackers:
        if wins(tried[name].image_f1 - ladder[-1].image_f1, margin=config.margin):
            ladder.append(tried[name])
    return ladder


def _covers(member: Member, valid: ImageTable) -> bool:
    """Whether it could be submitted alone: a specialist leaves most images to the others."""
    return len(set(valid.image_ids).intersection(member.valid.image_ids)) >= 0.9 * len(valid)


def background_of(corpus: Corpus) -> Background:
    """What the labels of the training images say."""
    train = corpus.table.of(split="train")
    train = train.take(train.labelled)
    return Background.of(train.targets(corpus.labels), train.categories)


def candidates_of(
    corpus: Corpus,
    members: Sequence[Member],
    table: ImageTable,
    *,
    split: str,
    config: EnsembleConfig,
    background: Background | None = None,
) -> Candidates:
    """Candidate pairs of images of valid or test; who makes several counts the training once."""
    background = background or background_of(corpus)
    return make_candidates(
        [member.source(split, table, corpus) for member in members],
        background=background,
        category_weights=background.category_weights(table.categories),
        floor=config.floor,
        top=config.top,
        most=config.most,
    )


def describe(choice: Choice) -> str:
    """The decision rule in words."""
    rule = choice.rule
    if rule.thresholds is None or rule.kind != "thresholds":
        return CALIBRATED[rule.kind]
    if rule.thresholds.level == "concept":
        return f"thresholds, {len(rule.thresholds.by_concept)} concepts with their own"
    if rule.thresholds.level == "category":
        return f"thresholds, {len(rule.thresholds.by_category)} categories with their own"
    return f"one threshold, {rule.thresholds.global_:.2f}"


CALIBRATED: Mapping[str, str] = {
    "top-k": "expected number of concepts",
    "ratio": "ratio of expectations",
    "expected-f1": "expected F1",
    "general-f1": "expected F1 with a corrected number of concepts",
}


def _alone(name: str) -> Callable[[], Stacker]:
    return lambda: MemberStacker(name)
