"""Plain files: lines and mapped arrays."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import PredictionsError
from core.storage.arrays import SharedRows, load_array, open_map, release, save_array
from core.storage.tables import read_lines, write_lines


@pytest.mark.parametrize("lines", [(), ("a",), ("a", "b b", "Ü"), ("", "x", "")])
def test_lines_come_back_as_they_were(tmp_path: Path, lines: tuple[str, ...]) -> None:
    write_lines(tmp_path / "lines.txt", lines)
    assert read_lines(tmp_path / "lines.txt") == lines


def test_only_a_line_end_ends_a_line(tmp_path: Path) -> None:
    ids = ("a\x0cb", "c\u2028d", "e\x85f")  # str.splitlines would part all of them
    write_lines(tmp_path / "lines.txt", ids)
    assert read_lines(tmp_path / "lines.txt") == ids


def test_a_last_line_without_its_end_counts(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a\nb", encoding="utf-8")
    assert read_lines(tmp_path / "lines.txt") == ("a", "b")


def test_missing_and_foreign_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match=r"gone\.txt: no such file$"):
        read_lines(tmp_path / "gone.txt")
    (tmp_path / "latin.txt").write_bytes("Ü\n".encode("latin-1"))
    with pytest.raises(PredictionsError, match=r"latin\.txt: not UTF-8 \("):
        read_lines(tmp_path / "latin.txt")


@pytest.mark.parametrize("shape", [(3, 2), (0, 2), (4,)])
def test_an_array_is_mapped_and_cannot_be_written(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    np.save(tmp_path / "a.npy", values)
    loaded = load_array(tmp_path / "a.npy")
    np.testing.assert_array_equal(loaded, values)
    assert loaded.dtype == np.float32
    assert not loaded.flags.writeable


def test_files_that_are_no_plain_array_are_refused_in_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "whole.npy", np.zeros((100, 3)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:300])
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "text.npy").write_text("1, 2, 3\n")
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "archive.npz", a=np.zeros(2))
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    for name in ("gone", "cut", "empty", "text", "objects", "archive"):
        with pytest.raises(PredictionsError, match=rf"{name}\.npy: cannot be read as an array \("):
            load_array(tmp_path / f"{name}.npy")


def test_a_new_map_is_zeros_and_keeps_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "map.npy"
    values = open_map(path, (3, 2), dtype=np.float32)
    assert values.shape == (3, 2)
    assert not values.any()
    values[1] = 7
    del values
    again = open_map(path, (3, 2), dtype=np.float32)
    assert again[1].tolist() == [7, 7]
    np.testing.assert_array_equal(np.load(path), again)
    assert [p.name for p in tmp_path.iterdir()] == ["map.npy"]  # no draft stays behind


def test_two_writers_share_one_map(tmp_path: Path) -> None:
    first = open_map(tmp_path / "map.npy", (4,), dtype=np.uint8)
    second = open_map(tmp_path / "map.npy", (4,), dtype=np.uint8)
    first[0], second[3] = 1, 2
    assert first.tolist() == second.tolist() == [1, 0, 0, 2]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="macOS cannot reserve")
def test_a_new_map_takes_its_room_at_once(tmp_path: Path) -> None:
    # A file of holes would have 0 blocks; writing into them on a full disk kills the process.
    open_map(tmp_path / "map.npy", (100_000,), dtype=np.uint8)
    assert (tmp_path / "map.npy").stat().st_blocks * 512 >= 100_000


def test_a_map_that_cannot_be_made_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"Invalid argument|too large|No space left"):
        open_map(tmp_path / "map.npy", (2**62,), dtype=np.uint8)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_named_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device.*a\.npy") as caught:
        save_array(path, np.zeros(10))
    assert caught.value.errno == errno.ENOSPC


def test_a_released_map_keeps_what_was_written(tmp_path: Path) -> None:
    array = open_map(tmp_path / "values.npy", (1000, 100), dtype=np.float32)
    array[:] = 7
    release(array)
    assert (array == 7).all()
    assert (np.load(tmp_path / "values.npy") == 7).all()
    release(np.zeros(3))  # nothing is mapped


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux")
def test_a_released_map_takes_no_memory(tmp_path: Path) -> None:
    def resident() -> int:
        """Kilobytes of the file that are in this process' memory."""
        text = Path("/proc/self/smaps").read_text(encoding="utf-8")
        part = text[text.index(str(tmp_path / "values.npy")) :]
        return int(part[part.index("Rss:") :].split()[1])

    array = open_map(tmp_path / "values.npy", (1000, 1000), dtype=np.float32)
    array[:] = 7
    assert resident() > 3000
    release(array)
    assert resident() < 100


