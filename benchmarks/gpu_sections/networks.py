"""Section 2: the training loop beside the bare network, and what the probe and the compiler find.

Loop: `fit`, an epoch on cached uint8 images that are mirrored at random, from the end of its first
step to that of its last; how long the call takes before and after is told beside it. Bare: its
library's own network, under one layer of logits, on one batch of random tensors over and over, with
the same optimiser. Both in bf16,
channels last, 3,047 concepts; they take turns.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from backbones.encoders.encoder import Encoder
from backbones.networks.build import Detector, build_backbone
from backbones.networks.weights import normalisation_of
from backbones.settings.config import BackboneConfig
from benchmarks.gpu_sections.findings import Outcome, check
from core.config import overlay
from corpus.images.batches import CachedImages
from corpus.images.cache import ImageCache
from corpus.images.planes import Planes
from training.batches import Examples, batch_bounds, epoch_order
from training.devices.compute import Compute, Inputs
from training.devices.device import keep_memory
from training.devices.speed import Speed, choose_speed, drawn_images
from training.heads import build_head
from training.learner import Learner
from training.loop import Watch, fit
from training.optim import build_optimizer
from training.step import Step

N_CONCEPTS = 3047
LEAST_RATIO = 0.95

_N_ROUNDS = 3
_N_DRAWN = 512  # images that an epoch goes through again and again
_PROBE_S = 6.0
_SPEED = Speed(precision="bf16", channels_last=True)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network and how much of it is trained in a round.

    Attributes:
        network: an encoder by its string.
        size: of the images, in pixels.
        batch_size: images a step.
        n_steps: steps a round.
        settings: of the detector, beside the plainest.
    """

    network: str
    size: int = 224
    batch_size: int = 64
    n_steps: int = 20
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def n_images(self) -> int:
        """Of a round."""
        return self.n_steps * self.batch_size


_AS_THE_PAPER = (("hidden", (4096, 4096)), ("dropout", 0.5), ("pooling", "none"))
CASES = (
    Case(network="resnet50"),
    Case(network="densenet121"),
    Case(network="convnext_tiny"),
    Case(network="tf_efficientnetv2_s"),
    Case(network="swin_tiny_patch4_window7_224"),
    Case(network="vit_small_patch14_dinov2"),
    Case(network="vgg16", settings=_AS_THE_PAPER),
)
TINY = (
    Case(network="test_resnet", size=64, batch_size=8, n_steps=4),
    Case(network="test_vit", size=160, batch_size=4, n_steps=2),
)


def run(device: str, *, tiny: bool) -> None:
    """All checks of the section: first every network, then what the compiler adds to the first."""
    keep_memory()
    cases = TINY if tiny else CASES
    # Two rounds of four small steps on a busy processor say little about the ratio.
    least = 0.0 if tiny else LEAST_RATIO
    for case in cases:
        check(
            f"{case.network}: loop over bare network",
            partial(ratio, case, device, least=least),
            wanted=f"{least or LEAST_RATIO} or more" if not tiny else "runs",
        )
        check(f"{case.network}: the probe", partial(_probe, case, device))
    for n_at_once in (32, 256) if not tiny else (8,):
        check(
            f"{cases[0].network}: features, {n_at_once} images at once",
            partial(_extraction, cases[0], device, n_at_once=n_at_once),
        )
    for case in () if tiny else cases[:1]:  # a minute or more for each
        check(f"{case.network}: compiled", partial(_compiled, case, device))


def _config(case: Case) -> BackboneConfig:
    plain = BackboneConfig(
        backbone=case.network,
        weights="none",
        image_sizes=(case.size,),
        regime="full",
        hidden=(),
        input_dropout=0.0,
        loss="bce",
        schedule="constant",
        learning_rate=1e-4,
        batch_size=case.batch_size,
        epochs=1,
        patience=1,
        augment="hflip",
    )
    return overlay(plain, dict(case.settings))


def _detector(config: BackboneConfig) -> Detector:
    backbone = build_backbone(config)
    return Detector(backbone, build_head(backbone.n_features, N_CONCEPTS, config=config))


def _targets(n: int) -> csr_array:
    """(n, L) boolean, eleven concepts an image."""
    rng = np.random.default_rng(0)
    columns = np.concatenate([rng.choice(N_CONCEPTS, 11, replace=False) for _ in range(n)])
    return csr_array((np.ones(11 * n, dtype=np.bool_), (np.repeat(np.arange(n), 11), columns)),
                     shape=(n, N_CONCEPTS))  # fmt: skip


