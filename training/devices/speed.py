"""Memory format and precision of a network, chosen by timing steps on drawn images, and kept."""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate
from torch.nn.modules.batchnorm import _BatchNorm

from core.config import fingerprint
from core.errors import ConfigError, is_out_of_memory
from core.progress import say
from core.storage.documents import parse_json
from core.storage.folders import provenance, write_json
from training.devices.device import computes_bf16, device_name
from training.devices.probe import BUDGET_S, Outcome, Probed, ProbeStep, probe

Context = Callable[[], AbstractContextManager[Any]]


class Workload:
    """A network and drawn images; its steps leave the weights alone."""

    def __init__(
        self, model: nn.Module, *, size: int, n_images: int, n_concepts: int, device: str
    ) -> None:
        """Draw images and, where there are concepts, true ones.

        Args:
            model: of uint8 images (B, 3, size, size): logits (B, L), or features where L is 0.
            size: of the images, in pixels.
            n_images: at most in a step.
            n_concepts: L; 0 for features, in inference.
            device: where the steps are taken.
        """
        self.model = model.to(device)
        self.images = drawn_images(n_images, size).to(device)
        self.targets = (torch.rand(n_images, n_concepts) < 0.05).float().to(device)
        if n_concepts:
            _train_without_dropout(model)
        else:
            model.eval()

    def features(self, images: Tensor, context: Context) -> Outcome:
        """How far features spread, and the features without their mean over the images."""
        with torch.inference_mode(), context():
            features = self.model(images).float().cpu()
        centred = features - features.mean(dim=0)
        return Outcome(loss=float(centred.square().mean().sqrt()), direction=centred)

    def gradients(
        self, forward: Callable[..., Any], images: Tensor, *, context: Context, scale: float
    ) -> Outcome:
        """The loss, and the gradient of the last layer's weights.

        Args:
            forward: the model, or the model compiled.
            images: (B, 3, size, size), B at most the images there are.
            context: of the forward pass.
            scale: of the loss as its gradients are taken.
        """
        self.model.zero_grad(set_to_none=True)
        with context():
            logits = forward(images).float()
        loss = binary_cross_entropy_with_logits(logits, self.targets[: len(images)])
        torch.autograd.backward(loss * scale)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None and p.dim() > 1]
        return Outcome(loss=loss.item(), direction=gradients[-1])  # item waits for the device


def _train_without_dropout(model: nn.Module) -> None:
    """Dropout costs next to nothing, but what it draws depends on the memory format.

    Normalisation that the model does not train stays as it is.
    """
    model.train()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    model.eval()
    for norm in norms:
        norm.train()


def drawn_images(n_images: int, size: int) -> Tensor:
    """Grey images (n, 3, size, size), uint8, of soft blobs in three sizes, each image its own mix.

    On white noise all images give nearly the same features, and rounding looks large beside what is
    left of the difference between them: 57 % of it for DenseNet121 in bf16, 1 % on these and on
    radiographs.
    """
    total = torch.zeros(n_images, 1, size, size)
    for n_blobs in (3, 9, 27):
        coarse = torch.randn(n_images, 1, n_blobs, n_blobs) * torch.rand(n_images, 1, 1, 1)
        total += interpolate(coarse, size=(size, size), mode="bicubic")
    return (128 + 60 * total).clamp(0, 255).to(torch.uint8).repeat(1, 3, 1, 1)


