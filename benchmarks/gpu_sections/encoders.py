"""Section 6, asked for by name: recipes of the task's winners, and encoders of every library.

As section 2 measures the loop beside the bare network, with random weights: each preset of
`backbones.settings.presets` that the task's winners are the source of, by its own network, size,
batch, pooling and loss; and one encoder of each library but timm. What a package is missing for is
left out with a line.
"""

import tempfile
from functools import partial
from pathlib import Path

from backbones.encoders.worlds import WORLDS
from backbones.settings.presets import GROUPS, PRESETS
from benchmarks.gpu_sections.findings import Outcome, SkippedError, check
from benchmarks.gpu_sections.networks import LEAST_RATIO, Case, ratio
from training.devices.device import keep_memory

RECIPES = ("densenet", "swin-b", *(name for names in GROUPS.values() for name in names))

KINDS = {
    "torchvision": (Case(network="torchvision:resnet50"), "torchvision"),
    "xrv": (Case(network="xrv:densenet121-res224-all"), "torchxrayvision"),
    "open_clip": (Case(network="open_clip:ViT-B-16"), "open_clip"),
    "transformers": (Case(network="transformers:FOLDER"), "transformers"),
}
"""A network of each library, and the package that it needs; FOLDER is made."""

TINY_KINDS = {
    "torchvision": Case(network="torchvision:mobilenet_v3_small", size=32, batch_size=4, n_steps=2),
    "xrv": Case(network="xrv:densenet121-res224-all", size=32, batch_size=2, n_steps=2),
    "open_clip": Case(network="open_clip:ViT-S-32-alt", size=32, batch_size=2, n_steps=2),
    "transformers": Case(network="transformers:FOLDER", size=56, batch_size=4, n_steps=2),
}
_TINY_RECIPE = ("test_efficientnet", 64, 4, 2)

_OF_A_RECIPE = (
    *("pooling", "loss", "gamma_neg", "gamma_pos", "loss_margin", "hidden", "dropout", "ema"),
    *("layer_decay", "clip_norm", "weight_decay", "augment"),
)
"""Settings that change what a step does."""


def run(device: str, *, tiny: bool) -> None:
    """All checks of the section: a row a library, then a row a recipe."""
    keep_memory()
    least = 0.0 if tiny else LEAST_RATIO
    wanted = "runs" if tiny else f"{least} or more"
    for world, (case, package) in KINDS.items():
        check(
            f"{world}: loop over bare network",
            partial(_kind, TINY_KINDS[world] if tiny else case, device, least=least),
            wanted=wanted,
            needs=(package,),
        )
    for name in RECIPES[:3] if tiny else RECIPES:
        case = recipe(name, tiny=tiny)
        check(
            f"preset {name}: loop over bare network",
            partial(ratio, case, device, least=0.0),  # what a recipe adds is no fault of the loop
            wanted="runs",
        )


def recipe(name: str, *, tiny: bool) -> Case:
    """A preset as a case of section 2; of `tiny` by a small network."""
    config = PRESETS[name]
    network, size, batch_size, n_steps = (
        config.backbone,
        config.image_sizes[0],
        config.batch_size,
        20,
    )
    if tiny:
        network, size, batch_size, n_steps = _TINY_RECIPE
    settings = tuple((key, getattr(config, key)) for key in _OF_A_RECIPE)
    return Case(
        network=network, size=size, batch_size=batch_size, n_steps=n_steps, settings=settings
    )


def _kind(case: Case, device: str, *, least: float) -> Outcome:
    """The loop with an encoder of a library."""
    world = case.network.partition(":")[0]
    if world not in WORLDS:
        raise SkippedError(f"no encoders of {world}")
    with tempfile.TemporaryDirectory() as folder:
        if world == "transformers":
            _save_dinov2(Path(folder), small=case.size < 100)
        network = case.network.replace("FOLDER", folder)
        own = Case(
            network=network, size=case.size, batch_size=case.batch_size, n_steps=case.n_steps
        )
        return ratio(own, device, least=least)


def _save_dinov2(folder: Path, *, small: bool) -> None:
    """DINOv2 (base, or a small one) as transformers saves it, with random weights."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56}
    config = Dinov2Config(**sizes) if small else Dinov2Config()
    Dinov2Model(config).save_pretrained(folder)
    side = {"height": config.image_size, "width": config.image_size}
    BitImageProcessor(size=side, crop_size=side).save_pretrained(folder)
