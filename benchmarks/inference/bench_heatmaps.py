"""How long the heat maps of an image take, beside the network's answer alone.

Each network is asked in a process of its own: for its answer, for the map of one concept and for
those of ten, in turn. Weights are random but for EfficientNet-Lite0, which has those of its
package; time does not depend on them. Memory is that of the process at its highest, after the first
answer and after all maps.

    OMP_NUM_THREADS=1 python -m benchmarks.inference.bench_heatmaps
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from backbones.networks.build import build_backbone
from backbones.settings.config import BackboneConfig
from benchmarks.machine import environment, peak_mib
from core.labels import LabelSpace
from inference.heat.evidence import DetectorSight
from inference.heat.places import PlacedNetwork
from training.devices.compute import Compute
from training.devices.speed import drawn_images

NETWORKS = {
    "tf_efficientnet_lite0": "package",
    "convnext_tiny": "none",
    "swin_tiny_patch4_window7_224": "none",
    "vit_small_patch16_224": "none",
    "vit_base_patch16_224": "none",
}
SIZE = 224
N_CONCEPTS = 1000
N_RUNS = 9


def timed(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def row(name: str) -> str:
    """The line of a network."""
    torch.set_num_threads(1)
    config = BackboneConfig(
        backbone=name, weights=NETWORKS[name], image_sizes=(SIZE,), mirror=False, probe=False
    )
    torch.manual_seed(0)
    backbone = build_backbone(config)
    labels = LabelSpace(tuple(f"C{number}" for number in range(N_CONCEPTS)))
    look = (SIZE, config.scaling)
    network = PlacedNetwork(backbone, look=look, mirror=False, compute=Compute())
    sight = DetectorSight(
        labels=labels,
        networks=[network],
        heads=[nn.Linear(backbone.n_features, N_CONCEPTS).requires_grad_(False)],
        frozen=False,
    )
    images = drawn_images(1, SIZE)
    pixels = {look: np.ascontiguousarray(images[0].permute(1, 2, 0).numpy())}

    def answer() -> None:
        with torch.inference_mode():
            sight.heads[0](backbone(images))

    def maps(n: int) -> None:
        sight.of(pixels, concepts=labels.cuis[:n], heads=[0])

    sides: dict[str, Callable[[], None]] = {
        "answer": answer,
        "one map": lambda: maps(1),
        "ten maps": lambda: maps(10),
    }
    answer()
    before = peak_mib()
    found: dict[str, list[float]] = {side: [] for side in sides}
    for act in sides.values():
        act()
    for _ in range(N_RUNS):
        for side, act in sides.items():
            found[side].append(timed(act))
    places = round(network.see(pixels[look]).n_places ** 0.5)
    layer = type(network.layer.module).__name__ if network.layer else "last map"
    cells = [f"{statistics.median(s):.3f} ({min(s):.3f} - {max(s):.3f})" for s in found.values()]
    return (
        f"| {name} | {layer} | {places} x {places} | {' | '.join(cells)}"
        f" | {before:,.0f} | {peak_mib():,.0f} |"
    )


def main() -> None:
    print(
        "| network | layer | places | answer, s | one map | ten maps | MiB before | MiB after |\n"
        "| :-- | :-- | --: | --: | --: | --: | --: | --: |"
    )
    for name in NETWORKS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.apply(row, (name,)), flush=True)
    print(f"\n{environment('torch', 'timm', n_threads=1)}")


if __name__ == "__main__":
    main()