_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_MOST = {"cpu": 16, "cuda": 64}  # images of a probe's step
_LOSS_SCALE = 2.0**10  # of fp16, whose smallest gradients would be 0
_LEAST_COSINE = 0.99  # of gradients, which are noisy anyway
_LEAST_COSINE_OF_FEATURES = 0.999  # an error of 4 % of their spread over images
_FEW = 3  # rounds that a choice can be trusted from
_LONG = 500_000  # images from which on a GPU's compiler is tried
_COMPILE_S = 60.0  # of compiling: what is saved on so many images must be more


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How a network is run.

    Attributes:
        channels_last: whether images and weights lie channels last in memory.
        precision: of convolutions and products; weights stay fp32.
        compiled: whether training goes through `torch.compile`.
        images_per_s: what a probe measured; None where none did. Two ways are equal whatever it is.
    """

    channels_last: bool = False
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compiled: bool = False
    images_per_s: float | None = field(default=None, compare=False)

    def __str__(self) -> str:
        """What a reader is told.

        >>> str(Speed(precision="bf16", channels_last=True)), str(PLAIN)
        ('bf16, channels-last', 'fp32')
        """
        last, compiled = ", channels-last" * self.channels_last, ", compiled" * self.compiled
        return f"{self.precision}{last}{compiled}"

    @classmethod
    def parse(cls, text: str) -> "Speed":
        """The way that a run's meta names, as `str` wrote it, to infer by; the safe way for none.

        >>> Speed.parse("bf16, channels-last") == Speed(precision="bf16", channels_last=True)
        True
        """
        words = text.split(", ")
        known: dict[str, Literal["bf16", "fp16"]] = {"bf16": "bf16", "fp16": "fp16"}
        return cls(channels_last="channels-last" in words, precision=known.get(words[0], "fp32"))

    @property
    def memory_format(self) -> torch.memory_format:
        """Of images and weights."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self, device: str) -> AbstractContextManager[Any]:
        """The context in which the network computes in the precision."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(torch.device(device).type, dtype=_DTYPES[self.precision])

    def place(self, model: nn.Module) -> nn.Module:
        """The model itself, its weights in the memory format."""
        return model.to(memory_format=self.memory_format)

    def arrange(self, tensor: Tensor) -> Tensor:
        """Images (B, C, H, W) in the memory format; any other tensor as it is."""
        return tensor.contiguous(memory_format=self.memory_format) if tensor.dim() == 4 else tensor


PLAIN = Speed()
"""The safe way: fp32, contiguous."""


def choose_speed(
    folder: Path,
    new_model: Callable[[], nn.Module],
    *,
    name: str,
    size: int,
    batch_size: int,
    n_concepts: int,
    precision: str,
    device: str,
    train: bool,
    n_images: int = 0,
    budget_s: float = BUDGET_S,
) -> Speed:
    """The fastest way to run a network that does not change what it gives.

    The choice is read from the folder where the same was measured before: equal network, input
    size, batch size, device, number of threads and version of torch. Else it is measured, within
    about a minute, and kept. One line on stderr says which it is.

    Args:
        folder: of the choices.
        new_model: of uint8 images (B, 3, size, size); called only to measure. Trained models are
            used up; of others only the memory format changes.
        name: of the network.
        size: of the images, in pixels.
        batch_size: images at once; beyond 16 (64 on a GPU) they are one to the probe.
        n_concepts: L; 0 for a network that gives features.
        precision: `auto`, or the one to stay with.
        device: where it is to run.
        train: whether gradients are wanted.
        n_images: that a network will learn from, over all epochs. Where it takes long on a GPU,
            compiling is tried as well.
        budget_s: seconds that measuring may take; the steps begun are ended.

    Raises:
        ConfigError: fp16 is asked for on a processor.
    """
    kind = torch.device(device).type
    ways = candidates(precision, kind)
    n_at_once = max(2, min(batch_size, _MOST[kind]))
    what: dict[str, Any] = {
        "network": name,
        "size": size,
        "mode": "train" if train else "extract",
        "batch_size": n_at_once,
        "precision": precision,
        "compile": kind == "cuda" and train and n_images >= _LONG,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    path = folder / f"{name}-{size}px-{what['mode']}-{fingerprint(what)}.json"
    found = _read(path)
    if found is None:
        concepts = n_concepts if train else 0
        devices = [torch.device(device)] if kind == "cuda" else []
        try:
            with torch.random.fork_rng(devices):  # a kept and a measured choice leave equal chances
                torch.manual_seed(0)
                work = Workload(
                    new_model(), size=size, n_images=n_at_once, n_concepts=concepts, device=device
                )
                probed = _probed(
                    work, ways, device=device, compiles=what["compile"], budget_s=budget_s
                )
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            say(
                f"{name} at {size} px, {what['mode']}: no memory to measure speeds, {ways[0]} taken"
            )
            return ways[0]
        folder.mkdir(parents=True, exist_ok=True)
        hurry = f"; measured in a hurry, remove {path} to try again"
        summary = _summary(probed) + hurry * (probed.n_rounds < _FEW)
        write_json(path, {**what, **_plain(probed), "summary": summary, **provenance()})
        found = _measured(probed), summary
    say(f"{name} at {size} px, {what['mode']}: {found[1]}")
    return found[0]


def unprobed(precision: str, device: str) -> Speed:
    """The speed that is likely the best and certain to be the same wherever it is asked for.

    Raises:
        ConfigError: fp16 is asked for on a processor.
    """
    known = "fp32" if precision == "auto" else precision
    return candidates(known, torch.device(device).type)[-1]  # channels last


def candidates(precision: str, kind: str) -> list[Speed]:
    """Ways to try on a kind of device; the first is the safe one.

    A processor that would have to emulate bf16 is only asked to where the settings say so.

    Raises:
        ConfigError: fp16 is asked for on a processor.
    """
    if precision == "fp16" and kind != "cuda":
        raise ConfigError("precision fp16: needs a CUDA device; take bf16 or auto")
    halves = ["bf16", "fp16"] if kind == "cuda" else ["bf16"] if computes_bf16() else []
    names = ["fp32", *halves] if precision == "auto" else [precision]
    formats = [(False, True), *[(True, False)] * len(names[1:])]  # the likely one first
    return [
        Speed(precision=name, channels_last=last)  # type: ignore[arg-type]  # a literal
        for name, order in zip(names, formats, strict=True)
        for last in order
    ]


def _prepared(work: Workload, speed: Speed, n_images: int, *, device: str) -> ProbeStep:
    """A step of so many images at a speed."""
    model = speed.place(work.model)
    images = speed.arrange(work.images[:n_images])
    context = partial(speed.autocast, device)
    if not work.targets.shape[1]:
        return partial(work.features, images, context)
    forward = torch.compile(model) if speed.compiled else model
    scale = _LOSS_SCALE if speed.precision == "fp16" else 1.0
    step = partial(work.gradients, forward, images, context=context, scale=scale)
    if speed.compiled:
        step()  # compiling is not part of a step
    return step


def _probed(
    work: Workload, ways: list[Speed], *, device: str, compiles: bool, budget_s: float
) -> Probed[Speed]:
    """What a probe finds, and where compiling may pay, what a second one finds."""
    n_images = len(work.images)
    find = partial(
        probe,
        prepare=partial(_prepared, work, device=device),
        n_images=n_images,
        least_cosine=_LEAST_COSINE if work.targets.shape[1] else _LEAST_COSINE_OF_FEATURES,
        budget_s=budget_s,
    )
    probed = find(ways)
    if not compiles:
        return probed
    eager, compiled = probed.best, replace(probed.best, compiled=True)
    second = find([eager, compiled], glance=n_images)
    rates = second.images_per_s
    saved_s = _LONG / rates[eager] - _LONG / rates[compiled] if compiled in rates else 0.0
    return Probed(
        best=second.best if saved_s > _COMPILE_S else eager,
        images_per_s={**probed.images_per_s, **rates},
        n_rounds=min(probed.n_rounds, second.n_rounds),
        losses={**probed.losses, **second.losses},
        dropped={**probed.dropped, **second.dropped},
    )


def _measured(probed: Probed[Speed]) -> Speed:
    """The best way with what was measured of it."""
    return replace(probed.best, images_per_s=round(probed.images_per_s[probed.best], 2))


def _plain(probed: Probed[Speed]) -> dict[str, Any]:
    """What is kept of a probe."""
    return {
        "chosen": dataclasses.asdict(_measured(probed)),
        "rounds": probed.n_rounds,
        "images_per_s": {str(way): round(rate, 2) for way, rate in probed.images_per_s.items()},
        "losses": {str(way): loss for way, loss in probed.losses.items()},
        "dropped": {str(way): reason for way, reason in probed.dropped.items()},
    }


def _summary(probed: Probed[Speed]) -> str:
    rates = probed.images_per_s
    first = next(iter(rates))
    against = "" if first == probed.best else f", {first}: {rates[first]:,.1f}"
    refused = [
        f"{w} not used: {r}" for w, r in probed.dropped.items() if not r.startswith("slower")
    ]
    return "; ".join([f"{probed.best} ({rates[probed.best]:,.1f} images/s{against})", *refused])


def _read(path: Path) -> tuple[Speed, str] | None:
    """A kept choice and what to say of it; None where there is none of this version."""
    try:
        kept = parse_json(path.read_text(encoding="utf-8"))
        return Speed(**kept["chosen"]), f"{kept['summary']}; measured before"
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
