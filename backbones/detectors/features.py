"""Pooled features of a network: once a corpus and image size, shared by all that come after."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from backbones.encoders.encoder import label_of, short_name
from backbones.encoders.worlds import encoder_of
from backbones.networks.batch_norm import folded
from backbones.networks.build import Backbone, build_backbone
from backbones.networks.weights import Origin, each_encoder, origin_of, settled
from backbones.settings.config import BackboneConfig
from core.config import fingerprint
from core.embeddings import Embeddings, join
from core.progress import progress
from core.runs.workspace import Corpus, Workspace
from core.storage.arrays import open_map, release
from core.storage.folders import finish, is_whole, locked
from core.storage.tables import write_lines
from corpus.images.batches import CachedImages
from corpus.images.cache import cache_of
from training.devices.compute import Compute, FittingBatches
from training.devices.device import keep_memory
from training.devices.speed import Speed, choose_speed, unprobed
from training.predict import Rows

_DONE = "done.npy"
_RELEASED_AFTER = 16  # batches; memory must not grow with the number of images
_USUAL = ("own", (), ())  # pooling, mean and deviation
_BATCH = 32  # larger ones are slower on a processor, and a GPU waits for the images anyway


@dataclass(frozen=True, kw_only=True)
class FrozenPart:
    """Features of one frozen encoder at one image size.

    Attributes:
        name: of the folder that holds them.
        config: of the encoder alone, with one image size.
    """

    name: str
    config: BackboneConfig

    @property
    def size(self) -> int:
        """Of the images, in pixels."""
        return self.config.image_sizes[0]


def frozen_parts(corpus: Corpus, config: BackboneConfig) -> tuple[FrozenPart, ...]:
    """What a frozen detector's features are joined from: each encoder at each of its sizes.

    A part is the same whatever detector takes it.

    Raises:
        ConfigError: there is no such encoder, or its weights cannot be had.
    """
    parts = []
    for own in each_encoder(settled(config)):
        weights = origin_of(own).identity
        network = encoder_of(own.backbone).blueprint()  # wherever its folder lies
        for size in own.image_sizes:
            speed = (own.precision, own.probe)
            decides = (network, weights, size, own.resample, own.mirror)
            unusual = (own.pooling, own.mean, own.std)
            # What most leave as it is does not enter, so that features of before are found.
            others = () if unusual == _USUAL else unusual
            key = fingerprint(corpus.fingerprint, *decides, *speed, *others)
            name = f"{label_of(own.backbone)}-{size}px-{key}"
            alone = replace(own, image_sizes=(size,), head="layers")  # pooled whatever the head
            parts.append(FrozenPart(name=name, config=alone))
    return tuple(parts)


def frozen_names(corpus: Corpus, config: BackboneConfig) -> tuple[str, ...]:
    """Names of the folders that hold a frozen detector's features, one a part."""
    return tuple(part.name for part in frozen_parts(corpus, config))


def frozen_features(
    corpus: Corpus, workspace: Workspace, *, config: BackboneConfig, compute: Compute
) -> Embeddings:
    """Pooled features of all readable images, extracted as far as they are not there yet.

    Features of several encoders and image sizes are joined; with `mirror` each is the mean over the
    image and its mirror image.

    Returns:
        (N, D), D the sum over encoders of their number of features times that of their image sizes.
    """
    parts = frozen_parts(corpus, config)
    for part in parts:
        folder = workspace.embeddings / part.name
        if not compute.world.in_turn(partial(is_whole, folder, keep=False)):
            extract(
                folder,
                frozen_network(part.config, size=part.size),
                corpus=corpus,
                workspace=workspace,
                config=part.config,
                size=part.size,
                compute=compute,
            )
    return join([Embeddings.load(workspace.embeddings / part.name) for part in parts])


def frozen_network(config: BackboneConfig, *, size: int) -> Backbone:
    """The network that gives the features of images of a size; random weights are always equal."""
    torch.manual_seed(0)
    return build_backbone(config, size=size)


