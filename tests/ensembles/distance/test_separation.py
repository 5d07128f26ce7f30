"""Whether two sets of images can be told apart, against scikit-learn and against chance."""

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import roc_auc_score

from core.metrics import group_numbers
from ensembles.distance.features import Floats
from ensembles.distance.separation import LEAST, Separation, separation
from tests.ensembles.distance.made_points import around


def of_chance(n: int, *, seed: int) -> Floats:
    return around(n, centre=0, seed=seed)


def alone(n: int) -> list[str]:
    return [""] * n


def test_the_area_is_that_of_kernel_ridge_regression_on_the_same_folds() -> None:
    known, new = around(40, centre=0, seed=1), around(30, centre=0, seed=2, shift=0.15)
    groups, new_groups = [f"k{i // 2}" for i in range(40)], [f"n{i // 3}" for i in range(30)]
    points = np.concatenate([known, new]).astype(np.float64)
    is_new = np.repeat([0.0, 1.0], [40, 30])
    rng = np.random.default_rng(0)
    folds: npt.NDArray[np.intp] = np.concatenate(  # the groups of either side dealt evenly
        [
            rng.permutation(np.arange(own.max() + 1) % 5)[own]
            for own in (group_numbers(groups), group_numbers(new_groups))
        ]
    )
    squares = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    kernel = np.exp(-squares / np.median(squares))
    scores = np.empty(70)
    for fold in range(5):
        asked, others = folds == fold, folds != fold
        mean = is_new[others].mean()
        fitted = KernelRidge(alpha=1.0, kernel="precomputed").fit(
            kernel[np.ix_(others, others)], is_new[others] - mean
        )
        scores[asked] = fitted.predict(kernel[np.ix_(asked, others)]) + mean
    found = separation(known, new, groups=groups, new_groups=new_groups)
    assert found is not None
    assert found.auc == pytest.approx(roc_auc_score(is_new, scores), abs=1e-9)
    assert 0.6 < found.auc < 0.99  # neither nothing nor everything
    assert np.isnan(found.p_value)


def test_images_of_one_kind_are_not_told_apart_more_often_than_chance_does() -> None:
    p_values = []
    for seed in range(60):
        points = np.repeat(of_chance(40, seed=seed), 2, axis=0)  # pairs lie alike
        found = separation(
            points[:50],
            points[50:],
            groups=[f"k{i // 2}" for i in range(50)],
            new_groups=[f"n{i // 2}" for i in range(30)],
            n_deals=99,
            seed=seed,
        )
        assert found is not None
        p_values.append(found.p_value)
    small = (np.array(p_values) <= 0.1).sum()  # 6 of 60 expected, with a deviation of 2.3
    assert small <= 13
    assert 0.35 < np.mean(p_values) < 0.65


def test_groups_are_kept_whole() -> None:
    known, new = (np.repeat(of_chance(20, seed=seed), 4, axis=0) for seed in (1, 2))
    whole = separation(
        known,
        new,
        groups=[f"k{i // 4}" for i in range(80)],
        new_groups=[f"n{i // 4}" for i in range(80)],
    )
    torn = separation(known, new, groups=alone(80), new_groups=alone(80))
    assert whole is not None
    assert torn is not None
    assert torn.auc > 0.99  # each image is met in its copies
    assert whole.auc < 0.75


def test_images_that_lie_elsewhere_are_found() -> None:
    found = separation(
        of_chance(60, seed=1),
        around(40, centre=0, seed=2, shift=0.4),
        groups=alone(60),
        new_groups=alone(40),
        n_deals=199,
    )
    assert found is not None
    assert found.auc > 0.95
    assert found.p_value == 1 / 200  # no deal separates as well
    assert found.strength == pytest.approx(2 * found.auc - 1)


def test_strength_is_between_nothing_and_all() -> None:
    strengths = [Separation(auc=auc, p_value=0.5).strength for auc in (0.3, 0.5, 0.75, 1.0)]
    assert strengths == [0.0, 0.0, 0.5, 1.0]


def test_of_few_images_or_of_one_group_nothing_is_said() -> None:
    known = of_chance(30, seed=1)
    few = of_chance(LEAST - 1, seed=2)
    assert separation(known, few, groups=alone(30), new_groups=alone(LEAST - 1)) is None
    assert separation(few, known, groups=alone(LEAST - 1), new_groups=alone(30)) is None
    one = ["one"] * 30
    assert separation(known, known, groups=alone(30), new_groups=one) is None
    assert separation(known, known, groups=one, new_groups=alone(30)) is None


def test_of_very_many_images_whole_groups_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ensembles.distance.separation._MOST", 60)
    known, new = (np.repeat(of_chance(50, seed=seed), 4, axis=0) for seed in (1, 2))
    groups, new_groups = ([f"{side}{i % 200 // 4}" for i in range(200)] for side in "kn")
    found = separation(known, new, groups=groups, new_groups=new_groups)
    assert found is not None
    assert found.auc < 0.8  # with torn groups it is above 0.99
    shifted = around(200, centre=0, seed=3, shift=0.4)
    moved = separation(known, shifted, groups=groups, new_groups=alone(200), n_deals=99)
    assert moved is not None
    assert moved.p_value == 1 / 100
