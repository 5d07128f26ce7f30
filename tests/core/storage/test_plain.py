"""Pipes, sockets and devices are not opened, wherever a path comes from a user or from data."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from core.errors import ConceptError, ConfigError, CorpusError, ImageError
from core.images import ImageTable
from core.labels import LabelSpace
from core.storage.arrays import load_array
from core.storage.documents import read_toml
from core.storage.packed import read_bytes
from core.storage.plain import plain_file
from core.storage.tables import read_lines
from corpus.dicom.files import first_bytes
from corpus.images.decode import decode, kind_of
from corpus.readers.tables.images import read_images
from corpus.readers.tables.text import read_text
from ensembles.decisions.rule import DecisionRule
from ensembles.submission.check import check_submission
from ensembles.submission.truth import read_truth
from inference.images import find_images
from inference.serve.limits import read_token


@pytest.fixture(autouse=True)
def nobody_waits() -> Iterator[None]:
    """Whoever opens a pipe that nobody writes to would wait for ever."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise AssertionError("still waiting")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


READERS: dict[str, Callable[[Path], Any]] = {
    "image": lambda path: decode(path, size=32, resample="bilinear"),
    "bytes": read_bytes,
    "text": read_text,
    "table": read_images,
    "toml": read_toml,
    "images": ImageTable.load,
    "labels": LabelSpace.load,
    "lines": read_lines,
    "array": load_array,
    "rule": DecisionRule.load,
    "submission": lambda path: check_submission(path, edition=2020),
    "truth": lambda path: read_truth(path, edition=2020),
    "token": lambda path: read_token(path, {}),
}


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_opens_a_pipe(tmp_path: Path, reader: str) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link.png"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(ConceptError, match="a pipe, which is not opened; expected a file"):
            READERS[reader](path)


def test_a_pipe_among_images_is_damaged_and_no_dicom(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "IM0001")
    assert first_bytes(tmp_path / "IM0001", 512) == b""
    assert kind_of(tmp_path / "IM0001") == "damaged"
    (found,) = find_images([str(tmp_path / "IM0001")]).images
    with pytest.raises(ImageError, match="a pipe"):
        decode(found.path, size=32, resample="bilinear")


def test_sockets_and_devices_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket may have 100 letters
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
        with pytest.raises(CorpusError, match=r"^socket: a socket, which is not opened"):
            plain_file(Path("socket"))
    with pytest.raises(ConfigError, match=r"^/dev/null: a device"):
        plain_file(Path("/dev/null"), error=ConfigError)


def test_files_folders_and_nothing_pass_and_what_is_larger_does_not(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(bytes(9))
    for path in (file, tmp_path, tmp_path / "missing", Path("a\0b")):
        assert plain_file(path) == path
    assert plain_file(file, most_bytes=9) == file
    with pytest.raises(CorpusError, match="a: 9 bytes, more than 8; make it smaller"):
        plain_file(file, most_bytes=8)


def test_a_file_of_holes_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    with file.open("wb") as opened:
        opened.truncate(1 << 40)
    with pytest.raises(ImageError, match=r"a\.png: 1,099,511,627,776 bytes, more than"):
        decode(file, size=32, resample="bilinear")
    assert first_bytes(file, 512) == bytes(512)
