import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import CorpusError, ImageError
from core.storage.packed import exists, file_state, members, read_bytes, reading_order
from core.storage.shards import image_column, image_names, rows_without_image


def zipped(path: Path, files: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def shard(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=3)
    return path


def test_a_file_of_its_own_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"abc")
    assert read_bytes(tmp_path / "a.jpg") == b"abc"
    assert file_state(tmp_path / "a.jpg") == (tmp_path / "a.jpg").stat()
    for missing in ("b.jpg", "a.jpg/inside.jpg", "none.zip/a.jpg", "none.parquet/0"):
        assert not exists(tmp_path / missing)
        with pytest.raises(FileNotFoundError):
            read_bytes(tmp_path / missing)
        with pytest.raises(FileNotFoundError):
            file_state(tmp_path / missing)


@pytest.mark.parametrize("name", ["images.zip", "IMAGES.ZIP"])
def test_members_of_a_zip_are_read_in_place(tmp_path: Path, name: str) -> None:
    files = {"train/a.jpg": b"A" * 1000, "./train/b.JPG": b"B", "c\\d.png": b"D", "../e.jpg": b"E"}
    archive = zipped(tmp_path / name, {"train/": b"", **files})
    # Folders and names that lead out of the archive are no members; `\\` is a folder's end.
    assert members(archive) == ("train/a.jpg", "train/b.JPG", "c/d.png")
    assert read_bytes(archive / "train/a.jpg") == b"A" * 1000
    assert read_bytes(archive / "train/b.JPG") == b"B"
    assert read_bytes(archive / "c/d.png") == b"D"
    assert file_state(archive / "train/a.jpg").st_size == 1000
    assert file_state(archive / "train/a.jpg").st_mtime_ns == archive.stat().st_mtime_ns
    assert exists(archive / "c/d.png")
    assert not exists(archive / "e.jpg")
    with pytest.raises(FileNotFoundError, match=r"e\.jpg"):
        read_bytes(archive / "e.jpg")


def test_an_archive_that_changes_is_read_again(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"a.jpg": b"1"})
    assert read_bytes(archive / "a.jpg") == b"1"
    zipped(archive, {"a.jpg": b"22"})
    assert read_bytes(archive / "a.jpg") == b"22"


def test_members_are_read_from_many_threads(tmp_path: Path) -> None:
    files = {f"{k}.jpg": bytes([k % 256]) * (k + 1) for k in range(400)}
    archive = zipped(tmp_path / "a.zip", files)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: read_bytes(archive / name), files))
    assert found == list(files.values())


def test_what_is_no_whole_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(CorpusError, match=r"a\.zip: not a whole zip \(.*\); download it again$"):
        members(tmp_path / "a.zip")


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"a.jpg": b"abcdef"}, method=zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"abcdef", b"abcdeg"))
    with pytest.raises(ImageError, match=r"a\.zip/a\.jpg: damaged in its archive \(Bad CRC-32"):
        read_bytes(archive / "a.jpg")


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"a.jpg": b"abc"}, method=zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    content[6] |= 1  # the flags of the member
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and those in the directory
    archive.write_bytes(content)
    with pytest.raises(CorpusError, match=r"a\.zip: encrypted \(a\.jpg and others need a passw"):
        members(archive)
    with pytest.raises(ImageError, match=r"a\.zip/a\.jpg: encrypted; unpack"):
        read_bytes(archive / "a.jpg")


def test_a_kind_of_compression_that_is_not_known_is_said(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"a.jpg": b"abc"}, method=zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    content[8] = content[content.index(b"PK\x01\x02") + 10] = 9  # Deflate64, as Windows writes
    archive.write_bytes(content)
    with pytest.raises(ImageError, match=r"compression .*; unpack the archive first"):
        read_bytes(archive / "a.jpg")


IMAGES = [{"bytes": bytes([65 + k]) * (k + 1), "path": f"{k}.jpg"} for k in range(8)]


def test_rows_of_a_parquet_file_are_read_in_any_order(tmp_path: Path) -> None:
    # Groups of three rows: forward, back within a group, across groups.
    path = shard(tmp_path / "a.parquet", label=list(range(8)), image=IMAGES)
    for row in (0, 1, 2, 7, 6, 3, 0, 5, 4):
        assert read_bytes(path / str(row)) == IMAGES[row]["bytes"]
    assert file_state(path / "3").st_size == path.stat().st_size
    for wrong in ("8", "x"):
        with pytest.raises(FileNotFoundError):
            read_bytes(path / wrong)


def test_the_column_of_images_is_the_one_with_bytes(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.parquet", id=["a", "b"], mask=[b"m", b"n"], image=IMAGES[:2])
    assert image_column(path) == "image"
    assert image_names(path) == ["0.jpg", "1.jpg"]
    path = shard(tmp_path / "b.parquet", id=["a", "b"], scan=[b"x", b"y"])
    assert image_column(path) == "scan"
    assert read_bytes(path / "1") == b"y"
    assert image_names(path) == [None, None]
    path = shard(tmp_path / "c.parquet", id=["a", "b"])
    assert image_column(path) is None
    assert rows_without_image(path) == {0, 1}
    with pytest.raises(CorpusError, match=r"c\.parquet: no column holds the bytes of images"):
        read_bytes(path / "0")


def test_rows_without_an_image_are_told(tmp_path: Path) -> None:
    cells = [IMAGES[0], None, {"bytes": None, "path": "x.jpg"}, IMAGES[3], {"bytes": b""}]
    path = shard(tmp_path / "a.parquet", image=cells)
    assert rows_without_image(path) == {1, 2}  # an empty one shows when it is read
    assert image_names(path) == ["0.jpg", None, "x.jpg", "3.jpg", None]
    for row in (1, 2, 4):
        with pytest.raises(FileNotFoundError, match=f"no image in row {row}"):
            read_bytes(path / str(row))


def test_what_is_no_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(CorpusError, match=r"a\.parquet: cannot be read as parquet"):
        read_bytes(tmp_path / "a.parquet" / "0")


def test_parquet_without_its_package_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shard(tmp_path / "a.parquet", image=IMAGES)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(CorpusError, match=r"a\.parquet: parquet needs pyarrow: pip install 'rad"):
        read_bytes(path / "0")


def test_memory_stays_bounded_where_all_rows_are_one_group(tmp_path: Path) -> None:
    cells = [{"bytes": bytes([k]) * 300_000} for k in range(200)]  # 60 MB; batches of 4 MB
    pq.write_table(pa.table({"image": cells}), tmp_path / "a.parquet", row_group_size=1000)
    for row in range(200):
        assert read_bytes(tmp_path / "a.parquet" / str(row))[:1] == bytes([row])


def test_rows_are_read_in_their_own_order(tmp_path: Path) -> None:
    paths = [Path(name) for name in ("z.jpg", "s.parquet/10", "b.zip/1", "s.parquet/9", "a.jpg")]
    # The rows of the shard stand where its first one stood, ascending.
    assert [str(paths[k]) for k in reading_order(paths)] == [
        "z.jpg", "s.parquet/9", "s.parquet/10", "b.zip/1", "a.jpg",
    ]  # fmt: skip
