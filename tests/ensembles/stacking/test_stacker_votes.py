"""Votes of members that decide by thresholds of their own, against plain lines."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from core.errors import AlignmentError, PredictionsError
from core.storage.folders import write_json
from ensembles.pairs import Floats
from ensembles.stacking.candidates import Candidates
from ensembles.stacking.greedy import LOWEST, N_THRESHOLDS, STEP
from ensembles.stacking.registry import load_stacker
from ensembles.stacking.votes import VotesStacker, best_threshold_of

NAN = np.nan
NAMES = ("logit a", "logit b", "rank a", "rank b", "mean logit")


def candidates(logits: Floats, rows: list[int]) -> Candidates:
    mean = np.nanmean(logits, axis=1)
    return Candidates(
        rows=np.array(rows, dtype=np.int32),
        columns=np.zeros(len(rows), dtype=np.int32),
        shape=(max(rows) + 1, 1),
        features=np.column_stack([logits, logits * NAN, mean]).astype(np.float32),
        feature_names=NAMES,
    )


def test_a_threshold_is_the_best_of_a_search_in_plain_lines() -> None:
    rng = np.random.default_rng(0)
    rows = np.repeat(np.arange(40), 5)
    logits = rng.normal(-1, 3, (200, 2)).astype(np.float32)
    logits[rng.random((200, 2)) < 0.2] = NAN
    logits[logits[:, 0] != logits[:, 0], 1] = 0.5  # one of them covers
    true = rng.random(200) < expit(np.nan_to_num(logits[:, 0]))
    true[rows == 7] = False  # an image without a true pair is left out
    made = candidates(logits, rows.tolist())
    for member in (0, 1):
        own = logits[:, member]
        scores = []
        for t in range(N_THRESHOLDS):
            decided = own >= LOWEST + t * STEP
            f1 = [
                2
                * (decided & true)[rows == i].sum()
                / (decided[rows == i].sum() + true[rows == i].sum())
                for i in range(40)
                if true[rows == i].any()
            ]
            scores.append(np.mean(f1))
        found = best_threshold_of(own, made, targets=true)
        assert found == pytest.approx(LOWEST + STEP * int(np.argmax(scores)), abs=1e-6)


def test_votes_come_first_and_the_mean_orders_equal_ones() -> None:
    stacker = VotesStacker()
    stacker.feature_names_, stacker.thresholds_ = NAMES, np.array([0.0, -2.0], dtype=np.float32)
    logits = np.array([[1.0, -1.0], [0.0, -3.0], [-1.0, -2.5], [2.0, NAN]], dtype=np.float32)
    # Two votes of two, one of two, none, one of one; p of the means 0, -1.5, -1.75 and 2.
    expected = [
        (2 + expit(0.0)) / 3, (1 + expit(-1.5)) / 3, expit(-1.75) / 3, (1 + expit(2.0)) / 2,
    ]  # fmt: skip
    probs = stacker.predict(candidates(logits, [0, 0, 1, 1]))
    np.testing.assert_allclose(probs, expected, rtol=1e-6)


def test_a_member_that_says_all_in_another_scale_votes_the_same() -> None:
    rng = np.random.default_rng(1)
    true = rng.random(300) < 0.3
    true[::3] = True
    own = np.where(true, 1.0, -1.0) + rng.normal(0, 1, 300)
    rows = np.repeat(np.arange(100), 3).tolist()
    plain = VotesStacker().fit(made := candidates(np.column_stack([own, own]), rows), true)
    assert plain.thresholds_[0] == plain.thresholds_[1]
    shifted = candidates(np.column_stack([own, own - 2]).astype(np.float32), rows)
    moved = VotesStacker().fit(shifted, true)
    assert moved.thresholds_[1] == pytest.approx(plain.thresholds_[1] - 2, abs=1e-5)
    votes = np.floor(3 * plain.predict(made)), np.floor(3 * moved.predict(shifted))
    assert (votes[0] == votes[1]).mean() > 0.99  # a log odds on a threshold may be rounded


def test_what_cannot_be_learnt_from_or_read_is_refused(tmp_path: Path) -> None:
    made = candidates(np.zeros((4, 2), dtype=np.float32), [0, 0, 1, 1])
    with pytest.raises(PredictionsError, match="0 of 4 candidate pairs are true"):
        VotesStacker().fit(made, np.zeros(4, dtype=np.bool_))
    stacker = VotesStacker().fit(made, np.array([True, False, True, False]))
    stacker.feature_names_ = ("logit z", *NAMES[1:])
    with pytest.raises(AlignmentError, match="different"):
        stacker.predict(made)
    write_json(
        tmp_path / "stacker.json", {"stacker": "votes", "feature_names": NAMES, "thresholds": [0.5]}
    )
    with pytest.raises(PredictionsError, match=r"not a saved stacker .*not a threshold a member"):
        load_stacker(tmp_path)
