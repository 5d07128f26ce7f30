"""A training that is killed and started again ends as an uninterrupted one, to the last bit."""

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


BETWEEN = ((1, 1), (5, 8), (4, 4, 9))
"""Steps at which a training that saves seldom is killed."""

TRAININGS: dict[str, tuple[str, ...]] = {
    "whole": ("0", "fp32"),
    "again": ("1e9", "fp32"),
    # Nine steps, and a start for each: 3 an epoch, killed after the save of each but the last's.
    "at every step": ("0", "fp32", *"123456789"),
    **{f"at {kills}": ("1e9", "fp32", *map(str, kills)) for kills in BETWEEN},
    "whole in bf16": ("0", "bf16"),
    "killed in bf16": ("0", "bf16", *"247"),
    "whole with texts": ("0", "fp32+texts"),
    "killed with texts": ("0", "fp32+texts", *"257"),
}
"""What the program is told of each, without its folder."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Weights, best epoch, score and log of each training, from one start of the program."""
    folder = tmp_path_factory.mktemp("trainings")
    told: list[str] = []
    for number, words in enumerate(TRAININGS.values()):
        told += ["--", str(folder / str(number)), *words]
    done = subprocess.run(
        [sys.executable, PROGRAM, *told],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(zip(TRAININGS, map(json.loads, done.stdout.splitlines()), strict=True))


def test_nothing_depends_on_chance(outcomes: dict[str, Any]) -> None:
    whole = outcomes["whole"]
    assert outcomes["again"] == whole
    epochs = [entry["epoch"] for entry in whole[3]]
    assert epochs == [1, 2, 3]
    names = {"epoch", "loss", "stop_loss", "f1", "f1_by_category", "rate", "lowest_rate"}
    assert set(whole[3][0]) == names


def test_a_kill_at_every_single_step_changes_nothing(outcomes: dict[str, Any]) -> None:
    assert outcomes["at every step"] == outcomes["whole"]


@pytest.mark.parametrize("kills", BETWEEN)
def test_a_kill_between_two_checkpoints_costs_time_only(
    outcomes: dict[str, Any], kills: tuple[int, ...]
) -> None:
    assert outcomes[f"at {kills}"] == outcomes["whole"]


def test_a_training_in_bf16_goes_on_as_exactly(outcomes: dict[str, Any]) -> None:
    assert outcomes["killed in bf16"] == outcomes["whole in bf16"]


def test_a_training_with_texts_goes_on_as_exactly(outcomes: dict[str, Any]) -> None:
    whole = outcomes["whole with texts"]
    assert outcomes["killed with texts"] == whole
    assert "text_loss" in whole[3][0]
    assert whole[0] != outcomes["whole"][0]  # they do teach


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
