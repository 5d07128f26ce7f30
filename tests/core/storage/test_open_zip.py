"""Zips that are broken, locked or far larger than they look."""

import io
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.storage.archives import BrokenZipError, LockedZipError, OpenZip, check_size, is_link

DIRECTORY = b"PK\1\2"


def made(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def with_bytes(path: Path, at: int, value: bytes) -> Path:
    """The zip with other bytes at a place of its directory's first entry."""
    content = bytearray(path.read_bytes())
    start = content.index(DIRECTORY) + at
    content[start : start + len(value)] = value
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_members_are_read_whole_in_part_and_to_a_file(tmp_path: Path, method: int) -> None:
    data = bytes(range(256)) * 20_000
    with OpenZip(made(tmp_path / "a.zip", {"d/": b"", "d/a": data}, method)) as archive:
        folder, member = archive.members
        assert folder.is_dir()
        assert archive.read(member, most=len(data)) == data
        assert archive.first(member, 300) == data[:300]
        assert archive.first(member, 10**9) == data
        target = io.BytesIO()
        archive.copy(member, target, most=len(data))
        assert target.getvalue() == data
        with pytest.raises(BrokenZipError, match=r"5,120,000 bytes once unpacked, more than 9"):
            archive.read(member, most=9)


def test_what_unpacks_to_a_hundred_times_its_size_is_not_read(tmp_path: Path) -> None:
    archive = OpenZip(made(tmp_path / "a.zip", {"a": bytes(70 << 20)}))
    with pytest.raises(BrokenZipError, match="73,400,320 bytes once unpacked, more than 100 times"):
        archive.read(archive.members[0], most=1 << 30)
    assert archive.first(archive.members[0], 4) == bytes(4)
    small = OpenZip(made(tmp_path / "b.zip", {"a": bytes(1 << 20)}))
    check_size(small.members[0], most=1 << 20)
    archive.close()


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (24, struct.pack("<I", 10), "Bad CRC-32"),
        (24, struct.pack("<I", 1_000_000), "Bad CRC-32|not of the size"),
        (16, b"\1\2\3\4", "Bad CRC-32"),
        (42, struct.pack("<I", 2**31), "[Tt]runcated|Bad magic|[Bb]ad"),
        (46, b"b.txt", "File name in directory"),
    ],
)
def test_a_directory_that_lies_is_found_out(
    tmp_path: Path, at: int, value: bytes, said: str
) -> None:
    path = with_bytes(made(tmp_path / "a.zip", {"a.txt": b"abc" * 99}), at, value)
    with pytest.raises(BrokenZipError, match=said), OpenZip(path) as archive:
        archive.read(archive.members[0], most=1 << 22)


def test_what_is_locked_or_packed_otherwise_is_told_from_what_is_broken(tmp_path: Path) -> None:
    path = with_bytes(made(tmp_path / "a.zip", {"a": b"abc" * 99}), 8, b"\1")
    with pytest.raises(LockedZipError, match="encrypted"), OpenZip(path) as archive:
        archive.read(archive.members[0], most=999)
    path = with_bytes(made(tmp_path / "b.zip", {"a": b"abc" * 99}), 10, b"\x63")
    with pytest.raises(LockedZipError, match="compression"), OpenZip(path) as archive:
        archive.read(archive.members[0], most=999)


def test_members_over_each_other_are_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "a.zip", {"a": b"abc" * 99, "b": b"abc" * 99})
    content = bytearray(path.read_bytes())
    second = content.index(DIRECTORY, content.index(DIRECTORY) + 4)
    content[second + 42 : second + 46] = bytes(4)  # where the first begins
    path.write_bytes(content)
    with pytest.raises(BrokenZipError, match="lie over each other"):
        OpenZip(path)


def test_other_files_and_nothing_are_no_zips(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\3\4 and more")
    with pytest.raises(BrokenZipError, match="not a zip"):
        OpenZip(tmp_path / "a.zip")
    with pytest.raises(BrokenZipError, match="Is a directory"):
        OpenZip(tmp_path)
    with pytest.raises(FileNotFoundError):
        OpenZip(tmp_path / "none.zip")


def test_links_are_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("a")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("b", "plain")
    with OpenZip(tmp_path / "a.zip") as opened:
        assert list(map(is_link, opened.members)) == [True, False]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_zip_with_any_byte_changed_is_read_or_refused(
    tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(made(tmp_path / "a.zip", {"a": b"abc" * 99, "b/c": b"d"}).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a.zip").write_bytes(content)
    with suppress(BrokenZipError), OpenZip(tmp_path / "a.zip") as archive:
        for member in archive.members:
            assert archive.read(member, most=999) in (b"abc" * 99, b"d", b"")
