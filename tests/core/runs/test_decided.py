"""What an ensemble decided, written and read again."""

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from core.errors import AlignmentError, PredictionsError
from core.labels import LabelSpace
from core.runs.decided import Decided

LABELS = LabelSpace(("C1", "C2", "C3"))


def decided() -> Decided:
    return Decided(
        image_ids=("a", "b,c", "d"),
        concepts=csr_array(
            (np.array([0.25, 0.75, 0.0], np.float32), [0, 2, 1], [0, 2, 2, 3]), shape=(3, 3)
        ),
        expected_f1=np.array([0.5, np.nan, 1.0]),
        disagreement=np.array([0.125, 0.0, np.nan]),
    )


def test_what_is_written_is_read_again_the_most_probable_concept_first(tmp_path: Path) -> None:
    path = tmp_path / "decided.csv"
    decided().save(path, labels=LABELS)
    assert path.read_text() == (
        "image_id,expected_f1,disagreement,concepts,probabilities\n"
        "a,0.500000,0.125000,C3;C1,0.75;0.25\n"
        '"b,c",,0.000000,,\n'
        "d,1.000000,,C2,0\n"
    )
    read = Decided.load(path, labels=LABELS)
    assert tuple(read.image_ids) == ("a", "b,c", "d")
    np.testing.assert_array_equal(read.concepts.toarray(), decided().concepts.toarray())
    assert read.concepts.nnz == 3  # a decided concept of probability 0 is decided
    np.testing.assert_array_equal(read.expected_f1, [0.5, np.nan, 1.0])
    np.testing.assert_array_equal(read.disagreement, [0.125, 0.0, np.nan])


def test_nothing_decided_is_read_again(tmp_path: Path) -> None:
    nothing = Decided(
        image_ids=(),
        concepts=csr_array(np.zeros((0, 3), np.float32)),
        expected_f1=np.zeros(0),
        disagreement=np.zeros(0),
    )
    nothing.save(tmp_path / "decided.csv", labels=LABELS)
    assert Decided.load(tmp_path / "decided.csv", labels=LABELS).concepts.shape == (0, 3)


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(AlignmentError, match=r"different lengths \[0, 1\]"):
        Decided(
            image_ids=("a",),
            concepts=csr_array(np.zeros((1, 3), np.float32)),
            expected_f1=np.zeros(0),
            disagreement=np.zeros(1),
        )


def test_a_table_that_was_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "decided.csv"
    path.write_text("image_id,expected_f1,disagreement,concepts,probabilities\na,1,0,C1,much\n")
    with pytest.raises(PredictionsError, match=r"decided\.csv"):
        Decided.load(path, labels=LABELS)
