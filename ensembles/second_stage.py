"""From members to concept sets: stacker and decision chosen by cross-fitting, then refitted.

What was tried becomes rungs of the ladder, and the score without a member is what it is worth.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array

from core.categories import CATEGORIES
from core.editions import EmptyTruth
from core.images import ImageTable
from core.metrics import ScoredImages, Scores, beats_by_margin, bootstrap, mean_in_order
from core.progress import progress
from core.runs.ensemble import DECISION_RULES
from core.runs.fused import PRIOR
from core.runs.ladder import LadderStep, Rung, RungState
from core.runs.workspace import Corpus
from ensembles.config import EnsembleConfig
from ensembles.decisions.choose import RuleChoice, SaidByLabels, choose_rule
from ensembles.decisions.prior_adjustment import PriorAdjustment
from ensembles.decisions.rule import BY_THRESHOLDS, DecisionRule
from ensembles.decisions.thresholds import Tuning
from ensembles.members import Member, constant_concepts
from ensembles.pairs import Floats
from ensembles.stacking.candidates import Candidates, make_candidates
from ensembles.stacking.crossfit import cross_fit, image_f1_of
from ensembles.stacking.label_statistics import LabelStatistics
from ensembles.stacking.linear import MemberStacker
from ensembles.stacking.registry import STACKERS
from ensembles.stacking.stacker import Stacker

SUBMISSION = "submission"
"""The name of the decided concept sets beside those of members and stackers."""


@dataclass(frozen=True, kw_only=True)
class SecondStage:
    """The second stage, chosen by cross-fitting and refitted on all scored images.

    Attributes:
        stacker_name: the stacker that was kept.
        stacker: fitted on all of them.
        choice: the decision rule, and what the rules scored.
        rungs: from the prior to the decision, the simplest first, kept or not; the last one is
            what is submitted.
        tried: stackers and single members that were tried, by name.
        images: the N images that it was fitted and judged on.
        statistics: what labels of other images say of them, see `statistics_of_scored`.
        out_of_fold: (N, L) probabilities of the kept stacker on them, fitted without the fold.
        disagreement: (N,) how far the members are apart: see `Candidates.disagreement`.
    """

    stacker_name: str
    stacker: Stacker
    choice: RuleChoice
    rungs: Sequence[Rung]
    tried: Sequence[Rung]
    images: ScoredImages
    statistics: Sequence[LabelStatistics]
    out_of_fold: csr_array
    disagreement: Scores


def fit_second_stage(
    corpus: Corpus,
    members: Sequence[Member],
    *,
    scored: ImageTable,
    config: EnsembleConfig,
    empty_truth: EmptyTruth,
) -> SecondStage:
    """Choose and fit the second stage on labelled images.

    Probabilities come from the best single member, or from a stacker that beats it by the margin,
    and so on to the last stacker: something less simple is used only where it pays.

    Args:
        corpus: the prepared corpus.
        members: the sources, the prior among them.
        scored: labelled images that every member predicts out of sample.
        config: settings.
        empty_truth: what an image without true concepts scores where the decisions are judged.
    """
    images = ScoredImages.of(scored, corpus.labels, empty_truth=empty_truth)
    statistics = statistics_of_scored(corpus)
    candidates = candidates_of(
        corpus, members, table=scored, split=corpus.scored, config=config, statistics=statistics
    )
    true = candidates.are_true(images.targets)
    options: dict[str, Callable[[], Stacker]] = {m.name: _alone(m.name) for m in members}
    options |= {name: STACKERS[name] for name in config.stackers}

    tried: dict[str, Rung] = {}
    out_of_fold: dict[str, Floats] = {}  # of the candidates only: dense matrices would not fit
    with progress("stacking", total=len(options), unit="stackers") as advance:
        for name, make in options.items():
            out_of_fold[name] = cross_fit(make, candidates, targets=true, folds=images.folds)
            scores = image_f1_of(candidates, out_of_fold[name], true=true, images=images)
            tried[name] = Rung(name=name, image_f1=scores)
            advance(1)
    whole = [m.name for m in members if _covers(m, scored)]
    ladder = _climb_while_it_pays(tried, whole, config)
    kept = ladder[-1].name
    probs = candidates.to_sparse(out_of_fold[kept])
    choice = choose_rule(
        probs,
        images,
        tuning=tuning_of(config, empty_truth),
        **said_by_labels(
            corpus,
            statistics,
            constant_from=config.constant_from,
            strength=config.prior_adjustment,
        ),
    )
    return SecondStage(
        stacker_name=kept,
        stacker=options[kept]().fit(candidates, true),
        choice=choice,
        rungs=[
            *every_rung(ladder, tried, choice=choice, config=config),
            Rung(
                name=SUBMISSION,
                title=f"submission: {describe(choice)}",
                image_f1=choice.image_f1,
                state="submitted",
            ),
        ],
        tried=list(tried.values()),
        images=images,
        statistics=statistics,
        out_of_fold=probs,
        disagreement=candidates.disagreement(out_of_fold[kept]),
    )


def tuning_of(config: EnsembleConfig, empty_truth: EmptyTruth) -> Tuning:
    """How thresholds are tuned, and by how much something less simple must win."""
    return Tuning(
        caution=config.caution,
        min_true=config.min_true,
        margin=config.margin,
        nomissing=config.nomissing and empty_truth == "left out",
    )


def said_by_labels(
    corpus: Corpus,
    statistics: Sequence[LabelStatistics],
    *,
    constant_from: int,
    strength: float,
) -> SaidByLabels:
    """What decisions take from the labels of other images: see `choose_rule`.

    Args:
        corpus: the prepared corpus.
        statistics: of `statistics_of_scored`.
        constant_from: see `EnsembleConfig`.
        strength: of the adjustment by the prior; 0 for none.
    """
    said: SaidByLabels = {"always": constant_concepts(corpus, at_least=constant_from)}
    if corpus.crossfit:
        said["always_by_fold"] = {
            fold: constant_concepts(view, at_least=constant_from)
            for fold, view in enumerate(corpus.views)
        }
    if strength:
        own = [
            PriorAdjustment.of(each.rate, labels=corpus.labels, strength=strength)
            for each in (label_statistics_of(corpus), *statistics)
        ]
        said["adjustment"] = own[0]
        if corpus.crossfit:
            said["adjustment_by_fold"] = dict(enumerate(own[1:]))
    return said


def _climb_while_it_pays(
    tried: Mapping[str, Rung], members: Sequence[str], config: EnsembleConfig
) -> list[Rung]:
    """The prior, the best of the members, and each stacker that beats what was kept before it."""
    best = max((tried[name] for name in members), key=lambda rung: rung.mean)
    ladder = [tried[PRIOR]]
    if best.name != PRIOR:
        ladder.append(replace(best, title=f"best member: {best.name}"))
    for name in config.stackers:
        if beats_by_margin(tried[name].image_f1 - ladder[-1].image_f1, margin=config.margin):
            ladder.append(tried[name])
    return ladder


def _covers(member: Member, scored: ImageTable) -> bool:
    """Whether it could be submitted alone: a specialist leaves most images to the others."""
    return len(set(scored.image_ids).intersection(member.scored.image_ids)) >= 0.9 * len(scored)


def label_statistics_of(corpus: Corpus) -> LabelStatistics:
    """What the labels say of the images that sources learn from."""
    learnt = corpus.table.of(split=corpus.learnt_from)
    learnt = learnt.take(learnt.labelled).as_training_images()
    return LabelStatistics.of(learnt.targets(corpus.labels), learnt.categories)


def statistics_of_scored(corpus: Corpus) -> tuple[LabelStatistics, ...]:
    """What the labels say of the images that each view of the corpus learns from."""
    return tuple(map(label_statistics_of, corpus.views))


def candidates_of(
    corpus: Corpus,
    members: Sequence[Member],
    *,
    table: ImageTable,
    split: str,
    config: EnsembleConfig,
    statistics: Sequence[LabelStatistics] = (),
) -> Candidates:
    """Candidate pairs of scored or test images, with what labels of other images say of them.

    Args:
        split: `test`, or `Corpus.scored`.
        statistics: of `statistics_of_scored`; who makes several candidates counts once.
    """
    if split == "test":
        statistics = [label_statistics_of(corpus)]
    statistics = statistics or statistics_of_scored(corpus)
    masks = [np.ones(len(table), dtype=np.bool_)]
    if len(statistics) > 1:
        masks = [table.folds == fold for fold in range(len(statistics))]
    weights = np.empty((len(table), len(CATEGORIES)), dtype=np.float32)
    names = np.array(table.categories, dtype=np.str_)
    for mask, of_mask in zip(masks, statistics, strict=True):
        weights[mask] = of_mask.category_weights(names[mask].tolist())
    return make_candidates(
        [member.source(split, table, corpus=corpus) for member in members],
        label_statistics=list(zip(masks, statistics, strict=True)),
        category_weights=weights,
        floor=config.floor,
        top=config.top,
        most=config.most,
    )


def describe(choice: RuleChoice) -> str:
    """The decision rule in words."""
    own = choice.rule.adjustment
    return _described(choice.rule) + (f", prior adjustment {own.strength:g}" if own else "")


def _described(rule: DecisionRule) -> str:
    if rule.thresholds is None or rule.kind != BY_THRESHOLDS:
        return DECISION_RULES[rule.kind].title
    if rule.thresholds.level == "concept":
        return f"thresholds, {len(rule.thresholds.by_concept)} concepts with their own"
    if rule.thresholds.level == "category":
        return f"thresholds, {len(rule.thresholds.by_category)} categories with their own"
    return f"one threshold, {rule.thresholds.global_:.2f}"


def _alone(name: str) -> Callable[[], Stacker]:
    return lambda: MemberStacker(name)


QUICK = ("mean", "greedy", "logistic", "logistic-offsets", "logistic-concepts")
"""Stackers that are fitted again without each member: seconds where a forest takes minutes."""


def quick_stacker(fitted: SecondStage) -> str | None:
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
    *,
    scored: ImageTable,
    config: EnsembleConfig,
    fitted: SecondStage,
) -> list[LadderStep]:
    """A step a member: cross-fitted sample F1 without it, and what is gained by having it.

    Candidate pairs and all features are made anew without the member, at one threshold as stackers
    are compared. Two members that say the same are worth nothing each, though one of them may be
    needed: the gains do not add up.

    Returns:
        Steps named after the members; `gain` is the paired difference of the stack with and
        without it, with its 95 % interval. None without a quick stacker or with one member.
    """
    name = quick_stacker(fitted)
    if name is None or len(members) < 2 or not config.leave_one_out:
        return []
    whole = next(rung.image_f1 for rung in fitted.tried if rung.name == name)
    images = fitted.images
    steps = []
    with progress("leaving out", total=len(members), unit="members") as advance:
        for member in members:
            others = [other for other in members if other is not member]
            pairs = candidates_of(
                corpus,
                others,
                table=scored,
                split=corpus.scored,
                config=config,
                statistics=fitted.statistics,
            )
            true = pairs.are_true(images.targets)
            probs = cross_fit(STACKERS[name], pairs, targets=true, folds=images.folds)
            scores = image_f1_of(pairs, probs, true=true, images=images)
            f1 = bootstrap(scores, groups=images.groups)
            gain = bootstrap(whole - scores, groups=images.groups)
            steps.append(LadderStep(name=member.name, f1=f1, gain=gain))
            advance(1)
    return steps


LEVELS: Mapping[str, str] = {
    name: DECISION_RULES[name].title for name in ("global", "category", "concept")
}


def every_rung(
    kept: Sequence[Rung],
    tried: Mapping[str, Rung],
    *,
    choice: RuleChoice,
    config: EnsembleConfig,
) -> list[Rung]:
    """From the prior to the decision, the simplest first, with what did not pay.

    Shown are the prior, the best member, the mean, the best other stacker, the best exact
    thresholds, the best rule on calibrated probabilities, and all stackers that were kept.

    Args:
        kept: prior, best member and stackers that paid, the simplest first.
        tried: members and stackers by name.
        choice: the decision rule.
        config: settings.
    """
    paid = [rung.name for rung in kept]
    shown = {"mean", *paid}
    if others := [name for name in config.stackers if name != "mean"]:
        shown.add(max(others, key=lambda name: tried[name].mean))
    rungs = [rung for rung in kept if rung.name not in config.stackers]
    for name in config.stackers:
        if name in shown:
            title = "mean of the members" if name == "mean" else f"stacker: {name}"
            rungs.append(replace(tried[name], title=title, state=_state(name in paid)))
    thresholds = _thresholds(choice, margin=config.margin, below=kept[-1].image_f1)
    return [*rungs, *thresholds, *_calibrated(choice)]


def _thresholds(choice: RuleChoice, *, margin: float, below: Scores) -> list[Rung]:
    """The plain threshold where it adds to the probabilities, and the best exact thresholds.

    Args:
        below: (N,) F1 of the probabilities at one threshold, without constant concepts and with
            images left empty.
    """
    rungs = []
    plain = choice.rungs["plain"]
    if not np.array_equal(plain, below, equal_nan=True):
        added = ["constant concepts always"] if choice.rule.always else []
        added += ["no image empty"] if choice.rule.nomissing else []
        added += ["adjusted by the prior"] if choice.rule.adjustment else []
        title = f"{DECISION_RULES['plain'].title}, {', '.join(added)}"
        rungs.append(Rung(name="plain", title=title, image_f1=plain, is_rule=True))
    level: str = choice.levels.level
    pays = beats_by_margin(choice.rungs[level] - plain, margin=margin)  # as `choose_rule` asks
    if not pays:
        level = _best(choice, list(LEVELS))
    rungs.append(
        Rung(
            name=level,
            title=LEVELS[level],
            image_f1=choice.rungs[level],
            state=_state(pays),
            is_rule=True,
        )
    )
    return rungs


def _calibrated(choice: RuleChoice) -> list[Rung]:
    """The rule on calibrated probabilities that was kept, else the best one; none of none."""
    rules = [name for name in choice.rungs if name not in ("plain", *LEVELS)]
    if not rules or choice.calibrated_model is None:
        return []
    pays = choice.kept in rules
    name = choice.kept if pays else _best(choice, rules)
    kind = choice.calibrated_model.calibration.kind
    return [
        Rung(
            name=name,
            title=f"decision: {DECISION_RULES[name].title} ({kind} calibration)",
            image_f1=choice.rungs[name],
            state=_state(pays),
            is_rule=True,
        )
    ]


def _best(choice: RuleChoice, rules: Sequence[str]) -> str:
    return max(rules, key=lambda name: mean_in_order(choice.rungs[name]))


def _state(pays: bool) -> RungState:
    return "kept" if pays else "not kept"
