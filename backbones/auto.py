"""The preset `auto`: what `train-backbone` does where nobody says how.

Without a GPU it is `quick`, heads on frozen features. With one the network whose weights are
installed is fine-tuned: the global detector first, then the specialists, which start from it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from backbones.detectors.features import frozen_names
from backbones.detectors.inputs import TRAINING_INPUTS
from backbones.detectors.plan import DetectorPlan, plan_detectors
from backbones.detectors.ray import Cluster
from backbones.detectors.run import DEFAULT_OPTIONS, RunOptions
from backbones.encoders.encoder import label_of
from backbones.networks.carriers import CARRIERS
from backbones.networks.weights import check_weights, is_detector_run
from backbones.settings.config import BackboneConfig
from backbones.settings.presets import PRESETS
from backbones.train import check_start, train_backbones
from core.config import fingerprint
from core.errors import ConfigError
from core.progress import overheard, say
from core.runs.detectors import GLOBAL
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import is_complete, is_whole, read_meta
from training.devices.compute import Compute
from training.devices.device import device_name

AUTO = "auto"

_NETWORKS = ("tf_efficientnet_lite2", "tf_efficientnet_lite1", "tf_efficientnet_lite0")
"""What is fine-tuned: the first whose weights are installed; the last comes with radfuse."""

_SIZES = (320, 256, 224, 192)
_BYTES_A_PIXEL = 80e6 / 192**2
"""Of activations in fp32, of the largest network: 80 MB an image at 192 px."""

_SHARE_OF_MEMORY = 0.5  # of the device; the rest is for weights, the optimiser and other work
_BATCH = 64

_LENGTHS = ((20_000, 16), (80_000, 10))
"""Epochs for so many training images at most."""
_SHORTEST = 6  # epochs; the third place of 2026 took as many over 116,604 images

_FEATURES_A_MINUTE = 1560  # of the preset quick, on two cores: 5,454 images in 3 1/2 minutes
_RATE_OF_SPECIALISTS = 3e-4  # they start from a detector, not from photographs

Settle = Callable[[BackboneConfig], BackboneConfig]
"""Lays what the user set over a config."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A GPU.

    Attributes:
        name: its model.
        n_bytes: its memory.
    """

    name: str
    n_bytes: int

    @classmethod
    def of(cls, device: str) -> "Card | None":
        """The GPU of a device; None for a processor."""
        if not device.startswith("cuda"):
            return None
        total = torch.cuda.get_device_properties(device).total_memory
        return cls(name=device_name(device), n_bytes=total)


def fine_tuning(card: Card, *, n_images: int) -> BackboneConfig:
    """Settings of the global detector on a card.

    The preset `finetune` with a larger batch; input size and number of epochs are those that the
    card's memory and the number of images allow. Neither depends on how fast the card is, so that
    the same command finds what it began on another one.

    Args:
        card: where it is to be trained.
        n_images: labelled images of train.
    """
    lengths = (epochs for most, epochs in _LENGTHS if n_images <= most)
    epochs = next(lengths, _SHORTEST)
    return replace(
        PRESETS["finetune"],
        backbone=installed_network(),
        image_sizes=(largest_size(card),),
        batch_size=_BATCH,
        epochs=epochs,
        patience=epochs,
    )


def largest_size(card: Card) -> int:
    """The largest input size whose batch fits into half of the card's memory in fp32, in pixels."""
    for size in _SIZES:
        if _BATCH * _BYTES_A_PIXEL * size**2 <= _SHARE_OF_MEMORY * card.n_bytes:
            return size
    return _SIZES[-1]


def installed_network() -> str:
    """The largest network whose weights a package carries that is installed.

    Where none is, the one that comes with radfuse: its package is then named when it is looked for.
    """
    for name in _NETWORKS:
        try:
            CARRIERS[name].find()
        except ConfigError:
            continue
        return name
    return _NETWORKS[-1]


def presets_on(device: str) -> dict[str, BackboneConfig]:
    """All presets by name, and `auto` as it is on a device, but for the number of epochs."""
    card = Card.of(device)
    auto = PRESETS["quick"] if card is None else fine_tuning(card, n_images=0)
    return {AUTO: auto, **PRESETS}


