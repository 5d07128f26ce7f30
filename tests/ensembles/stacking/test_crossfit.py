from dataclasses import replace
from pathlib import Path
from typing import get_args

import numba
import numpy as np
import pytest
from scipy.special import expit

from core.editions import EmptyTruth
from core.errors import AlignmentError, LeakageError
from core.images import ImageTable
from core.labels import LabelSpace
from core.metrics import cross_fitted_f1
from core.predictions import Predictions
from core.runs.out_of_fold import check_out_of_sample
from ensembles.pairs import Bools, Floats
from ensembles.stacking.candidates import Candidates
from ensembles.stacking.crossfit import cross_fit, image_f1_of
from ensembles.stacking.linear import LogisticStacker, MeanStacker
from ensembles.stacking.registry import STACKERS
from tests.ensembles.made_pairs import scored


class Memory:
    """Gives a pair it has seen its truth, and any other one the share of true pairs it saw."""

    def fit(self, candidates: Candidates, targets: Bools) -> "Memory":
        pairs = zip(candidates.rows.tolist(), candidates.columns.tolist(), strict=True)
        self.seen_ = dict(zip(pairs, targets.tolist(), strict=True))
        self.share_ = float(targets.mean())
        return self

    def predict(self, candidates: Candidates) -> Floats:
        pairs = zip(candidates.rows.tolist(), candidates.columns.tolist(), strict=True)
        return np.array([self.seen_.get(pair, self.share_) for pair in pairs], dtype=np.float32)

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> "Memory":
        raise NotImplementedError


def candidates(n_images: int = 6) -> Candidates:
    logits = np.random.default_rng(0).standard_normal((2 * n_images, 1)).astype(np.float32)
    return Candidates(
        rows=np.repeat(np.arange(n_images, dtype=np.int32), 2),
        columns=np.tile(np.arange(2, dtype=np.int32), n_images),
        shape=(n_images, 2),
        features=np.tile(logits, 2),
        feature_names=("logit a", "mean logit"),
    )


def test_no_pair_is_predicted_by_a_stacker_that_saw_its_image() -> None:
    pairs = candidates()
    true = np.array([1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 1, 0], dtype=np.bool_)
    folds = np.array([0, 0, 1, 1, 2, 2])
    # true shares of the other folds: fold 0: 2 of 8; fold 1: 6 of 8; fold 2: 4 of 8
    found = cross_fit(Memory, pairs, targets=true, folds=folds)
    assert found.tolist() == [0.25] * 4 + [0.75] * 4 + [0.5] * 4


def test_a_stacker_that_learns_nothing_gives_what_it_gives_in_one_piece() -> None:
    pairs = candidates()
    true = np.zeros(12, dtype=np.bool_)
    found = cross_fit(MeanStacker, pairs, targets=true, folds=np.arange(6) % 2)
    np.testing.assert_array_equal(found, MeanStacker().fit(pairs, true).predict(pairs))


def test_two_runs_agree_to_the_last_bit() -> None:
    pairs = candidates(40)
    true = np.random.default_rng(1).random(80) < 0.5
    runs = [
        cross_fit(LogisticStacker, pairs, targets=true, folds=np.arange(40) % 4) for _ in range(2)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])


@pytest.mark.parametrize("name", ["logistic", "greedy", "lightgbm", "logistic-concepts"])
def test_folds_side_by_side_agree_with_one_after_the_other(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = candidates(400)
    true = np.random.default_rng(1).random(800) < expit(pairs.feature("mean logit"))
    folds = np.arange(400) % 4
    found = []
    for n_threads in (1, 2):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", n_threads)
        found.append(cross_fit(STACKERS[name], pairs, targets=true, folds=folds))
    np.testing.assert_array_equal(found[0], found[1])
    for fold in range(4):
        here = folds[pairs.rows] == fold
        copied = replace(pairs.take(~here), features=np.asarray(pairs.features)[~here])
        stacker = STACKERS[name]().fit(copied, true[~here])
        np.testing.assert_array_equal(found[0][here], stacker.predict(pairs.take(here)))


def test_pairs_score_what_their_matrix_scores() -> None:
    rng = np.random.default_rng(0)
    pairs, labels = candidates(40), LabelSpace(("C1", "C2"))
    targets = labels.encode([[c for c in labels.cuis if rng.random() < 0.5] for _ in range(40)])
    folds = np.arange(40) % 4
    some = pairs.take(rng.random(80) < 0.8)  # true concepts that are no candidates are missed
    probs = rng.random(len(some)).astype(np.float32)
    for rule in get_args(EmptyTruth):
        images = scored(targets, labels, folds=folds, empty_truth=rule)
        found = image_f1_of(some, probs, true=some.are_true(targets), images=images)
        expected = cross_fitted_f1(
            some.to_sparse(probs).toarray(), targets, folds=folds, empty_truth=rule
        )
        np.testing.assert_array_equal(found, expected)


def test_images_without_a_fold_are_refused() -> None:
    with pytest.raises(AlignmentError, match="1 of 6 images have no fold"):
        cross_fit(
            MeanStacker,
            candidates(),
            targets=np.zeros(12, dtype=np.bool_),
            folds=np.array([0, 1, 0, 1, 0, -1]),
        )


TABLE = ImageTable(
    image_ids=("t1", "t2", "t3", "v1", "v2"),
    paths=("",) * 5,
    categories=("DRCT",) * 5,
    splits=("train", "train", "train", "valid", "valid"),
    folds=np.zeros(5, dtype=np.int16),
    groups=("p1", "", "p2", "p2", ""),  # t3 and v1 show one patient; "" names no group
    concepts=(("C1",),) * 5,
)


def source(*fitted_on: str, images: tuple[str, ...] = ("v1", "v2")) -> Predictions:
    return Predictions(
        source="DRCT",
        image_ids=images,
        labels=LabelSpace(("C1",)),
        probs=np.zeros((len(images), 1), dtype=np.float32),
        fitted_on=frozenset(fitted_on),
    )


def test_sources_of_other_images_and_groups_pass() -> None:
    check_out_of_sample([source("t1", "t2"), source("elsewhere")], TABLE)


def test_a_source_fitted_on_an_image_it_predicts_is_refused() -> None:
    with pytest.raises(LeakageError, match=r"DRCT: 1 of 2 images were used to fit it: \['v2'\]"):
        check_out_of_sample([source("t1"), source("t1", "v2")], TABLE)


def test_a_source_fitted_on_the_same_patient_is_refused() -> None:
    with pytest.raises(LeakageError, match=r"DRCT: 1 of 1 images share a group .* \['v1'\]"):
        check_out_of_sample([source("t3", images=("v2",)), source("t3", images=("v1",))], TABLE)


def test_an_image_outside_the_table_is_refused() -> None:
    with pytest.raises(AlignmentError, match=r"1 of 1 images are not in the image table: \['x'\]"):
        check_out_of_sample([source("t1", images=("x",))], TABLE)


def test_images_of_test_are_compared_by_their_ids_alone() -> None:
    table = replace(TABLE, splits=("train", "train", "train", "test", "valid"))
    check_out_of_sample([source("t3", images=("v1",)), source("t3", images=("v1", "v2"))], table)
    with pytest.raises(LeakageError, match=r"1 of 1 images were used to fit it: \['v1'\]"):
        check_out_of_sample([source("v1", images=("v1",))], table)
    shared = replace(table, groups=("p2", "", "p2", "p2", "p2"))
    with pytest.raises(LeakageError, match=r"1 of 1 images share a group .* \['v2'\]"):
        check_out_of_sample([source("t3", images=("v1", "v2"))], shared)
