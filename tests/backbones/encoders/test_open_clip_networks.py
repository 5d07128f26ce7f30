"""Image towers of open_clip, held against open_clip's own answers."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from torch import nn

from backbones.encoders.worlds import encoder_of
from tests.backbones.encoders.conftest import Nearness, Ours

TEXT = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}

VISION: dict[str, dict[str, Any]] = {
    "vit": {"image_size": 64, "layers": 3, "width": 32, "head_width": 16, "patch_size": 16},
    "pooled after the norm": {
        **{"image_size": 64, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
        **{"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True},
    },
    # BiomedCLIP's layout: a transformer of timm, a linear projection behind it.
    "trunk": {
        **{"timm_model_name": "test_vit", "timm_model_pretrained": False, "image_size": 160},
        **{"timm_pool": "", "timm_proj": "linear"},
    },
    "resnet": {"image_size": 64, "layers": [1, 2, 1, 1], "width": 8, "head_width": 16},
}
SIZES = {"vit": 64, "pooled after the norm": 64, "trunk": 160, "resnet": 64}

every_tower = pytest.mark.parametrize("kind", VISION)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder as open_clip saves a model to push it to a hub, by the kind of its image tower."""
    save = importlib.import_module("open_clip.push_to_hf_hub").save_for_hf
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp("open_clip")
            settings = {"embed_dim": 24, "vision_cfg": VISION[kind], "text_cfg": TEXT}
            images = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}
            both = {"model_cfg": settings, "preprocess_cfg": images}
            (folder / "open_clip_config.json").write_text(json.dumps(both))
            torch.manual_seed(0)
            model = open_clip.create_model(f"local-dir:{folder}")
            for layer in model.modules():  # else its blocks give nothing
                if isinstance(layer, nn.BatchNorm2d):
                    nn.init.uniform_(layer.weight, 0.5, 1.5)
                    nn.init.normal_(layer.running_mean, std=0.1)
            tokenizer = SimpleNamespace(save_pretrained=lambda _: None)
            save(model, tokenizer, settings, folder)
            (folder / "README.md").write_text("---\ntags:\n- clip\nlicense: mit\n---\n# A model\n")
            made[kind] = folder
        return made[kind]

    return make


def owners(folder: Path, small_pictures: list[Path]) -> torch.Tensor:
    """Embeddings by open_clip alone, of images that it squashes to the square."""
    model, prepare = open_clip.create_model_from_pretrained(
        f"local-dir:{folder}", image_resize_mode="squash"
    )
    model.eval()
    images = torch.stack([prepare(Image.open(path).convert("RGB")) for path in small_pictures])
    with torch.no_grad():
        embeddings: torch.Tensor = model.encode_image(images, normalize=False)
    return embeddings


@every_tower
def test_features_are_those_of_encode_image(
    kind: str, saved: Callable[[str], Path], small_pictures: list[Path], ours: Ours, nearness: Nearness
) -> None:
    folder = saved(kind)
    expected = owners(folder, small_pictures)
    plain, centred = nearness(ours(f"open_clip:local-dir:{folder}"), expected)
    print(kind, plain, centred)
    assert plain >= 0.9999
    assert centred >= 0.999


@every_tower
def test_a_blueprint_builds_the_same_network_without_files(
    kind: str, saved: Callable[[str], Path], no_network: list[object]
) -> None:
    encoder = encoder_of(f"open_clip:{saved(kind)}")
    blueprint = encoder.blueprint()
    assert str(saved(kind)) not in blueprint
    again = encoder_of(blueprint)
    stated, known = again.stated(), encoder.stated()
    assert (stated.size, stated.normalisation, stated.resample) == (
        *(known.size, known.normalisation, known.resample),
    )
    network, other = encoder.build(pretrained=True), again.build(pretrained=False)
    other.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, SIZES[kind], SIZES[kind])
    network.eval(), other.eval()
    with torch.no_grad():
        assert torch.equal(encoder.own(network, images), again.own(other, images))
    assert not no_network
    assert again.blueprint() == blueprint