def extract(
    folder: Path,
    backbone: Backbone,
    *,
    corpus: Corpus,
    workspace: Workspace,
    config: BackboneConfig,
    size: int,
    compute: Compute,
) -> None:
    """Fill an embeddings folder; one that was interrupted goes on where it stopped.

    Of many processes each extracts a part of every batch, and the first writes. Where memory runs
    out, the batches of a process are halved.
    """
    world, ids = compute.world, corpus.readable_ids
    cache = world.in_turn(
        lambda: cache_of(corpus, workspace.cache, size=size, resample=config.scaling)
    )
    images = CachedImages.of(cache, ids)
    network, compute = _fastest(backbone, workspace, config, size=size, compute=compute)
    values, done = world.in_turn(lambda: _open(folder, len(ids), backbone.n_features))
    todo = np.flatnonzero(done == 0)
    world.wait()  # the first process must not write before all have seen what is left to do
    batches = FittingBatches(_BATCH)
    pooled = partial(
        pool,
        network,
        images=lambda rows: images(rows)[0],
        batches=batches,
        compute=compute,
        mirror=config.mirror,
    )
    what, n_done = f"features at {size} px", len(ids) - len(todo)
    with (
        torch.inference_mode(),
        progress(what, total=len(ids), unit="images", done=n_done) as advance,
    ):
        for start in range(0, len(todo), _BATCH * world.size):
            rows = todo[start : start + _BATCH * world.size]
            joined = world.join(pooled(world.share(rows)), len(rows))
            if world.first:
                values[rows] = joined
                done[rows] = 1
            if start // _BATCH % _RELEASED_AFTER == 0:
                cache.planes.release()
                release(values)
            advance(len(rows))
    if world.first:
        write_lines(folder / "image_ids.txt", ids)
        source = f"{short_name(config.backbone)} {size} px" + (" mirrored" if config.mirror else "")
        meta: dict[str, Any] = {
            "source": source,
            "weights": config.weights,
            "speed": str(compute.speed),
        }
        if config.regime == "frozen":  # of another, its detector tells
            meta |= {"encoder": encoder_meta(config)}
        finish(folder, meta, but=[_DONE])
    world.wait()


def encoder_meta(config: BackboneConfig, *, origin: Origin | None = None) -> dict[str, Any]:
    """What is noted of an encoder: which it is, and what its weights are of.

    Args:
        config: of the encoder alone.
        origin: of its weights; None to look for it.
    """
    origin = origin or origin_of(config)
    return {
        "backbone": config.backbone,
        "blueprint": encoder_of(config.backbone).blueprint(),
        "pooling": config.pooling,
        "weights_from": str(origin),
        "weights_licence": origin.licence,
        "normalisation": asdict(origin.normalisation),
    }


def _open(
    folder: Path, n_images: int, n_features: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    folder.mkdir(parents=True, exist_ok=True)
    values = open_map(folder / "values.npy", (n_images, n_features), dtype=np.float32)
    return values, open_map(folder / _DONE, (n_images,), dtype=np.uint8)


def for_features(backbone: Backbone, *, size: int, device: str) -> nn.Module:
    """The network on the device, in evaluation, its normalisation folded."""
    example = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=device)
    return folded(backbone.to(device).eval(), example)


def _fastest(
    backbone: Backbone, workspace: Workspace, config: BackboneConfig, *, size: int, compute: Compute
) -> tuple[nn.Module, Compute]:
    """The network with its normalisation folded, and how to run it."""
    network = for_features(backbone, size=size, device=compute.device)
    keep_memory()

    def choose() -> Speed:
        if not config.probe:
            return unprobed(config.precision, compute.device)
        with locked(workspace.speed, what=f"speed of {config.backbone}"):  # both would be slow
            return choose_speed(
                workspace.speed,
                lambda: network,
                name=label_of(config.backbone),
                size=size,
                batch_size=_BATCH,
                n_concepts=0,
                precision=config.precision,
                device=compute.device,
                train=False,
            )

    speed = compute.world.in_turn(choose)
    return speed.place(network), replace(compute, speed=speed)


def pool(
    network: nn.Module,
    rows: Rows,
    *,
    images: Callable[[Rows], Tensor],
    batches: FittingBatches,
    compute: Compute,
    mirror: bool,
) -> npt.NDArray[np.float32]:
    """(n, D) pooled features of some images.

    All batches have one size, the last one filled up with images of its own: the sums of
    convolutions depend on the size of a batch, and on nothing else of it.

    Args:
        network: of `for_features`, placed for the speed of `compute`.
        rows: (n,) numbers of the images.
        images: uint8 (B, 3, H, W) of B rows, on any device.
        batches: their size.
        compute: where and how.
        mirror: the mean over the images and their mirrors.
    """

    def work(chosen: Rows) -> npt.NDArray[np.float32]:
        whole = np.resize(chosen, batches.batch_size) if len(chosen) else chosen
        (batch,) = compute.take((images(whole),))
        with compute.speed.autocast(compute.device):
            pooled = network(batch).float()
            if mirror:
                pooled = (pooled + network(batch.flip(3)).float()) / 2
        values: npt.NDArray[np.float32] = pooled[: len(chosen)].cpu().numpy()
        return values

    return batches.joined(rows, work)
