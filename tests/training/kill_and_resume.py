"""Trains in processes that are killed at given steps and started again; prints what came out.

Run by test_resume.py as a program: a process of its own may be forked and killed at will.

Usage: kill_and_resume.py FOLDER EVERY_S PRECISION [STEP ...] [-- FOLDER ...], on
RADFUSE_TEST_DEVICE or the processor; `--` stands between several trainings, a line is printed of
each. `fp32+texts` has texts teach as well.
"""

import hashlib
import json
import os
import signal
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array

from backbones.networks.build import Detector, build_backbone
from backbones.settings.config import BackboneConfig
from corpus.images.augment import TRANSFORMS
from training.batches import Examples
from training.checkpoint import Checkpoint
from training.devices.compute import Compute, Inputs
from training.devices.speed import Speed
from training.heads import build_head
from training.loop import Watch, fit
from training.predict import Rows
from training.texts.teacher import Teacher

N, L = 22, 5
DEVICE = os.environ.get("RADFUSE_TEST_DEVICE", "cpu")
CONFIG = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(32,), regime="full", hidden=(8,),
    dropout=0.5, augment="hflip", batch_size=6, micro_batch=4, epochs=3, patience=3, ema=0.9,
    mixup=0.3, clip_norm=1.0, schedule="cosine", warmup=0.5, learning_rate=5e-3,
    sampling="rare", pooling="gem",
)  # fmt: skip
N_STEPS = 3  # an epoch: 18 images to learn from, 4 to stop on


def train(folder: Path, every_s: float, precision: str, *, kill_at: int) -> None:
    """Train to the end, or kill this very process once so many images were learnt from."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (N, 3, 32, 32), dtype=np.uint8))
    targets = csr_array(rng.random((N, L)) < 0.4)
    precision, _, told = precision.partition("+")
    texts = [" ".join(rng.permutation(["chest", "left", "effusion"])[:2]) for _ in range(N)]
    entries: list[dict[str, Any]] = []
    n_learnt = 0

    def advance(n: int) -> None:
        nonlocal n_learnt
        n_learnt += n
        if kill_at and n_learnt >= kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def augment(inputs: Inputs, rows: Rows, epoch: int) -> Inputs:
        draws = np.random.default_rng((9, epoch)).random((N, 8))[rows]
        return (TRANSFORMS["hflip"](inputs[0], torch.from_numpy(draws).float().to(DEVICE)),)

    torch.manual_seed(1)
    backbone = build_backbone(CONFIG)
    model = Detector(backbone, build_head(backbone.n_features, L, config=CONFIG))
    fitted = fit(
        model,
        Examples(
            batches=lambda rows: (images[torch.from_numpy(rows)],),
            targets=targets, rows=np.arange(N), augment=augment, kinds=("DRCT", "DRXR") * 11,
            teacher=Teacher.hashed(texts, weight=0.5, seed=2) if told else None,
        ),
        stop=np.arange(N) % 6 == 0,
        config=CONFIG,
        seed=3,
        compute=Compute(
            device=DEVICE,
            speed=Speed(channels_last=precision != "fp32", precision=precision),  # type: ignore[arg-type]
        ),
        watch=Watch(log=entries.append, advance=advance),
        checkpoint=Checkpoint(folder, every_s=every_s),
    )  # fmt: skip
    weights = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        weights.update(name.encode() + value.contiguous().cpu().numpy().tobytes())
    log = [{k: v for k, v in e.items() if k not in ("seconds", "images_per_s")} for e in entries]
    print(json.dumps([weights.hexdigest(), fitted.epoch, fitted.f1, log]), flush=True)


def main() -> None:
    """Start, and be killed, and start again; one training after the other."""
    torch.set_num_threads(1)
    # In fp32 cuDNN else takes algorithms that add up in any order: other bits in every run.
    torch.backends.cudnn.deterministic = True
    for is_between, words in groupby(sys.argv[1:], lambda word: word == "--"):
        if not is_between:
            folder, every_s, precision, *steps = words
            run(Path(folder), float(every_s), precision, list(map(int, steps)))


def run(folder: Path, every_s: float, precision: str, steps: list[int]) -> None:
    """One training, killed at these steps."""
    for step in [*steps, 0]:
        child = os.fork()
        if child == 0:
            train(folder, every_s, precision, kill_at=6 * step)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert killed == (step > 0), (step, status)


if __name__ == "__main__":
    main()
