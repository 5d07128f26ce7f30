"""What only a CUDA device shows; skipped where there is none."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backbones.detectors.plan import detector_names
from backbones.settings.config import BackboneConfig
from backbones.train import train_backbones
from core.config import overlay
from core.predictions import Predictions
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from training.devices.compute import Compute

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

ROOT = Path(__file__).parents[1]
FULL = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(64,), regime="full", hidden=(),
    epochs=2, patience=2, batch_size=8, n_members=1, augment="light", dropout=0, input_dropout=0,
    probe=False,
)  # fmt: skip


def train(corpus: Corpus, workspace: Workspace, device: str, **settings: Any) -> Path:
    (home,) = train_backbones(
        corpus, workspace, names=detector_names("global"), config=overlay(FULL, settings),
        preset="tiny", compute=Compute(device=device),
    )  # fmt: skip
    return home


def test_a_gpu_learns_what_a_processor_learns(corpus: Corpus, tmp_path: Path) -> None:
    homes = [train(corpus, Workspace(tmp_path / d), d, augment="none") for d in ("cpu", "cuda")]
    one, two = (Predictions.load(home / "predictions" / "valid").probs for home in homes)
    np.testing.assert_allclose(one, two, rtol=0, atol=5e-3)


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16", "fp16"])
def test_every_precision_runs_and_is_noted(
    corpus: Corpus, workspace: Workspace, precision: str
) -> None:
    home = train(corpus, workspace, "cuda", precision=precision, probe=True)
    speed = read_meta(home)["speed"]
    assert precision in ("auto", speed.partition(",")[0])
    assert np.isfinite(Predictions.load(home / "predictions" / "test").probs).all()


def test_memory_that_runs_out_on_the_device_halves_the_batch(
    corpus: Corpus, workspace: Workspace
) -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    # 32 images take 410 MiB; cuBLAS alone takes 32 MiB on an H100.
    torch.cuda.set_per_process_memory_fraction(256 * 2**20 / total)
    try:
        home = train(corpus, workspace, "cuda", image_sizes=(224,), batch_size=32)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert '"event": "out of memory"' in (home / "log.jsonl").read_text()


def test_torchrun_shares_the_devices(tmp_path: Path) -> None:
    n = torch.cuda.device_count()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(n), "cli.py", "train-backbone", "--category", "DRCT"]
    settings = ("backbone=test_efficientnet", "weights=none", "image_sizes=64", "epochs=2")
    done = subprocess.run(
        [*command, "--preset", "finetune", "-w", tmp_path, *(f"--set={s}" for s in settings)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "cuda" in read_meta(Path(done.stdout.strip()))["device"]