def npy(header: str, *, version: int = 1, numbers: bytes = bytes(64)) -> bytes:
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + header.encode("latin1") + numbers


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 'a'\n",
            "its header cannot be read",
        ),
        ("(" * 3_000 + ")" * 3_000, "its header cannot be read"),
        ("{'descr', 'x'}", "its header cannot be read"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (3,)}", "not of plain numbers"),
        ("{'descr': '<U4', 'fortran_order': False, 'shape': (3,)}", "not of plain numbers"),
        ("{'descr': '<f3', 'fortran_order': False, 'shape': (3,)}", "no type of numbers"),
        ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,)}", "not of plain numb"),
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': (10**4,)}",
            "its header cannot be read",
        ),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999, 9999999)}", "is cut short"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}", "impossible shape"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}", "impossible shape"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 5_000 + ",)}", "its header"),
        ("{" + " " * 20_000 + "}", "no known version, or too long"),
    ],
)
def test_a_header_that_is_none_ends_in_one_short_line(
    tmp_path: Path, header: str, said: str
) -> None:
    (tmp_path / "a.npy").write_bytes(npy(header))
    with pytest.raises(
        PredictionsError, match=rf"a\.npy: cannot be read as an array \(.*{said}"
    ) as e:
        load_array(tmp_path / "a.npy")
    assert len(str(e.value)) < 300


def test_numbers_of_every_layout_are_mapped_as_numpy_reads_them(tmp_path: Path) -> None:
    for array in (
        *(np.arange(12).astype(kind).reshape(3, 4) for kind in ("<f4", ">i8", "|u1", "?", "<f2")),
        *(np.asfortranarray(np.ones((2, 3))), np.zeros((0, 5)), np.array(3.5)),
    ):
        np.save(tmp_path / "a.npy", array)
        found = load_array(tmp_path / "a.npy")
        assert found.dtype == array.dtype
        assert np.array_equal(found, array)
        assert found.flags.f_contiguous == array.flags.f_contiguous
    old = "{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 4L), }"  # of Python 2
    (tmp_path / "a.npy").write_bytes(npy(old))
    assert load_array(tmp_path / "a.npy").shape == (3, 4)


def test_a_file_of_another_shape_is_not_written_into(tmp_path: Path) -> None:
    open_map(tmp_path / "a.npy", (3, 4), dtype=np.uint8)
    assert open_map(tmp_path / "a.npy", (3, 4), dtype=np.uint8).shape == (3, 4)
    with pytest.raises(PredictionsError, match=r"of shape \(3, 4\), uint8; expected \(5,\), uint8"):
        open_map(tmp_path / "a.npy", (5,), dtype=np.uint8)


def test_shared_rows_read_like_the_array_of_them(tmp_path: Path) -> None:
    first, second = np.arange(6.0).reshape(3, 2), np.arange(6.0, 10.0).reshape(2, 2)
    save_array(tmp_path / "second.npy", second)
    repeated = SharedRows.of(first, np.array([2, 0, 2, 1]))
    shared = SharedRows.joined([repeated, load_array(tmp_path / "second.npy")])
    whole = np.concatenate([first[[2, 0, 2, 1]], second])
    assert (shared.shape, len(shared), shared.size, shared.dtype) == ((6, 2), 6, 12, whole.dtype)
    assert (shared.min(), shared.max()) == (0.0, 9.0)
    np.testing.assert_array_equal(shared, whole)
    mask, numbers = np.arange(6) % 2 == 0, np.array([5, 0, 5])
    keys: list[Any] = [mask, numbers, slice(1, 5), np.ix_([4, 1], [1]), [], (numbers, slice(0, 1))]
    for key in keys:
        np.testing.assert_array_equal(shared[key], whole[key])
    release(shared)
    np.testing.assert_array_equal(shared, whole)
    with pytest.raises(ValueError, match="without a copy"):
        np.array(shared, copy=False)
