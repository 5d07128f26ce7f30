"""Two processes under torchrun give what one process with the same batches gives."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.predictions import Predictions
from core.storage.folders import read_meta

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def run(*command: str | Path) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    from tests.training.work_together import results
    from training.devices.compute import Compute

    run(*TORCHRUN, ROOT / "tests" / "training" / "work_together.py", tmp_path / "two.npz")
    one = results(Compute())
    with np.load(tmp_path / "two.npz") as two:
        assert set(one) == set(two.files)
        for name, value in one.items():
            np.testing.assert_allclose(two[name], value, rtol=0, atol=3e-5, err_msg=name)


SETTINGS = (
    "backbone=test_efficientnet", "image_sizes=64", "epochs=2", "patience=2",
    "batch_size=16", "dropout=0", "input_dropout=0", "probe=false", "n_members=1",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["quick", "finetune"])
def test_the_command_under_torchrun_makes_the_same_detector(tmp_path: Path, preset: str) -> None:
    run(
        sys.executable, "cli.py", "prepare", "-w", tmp_path / "prepared",
        "--set", "phantom_images=60", "--set", "image_size=64",
    )  # fmt: skip
    names = [f"labelled-{part}of5" for part in range(1, 6)]
    both(tmp_path, preset, "global", "--weights", "none", splits=[*names, "test"])
    if preset == "finetune":  # network k from network k of the global detector
        general = tmp_path / "one" / "backbones" / "global"
        shutil.rmtree(tmp_path / "two" / "backbones")
        shutil.copytree(general, tmp_path / "two" / "backbones" / "global")
        both(tmp_path, preset, "DRCT", "--start-from", "global", splits=[*names, "test"])


@pytest.mark.slow
def test_the_command_under_torchrun_stops_on_the_same_scores(tmp_path: Path) -> None:
    run(
        sys.executable, "cli.py", "prepare", "-w", tmp_path / "prepared", "--protocol", "holdout",
        "--set", "phantom_images=60", "--set", "image_size=64",
    )  # fmt: skip
    homes = both(tmp_path, "quick", "global", "--weights", "none", splits=["valid", "test"])
    scores = [read_meta(home)["stopping_f1"] for home in homes]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)


def both(folder: Path, preset: str, category: str, *options: str, splits: list[str]) -> list[Path]:
    """The run folders of one process and of two, which hold the same."""
    homes = []
    for name, start in (("one", (sys.executable,)), ("two", TORCHRUN)):
        workspace = folder / name
        if not workspace.exists():
            shutil.copytree(folder / "prepared", workspace)
        done = run(
            *start, "cli.py", "train-backbone", "--category", category, "-w", workspace,
            "--preset", preset, *options, *(f"--set={setting}" for setting in SETTINGS),
        )  # fmt: skip
        assert done.stdout.count("\n") == 1  # the first process alone speaks
        homes.append(Path(done.stdout.strip()))
    assert homes[0].name == homes[1].name
    assert {path.name for path in homes[0].iterdir()} == {path.name for path in homes[1].iterdir()}
    for split in splits:
        one, two = (Predictions.load(home / "predictions" / split) for home in homes)
        assert one.image_ids == two.image_ids
        assert one.fitted_on == two.fitted_on
        np.testing.assert_allclose(two.probs, one.probs, rtol=0, atol=3e-5)
    return homes
