"""Image towers of open_clip, held against open_clip's own answers."""

import importlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from torch import nn

from backbones.encoders.encoder import Normalisation, head_distances
from backbones.encoders.open_clip_networks import OpenClipEncoder
from backbones.encoders.worlds import encoder_of
from core.errors import ConfigError
from tests.backbones.encoders.conftest import (
    COMMIT,
    Nearness,
    Ours,
    backbone_of,
    cached,
    check_blueprint,
    check_groups,
    step_once,
)

Saved = Callable[[str], Path]

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

every_tower = pytest.mark.parametrize("kind", VISION)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
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
                    assert layer.running_mean is not None
                    nn.init.normal_(layer.running_mean, std=0.1)
            tokenizer = SimpleNamespace(save_pretrained=lambda _: None)
            save(model, tokenizer, settings, folder)
            (folder / "README.md").write_text("---\ntags:\n- clip\nlicense: mit\n---\n# A model\n")
            made[kind] = folder
        return made[kind]

    return make


def owners(folder: Path, pictures: list[Path]) -> torch.Tensor:
    """Embeddings by open_clip alone, of images that it squashes to the square."""
    model, prepare = open_clip.create_model_from_pretrained(
        f"local-dir:{folder}", image_resize_mode="squash"
    )
    model.eval()
    images = torch.stack([prepare(Image.open(path).convert("RGB")) for path in pictures])
    with torch.no_grad():
        embeddings: torch.Tensor = model.encode_image(images, normalize=False)
    return embeddings


@every_tower
def test_features_are_those_of_encode_image(
    kind: str, saved: Saved, small_pictures: list[Path], ours: Ours, nearness: Nearness
) -> None:
    folder = saved(kind)
    expected = owners(folder, small_pictures)
    plain, centred = nearness(ours(f"open_clip:local-dir:{folder}"), expected)
    assert plain >= 0.9999
    assert centred >= 0.9999


@every_tower
def test_a_blueprint_builds_the_same_network_without_files(
    kind: str, saved: Saved, no_network: list[object]
) -> None:
    check_blueprint(f"open_clip:{saved(kind)}")
    assert not no_network


@every_tower
def test_groups_of_layers_hold_every_parameter_once(kind: str, saved: Saved) -> None:
    check_groups(f"open_clip:{saved(kind)}")


def test_the_projection_lies_behind_the_blocks(saved: Saved) -> None:
    encoder = encoder_of(f"open_clip:{saved('vit')}")
    distances = head_distances(encoder, encoder.build(pretrained=False), coarse=False)
    found = {name: distances[name] for name in ("proj", "ln_post.weight", "class_embedding")}
    assert found == {"proj": 0, "ln_post.weight": 0, "class_embedding": 4}  # three blocks between
    assert distances["transformer.resblocks.2.ln_1.weight"] == 1


@every_tower
def test_a_step_of_training_changes_what_it_should(kind: str, saved: Saved) -> None:
    text = f"open_clip:{saved(kind)}"
    all_names = step_once(text, layer_decay=0.7)
    last_names = step_once(text, regime="last", n_stages=1)
    assert {"head.weight", "head.bias"} < last_names < all_names


@pytest.mark.parametrize(("kind", "size"), [("vit", 96), ("resnet", 96), ("trunk", 224)])
def test_another_size_resamples_the_positions(kind: str, size: int, saved: Saved) -> None:
    text = f"open_clip:{saved(kind)}"
    usual, _ = backbone_of(text)
    other, _ = backbone_of(text, image_sizes=(size,))
    assert other.n_features == usual.n_features
    per_side = size // (16 if kind != "resnet" else 32)
    [positions] = [
        value
        for name, value in other.network.named_parameters()
        if "pos" in name.rpartition(".")[2]
    ]
    assert positions.shape[-2] == 1 + per_side**2


@pytest.mark.parametrize(("kind", "multiple"), [("vit", 16), ("resnet", 32)])
def test_a_size_that_would_lose_a_margin_is_refused(kind: str, multiple: int, saved: Saved) -> None:
    with pytest.raises(ConfigError, match=f"takes images of a multiple of {multiple} pixels, not"):
        backbone_of(f"open_clip:{saved(kind)}", image_sizes=(72,))


def test_poolings_of_a_transformer_and_of_a_convolutional_network(saved: Saved) -> None:
    transformer, convolutional = (f"open_clip:{saved(kind)}" for kind in ("vit", "resnet"))
    widths = {
        pooling: backbone_of(transformer, pooling=pooling)[0].n_features
        for pooling in ("own", "cls", "mean", "cls+mean", "gem")
    }
    assert widths == {"own": 24, "cls": 32, "mean": 32, "cls+mean": 64, "gem": 32}
    assert backbone_of(convolutional, pooling="gem")[0].n_features == 256
    with pytest.raises(ConfigError, match="pooling cls: this network has no class token"):
        backbone_of(convolutional, pooling="cls")


