"""Claims: one holder, several who share, and what was removed while it was waited for."""

import multiprocessing
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from core.storage.claims import claim, claimed, is_claimed, keeps_others_out

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
