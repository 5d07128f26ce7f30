"""A small forest for each of the most frequent concepts."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from core.errors import PredictionsError
from ensembles.concept_forest import ConceptLightGBMStacker
from ensembles.pairs import Bools
from ensembles.stacking.candidates import Candidates


def simulated() -> tuple[Candidates, Bools]:
    """Concept 0 depends on the other feature, concept 1 the other way round, concept 2 is rare."""
    rng = np.random.default_rng(0)
    columns = np.tile(np.arange(3, dtype=np.int32), 1500)
    mean, other = rng.normal(-1, 1, (2, len(columns))).astype(np.float32)
    sign = np.array([2.0, -2.0, 0.0])[columns]
    true = rng.random(len(columns)) < expit(mean + np.where(other > 0, sign, -sign))
    true[columns == 2] = np.arange(1500) < 10
    pairs = Candidates(
        rows=np.repeat(np.arange(1500, dtype=np.int32), 3),
        columns=columns,
        n_images=1500,
        n_concepts=3,
        features=np.column_stack([mean, other]),
        feature_names=("mean logit", "support"),
    )
    return pairs, np.asarray(true)


def test_a_frequent_concept_gets_what_the_forest_for_all_misses() -> None:
    pairs, true = simulated()
    stacker = ConceptLightGBMStacker().fit(pairs, true)
    assert list(stacker.boosters_) == [0, 1]
    found, shared = stacker.predict(pairs), stacker.shared_.predict(pairs)
    losses = [-np.log(np.where(true, p, 1 - p))[pairs.columns < 2].mean() for p in (found, shared)]
    assert losses[0] < losses[1] - 0.05
    rare = pairs.columns == 2
    np.testing.assert_array_equal(found[rare], shared[rare])


def test_only_the_most_frequent_have_a_forest() -> None:
    pairs, true = simulated()
    stacker = ConceptLightGBMStacker(max_concepts=1).fit(pairs, true)
    n_true = np.bincount(pairs.columns, true)
    assert list(stacker.boosters_) == [int(n_true.argmax())]


def test_a_missing_forest_is_refused(tmp_path: Path) -> None:
    pairs, true = simulated()
    ConceptLightGBMStacker().fit(pairs, true).save(tmp_path)
    (tmp_path / "lightgbm-1.txt").unlink()
    with pytest.raises(PredictionsError, match=r"lightgbm-1\.txt: not a forest"):
        ConceptLightGBMStacker.load(tmp_path)