def train_by_presets(
    corpus: Corpus,
    workspace: Workspace,
    *,
    names: Sequence[str],
    presets: Sequence[str],
    settle: Settle,
    compute: Compute,
    options: RunOptions = DEFAULT_OPTIONS,
    cluster: Cluster | None = None,
) -> list[Path]:
    """Train the asked detectors by one preset after the other.

    Of several none is begun before all of them can be: encoders, settings and weights are looked
    at first. Features and decoded images lie in the workspace and are shared. A table at the end
    has what each detector reached.

    Args:
        corpus, workspace, names, settle, compute, options, cluster: as `train_by_preset`.
        presets: names of `presets_on`.

    Returns:
        The run folders of the asked detectors.

    Raises:
        As `train_by_preset`.
    """
    if len(presets) > 1:
        for preset in presets:
            name, own = _suggested(corpus, preset, compute)
            config = settle(own)
            called = name_of_runs(name, config, preset=own)
            _check(corpus, workspace, names, config, preset=called, compute=compute)
    homes = [
        home
        for preset in presets
        for home in train_by_preset(
            corpus,
            workspace,
            names=names,
            preset=preset,
            settle=settle,
            compute=compute,
            options=options,
            cluster=cluster,
        )
    ]
    homes = list(dict.fromkeys(homes))  # on a processor auto is quick
    if len(presets) > 1:
        for line in reached(homes):
            say(line)
    return homes


