"""Pooled features of a frozen network: once a corpus and image size, for all detectors."""

from pathlib import Path

import numpy as np
import torch

from backbones.build import Backbone, build_backbone
from backbones.config import BackboneConfig
from core.arrays import open_map, write_lines
from core.config import fingerprint
from core.embeddings import Embeddings
from core.progress import progress
from core.runs import META, is_complete, provenance, write_json
from core.workspace import Corpus, Workspace
from corpus.cache import build_cache
from corpus.loading import CachedImages

_BATCH = 32  # larger ones are slower on a processor and no faster on a GPU than it can be fed


def pooled_features(
    corpus: Corpus, workspace: Workspace, config: BackboneConfig, *, device: str
) -> Embeddings:
    """Pooled features of all readable images, extracted as far as they are not there yet.

    Features of several image sizes are joined; with `mirror` each is the mean over the image and
    its mirror image.

    Returns:
        (N, D), D the network's number of features times the number of image sizes.
    """
    sizes = [
        _at_size(corpus, workspace, config, size=size, device=device) for size in config.image_sizes
    ]
    if len(sizes) == 1:
        return sizes[0]
    return Embeddings(
        source=" + ".join(part.source for part in sizes),
        image_ids=sizes[0].image_ids,
        values=np.concatenate([part.values for part in sizes], axis=1),
    )


def _at_size(
    corpus: Corpus, workspace: Workspace, config: BackboneConfig, *, size: int, device: str
) -> Embeddings:
    decides = (config.backbone, config.weights, size, config.resample, config.mirror)
    name = f"{config.backbone}-{size}px-{fingerprint(corpus.fingerprint, *decides)}"
    home = workspace.embeddings / name
    if not is_complete(home):
        _extract(home, corpus, workspace, config, size=size, device=device)
    return Embeddings.load(home)


def _extract(
    home: Path,
    corpus: Corpus,
    workspace: Workspace,
    config: BackboneConfig,
    *,
    size: int,
    device: str,
) -> None:
    home.mkdir(parents=True, exist_ok=True)
    ids = readable_ids(corpus)
    backbone = build_backbone(config).to(device).eval()
    cache = build_cache(corpus.table, workspace.cache, size=size, resample=config.resample)
    images = CachedImages.of(cache, ids)
    values = open_map(home / "values.npy", (len(ids), backbone.n_features), np.float32)
    done = open_map(home / "done.npy", (len(ids),), np.uint8)
    todo = np.flatnonzero(done == 0)
    with (
        torch.inference_mode(),
        progress(
            f"features at {size} px", total=len(ids), unit="images", done=len(ids) - len(todo)
        ) as advance,
    ):
        for start in range(0, len(todo), _BATCH):
            rows = todo[start : start + _BATCH]
            values[rows] = _pooled(backbone, images(rows)[0].to(device), mirror=config.mirror)
            done[rows] = 1
            advance(len(rows))
    write_lines(home / "image_ids.txt", ids)
    source = f"{config.backbone} {size} px" + (" mirrored" if config.mirror else "")
    write_json(home / META, {"source": source, "weights": config.weights, **provenance()})


def _pooled(backbone: Backbone, images: torch.Tensor, *, mirror: bool) -> np.ndarray:
    pooled = backbone(images)
    if mirror:
        pooled = (pooled + backbone(images.flip(3))) / 2
    values: np.ndarray = pooled.float().cpu().numpy()
    return values


def readable_ids(corpus: Corpus) -> tuple[str, ...]:
    """Ids of the images that can be decoded, in table order."""
    marks = corpus.table.metadata.get("readable", ("1",) * len(corpus.table))
    return tuple(i for i, mark in zip(corpus.table.image_ids, marks, strict=True) if mark == "1")
