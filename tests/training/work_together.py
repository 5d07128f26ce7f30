"""What processes under torchrun compute together; run by test_torchrun.py as a program.

Usage: torchrun ... work_together.py OUT
"""

import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import nn

import backbones.networks.queries
from backbones.networks.build import Detector, build_backbone
from backbones.networks.queries import Words, build_head_on
from backbones.settings.config import BackboneConfig
from core.config import overlay
from training.batches import Examples
from training.devices.compute import Compute, joined
from training.heads import build_head
from training.loop import Watch, fit
from training.predict import predict
from training.texts.teacher import Teacher

N, D, L = 27, 7, 5
CONFIG = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(32,), regime="full", hidden=(),
    dropout=0, input_dropout=0, batch_size=8, epochs=3, patience=3, learning_rate=2e-4,
    loss="f1*bce", probe=False,
)  # fmt: skip
PLAIN = {"backbone": "test_vit", "image_sizes": (160,), "batch_size": 9, "epochs": 2}
SGD = {"optimizer": "sgd", "learning_rate": 0.01}
VARIANTS: dict[str, dict[str, Any]] = {
    "head": {"hidden": (6,), "schedule": "plateau", "learning_rate": 2e-3},
    "head with texts": {"hidden": (6,), "learning_rate": 2e-3, "mixup": 0.3},
    "network": {},
    "network by SGD": SGD,
    "network mixed": {**SGD, "mixup": 0.5, "negative_smoothing": 0.05, "sampling": "rare"},
    "network, generalised mean": {**SGD, "pooling": "gem"},
    "queries": {**SGD, "head": "queries", "image_sizes": (64,), "n_queries": 2},
    "words": {**SGD, "head": "words", "image_sizes": (64,)},
    # Normalised image by image: parts of a batch are the batch.
    "in parts": {**PLAIN, "micro_batch": 2, "clip_norm": 0.5, "ema": 0.8, "loss": "bce"},
    "transformer": PLAIN,
}

TEACHER = Teacher.hashed(
    [("chest, left effusion", "chest", "", "right effusion")[k % 4] for k in range(N)],
    weight=0.5,
    seed=0,
)
"""Some images have no text, more in one process than in the other."""


@patch.object(backbones.networks.queries, "_AT_ONCE", 2)  # words in blocks, computed twice
def results(compute: Compute) -> dict[str, Any]:
    """Probabilities, log and weights of small trainings, by name."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(N, D)).astype(np.float32))
    targets = csr_array(rng.random((N, L)) < 0.4)
    found: dict[str, Any] = {}
    for name, settings in VARIANTS.items():
        config = overlay(CONFIG, settings)
        size = config.image_sizes[0]
        pixels = np.random.default_rng(1).integers(0, 256, (N, 3, size, size), dtype=np.uint8)
        images = torch.from_numpy(pixels)
        torch.manual_seed(2)
        if name.startswith("head"):
            source, model = features, nn.Sequential(build_head(D, L, config=config))
        else:
            backbone = build_backbone(config)
            source = images
            words = Words(points=torch.eye(L)) if config.head == "words" else None
            head = build_head_on(backbone.n_features, L, config=config, words=words)
            model = Detector(backbone, head)  # type: ignore[assignment]
        entries: list[dict[str, Any]] = []
        examples = Examples(
            batches=lambda rows, source=source: (source[torch.from_numpy(rows)],),  # type: ignore[misc]
            targets=targets, rows=np.arange(N), kinds=("DRCT", "DRMR", "DRXR") * 9,
            teacher=TEACHER if name == "head with texts" else None,
        )  # fmt: skip
        fit(
            model, examples, stop=np.arange(N) % 5 == 0, config=config, seed=3, compute=compute,
            watch=Watch(log=entries.append),
        )  # fmt: skip
        rows = np.arange(N)[::-1].copy()
        found[f"{name}: probs"] = predict(
            model,
            examples.batches,
            rows=rows,
            compute=compute,
            batch_size=4,
            mirror=not name.startswith("head"),
        )
        for key in ("loss", "f1", "rate"):
            found[f"{name}: {key}"] = np.array([entry[key] for entry in entries])
        if name == "network":
            continue  # AdamW makes steps of the rounding of gradients that are 0 before a norm
        for key, value in model.state_dict().items():
            found[f"{name}: {key}"] = value.contiguous().numpy()
    return found


def main() -> None:
    """Save what the first process finds, once all have found the same."""
    with joined("cpu") as world:
        found = results(Compute(world=world))
        sums = world.everyone({name: float(np.sum(value)) for name, value in found.items()})
        assert all(other == sums[0] for other in sums)
        if world.first:
            np.savez(Path(sys.argv[1]), **found)


if __name__ == "__main__":
    main()
