"""Checkpoints: whole or not there."""

import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from core.errors import ConfigError
from training.checkpoint import Checkpoint, deferred_signals

ROOT = Path(__file__).parents[2]


def state(value: float, *, n: int = 10) -> dict[str, object]:
    return {"weights": torch.full((n,), value), "entries": [{"epoch": 1, "f1": None}], "step": 3}


def test_there_is_none_at_first_and_then_the_last(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run" / "checkpoint", every_s=0)
    assert checkpoint.load() is None
    for value in (1.0, 2.0):
        checkpoint.save(state(value))
    loaded = Checkpoint(checkpoint.folder, every_s=0).load()
    assert loaded is not None
    assert torch.equal(loaded["weights"], torch.full((10,), 2.0))
    assert loaded["entries"] == [{"epoch": 1, "f1": None}]
    assert [path.name for path in checkpoint.folder.iterdir()] == ["state.pt"]


def test_memory_format_and_bits_survive(tmp_path: Path) -> None:
    weight = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    checkpoint = Checkpoint(tmp_path, every_s=0)
    checkpoint.save({"weight": weight})
    loaded = checkpoint.load()
    assert loaded is not None
    assert loaded["weight"].stride() == weight.stride()
    assert torch.equal(loaded["weight"], weight)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, every_s=0)
    checkpoint.save(state(1.0))
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"state.pt: cannot be read as a checkpoint .* remove it"):
        checkpoint.load()


def test_a_file_that_would_run_code_is_refused_and_not_run(tmp_path: Path) -> None:
    class Touching:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "touched",)

    checkpoint = Checkpoint(tmp_path / "run", every_s=0)
    checkpoint.save(state(1.0))
    torch.save({**state(1.0), "more": Touching()}, checkpoint.path)
    with pytest.raises(ConfigError, match=r"state.pt: cannot be read as a checkpoint .*remove it"):
        checkpoint.load()
    assert not (tmp_path / "touched").exists()


def test_within_an_epoch_time_decides_and_at_its_end_the_cost(tmp_path: Path) -> None:
    seldom = Checkpoint(tmp_path / "seldom", every_s=1e9)
    assert not seldom.is_due(epoch_ended=False)
    assert seldom.is_due(epoch_ended=True)  # nothing is known of the cost yet
    seldom.save(state(1.0, n=2_000_000))
    assert not seldom.is_due(epoch_ended=True)  # 20 times the cost has not gone by
    assert not seldom.is_due(epoch_ended=False)
    always = Checkpoint(tmp_path / "always", every_s=0)
    always.save(state(1.0))
    assert always.is_due(epoch_ended=False)


def test_a_smaller_micro_batch_is_remembered(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "new", every_s=0)
    assert checkpoint.micro_batch_limit() == 0
    checkpoint.limit_micro_batch(8)
    assert Checkpoint(tmp_path / "new", every_s=0).micro_batch_limit() == 8
    assert checkpoint.load() is None


FULL_DISK = """
import resource, signal, sys, torch
from pathlib import Path
from training.checkpoint import Checkpoint
checkpoint = Checkpoint(Path(sys.argv[1]), every_s=0)
checkpoint.save({"weights": torch.full((1000,), 1.0)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    checkpoint.save({"weights": torch.full((1_000_000,), 2.0)})
except OSError as error:
    print(error.strerror)
    print(error.filename)
print(sorted(path.name for path in checkpoint.folder.iterdir()))
print(float(checkpoint.load()["weights"][0]))
"""


def test_a_disk_that_is_full_leaves_the_one_before_whole_and_says_so(tmp_path: Path) -> None:
    # The system's own refusal: a limit on the size of files, reached in the middle of the writing.
    assert signal.SIGXFSZ
    assert resource.RLIMIT_FSIZE is not None
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    reason, name, files, value = done.stdout.splitlines()
    assert reason == f"File too large; the checkpoint before it is whole, {tmp_path / 'state.pt'}"
    assert name == str(tmp_path / "state.pt")
    assert files == "['state.pt']"
    assert value == "1.0"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_does_not_end_the_work(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with deferred_signals() as pending:
        assert pending.number == 0
        os.kill(os.getpid(), number)
        assert pending.number == number
    assert signal.getsignal(number) is before


def test_the_second_ctrl_c_ends_at_once() -> None:
    with deferred_signals() as pending:
        os.kill(os.getpid(), signal.SIGINT)
        assert pending.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_gives_the_signals_back() -> None:
    with pytest.raises(KeyError, match="gone"), deferred_signals():
        raise KeyError("gone")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_outside_the_main_thread_nothing_is_deferred() -> None:
    handlers = []

    def work() -> None:
        with deferred_signals() as pending:
            handlers.append((signal.getsignal(signal.SIGINT), pending.number))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [(signal.default_int_handler, 0)]
