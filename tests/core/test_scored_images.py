"""Images with all that their score depends on."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from core.errors import AlignmentError
from core.images import ImageTable
from core.labels import LabelSpace
from core.metrics import ScoredImages

LABELS = LabelSpace(("C1", "C2"))
TABLE = ImageTable(
    image_ids=("a", "b", "c"),
    paths=("",) * 3,
    categories=("DRCT", "", "DRXR"),
    splits=("valid",) * 3,
    folds=np.array([0, 1, 0], dtype=np.int16),
    groups=("p1", "p2", "p1"),
    concepts=(("C1", "C3"), (), ("C2",)),
)


def test_images_keep_what_the_table_says_of_them() -> None:
    images = ScoredImages.of(TABLE, LABELS, empty_truth="counted")
    assert len(images) == 3
    assert images.targets.n_true.tolist() == [2, 0, 1]  # C3 is outside the space, and counts
    assert (images.categories, images.groups) == (TABLE.categories, TABLE.groups)
    assert images.folds.tolist() == [0, 1, 0]


def test_some_images_by_number_or_by_mask() -> None:
    images = ScoredImages.of(TABLE, LABELS, empty_truth="counted")
    for rows in (np.array([0, 2]), np.array([True, False, True])):
        some = images.take(rows)
        assert some.targets.matrix.toarray().tolist() == [[True, False], [False, True]]
        assert some.targets.n_outside.tolist() == [1, 0]
        assert (list(some.categories), list(some.groups)) == (["DRCT", "DRXR"], ["p1", "p1"])
        assert some.folds.tolist() == [0, 0]
        assert (some.labels, some.empty_truth) == (LABELS, "counted")


def test_an_image_without_truth_scores_by_the_rule() -> None:
    images = ScoredImages.of(TABLE, LABELS, empty_truth="counted")
    decided = csr_array(np.array([[True, False], [False, False], [True, True]]))
    # 2 x 1 / (2 + 1); nothing true, nothing decided; 2 x 1 / (1 + 2)
    np.testing.assert_allclose(images.image_f1(decided), [2 / 3, 1.0, 2 / 3])
    left_out = replace(images, empty_truth="left out")
    np.testing.assert_allclose(left_out.image_f1(decided), [2 / 3, np.nan, 2 / 3])


def test_images_of_unknown_truth_are_refused() -> None:
    table = replace(TABLE, concepts=(("C1",), None, ()))
    with pytest.raises(AlignmentError, match="concepts of 1 of 3 images are not known"):
        ScoredImages.of(table, LABELS, empty_truth="counted")