def _examples(case: Case) -> Examples:
    """A round's images, out of some that are drawn."""
    n_drawn = min(_N_DRAWN, case.n_images)
    torch.manual_seed(0)
    pixels = drawn_images(n_drawn, case.size).permute(0, 2, 3, 1).contiguous().numpy()
    ids = tuple(map(str, range(n_drawn)))
    cache = ImageCache(image_ids=ids, planes=Planes.of(pixels), errors={})
    images = CachedImages.of(cache, ids, augment="hflip")

    def augment(inputs: Inputs, rows: npt.NDArray[np.intp], epoch: int) -> Inputs:
        return (images.augmented(inputs[0], rows, epoch=epoch), *inputs[1:])

    return Examples(
        batches=images,
        targets=_targets(case.n_images),
        rows=np.arange(case.n_images) % n_drawn,
        augment=augment,
    )


def _fit(
    model: nn.Module, examples: Examples, config: BackboneConfig, compute: Compute, watch: Watch
) -> None:
    stop = np.zeros(len(examples.rows), dtype=np.bool_)
    fit(model, examples, stop=stop, config=config, seed=0, compute=compute, watch=watch)


def _finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


class _Logits(nn.Module):
    """An encoder's network as its library pools it, and one layer."""

    def __init__(self, encoder: Encoder, network: nn.Module, *, n_features: int) -> None:
        super().__init__()
        self.encoder, self.network = encoder, network
        self.head = nn.Linear(n_features, N_CONCEPTS)

    def forward(self, images: Tensor) -> Tensor:
        """(B, L) of normalised images."""
        logits: Tensor = self.head(self.encoder.own(self.network, images))
        return logits


def _own_network(case: Case, config: BackboneConfig) -> nn.Module:
    """The network as its library builds it; of timm with timm's own classifier."""
    if ":" not in case.network:
        options = {"img_size": case.size} if "vit_" in case.network else {}
        model: nn.Module = timm.create_model(case.network, num_classes=N_CONCEPTS, **options)
        return model
    own = build_backbone(replace(config, pooling="own"))
    return _Logits(own.encoder, own.network, n_features=own.n_features)


def _bare(case: Case, config: BackboneConfig, device: str) -> Callable[[], None]:
    """A round of the library's own network."""
    model = _own_network(case, config).to(device)
    _SPEED.place(model).train()
    optimizer = build_optimizer(model, config)
    n_channels = normalisation_of(config).n_channels
    drawn = torch.randn(case.batch_size, n_channels, case.size, case.size, device=device)
    images = _SPEED.arrange(drawn)
    truth = torch.from_numpy(_targets(case.batch_size).toarray()).float().to(device)

    def run() -> None:
        for _ in range(case.n_steps):
            optimizer.zero_grad(set_to_none=True)
            with _SPEED.autocast(device):
                logits = model(images).float()
            torch.autograd.backward(binary_cross_entropy_with_logits(logits, truth))
            optimizer.step()

    return run


@dataclass(frozen=True, kw_only=True)
class _Epoch:
    """How long an epoch took.

    Attributes:
        images_per_s: from the end of its first step to that of its last.
        before_s: to the end of the first.
        after_s: from the end of the last on.
    """

    images_per_s: float
    before_s: float
    after_s: float


def _epoch(
    case: Case,
    model: nn.Module,
    examples: Examples,
    *,
    config: BackboneConfig,
    compute: Compute,
) -> _Epoch:
    """A call of `fit`."""
    times: list[float] = []

    def advance(n: int) -> None:
        if len(times) in (0, case.n_steps - 1):
            _finish(compute.device)
        times.append(time.perf_counter())

    _finish(compute.device)
    began = time.perf_counter()
    _fit(model, examples, config, compute, Watch(advance=advance))
    _finish(compute.device)
    return _Epoch(
        images_per_s=(case.n_steps - 1) * case.batch_size / (times[-1] - times[0]),
        before_s=times[0] - began,
        after_s=time.perf_counter() - times[-1],
    )


def _rate(case: Case, side: Callable[[], None], device: str) -> float:
    """Images a second of a round."""
    _finish(device)
    began = time.perf_counter()
    side()
    _finish(device)
    return case.n_images / (time.perf_counter() - began)


