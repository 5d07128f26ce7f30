"""Forecasts of simulated detectors where test differs in mix, in sharpness, or in its sources.

    python -m benchmarks.quality.bench_forecast [N_SEEDS] [N_IMAGES]

Fourteen clusters of real label sets are sources. Images are points that tell their label set, their
source and noise; a detector of `simulated` sees eleven of the sources well. Three
sources, drawn anew by each seed, it has never met: there it sees little, and reports as if it saw
much. Tests are

    alike        images of the eleven sources, as valid
    other mix    of these, three of the seven categories alone
    sharper      of these, reported log odds 1.6 times as large and 0.7 lower
    new source   images of the three sources
    a third new  of these a third, the rest alike

and each is forecast by the probabilities alone (before), and with a look at distances (after).
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD

from benchmarks.machine import cpu_name
from benchmarks.quality.simulated import LabelSets, Setting, read_label_sets, simulate
from core.metrics import ScoredImages, image_f1
from ensembles.config import EnsembleConfig
from ensembles.decisions.choose import RuleChoice, choose_rule
from ensembles.decisions.thresholds import Tuning
from ensembles.distance.features import as_points
from ensembles.distance.left_out import LabelledPoints
from ensembles.distance.model import DistanceModel, NearPoints
from ensembles.ensemble import falls_back
from ensembles.forecast.forecast import ForecastModel
from ensembles.forecast.interval import Forecast, Lie

N_SOURCES, N_NEW = 14, 3
STRENGTH, STRENGTH_NEW = 3.5, 1.2
SEEN = Setting(name="seen", hardness=0.35, by_category=True)
UNSEEN = Setting(name="unseen", hardness=0.35, by_category=True, sharpness=2.5)
_DIRECTIONS = 20
_CONFIG = EnsembleConfig()

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class World:
    """Images with what a detector reports of them.

    Attributes:
        sets: label sets.
        sources: (N,) number of each image's source.
        points: (N, D).
        reported: (N, L) probabilities, in sources that the detector has met.
        blind: the same in sources that it has not.
        learnt, test, new: rows of the images that it learnt from, of others of their sources, and
            of those of new sources.
    """

    sets: LabelSets
    sources: Rows
    points: Floats
    reported: Floats
    blind: Floats
    learnt: Rows
    test: Rows
    new: Rows

    @classmethod
    def drawn(cls, sets: LabelSets, *, seed: int) -> "World":
        """Sources, points and detectors of a seed."""
        rng = np.random.default_rng(seed)
        matrix = sets.targets.matrix.astype(np.float64)
        rarity = np.log(len(sets.kinds) / np.maximum(matrix.sum(axis=0), 1))
        found = TruncatedSVD(_DIRECTIONS, random_state=0).fit_transform(
            matrix.multiply(rarity).tocsr()
        )
        found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        sources = KMeans(N_SOURCES, n_init=1, random_state=seed).fit_predict(found).astype(np.intp)
        looks = 0.4 * rng.standard_normal((N_SOURCES, _DIRECTIONS)) / np.sqrt(_DIRECTIONS)
        noise = 0.5 * rng.standard_normal(found.shape) / np.sqrt(_DIRECTIONS)
        new = np.isin(sources, rng.choice(N_SOURCES, size=N_NEW, replace=False))
        drawn = simulate(sets, SEEN, strength=STRENGTH, seed=seed)
        blind = simulate(sets, UNSEEN, strength=STRENGTH_NEW, seed=seed + 1000)
        return cls(
            sets=sets,
            sources=sources,
            points=as_points([(found + looks[sources] + noise).astype(np.float32)]),
            reported=drawn.reported,
            blind=blind.reported,
            learnt=np.flatnonzero(~new & drawn.valid),
            test=np.flatnonzero(~new & drawn.test),
            new=np.flatnonzero(new),
        )


def tests_of(world: World, *, seed: int) -> dict[str, tuple[Rows, Floats]]:
    """By name, rows of a test and (n, L) what is reported of them."""
    rng, test = np.random.default_rng(seed), world.test
    seen = world.reported[test]
    kinds = rng.choice(7, size=3, replace=False)
    some = rng.choice(test, size=min(len(test), 2 * len(world.new)), replace=False)
    bent = expit(1.6 * logit(np.clip(seen, 1e-6, 1 - 1e-6)) - 0.7).astype(np.float32)
    mixed = test[np.isin(world.sets.kinds[test], kinds)]
    return {
        "alike": (test, seen),
        "other mix": (mixed, world.reported[mixed]),
        "sharper": (test, bent),
        "new source": (world.new, world.blind[world.new]),
        "a third new": (
            np.concatenate([some, world.new]),
            np.concatenate([world.reported[some], world.blind[world.new]]),
        ),
    }


def judge(world: World, *, seed: int) -> dict[str, tuple[float, Forecast, Forecast]]:
    """By test its score, and its forecast before and after."""
    sets, learnt = world.sets, world.learnt
    names, folds = np.array(sets.categories), np.arange(len(learnt)) % 5
    images = ScoredImages(
        targets=sets.targets.rows(learnt),
        labels=sets.labels,
        categories=names[learnt].tolist(),
        groups=[""] * len(learnt),
        folds=folds.astype(np.int16),
        empty_truth="left out",
    )
    reported = world.reported[learnt]
    tuning = Tuning(
        caution=_CONFIG.caution,
        min_true=_CONFIG.min_true,
        margin=_CONFIG.margin,
        nomissing=_CONFIG.nomissing,
    )
    choice = choose_rule(reported, images, tuning=tuning)
    model = ForecastModel.of(choice, reported, images=images)
    distance = _distance(world, images)
    assert model is not None
    assert distance is not None
    return {
        name: _of_test(world, rows, probs, choice=choice, model=model, distance=distance)
        for name, (rows, probs) in tests_of(world, seed=seed).items()
    }


def _distance(world: World, images: ScoredImages) -> DistanceModel | None:
    rows = world.learnt
    points = LabelledPoints(
        points=world.points[rows],
        categories=images.categories,
        groups=images.groups,
        folds=images.folds,
        targets=images.targets,
        sources=np.unique(world.sources[rows], return_inverse=True)[1],
        source_names=[f"source {number}" for number in np.unique(world.sources[rows])],
    )
    near = NearPoints(
        points=points.points,
        categories=points.categories,
        groups=points.groups,
        folds=points.folds,
    )
    return DistanceModel.fit(points, near, features=(), empty_truth="left out")


def _of_test(
    world: World,
    rows: Rows,
    probs: Floats,
    *,
    choice: RuleChoice,
    model: ForecastModel,
    distance: DistanceModel,
) -> tuple[float, Forecast, Forecast]:
    sets = world.sets
    names, labels = np.array(sets.categories)[rows].tolist(), sets.labels
    groups = [""] * len(rows)
    shift = model.shift(probs, categories=names, groups=groups, labels=labels)
    rule = choice.fallback if falls_back(choice.rule, shift) else choice.rule
    decided = rule.decide(probs, categories=names, labels=labels)
    truth = image_f1(sets.targets.rows(rows), decided, empty_truth="left out")
    plain = model.expected(decided, probs, categories=names, labels=labels)
    lie = Lie.of(
        distance,
        world.points[rows],
        there=np.ones(len(rows), dtype=np.bool_),
        categories=names,
        groups=groups,
    )
    before = model.forecast(plain, categories=names, groups=groups, shift=shift)
    after = model.forecast(
        replace(plain, f1=lie.expected(plain.f1)),
        categories=names,
        groups=groups,
        shift=shift,
        lie=lie,
    )
    assert before is not None
    assert after is not None
    return float(np.nanmean(truth)), before, after


def table_of(found: Sequence[dict[str, tuple[float, Forecast, Forecast]]]) -> list[str]:
    """Rows of Markdown, a test each, over the seeds."""
    by_test = defaultdict(list)
    for one in found:
        for name, outcome in one.items():
            by_test[name].append(outcome)
    lines = [
        "| test | F1 | off by, before | held | off by, after | held | far or told apart |",
        "| :-- | --: | --: | --: | --: | --: | --: |",
    ]
    for name, outcomes in by_test.items():
        cells = [name, f"{np.mean([truth for truth, _, _ in outcomes]):.3f}"]
        for now in (False, True):
            made = [(truth, after if now else before) for truth, before, after in outcomes]
            off = [own.value - truth for truth, own in made]
            held = sum(own.low <= truth <= own.high for truth, own in made)
            cells += [f"{np.mean(off):+.3f} +- {np.std(off):.3f}", f"{held} of {len(made)}"]
        cells.append(f"{sum(bool(one[2].far) for one in outcomes)} of {len(outcomes)}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main(n_seeds: int = 10, n_images: int = 4000) -> None:
    """Judge the forecasts of so many seeds and print the table."""
    sets = read_label_sets(n_images=n_images)
    found = [judge(World.drawn(sets, seed=seed), seed=seed) for seed in range(n_seeds)]
    print(f"{cpu_name()}, {n_seeds} seeds, {n_images:,} images\n", *table_of(found), sep="\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
