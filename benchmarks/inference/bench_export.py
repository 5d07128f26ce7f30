"""How fast a detector runs as an ONNX graph, beside torch, on the same images and threads.

Three sides take turns: `predict`'s own way to ask the detector (features in batches that are filled
up to one size, so that they are the same to the last bit), the same networks bare in torch, and
onnxruntime on the graph that `export --onnx` writes. Decoding is not counted. On the test images of
the workspace the probabilities of graph and `predict` are held against each other first.

    OMP_NUM_THREADS=1 python -m benchmarks.inference.bench_export -w WORKSPACE [--detector global]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.machine import environment
from core.runs.workspace import Workspace
from inference.export.detectors import PlainDetector, block_of, detectors_of
from inference.export.graphs import FeatureGraph, GraphWriter, HeadGraph, open_session, run_graph
from inference.images import NewImage
from inference.place import EnsemblePlace
from inference.stream import Pixels, decoded

N_RUNS = 5
N_COMPARED = 200
N_TIMED = {1: 8, 32: 64}
"""Images of a run by the size of its batches."""

Floats = npt.NDArray[np.float32]
Ask = Callable[[list[Pixels]], Floats]


def by_predict(detector: PlainDetector, images: list[Pixels]) -> Floats:
    """As `predict` asks a detector."""
    return detector.probabilities(block_of([detector], images))


def by_torch(
    detector: PlainDetector, features: FeatureGraph, heads: HeadGraph, images: list[Pixels]
) -> Floats:
    """The networks alone."""
    given = [torch.from_numpy(np.stack([i[look] for i in images])) for look in detector.looks]
    with torch.inference_mode():
        probs: Floats = heads(features(*given)).numpy()
    return probs


def by_graph(detector: PlainDetector, session: object, images: list[Pixels]) -> Floats:
    """As whoever has the graph does."""
    return run_graph(session, [np.stack([i[look] for i in images]) for look in detector.looks])


def rate(ask: Ask, images: list[Pixels], *, size: int) -> float:
    """Images a second in batches of a size."""
    began = time.perf_counter()
    for start in range(0, len(images), size):
        ask(images[start : start + size])
    return len(images) / (time.perf_counter() - began)


def table(sides: dict[str, Ask], images: list[Pixels]) -> str:
    """Images a second of each side at each size of batch."""
    lines = [
        "| batch | side | images/s | range | beside predict |",
        "| --: | :-- | --: | --: | --: |",
    ]
    for size, n in N_TIMED.items():
        chosen = (images * (n // len(images) + 1))[:n]
        for ask in sides.values():
            ask(chosen[:size])
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(N_RUNS):
            for name, ask in sides.items():
                rates[name].append(rate(ask, chosen, size=size))
        base = statistics.median(next(iter(rates.values())))
        for name, found in rates.items():
            middle = statistics.median(found)
            lines.append(
                f"| {size} | {name} | {middle:.1f} | {min(found):.1f} - {max(found):.1f}"
                f" | {middle / base:.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-w", "--workspace", type=Path, required=True)
    parser.add_argument("--detector", default="global")
    parser.add_argument("--graph", type=Path, help="model.onnx of the detector; none: made anew.")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    ensemble = EnsemblePlace(workspace=given.workspace).read("cpu")
    (detector,) = [own for own in detectors_of(ensemble) if own.name == given.detector]
    corpus = Workspace(given.workspace).open_corpus()
    paths = corpus.images("test").paths
    rows = np.linspace(0, len(paths) - 1, num=min(N_COMPARED, len(paths))).astype(int)
    images = [
        decoded(ensemble, NewImage(image_id=paths[row], path=Path(paths[row]))) for row in rows
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = given.graph or Path(folder) / "model.onnx"
        if given.graph is None:
            GraphWriter().write(path, detector, properties={})
        session = open_session(path, n_threads=given.threads)
        sides: dict[str, Ask] = {
            "torch, as predict runs it": partial(by_predict, detector),
            "torch, bare": partial(
                by_torch, detector, FeatureGraph(detector).eval(), HeadGraph(detector).eval()
            ),
            "onnxruntime": partial(by_graph, detector, session),
        }
        sizes = ", ".join(f"{size} px" for size, _ in detector.looks)
        print(
            f"Detector {detector.name}, {detector.detector.config.backbone} at {sizes},"
            f" {len(detector.heads)} heads, {len(detector.labels)} concepts; threads:"
            f" {given.threads}; the graph has {path.stat().st_size / 1e6:.1f} MB.\n"
        )
        apart = [
            np.abs(sides["onnxruntime"](some) - sides["torch, as predict runs it"](some)).max()
            for some in (images[start : start + 32] for start in range(0, len(images), 32))
        ]
        print(f"{len(images)} test images: probabilities at most {max(apart):.1e} apart.\n")
        print(table(sides, images))
    print(f"\n{environment('torch', 'onnxruntime', 'onnxscript', 'timm')}")


if __name__ == "__main__":
    main()
