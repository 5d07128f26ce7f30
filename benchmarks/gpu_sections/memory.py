"""Section 4: memory that really runs out ends in smaller batches, not in a crash."""

import io
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from backbones.detectors.features import extract
from backbones.networks.build import Detector, build_backbone
from backbones.settings.config import BackboneConfig
from benchmarks.gpu_sections.findings import Outcome, check
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
    """The extraction of features first, then training."""
    network, size = ("test_resnet", 96) if tiny else ("resnet50", 896)
    check(
        "features with too little memory",
        partial(_extraction, device, network, size),
        wanted="halved until it fits, the same features",
    )
    # On a card 8,192 images of ResNet50 need several hundred GB: it is the card that refuses.
    case = ("test_resnet", 64, 512) if tiny else ("resnet50", 224, 8192)
    check(
        "training with a batch far too large",
        partial(_training, device, *case, limited=tiny or not device.startswith("cuda")),
        wanted="halved until it fits, the epoch is learnt",
    )


@contextmanager
def limited_memory(device: str, n_bytes: int, *, most: int) -> Iterator[None]:
    """Have a device refuse memory in earnest.

    Args:
        device: a card then gives this process so many more bytes than it holds, and no more. A
            processor is asked for a petabyte by every layer that is given too many images: to limit
            the whole process instead ends in crashes of whatever else needs memory.
        n_bytes: of a card.
        most: images that a layer takes on a processor.
    """
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(device).total_memory
        share = (torch.cuda.memory_reserved(device) + n_bytes) / total
        number = torch.device(device).index  # torch asks for one, or for None, the current device
        torch.cuda.set_per_process_memory_fraction(min(share, 1.0), number)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, number)
        return

    def ask(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor) and len(inputs[0]) > most:
            torch.empty(2**50, dtype=torch.uint8)

    hook = register_module_forward_pre_hook(ask)
    try:
        yield
    finally:
        hook.remove()


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
    model = Detector(backbone, build_head(backbone.n_features, _N_CONCEPTS, config=config))
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
        with limited_memory(device, 2**30, most=128):
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
        scarce = limited_memory(device, 800 * 2**20, most=16)
        limits: list[AbstractContextManager[None]] = [nullcontext(), scarce]
        for number, limit in enumerate(limits):
            workspace = Workspace(Path(name) / f"runs-{number}")
            torch.manual_seed(0)
            backbone = build_backbone(config)
            with limit, redirect_stderr(said):
                extract(
                    workspace.embeddings / "all",
                    backbone,
                    corpus=corpus,
                    workspace=workspace,
                    config=config,
                    size=size,
                    compute=Compute(device=device),
                )
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
