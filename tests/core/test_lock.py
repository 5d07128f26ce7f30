"""One process at a time."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from core.lock import alone

ROOT = Path(__file__).parents[2]

HOLDER = """
import sys, time
from pathlib import Path
from core.lock import alone
with alone(Path(sys.argv[1]), what="work"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(folder: Path, seconds: float) -> "subprocess.Popen[str]":
    """A process that holds the lock."""
    command = [sys.executable, "-c", HOLDER, str(folder), str(seconds)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_whoever_is_alone_goes_on_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with alone(tmp_path / "new" / "run", what="work"):
        assert (tmp_path / "new" / "run").is_dir()
    assert capsys.readouterr().err == ""


def test_the_second_waits_for_the_first_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with holder(tmp_path, 0.5):
        started = time.monotonic()
        with alone(tmp_path, what="DRCT"):
            assert time.monotonic() - started > 0.2
    assert capsys.readouterr().err == "DRCT: another process is at it; waiting for its end\n"


def test_nobody_waits_for_the_dead(tmp_path: Path) -> None:
    with holder(tmp_path, 60) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with alone(tmp_path, what="work"):
            pass


def test_a_folder_that_the_first_removes_at_its_end_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, endings = Path.open, iter([True])

    def removed_before(self: Path, *given: Any, **named: Any) -> Any:
        if next(endings, False):
            self.parent.rmdir()
        return opened(self, *given, **named)

    monkeypatch.setattr(Path, "open", removed_before)
    with alone(tmp_path / "run", what="work"):
        assert (tmp_path / "run" / ".lock").is_file()


def test_the_lock_goes_with_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError, match="gone"), alone(tmp_path, what="work"):
        raise KeyError("gone")
    with alone(tmp_path, what="work"):
        assert capsys.readouterr().err == ""