def ratio(case: Case, device: str, *, least: float) -> Outcome:
    """The loop beside the bare network, and beside what its inputs alone take."""
    config, compute = _config(case), Compute(device=device, speed=_SPEED)
    examples, model = _examples(case), _detector(config)
    bare = _bare(case, config, device)
    if cuda := device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    _epoch(case, model, examples, config=config, compute=compute)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if cuda else None
    bare()
    epochs: list[_Epoch] = []
    rates: dict[str, list[float]] = {"loop": [], "bare": [], "inputs": []}
    for _ in range(_N_ROUNDS):
        epochs.append(_epoch(case, model, examples, config=config, compute=compute))
        rates["loop"].append(epochs[-1].images_per_s)
        rates["bare"].append(_rate(case, bare, device))
        read = partial(_read, examples, model, config, compute)
        rates["inputs"].append(_rate(case, read, device))
    middle = {name: statistics.median(values) for name, values in rates.items()}
    before_s = statistics.median(epoch.before_s for epoch in epochs)
    after_s = statistics.median(epoch.after_s for epoch in epochs)
    ratio = middle["loop"] / middle["bare"]
    share = middle["loop"] / middle["inputs"]
    held = "" if peak is None else f", {peak:,.0f} MiB"
    return Outcome(
        ok=ratio >= least,
        result=(
            f"{ratio:.3f}: {middle['loop']:,.0f} of {middle['bare']:,.0f} images/s"
            f" ({min(rates['loop']):,.0f}-{max(rates['loop']):,.0f}){held}; inputs alone"
            f" {middle['inputs']:,.0f}/s, {share:.0%} of the time; {before_s:.2f} s to the end of"
            f" the first step, {after_s:.2f} s after the last"
        ),
        values={
            "ratio": ratio,
            "rates": rates,
            "peak_mib": peak,
            "input_share": share,
            "before_s": before_s,
            "after_s": after_s,
        },
    )


def _read(examples: Examples, model: nn.Module, config: BackboneConfig, compute: Compute) -> None:
    """A round's inputs and targets on the device, mirrored, and nothing learnt from them."""
    learner = Learner(model, config, compute, steps_per_epoch=1)
    step = Step(learner, examples, config=config, note=lambda entry: None)
    n = len(examples.rows)
    orders = epoch_order(np.arange(n), seed=0, epoch=1)[None]
    bounds = batch_bounds(n, size=config.batch_size)
    with closing(step.batches(orders, bounds, seeds=[0], epoch=1)) as batches:
        for batch in batches:
            step.prepared_inputs(batch, epoch=1)
            step.dense_targets(batch)


def _probe(case: Case, device: str) -> Outcome:
    config = _config(case)
    with tempfile.TemporaryDirectory() as folder:
        speed = choose_speed(
            Path(folder),
            lambda: _detector(config),
            name=case.network,
            size=case.size,
            batch_size=case.batch_size,
            n_concepts=N_CONCEPTS,
            precision="auto",
            device=device,
            train=True,
            budget_s=_PROBE_S,
        )
    return Outcome(
        ok=None,
        result=f"chooses {speed}, {speed.images_per_s:,.0f} images/s",
        values={"speed": str(speed), "images_per_s": speed.images_per_s},
    )


def _extraction(case: Case, device: str, *, n_at_once: int) -> Outcome:
    """Pooled features a second from cached images."""
    config, compute = _config(case), Compute(device=device, speed=_SPEED)
    network = _SPEED.place(build_backbone(config).to(device).eval())
    images = _examples(case).batches
    rows = np.arange(case.n_images) % min(_N_DRAWN, case.n_images)

    def run() -> None:
        for start in range(0, len(rows), n_at_once):
            (batch,) = compute.take(images(rows[start : start + n_at_once]))
            with torch.inference_mode(), compute.speed.autocast(device):
                network(batch).float().cpu()

    run()
    rates = [_rate(case, run, device) for _ in range(_N_ROUNDS)]
    return Outcome(
        ok=None,
        result=f"{statistics.median(rates):,.0f} images/s ({min(rates):,.0f}-{max(rates):,.0f})",
        values={"rates": rates},
    )


def _compiled(case: Case, device: str) -> Outcome:
    """An epoch through torch.compile: what its first step costs, and the rate of the others."""
    config = _config(case)
    speed = Speed(precision=_SPEED.precision, channels_last=True, compiled=True)
    compute = Compute(device=device, speed=speed)
    epoch = _epoch(case, _detector(config), _examples(case), config=config, compute=compute)
    return Outcome(
        ok=None,
        result=f"{epoch.images_per_s:,.0f} images/s after {epoch.before_s:.0f} s",
        values={"images_per_s": epoch.images_per_s, "first_step_s": epoch.before_s},
    )
