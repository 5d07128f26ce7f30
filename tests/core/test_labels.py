"""Label spaces and targets."""

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from core.errors import LabelSpaceError
from core.labels import LabelSpace, Targets

SPACE = LabelSpace(("C1", "C2", "C3"))


def test_a_space_of_concept_sets_is_sorted_and_holds_each_once() -> None:
    assert LabelSpace.of([("C3", "C1"), ("C1",), ()]).cuis == ("C1", "C3")


def test_a_space_knows_its_size_and_its_members() -> None:
    assert len(SPACE) == 3
    assert "C2" in SPACE
    assert "c2" not in SPACE


def test_a_concept_that_stands_twice_is_refused() -> None:
    with pytest.raises(LabelSpaceError, match=r"stand twice in the label space: \['C1'\]"):
        LabelSpace(("C1", "C2", "C1"))


@pytest.mark.parametrize("bad", ["", " C2", "C2\n"])
def test_an_empty_or_padded_concept_is_refused(bad: str) -> None:
    with pytest.raises(LabelSpaceError, match="empty or padded"):
        LabelSpace(("C1", bad))


def test_the_fingerprint_depends_on_the_order() -> None:
    assert SPACE.fingerprint == LabelSpace(("C1", "C2", "C3")).fingerprint
    assert SPACE.fingerprint != LabelSpace(("C1", "C3", "C2")).fingerprint
    assert len(SPACE.fingerprint) == 64


def test_columns_come_in_the_order_asked_for() -> None:
    assert SPACE.columns(["C3", "C1", "C3"]).tolist() == [2, 0, 2]
    assert SPACE.columns([]).dtype == np.intp


def test_columns_of_unknown_concepts_are_refused() -> None:
    with pytest.raises(LabelSpaceError, match=r"1 of 2 concepts are not in .* of 3: \['C9'\]"):
        SPACE.columns(["C1", "C9"])


def test_encoding_counts_what_the_space_cannot_hold() -> None:
    targets = SPACE.encode([("C3", "C1"), (), ("C9", "C8", "C2"), ("C9",)])
    assert targets.matrix.toarray().astype(int).tolist() == [
        [1, 0, 1],
        [0, 0, 0],
        [0, 1, 0],
        [0, 0, 0],
    ]
    assert targets.n_outside.tolist() == [0, 0, 2, 1]
    assert targets.n_true.tolist() == [2, 0, 3, 1]
    assert targets.matrix.dtype == np.bool_


def test_a_concept_given_twice_counts_once() -> None:
    targets = SPACE.encode([("C1", "C1", "C9", "C9")])
    assert targets.n_true.tolist() == [2]


def test_encoding_nothing_gives_no_rows() -> None:
    targets = SPACE.encode([])
    assert targets.matrix.shape == (0, 3)
    assert len(targets) == 0


def test_decoding_undoes_encoding_in_column_order() -> None:
    sets = [("C3", "C1"), (), ("C2",)]
    assert SPACE.decode(SPACE.encode(sets).matrix) == [("C1", "C3"), (), ("C2",)]


def test_decoding_ignores_stored_zeros_and_changes_nothing() -> None:
    matrix = csr_array((np.array([False, True]), np.array([2, 0]), np.array([0, 2])), shape=(1, 3))
    assert SPACE.decode(matrix) == [("C1",)]
    assert matrix.indices.tolist() == [2, 0]


def test_rows_of_targets_keep_what_is_outside() -> None:
    targets = SPACE.encode([("C1",), ("C9",), ("C2", "C9")])
    by_number = targets.rows(np.array([2, 0]))
    by_mask = targets.rows(np.array([False, True, True]))
    assert by_number.n_true.tolist() == [2, 1]
    assert by_mask.n_outside.tolist() == [1, 1]
    assert isinstance(by_mask, Targets)


def test_a_saved_space_is_read_back(tmp_path: Path) -> None:
    SPACE.save(tmp_path / "labels.txt")
    assert (tmp_path / "labels.txt").read_bytes() == b"C1\nC2\nC3\n"
    assert LabelSpace.load(tmp_path / "labels.txt") == SPACE


@pytest.mark.parametrize("text", ["C1\nC2\nC3", "C1\r\nC2\r\nC3\r\n"])
def test_the_last_line_may_lack_its_end_and_ends_may_be_crlf(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.txt").write_bytes(text.encode())
    assert LabelSpace.load(tmp_path / "labels.txt") == SPACE


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabelSpaceError, match=r"labels\.txt: no such file"):
        LabelSpace.load(tmp_path / "labels.txt")


def test_a_blank_line_in_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("C1\n\nC2\n", encoding="utf-8")
    with pytest.raises(LabelSpaceError, match="empty or padded"):
        LabelSpace.load(tmp_path / "labels.txt")


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(b"C1\n\xe9\n")
    with pytest.raises(LabelSpaceError, match=r"labels\.txt: not UTF-8"):
        LabelSpace.load(tmp_path / "labels.txt")
