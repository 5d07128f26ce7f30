"""A small pair of image and text towers, trained here, and a corpus that it has never met."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from backbones.networks.weights import settled
from backbones.settings.config import BackboneConfig
from backbones.train import train_backbones
from core.runs.workspace import Corpus, Workspace
from corpus.phantom.write import draw_corpus
from corpus.prepare import prepare
from training.devices.compute import Compute

PIXELS = 64

SETTINGS = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": PIXELS, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8,
    },
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 1},
}  # fmt: skip

MEAN, STD = (0.5,) * 3, (0.25,) * 3

_EPOCHS, _BATCH, _RATE = 16, 64, 1e-3


def pixels(paths: tuple[str, ...]) -> Tensor:
    """(N, 3, S, S) images as the pair takes them."""
    images = [Image.open(path).convert("RGB").resize((PIXELS, PIXELS)) for path in paths]
    stacked = torch.from_numpy(np.stack([np.array(image) for image in images]))
    return (stacked.permute(0, 3, 1, 2).float() / 255 - MEAN[0]) / STD[0]


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as open_clip saves it, with a pair that learnt drawn images and names on them.

    Contrastive: of all names an image tells its own, of all images in the batch a name tells its.
    """
    open_clip = pytest.importorskip("open_clip")
    home = tmp_path_factory.mktemp("pair")
    drawn = prepare(draw_corpus(home / "drawn", n_images=240, seed=1), Workspace(home / "runs"))
    known = drawn.table.take(drawn.table.labelled)
    images, targets = pixels(known.paths), known.targets(drawn.labels).matrix.toarray()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = open_clip.model.CLIP(**SETTINGS)
    tokens = open_clip.SimpleTokenizer(context_length=16)(
        [drawn.names[c] for c in drawn.labels.cuis]
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.05)
    rng = np.random.default_rng(0)
    for _ in range(_EPOCHS):
        order = rng.permutation(len(images))
        for start in range(0, len(images) - _BATCH + 1, _BATCH):
            rows = order[start : start + _BATCH]
            seen = model.encode_image(images[rows], normalize=True)
            named = model.encode_text(tokens, normalize=True)
            logits = model.logit_scale.exp() * seen @ named.T
            true = torch.from_numpy(targets[rows]).float()
            loss = 0.0
            for axis in (0, 1):
                share = true / true.sum(dim=axis, keepdim=True).clamp_min(1)
                loss = loss - (share * logits.log_softmax(dim=axis)).sum(dim=axis).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[attr-defined]
            optimiser.step()
    folder = home / "tiny"
    folder.mkdir()
    state = {name: value.contiguous() for name, value in model.eval().state_dict().items()}
    importlib.import_module("safetensors.torch").save_file(
        state, folder / "open_clip_model.safetensors"
    )
    both = {"model_cfg": SETTINGS, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(both))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n")
    return folder


@pytest.fixture(scope="session")
def met_never(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, Workspace]:
    """A drawn corpus of other patients; to be read only."""
    home = tmp_path_factory.mktemp("met_never")
    workspace = Workspace(home / "runs")
    return prepare(draw_corpus(home / "drawn", n_images=160, seed=0), workspace), workspace


@pytest.fixture(scope="session")
def with_features(met_never: tuple[Corpus, Workspace], pair: Path) -> tuple[Corpus, Workspace]:
    """The same with detectors on the pair's features and on those of another encoder, the newer."""
    corpus, workspace = met_never
    torch.set_num_threads(1)
    tiny = BackboneConfig(
        backbone="test_efficientnet", weights="none", image_sizes=(PIXELS,), probe=False,
        hidden=(8,), epochs=1, patience=1, batch_size=64, n_members=1,
    )  # fmt: skip
    of_pair = settled(
        replace(tiny, backbone=f"open_clip:{pair}", weights="auto", image_sizes=(), resample="own")
    )
    for preset, config in (("pair", of_pair), ("tiny", tiny)):
        train_backbones(
            corpus, workspace, names=("global",), config=config, preset=preset, compute=Compute()
        )
    return corpus, workspace
