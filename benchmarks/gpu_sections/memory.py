"""Section 4: memory that really runs out ends in smaller batches, not in a crash."""

import io
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.sparse import csr_array

from backbones.detectors.features import extract
from backbones.networks.build import Detector, build_backbone
from backbones.settings.config import BackboneConfig
from benchmarks.gpu_sections.findings import Outcome, SkippedError, check
from core.embeddings import Embeddings
from core.images import ImageTable
from core.labels import LabelSpace
from core.runs.workspace import Corpus, Workspace
from training.batches import Examples
from training.devices.compute import Compute
from training.devices.speed import Speed, drawn_images
from training.heads import build_head
from training.loop import Watch, fit

_N_CONCEPTS = 100


def run(device: str, *, tiny: bool) -> None:
    """Training first, then the extraction of features."""
    # On a card 8,192 images of ResNet50 need several hundred GB: it is the card that refuses.
    case = ("test_resnet", 96, 1024) if tiny else ("resnet50", 224, 8192)
    check(
        "training with a batch far too large",
        partial(_training, device, *case, limited=tiny or not device.startswith("cuda")),
        wanted="halved until it fits, the epoch is learnt",
    )
    network, size = ("test_resnet", 640) if tiny else ("resnet50", 896)
    check(
        "features with too little memory",
        partial(_extraction, device, network, size),
        wanted="halved until it fits, the same features",
    )


@contextmanager
def limited_memory(device: str, n_bytes: int) -> Iterator[None]:
    """Let this process take so much more of a device's memory than it has, and no more."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(device).total_memory
        share = (torch.cuda.memory_reserved(device) + n_bytes) / total
        torch.cuda.set_per_process_memory_fraction(min(share, 1.0), device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
        return
    if not sys.platform.startswith("linux"):
        raise SkippedError("the system does not limit the memory of a process")
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    held = pages * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (held + n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _training(device: str, network: str, size: int, batch_size: int, *, limited: bool) -> Outcome:
    """An epoch of one step."""
    torch.manual_seed(0)
    config = BackboneConfig(
        backbone=network, weights="none", image_sizes=(size,), regime="full", hidden=(),
        loss="bce", schedule="constant", learning_rate=1e-4, batch_size=batch_size,
        epochs=1, patience=1,
    )  # fmt: skip
    images = drawn_images(64, size)
    rng = np.random.default_rng(0)
    examples = Examples(
        batches=lambda rows: (images[torch.from_numpy(rows % 64)],),
        targets=csr_array(rng.random((batch_size, _N_CONCEPTS)) < 0.1),
        rows=np.arange(batch_size),
    )
    backbone = build_backbone(config)
    model = Detector(backbone, build_head(backbone.n_features, _N_CONCEPTS, config))
    entries: list[dict[str, Any]] = []
    precision: Any = "bf16" if device.startswith("cuda") else "fp32"

    def learn() -> None:
        fit(
            model,
            examples,
            stop=np.zeros(batch_size, dtype=np.bool_),
            config=config,
            seed=0,
            compute=Compute(device=device, speed=Speed(precision=precision, channels_last=True)),
            watch=Watch(log=entries.append),
        )

    if limited:
        with limited_memory(device, 700 * 2**20):
            learn()
    else:
        learn()
    halved = [e["micro_batch"] for e in entries if e.get("event") == "out of memory"]
    epochs = [e for e in entries if "loss" in e]
    return Outcome(
        ok=bool(halved) and len(epochs) == 1 and bool(np.isfinite(epochs[0]["loss"])),
        result=f"{network}, {size} px: {batch_size:,} images, then {', '.join(map(str, halved))}",
        values={"halved": halved},
    )


def _extraction(device: str, network: str, size: int) -> Outcome:
    """Features of images on disk, under a limit and without."""
    config = BackboneConfig(
        backbone=network, weights="none", image_sizes=(size,), precision="fp32", probe=False
    )
    with tempfile.TemporaryDirectory() as name:
        corpus = _corpus(Path(name) / "images", n=40, size=size)
        values, said = [], io.StringIO()
        for n_bytes in (None, (150 if network.startswith("test") else 800) * 2**20):
            workspace = Workspace(Path(name) / f"runs-{n_bytes}")
            torch.manual_seed(0)
            backbone = build_backbone(config)
            take = partial(
                extract, workspace.embeddings / "all", backbone, corpus, workspace, config,
                size=size, compute=Compute(device=device),
            )  # fmt: skip
            if n_bytes is None:
                take()
            else:
                with limited_memory(device, n_bytes), redirect_stderr(said):
                    take()
            values.append(np.array(Embeddings.load(workspace.embeddings / "all").values))
    lines = [line for line in said.getvalue().splitlines() if line.startswith("out of memory")]
    apart = float(np.abs(values[0] - values[1]).max() / np.abs(values[0]).max())
    return Outcome(
        ok=bool(lines) and apart < 1e-3,
        result=f"{network}, {size} px: {'; '.join(lines) or 'nothing refused'}; {apart:.1e} apart",
        values={"halvings": len(lines), "difference": apart},
    )


def _corpus(folder: Path, *, n: int, size: int) -> Corpus:
    """Images without concepts, on disk."""
    folder.mkdir(parents=True)
    ids = tuple(f"{number:03d}" for number in range(n))
    torch.manual_seed(1)
    for image_id, pixels in zip(ids, drawn_images(n, size), strict=True):
        Image.fromarray(pixels[0].numpy()).save(folder / f"{image_id}.png")
    table = ImageTable(
        image_ids=ids,
        paths=tuple(str(folder / f"{image_id}.png") for image_id in ids),
        categories=("DRXR",) * n,
        splits=("train",) * n,
        folds=np.zeros(n, dtype=np.int16),
        groups=ids,
        concepts=((),) * n,
        metadata={"readable": ("1",) * n},
    )
    return Corpus(
        name="drawn", table=table, labels=LabelSpace(("C1",)), names={}, edition=2020,
        fingerprint="drawn000", notes=(),
    )  # fmt: skip
