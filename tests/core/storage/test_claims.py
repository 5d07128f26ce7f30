"""Claims: one holder, several who share, and what was removed while it was waited for."""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from core.storage import claims
from core.storage.claims import NOTE, claim, claimed, is_claimed, keeps_others_out, kernel

pytest.importorskip("fcntl", reason="no file locks here")


def test_one_holds_a_claim_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    assert not is_claimed(path)
    held = claim(path)
    assert held is not None
    assert claim(path) is None
    assert is_claimed(path)
    assert keeps_others_out(path)
    held.release()
    assert keeps_others_out(path)
    assert not is_claimed(path)


def test_several_share_a_claim_and_the_last_is_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    one = claim(path)
    assert one is not None
    assert claim(path, shared=True) is None
    one.share()
    other = claim(path, shared=True)
    assert other is not None
    assert not one.alone()
    one.release()
    assert other.alone()
    assert claim(path, shared=True) is None
    other.release()


def test_who_waits_is_told_and_gets_it(tmp_path: Path) -> None:
    path, told = tmp_path / "a.lock", list[str]()
    held = claim(path)
    assert held is not None
    timer = threading.Timer(0.2, held.release)
    timer.start()
    with claimed(path, waiting=lambda: told.append("waits")):
        assert is_claimed(path)
    assert told == ["waits"]
    timer.join()


def test_a_file_that_was_removed_while_it_was_waited_for_is_not_held(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    held = claim(home / "a.lock")
    assert held is not None

    def end() -> None:
        shutil.rmtree(home)
        held.release()

    timer = threading.Timer(0.2, end)
    timer.start()
    with pytest.raises(FileNotFoundError, match=r"a\.lock"):
        claim(home / "a.lock", wait=True)
    timer.join()


def hold(path: str) -> None:
    with claimed(Path(path)):
        time.sleep(60)


def test_a_claim_goes_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    process = multiprocessing.get_context("fork").Process(target=hold, args=(str(path),))
    process.start()
    while not is_claimed(path):
        time.sleep(0.01)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert not is_claimed(path)


def note_of(path: Path, *, kernel: str, silent_s: float = 0) -> Path:
    """A note beside a lock, as another process left it."""
    note = path.with_name(path.name + NOTE)
    note.write_text(json.dumps({"kernel": kernel, "processes": "p", "process": "1 2"}))
    os.utime(note, times=(time.time() - silent_s,) * 2)
    return note


def test_a_note_says_who_holds_a_lock_while_it_is_held(tmp_path: Path) -> None:
    with claimed(tmp_path / "lock"):
        noted = json.loads((tmp_path / f"lock{NOTE}").read_text())
        assert noted["kernel"] == kernel()
        assert noted["process"].startswith(f"{os.getpid()} ")
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_another_kernel_is_believed_while_it_gives_signs_of_life(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    note = note_of(path, kernel="0123abcd", silent_s=60)
    assert claim(path) is None
    path.touch()
    assert is_claimed(path)
    note_of(path, kernel="0123abcd", silent_s=150)
    with claimed(path):
        assert json.loads(note.read_text())["kernel"] == kernel()


def test_a_note_of_this_kernel_means_nothing_where_locks_are(tmp_path: Path) -> None:
    note_of(tmp_path / "lock", kernel=kernel())
    with claimed(tmp_path / "lock"):
        pass


def test_a_note_that_is_no_json_is_believed_for_a_while(tmp_path: Path) -> None:
    note = note_of(tmp_path / "lock", kernel="x")
    for text in ("", "[1]"):
        note.write_text(text)
        assert claim(tmp_path / "lock") is None


def test_a_clock_that_was_set_back_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note_of(tmp_path / "lock", kernel="0123abcd", silent_s=-(10**6))
    monkeypatch.setattr(claims, "_SILENT_S", 0.5)
    began = time.monotonic()
    with claimed(tmp_path / "lock"):
        pass
    assert 0.4 < time.monotonic() - began < 30


def test_signs_of_life_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_BEAT_S", 0.02)
    monkeypatch.setattr(claims, "_HEARTS", claims._Hearts())
    note = tmp_path / f"lock{NOTE}"
    with claimed(tmp_path / "lock"):
        os.utime(note, times=(1.0, 1.0))
        until = time.monotonic() + 30
        while note.stat().st_mtime == 1.0:
            assert time.monotonic() < until
            time.sleep(0.01)


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "lock", lambda *args, **kwargs: None)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_notes_keep_others_out(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = claim(path)
    assert held is not None
    assert claim(path) is None
    held.release()
    with claimed(path):
        assert is_claimed(path)
    note_of(path, kernel="0123abcd", silent_s=60)
    assert claim(path) is None


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_process_of_this_container_that_ended_is_known(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    note = note_of(path, kernel=kernel())
    assert claim(path) is None  # of another container
    told = {**claims._self(), "process": "1 2"}  # its number is taken, by a process that came later
    note.write_text(json.dumps(told))
    with claimed(path):
        pass
    note.write_text(json.dumps({**told, "process": "4999999 2"}))
    with claimed(path):
        pass


def test_of_two_that_put_a_note_aside_one_writes_its_own(tmp_path: Path) -> None:
    """The one that comes late has taken a newer note away, and gives it back."""
    note = note_of(tmp_path / "lock", kernel="0123abcd")
    newer = note.read_text()
    claims._Note(note, "")._put_aside("older")
    assert note.read_text() == newer
    claims._Note(note, "")._put_aside(newer)
    assert not note.exists()
    claims._Note(note, "")._put_aside(newer)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_note_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def refuse(self: Path, mode: str = "r", **kwargs: Any) -> Any:
        if mode == "x":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(self, mode, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OSError, match=rf"No space left on device: '.*lock\{NOTE}'"):
        claim(tmp_path / "lock")