def reached(homes: Sequence[Path]) -> list[str]:
    """A table of finished detectors: a line each, under a head.

    F1 is that out of fold, or, where the corpus is not cross-fitted, that of the images which chose
    the epochs, the mean over its networks; seconds are those of its trainings.

    Args:
        homes: run folders.
    """
    rows = [("detector", "preset", "F1", "of", "seconds")]
    for home in homes:
        meta = read_meta(home, "category", "preset", "seconds", "stopping_f1")
        f1, what = meta.get("out_of_fold_f1"), "out of fold"
        if f1 is None:
            stopping = [value for value in meta["stopping_f1"] if value is not None]
            f1 = sum(stopping) / len(stopping) if stopping else math.nan
            what = "stopping images" if stopping else "-"
        shown = "-" if math.isnan(f1) else f"{f1:.4f}"
        rows.append((meta["category"], meta["preset"], shown, what, f"{meta['seconds']:.0f}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if column in (2, 4) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _suggested(corpus: Corpus, preset: str, compute: Compute) -> tuple[str, BackboneConfig]:
    """A preset's name and settings; of `auto` those of the global detector, by the device."""
    if preset != AUTO:
        return preset, PRESETS[preset]
    card = _smallest_card(compute)
    if card is None:
        return "quick", PRESETS["quick"]
    return AUTO, fine_tuning(card, n_images=len(corpus.labelled_images(corpus.learnt_from)))


def _check(
    corpus: Corpus,
    workspace: Workspace,
    names: Sequence[str],
    config: BackboneConfig,
    *,
    preset: str,
    compute: Compute,
) -> None:
    """Refuse what cannot be trained; what is left out is said when its turn comes."""
    with overheard():
        plans = plan_detectors(corpus, workspace, names=names, config=config, preset=preset)
    todo = [plan for plan in plans if not is_whole(plan.home)]
    if compute.world.everyone(bool(todo))[0]:
        check_start(corpus, workspace, config=plans[0].config, compute=compute)


def train_by_preset(
    corpus: Corpus,
    workspace: Workspace,
    *,
    names: Sequence[str],
    preset: str,
    settle: Settle,
    compute: Compute,
    options: RunOptions = DEFAULT_OPTIONS,
    cluster: Cluster | None = None,
) -> list[Path]:
    """Train the asked detectors; under `auto` as the device suggests, and say what that is.

    With a GPU specialists then start from the global detector, which is trained first where it is
    not there yet; on a cross-fitted corpus each network from the one that left out the same fold.
    Networks that hold out parts of train (`folds`) start from the installed weights, since the
    global detector has seen what they hold out; and those that are told to start from another
    detector start from that.

    Args:
        corpus: a prepared corpus.
        workspace: where the runs go.
        names: which detectors.
        preset: a name of `presets_on`.
        settle: lays over the config what the user set.
        compute: where to compute.
        options: what a training writes while it runs.
        cluster: where networks are trained side by side; None for here, one after the other.

    Returns:
        The run folders of the asked detectors.

    Raises:
        As `backbones.train.train_backbones`.
    """

    def train(which: Sequence[str], config: BackboneConfig, base: BackboneConfig) -> list[Path]:
        return train_backbones(
            corpus,
            workspace,
            names=which,
            config=config,
            preset=name_of_runs(name, config, preset=base),
            compute=compute,
            options=options,
            cluster=cluster,
        )

    name = preset
    if preset != AUTO:
        return train(names, settle(PRESETS[preset]), PRESETS[preset])
    card = _smallest_card(compute)
    if card is None:
        name, config = "quick", settle(PRESETS["quick"])
        say(f"preset auto: quick, {_quick_cost(corpus, workspace, config)}")
        return train(names, config, PRESETS["quick"])
    base = fine_tuning(card, n_images=len(corpus.labelled_images(corpus.learnt_from)))
    config = settle(base)
    plan = partial(
        plan_detectors, corpus, workspace, preset=name_of_runs(name, config, preset=base)
    )
    plans = plan(names=names, config=config)
    present = [plan.category for plan in plans]
    specialists = [name for name in present if name != GLOBAL]
    tell = partial(_tell, corpus, workspace, compute, card=card)
    # With `folds` the global detector has met what its specialists hold out.
    starts_elsewhere = config.folds > 0 or is_detector_run(config.weights)
    if not specialists or config.regime == "frozen" or starts_elsewhere:
        tell(plans, config)
        return train(present, config, base)
    own = settle(replace(base, learning_rate=_RATE_OF_SPECIALISTS))
    (first,) = plan(names=[GLOBAL], config=config)
    # Where the global detector is not there yet, the folders of those that start from it have no
    # name, and none of them is there either.
    if is_whole(first.home):
        own = replace(own, weights=str(first.home))
    tell([first, *plan(names=specialists, config=own)], config)
    (start,) = train([GLOBAL], config, base)
    homes = train(specialists, replace(own, weights=str(start)), base)
    return [start, *homes] if GLOBAL in present else homes


_LONGEST = 100
"""Characters of the encoders in the name of a run."""


def name_of_runs(name: str, config: BackboneConfig, *, preset: BackboneConfig) -> str:
    """What a preset's runs are called: by other encoders than its own, and by chosen images.

    So a detector on another encoder, or on fewer images, stands beside that of the preset, whose
    place the next one of the same name takes.

    Args:
        name: of the preset.
        config: with what the user set.
        preset: without.

    Example:
        >>> own = BackboneConfig()
        >>> name_of_runs("quick", replace(own, epochs=3), preset=own)
        'quick'
        >>> other = replace(own, backbone="resnet50", joined=("vgg16",))
        >>> name_of_runs("quick", other, preset=own)
        'quick-resnet50+vgg16'
        >>> name_of_runs("quick", replace(own, sample="k-centre", keep=0.5), preset=own)
        'quick-k-centre-0.5'
    """
    if not config.sampled.keeps_all:
        name = f"{name}-{config.sampled}"
    encoders = (config.backbone, *config.joined)
    if encoders == (preset.backbone, *preset.joined):
        return name
    labels = "+".join(map(label_of, encoders))
    if len(labels) > _LONGEST:
        labels = f"{label_of(config.backbone)}+{len(config.joined)}-{fingerprint(encoders)[:4]}"
    return f"{name}-{labels}"


def _smallest_card(compute: Compute) -> Card | None:
    """The card with the least memory of all processes; None where one of them has none."""
    cards = compute.world.everyone(Card.of(compute.device))
    known = [card for card in cards if card is not None]
    return min(known, key=lambda card: card.n_bytes) if len(known) == len(cards) else None


def _quick_cost(corpus: Corpus, workspace: Workspace, config: BackboneConfig) -> str:
    """What heads on frozen features cost, and why they are taken."""
    reason = "heads on frozen features, because this machine has no CUDA device"
    names = frozen_names(corpus, config)
    if config != PRESETS["quick"] or all(is_complete(workspace.embeddings / n) for n in names):
        return reason
    n_images = len(corpus.readable_ids)
    minutes = max(1, round(n_images / _FEATURES_A_MINUTE))
    return (
        f"{reason}; expected: about {minutes} min on two cores for the features of {n_images:,}"
        " images, once, then a minute or two for the detectors"
    )


def _tell(
    corpus: Corpus,
    workspace: Workspace,
    compute: Compute,
    plans: Sequence[DetectorPlan],
    config: BackboneConfig,
    *,
    card: Card,
) -> None:
    """One line: what is trained on the card, why, and what that costs; nothing if all is there."""
    todo = [plan for plan in plans if not is_whole(plan.home)]
    if compute.world.most(len(todo)) == 0:
        return
    check_weights(config)
    # Decodes the images and probes, both kept for the trainings that follow.
    inputs = TRAINING_INPUTS[config.regime](corpus, workspace, config=config, compute=compute)
    n_images = config.epochs * sum(plan.n_train * len(plan.members) for plan in todo)
    rate = inputs.compute.speed.images_per_s
    cost = f"{n_images:,} images to learn from"
    if rate is not None:
        cost += f", about {n_images / rate / 60:.0f} min at {rate:,.0f} images/s"
    length = f"{config.backbone} at {config.image_sizes[0]} px for {config.epochs} epochs"
    say(
        f"preset auto: fine-tunes {length}, because this machine has a {card.name} with"
        f" {card.n_bytes / 1e9:.0f} GB; {len(todo)} detectors, the global one first and the"
        f" specialists from it; expected: {cost}. Heads on frozen features: --preset quick"
    )
