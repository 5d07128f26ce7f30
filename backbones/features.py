"""Pooled features of a network: once a corpus and image size, shared by all that come after."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from backbones.build import Backbone, build_backbone
from backbones.config import BackboneConfig
from backbones.fold import folded
from backbones.weights import weights_identity
from core.arrays import open_map, write_lines
from core.config import fingerprint
from core.embeddings import Embeddings, join
from core.progress import progress
from core.runs import META, is_complete, provenance, write_json
from core.workspace import Corpus, Workspace
from corpus.cache import build_cache
from corpus.loading import CachedImages

_BATCH = 32  # larger ones are slower on a processor, and a GPU waits for the images anyway


def frozen_names(corpus: Corpus, config: BackboneConfig) -> tuple[str, ...]:
    """Names of the folders that hold a frozen network's features, one an image size."""
    names = []
    weights = weights_identity(config.weights)
    for size in config.image_sizes:
        decides = (config.backbone, weights, size, config.resample, config.mirror)
        key = fingerprint(corpus.fingerprint, *decides)
        names.append(f"{config.backbone}-{size}px-{key}")
    return tuple(names)


def frozen_features(
    corpus: Corpus, workspace: Workspace, config: BackboneConfig, *, device: str
) -> Embeddings:
    """Pooled features of all readable images, extracted as far as they are not there yet.

    Features of several image sizes are joined; with `mirror` each is the mean over the image and
    its mirror image.

    Returns:
        (N, D), D the network's number of features times the number of image sizes.
    """
    folders = [workspace.embeddings / name for name in frozen_names(corpus, config)]
    for folder, size in zip(folders, config.image_sizes, strict=True):
        if not is_complete(folder):
            torch.manual_seed(0)  # random weights must not differ where an extraction goes on
            backbone = build_backbone(config)
            extract(folder, backbone, corpus, workspace, config, size=size, device=device)
    return join([Embeddings.load(folder) for folder in folders])


def extract(
    folder: Path,
    backbone: Backbone,
    corpus: Corpus,
    workspace: Workspace,
    config: BackboneConfig,
    *,
    size: int,
    device: str,
) -> None:
    """Fill an embeddings folder; one that was interrupted goes on where it stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = corpus.readable_ids
    backbone = backbone.to(device).to(memory_format=torch.channels_last).eval()
    example = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=device)
    network = folded(backbone, example)
    cache = build_cache(corpus.table, workspace.cache, size=size, resample=config.resample)
    images = CachedImages.of(cache, ids)
    values = open_map(folder / "values.npy", (len(ids), backbone.n_features), np.float32)
    done = open_map(folder / "done.npy", (len(ids),), np.uint8)
    todo = np.flatnonzero(done == 0)
    what, n_done = f"features at {size} px", len(ids) - len(todo)
    with (
        torch.inference_mode(),
        progress(what, total=len(ids), unit="images", done=n_done) as advance,
    ):
        for start in range(0, len(todo), _BATCH):
            rows = todo[start : start + _BATCH]
            values[rows] = _pooled(network, images(rows)[0].to(device), mirror=config.mirror)
            done[rows] = 1
            advance(len(rows))
    write_lines(folder / "image_ids.txt", ids)
    source = f"{config.backbone} {size} px" + (" mirrored" if config.mirror else "")
    write_json(folder / META, {"source": source, "weights": config.weights, **provenance()})


def _pooled(network: nn.Module, images: Tensor, *, mirror: bool) -> npt.NDArray[np.float32]:
    pooled = network(images)
    if mirror:
        pooled = (pooled + network(images.flip(3))) / 2
    values: npt.NDArray[np.float32] = pooled.float().cpu().numpy()
    return values
