"""Files at an address, from a server of its own on this machine."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from backbones.encoders.downloads import downloaded, hub_at_once, reachable
from core.errors import ConfigError


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, and says nothing of it on the terminal."""

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Its address, and the folder whose files it has."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}", folder
        http.shutdown()


def test_a_file_is_downloaded_once_and_held_against_its_name(
    server: tuple[str, Path], tmp_path: Path
) -> None:
    address, folder = server
    good = hashlib.sha256(b"weights").hexdigest()[:8]
    (folder / f"a-{good}.pth").write_bytes(b"weights")
    kept = tmp_path / "kept"
    path = downloaded(f"{address}/a-{good}.pth", folder=kept, what="weights")
    assert path == kept / f"a-{good}.pth"
    (folder / f"a-{good}.pth").write_bytes(b"others")
    assert downloaded(f"{address}/a-{good}.pth", folder=kept, what="weights") == path
    assert path.read_bytes() == b"weights"
    (folder / "a-00000000.pth").write_bytes(b"weights")
    with pytest.raises(
        ConfigError, match=r"^weights: .*a-0{8}\.pth cannot be downloaded \(invalid"
    ):
        downloaded(f"{address}/a-00000000.pth", folder=kept, what="weights")
    assert [path.name for path in kept.iterdir()] == [f"a-{good}.pth"]  # nothing half


def test_a_file_that_is_not_there_is_one_line(server: tuple[str, Path], tmp_path: Path) -> None:
    address, _ = server
    with pytest.raises(
        ConfigError, match=r"b\.pth cannot be downloaded \(HTTP Error 404: File not"
    ):
        downloaded(f"{address}/b.pth", folder=tmp_path, what="weights")


def test_a_server_that_does_not_answer_is_refused_at_once(tmp_path: Path) -> None:
    reachable.cache_clear()
    with pytest.raises(
        ConfigError,
        match=r"^weights: they lie on 127\.0\.0\.1:9, which cannot be reached from here",
    ):
        downloaded("http://127.0.0.1:9/a.pth", folder=tmp_path / "kept", what="they")
    assert not (tmp_path / "kept").exists()


def test_the_hub_is_what_is_kept_of_it_where_it_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with hub_at_once():
        assert constants.is_offline_mode()
    assert not constants.is_offline_mode()
