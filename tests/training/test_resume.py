"""A training that is killed and started again ends as one that never was: to the last bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("kill_and_resume.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def outcome(folder: Path, *kills: int, every_s: float = 0, precision: str = "fp32") -> Any:
    """Weights, best epoch, score and log of a training that was killed at these steps."""
    done = subprocess.run(
        [sys.executable, PROGRAM, folder, str(every_s), precision, *map(str, kills)],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Of a training that nothing came between."""
    return outcome(tmp_path_factory.mktemp("whole"))


def test_nothing_depends_on_chance(whole: Any, tmp_path: Path) -> None:
    assert outcome(tmp_path, every_s=1e9) == whole
    epochs = [entry["epoch"] for entry in whole[3]]
    assert epochs == [1, 2, 3]
    names = {"epoch", "loss", "stop_loss", "f1", "f1_by_category", "rate", "lowest_rate"}
    assert set(whole[3][0]) == names


def test_a_kill_at_every_single_step_changes_nothing(whole: Any, tmp_path: Path) -> None:
    # Nine steps, and a start for each: 3 an epoch, killed after the save of each but the last's.
    assert outcome(tmp_path, 1, 2, 3, 4, 5, 6, 7, 8, 9) == whole


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param((1, 1), marks=pytest.mark.slow),
        pytest.param((5, 8), marks=pytest.mark.slow),
        (4, 4, 9),
    ],
)
def test_a_kill_between_two_checkpoints_costs_time_only(
    whole: Any, tmp_path: Path, kills: tuple[int, ...]
) -> None:
    assert outcome(tmp_path, *kills, every_s=1e9) == whole


@pytest.mark.slow
def test_a_training_in_bf16_goes_on_as_exactly(tmp_path: Path) -> None:
    expected = outcome(tmp_path / "whole", precision="bf16")
    assert outcome(tmp_path / "killed", 2, 4, 7, precision="bf16") == expected


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_a_signal_saves_and_leaves_and_the_same_command_goes_on(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    runs = tmp_path / "runs"
    command = [
        sys.executable, "cli.py", "train-backbone", "--category", "DRCT", "-w", str(runs),
        "--preset", "finetune",
    ]  # fmt: skip
    settings = {
        "backbone": "test_efficientnet", "weights": "none", "image_sizes": 64, "n_members": 1,
        "epochs": 200, "patience": 200, "batch_size": 4, "probe": "false",
    }  # fmt: skip
    command += [f"--set={key}={value}" for key, value in settings.items()]
    prepare = [sys.executable, "cli.py", "prepare", "--set", "phantom_images=60", "-w", str(runs)]
    subprocess.run(prepare, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    with subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not list(runs.glob("backbones/DRCT/*/members/0/checkpoint/state.pt")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert said.endswith("interrupted; run the same command again to go on\n")
    (home,) = runs.glob("backbones/DRCT/*")
    before = (home / "members" / "0" / "log.jsonl").read_text().splitlines()
    with subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        log = home / "members" / "0" / "log.jsonl"
        while len(after := log.read_text().splitlines()) <= len(before) + 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
        process.communicate()
    assert after[: len(before)] == before  # told again, not learnt again: the very same seconds
