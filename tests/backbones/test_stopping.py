"""The score that chooses epochs."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from backbones.stopping import stopping_f1, stopping_scores


def test_the_stopping_score_is_the_best_f1_of_a_single_threshold() -> None:
    probs = np.array([[0.9, 0.6, 0.1], [0.7, 0.2, 0.3], [0.5, 0.5, 0.5]], dtype=np.float32)
    targets = csr_array(np.array([[1, 1, 0], [1, 0, 1], [0, 0, 0]], dtype=np.bool_))
    # From 0.22 to 0.3: images 1 and 2 are right, F1 1; the third has no concept and is left out.
    assert stopping_f1(probs, targets) == 1.0
    # Below, image 2 gets C2 as well, 2*2/(2+3); above 0.3 it loses C3, 2*1/(2+1).
    assert stopping_f1(probs[1:2, [0, 2]], csr_array(np.array([[True, False]]))) == 1.0
    assert stopping_f1(probs, csr_array((3, 3), dtype=np.bool_)) == 0.0


def test_categories_are_scored_at_the_threshold_of_all() -> None:
    # One threshold for both: CT is right from 0.42 to 0.5, X-ray at any below 0.9; of the best ones
    # the score of CT alone would not differ, but that of ultrasound (no concepts) is left out.
    probs = np.array([[0.5, 0.4], [0.2, 0.9], [0.9, 0.9]], dtype=np.float32)
    targets = csr_array(np.array([[1, 0], [0, 1], [0, 0]], dtype=np.bool_))
    f1, by_kind = stopping_scores(probs, targets, ("DRCT", "DRXR", "DRUS"))
    assert f1 == 1.0
    assert by_kind == {"DRCT": 1.0, "DRXR": 1.0}


def test_the_mean_over_images_is_the_weighted_mean_over_categories() -> None:
    rng = np.random.default_rng(0)
    probs = rng.random((30, 6)).astype(np.float32)
    targets = csr_array(rng.random((30, 6)) < 0.4)
    kinds = tuple(rng.choice(["DRCT", "DRMR", "DRXR"], 30))
    f1, by_kind = stopping_scores(probs, targets, kinds)
    known = np.diff(targets.indptr) > 0
    weights = {kind: np.sum(known & (np.array(kinds) == kind)) for kind in by_kind}
    mean = sum(by_kind[kind] * weights[kind] for kind in by_kind) / known.sum()
    assert mean == pytest.approx(f1, abs=1e-12)
    assert stopping_scores(probs, targets, ()) == (f1, {})


def test_a_threshold_that_is_given_is_kept_to() -> None:
    probs = np.array([[0.9, 0.6, 0.1], [0.7, 0.2, 0.3], [0.5, 0.5, 0.5]], dtype=np.float32)
    targets = csr_array(np.array([[1, 1, 0], [1, 0, 1], [0, 0, 0]], dtype=np.bool_))
    # At 0.5 image 1 is right; image 2 lacks C3, 2*1/(1+2); the third has no concept.
    assert stopping_f1(probs, targets, threshold=0.5) == pytest.approx((1 + 2 / 3) / 2)
    # From 0.6 on is decided: image 1 keeps C2, and image 2 is as before.
    assert stopping_f1(probs, targets, threshold=0.6) == pytest.approx((1 + 2 / 3) / 2)
    assert stopping_f1(probs, targets, threshold=0.7) == pytest.approx((2 / 3 + 2 / 3) / 2)
