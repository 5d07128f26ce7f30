"""The category from features: calibrated, out of fold, whatever categories there are."""

import numpy as np
import numpy.typing as npt
import pytest

from core.categories import CATEGORIES, UNKNOWN
from core.errors import MissingStageError
from fusion.inputs.category import fit_category_model

Floats = npt.NDArray[np.float32]


def draw(
    n: int, *, seed: int = 0, apart: float = 2.0, kinds: int = 3
) -> tuple[Floats, list[str], npt.NDArray[np.int64]]:
    """Images of some categories, whose features lie around a corner of their own."""
    rng = np.random.default_rng(seed)
    column = rng.integers(kinds, size=n)
    features = rng.normal(size=(n, 10)).astype(np.float32)
    features[np.arange(n), column] += apart
    return features, [str(CATEGORIES[c]) for c in column], rng.integers(10, size=n)


def test_a_posterior_is_as_sure_as_it_is_right() -> None:
    features, names, folds = draw(3000)
    model, of_train = fit_category_model(features, names, folds)
    others, true, _ = draw(3000, seed=1)
    for posterior, truth in ((of_train, names), (model.posterior(others), true)):
        np.testing.assert_allclose(posterior.sum(axis=1), 1, atol=1e-5)
        right = [CATEGORIES[c] == t for c, t in zip(posterior.argmax(axis=1), truth, strict=True)]
        assert np.mean(right) > 0.8
        assert np.mean(right) == pytest.approx(posterior.max(axis=1).mean(), abs=0.02)
    assert model.accuracy == pytest.approx(0.9, abs=0.06)
    assert model.n_of_category.sum() == 3000


def test_no_training_image_is_guessed_by_a_model_that_learnt_from_it() -> None:
    features, names, folds = draw(300)
    _, before = fit_category_model(features, names, folds)
    wrong = ["DRXR" if fold == 4 else name for fold, name in zip(folds, names, strict=True)]
    _, after = fit_category_model(features, wrong, folds)
    # Folds 4 and 9 are one part: what is said of fold 4 does not change the heads that guess them,
    # but for the temperature, which all share.
    part = np.isin(folds, (4, 9))
    np.testing.assert_array_equal(before[part].argmax(axis=1), after[part].argmax(axis=1))
    assert (before[~part].argmax(axis=1) != after[~part].argmax(axis=1)).any()


def test_images_without_a_category_teach_nothing_and_are_guessed() -> None:
    features, names, folds = draw(400)
    some = [name if number % 4 else UNKNOWN for number, name in enumerate(names)]
    model, posterior = fit_category_model(features, some, folds)
    guesses = [CATEGORIES[c] for c in posterior[::4].argmax(axis=1)]
    assert np.mean([g == n for g, n in zip(guesses, names[::4], strict=True)]) > 0.75
    assert model.n_of_category.sum() == 300


def test_two_categories_are_told_apart_and_the_others_never_guessed() -> None:
    features, names, folds = draw(400, kinds=2)
    model, _ = fit_category_model(features, names, folds)
    posterior = model.posterior(features)
    assert (posterior[:, 2:] == 0).all()
    guesses = [CATEGORIES[c] for c in posterior.argmax(axis=1)]
    assert np.mean([g == n for g, n in zip(guesses, names, strict=True)]) > 0.85


def test_a_category_of_a_single_part_of_train_is_no_error() -> None:
    features, names, folds = draw(300)
    names[0], folds[0] = "DRPE", 0
    model, posterior = fit_category_model(features, names, folds)
    assert np.isfinite(posterior).all()
    assert np.isfinite(model.temperature)


@pytest.mark.parametrize(("kinds", "one_fold"), [(1, False), (3, True)])
def test_nothing_to_tell_apart_is_said(kinds: int, one_fold: bool) -> None:
    features, names, folds = draw(50, kinds=kinds)
    with pytest.raises(MissingStageError, match="categories cannot be guessed: fewer than two"):
        fit_category_model(features, names, 0 * folds if one_fold else folds)