def test_the_class_token_times_the_projection_is_the_embedding(saved: Saved) -> None:
    text = f"open_clip:{saved('vit')}"
    encoder = encoder_of(text)
    network: Any = encoder.build(pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        token = encoder.last_map(network, images).token
        assert token is not None
        assert torch.allclose(token @ network.proj, encoder.own(network, images), atol=1e-6)


def test_what_a_folder_states(saved: Saved) -> None:
    folder = saved("vit")
    stated = encoder_of(f"open_clip:{folder}").stated()
    assert (stated.size, stated.resample, stated.licence) == (64, "bicubic", "mit")
    assert stated.normalisation == Normalisation((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    assert stated.files == (folder / "open_clip_model.safetensors",)
    assert stated.source == folder.name


def test_a_folder_goes_by_its_whole_path(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved("vit")
    monkeypatch.chdir(folder.parent)
    texts = {OpenClipEncoder(f"open_clip:{name}{folder.name}").text for name in ("", "local-dir:")}
    assert texts == {f"open_clip:local-dir:{folder}"}


def test_a_torch_file_gives_the_same_features(saved: Saved, tmp_path: Path, ours: Ours) -> None:
    shutil.copy(saved("vit") / "open_clip_config.json", tmp_path)
    shutil.copy(saved("vit") / "open_clip_pytorch_model.bin", tmp_path)
    assert torch.equal(ours(f"open_clip:{tmp_path}"), ours(f"open_clip:{saved('vit')}"))


def test_a_whole_model_fits_as_a_file_of_weights(saved: Saved, ours: Ours) -> None:
    file = saved("trunk") / "open_clip_model.safetensors"
    text = f"open_clip:{saved('trunk')}"
    assert torch.equal(ours(text, weights=str(file)), ours(text))


def test_names_of_open_clip_are_known_without_a_network(no_network: list[object]) -> None:
    stated = encoder_of("open_clip:ViT-B-16-SigLIP/webli").stated()
    assert (stated.size, stated.normalisation.mean) == (224, (0.5, 0.5, 0.5))
    assert stated.source == "open_clip, ViT-B-16-SigLIP, webli (timm/ViT-B-16-SigLIP)"
    assert not no_network


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ViT-B-33", "open_clip has no model 'ViT-B-33', nor is it a folder; like it: ViT-B-32"),
        ("ViT-B-32/nothing", r"open_clip:ViT-B-32/nothing: no such weights \(openai, "),
        ("ViT-B-32/openai", "of ViT-B-32-quickgelu, .* name open_clip:ViT-B-32-quickgelu/openai"),
        ("local-dir:/no/where", "^backbone: /no/where: no folder with a open_clip_config.json"),
        ('{"embed_dim": 3}', r"not a model as open_clip saves them \(KeyError: 'vision_cfg'\)"),
        ("{", "not a model as open_clip saves them"),
    ],
)
def test_what_there_is_not_is_refused(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        encoder_of(f"open_clip:{name}").stated()


@pytest.mark.parametrize("name", ["ViT-B-32/laion2b_s34b_b79k", "hf-hub:nobody/nothing"])
def test_a_hub_out_of_reach_is_said_at_once(name: str, no_network: list[object]) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"hub cannot be reached for .*Name or service not known"):
        encoder_of(f"open_clip:{name}").build(pretrained=True)
    assert time.monotonic() - began < 5
    assert no_network


def test_a_name_without_a_tag_has_no_weights() -> None:
    with pytest.raises(ConfigError, match=r"ViT-B-32 has none under its name; .* \(openai, "):
        encoder_of("open_clip:ViT-B-32").build(pretrained=True)


def test_what_the_hub_has_given_before_is_read_without_it(
    saved: Saved, tmp_path: Path, no_network: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached(tmp_path, "some/clip", folder=saved("vit"))
    text = "open_clip:hf-hub:some/clip"
    stated = encoder_of(text).stated()
    assert stated.source == f"Hugging Face's hub, some/clip at {COMMIT[:12]}"
    assert (stated.licence, stated.files) == ("mit", ())
    encoder_of(text).build(pretrained=True)
    assert not no_network


def test_weights_of_another_network_are_refused(saved: Saved, tmp_path: Path) -> None:
    shutil.copy(saved("vit") / "open_clip_config.json", tmp_path)
    shutil.copy(saved("resnet") / "open_clip_model.safetensors", tmp_path)
    with pytest.raises(
        ConfigError, match=r"does not fit the image tower of its settings: .* first"
    ):
        encoder_of(f"open_clip:{tmp_path}").build(pretrained=True)


def test_settings_that_build_nothing_are_refused(saved: Saved, tmp_path: Path) -> None:
    settings = json.loads((saved("vit") / "open_clip_config.json").read_text())
    settings["model_cfg"]["vision_cfg"]["pool_type"] = "best"
    (tmp_path / "open_clip_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="open_clip cannot build its image tower"):
        encoder_of(f"open_clip:{tmp_path}").build(pretrained=False)


def test_a_trunk_on_a_hub_is_refused(saved: Saved, tmp_path: Path) -> None:
    settings = json.loads((saved("trunk") / "open_clip_config.json").read_text())
    settings["model_cfg"]["vision_cfg"]["timm_model_name"] = "hf-hub:some/trunk"
    (tmp_path / "open_clip_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="timm has no network 'hf-hub:some/trunk'"):
        encoder_of(f"open_clip:{tmp_path}").stated()


def test_images_that_are_not_square_are_refused(saved: Saved, tmp_path: Path) -> None:
    settings = json.loads((saved("vit") / "open_clip_config.json").read_text())
    settings["model_cfg"]["vision_cfg"]["image_size"] = [64, 96]
    (tmp_path / "open_clip_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="takes images of 64 x 96 pixels, not square ones"):
        encoder_of(f"open_clip:{tmp_path}").stated()


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(
        ConfigError,
        match=r"needs the package open_clip; install it with pip install 'radfuse\[open-clip\]'",
    ):
        OpenClipEncoder("open_clip:RN50x4").stated()


def test_nothing_is_written_on_the_terminal(
    saved: Saved, capfd: pytest.CaptureFixture[str]
) -> None:
    OpenClipEncoder(f"open_clip:{saved('vit')}").build(pretrained=True)
    assert capfd.readouterr() == ("", "")
