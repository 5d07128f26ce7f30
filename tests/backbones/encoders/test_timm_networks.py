"""timm's networks: by name, from a folder that timm saved, by a blueprint."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from backbones.encoders import downloads
from backbones.encoders.encoder import Normalisation
from backbones.encoders.timm_networks import TimmEncoder
from backbones.networks.build import build_backbone
from backbones.networks.weights import origin_of, settled
from backbones.settings.config import BackboneConfig
from core.errors import ConfigError
from tests.backbones.encoders.conftest import Features, assert_alike

LARGER = (
    "resnet18",
    "mobilenetv3_small_100",
    "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, nn.Module]:
    """A folder as timm saves a network, and the network: of other heads than its name's."""
    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=5, num_heads=4)
    folder = tmp_path / "my-vit"
    timm.models.save_for_hf(
        network, str(folder), safe_serialization=True, model_args={"num_heads": 4}
    )
    return folder, network.eval()


def test_a_folder_that_timm_saved_gives_its_network_and_what_it_states(
    saved: tuple[Path, nn.Module],
) -> None:
    folder, network = saved
    config = settled(BackboneConfig(backbone=f"local-dir:{folder}", image_sizes=(), resample="own"))
    assert (config.image_sizes, config.resample) == ((160,), "bicubic")
    backbone = build_backbone(config).eval()
    images = torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8)
    with torch.inference_mode():
        theirs = network.forward_head(network.forward_features((images / 255 - 0.5) / 0.5), True)  # type: ignore[operator]
        torch.testing.assert_close(backbone(images), theirs, atol=1e-5, rtol=1e-4)
    origin = origin_of(config)
    assert (origin.licence, origin.text.partition(",")[0]) == ("apache-2.0", "my-vit")
    assert len(origin.identity) == 64  # the hash of the file alone, wherever the folder lies


def test_a_torch_file_of_a_folder_is_read_and_runs_nothing(
    saved: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    class Touching:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "touched",)

    folder, network = saved
    (folder / "model.safetensors").unlink()
    config = BackboneConfig(backbone=f"local-dir:{folder}", image_sizes=(160,), resample="own")
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    assert build_backbone(settled(config)).n_features == 64
    torch.save(network.state_dict() | {"more": Touching()}, folder / "pytorch_model.bin")
    with pytest.raises(ConfigError) as refusal:
        build_backbone(settled(config))
    assert len(str(refusal.value).splitlines()) == 1
    assert not (tmp_path / "touched").exists()


def of_timm(network: nn.Module, own: dict[str, Any], pictures: list[Path]) -> list[Tensor]:
    """What timm's own transform, to the square, and the network make of the pictures."""
    data = timm.data.resolve_data_config(pretrained_cfg=own)
    transform = timm.data.create_transform(**{**data, "crop_pct": 1.0, "crop_mode": "squash"})
    with torch.inference_mode():
        return [network(transform(Image.open(path).convert("RGB"))[None])[0] for path in pictures]


@pytest.mark.parametrize(
    "name",
    ["test_convnext", "test_efficientnet", "test_vit", "test_nfnet",
     *(pytest.param(name, marks=pytest.mark.slow) for name in LARGER)],
)  # fmt: skip
def test_features_are_those_of_timms_own_forward_pass(
    name: str, tmp_path: Path, pictures: list[Path], features: Features
) -> None:
    """Of a folder that timm saved, and of a file of its weights under timm's name."""
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0).eval()
    paths = pictures if name in LARGER else pictures[::3]
    expected = of_timm(network, network.pretrained_cfg, paths)
    timm.models.save_for_hf(network, str(tmp_path), safe_serialization=True)
    own = BackboneConfig(backbone=f"local-dir:{tmp_path}", image_sizes=(), resample="own")
    assert_alike(features(own, paths), expected)
    plain = replace(own, backbone=name, weights=str(tmp_path / "model.safetensors"))
    assert_alike(features(plain, paths), expected)


def test_the_bilinear_filter_is_the_owners_but_for_jpegs_scaled_down_on_the_way(
    tmp_path: Path, pictures: list[Path], features: Features
) -> None:
    """At 160 px the decoder halves what has 320 and more, by a mean instead of the filter."""
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=0).eval()
    pictures = pictures[::2]
    expected = torch.stack(of_timm(network, network.pretrained_cfg, pictures))
    timm.models.save_for_hf(network, str(tmp_path / "net"), safe_serialization=True)
    own = BackboneConfig(backbone=f"local-dir:{tmp_path / 'net'}", image_sizes=(), resample="own")
    whole = [tmp_path / f"{path.stem}.png" for path in pictures]
    for path, copy in zip(pictures, whole, strict=True):
        Image.open(path).save(copy)
    assert_alike(features(own, whole), expected)
    assert torch.cosine_similarity(features(own, pictures), expected).min() >= 0.999


@pytest.mark.parametrize("name", ["volo_d1_224", "xcit_nano_12_p8_224", "tnt_s_patch16_224"])
def test_a_class_token_is_no_place(name: str) -> None:
    encoder = TimmEncoder(name)
    with torch.device("meta"):
        network, images = encoder.build(pretrained=False), torch.zeros(1, 3, 224, 224)
    found = encoder.last_map(network, images)
    assert found.token is not None
    assert found.places.shape[2] in (14**2, 28**2)


def test_a_blueprint_builds_the_network_without_its_folder(saved: tuple[Path, nn.Module]) -> None:
    encoder = TimmEncoder(f"local-dir:{saved[0]}")
    text = encoder.blueprint()
    (saved[0] / "config.json").unlink()
    copy = TimmEncoder(text)
    assert (copy.text, copy.blueprint()) == (text, text)
    network = copy.build(pretrained=False)
    expected = saved[1].state_dict()
    assert {name: value.shape for name, value in network.state_dict().items()} == {
        name: value.shape for name, value in expected.items() if not name.startswith("head.")
    }
    assert network.blocks[0].attn.num_heads == 4  # type: ignore[index, union-attr]


def test_a_blueprint_tells_how_images_are_scaled(tmp_path: Path) -> None:
    config: dict[str, Any] = {"architecture": "test_resnet", "pretrained_cfg": {}}
    texts = []
    for number in (0.25, 0.5):
        config["pretrained_cfg"] = {"mean": [number] * 3, "std": [0.5] * 3}
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config), "utf-8")
        encoder = TimmEncoder(f"local-dir:{folder}")
        texts.append(encoder.blueprint())
        again = TimmEncoder(texts[-1])
        assert again.stated().normalisation == encoder.stated().normalisation
        assert again.stated().normalisation.mean == (number,) * 3
    assert texts[0] != texts[1]


def test_a_blueprint_without_scaling_builds_but_states_nothing() -> None:
    bare = TimmEncoder('timm:{"architecture": "test_vit", "arguments": {}}')
    assert isinstance(bare.build(pretrained=False), nn.Module)
    for ask in (bare.stated, lambda: settled(BackboneConfig(backbone=bare.text))):
        with pytest.raises(ConfigError, match="of test_vit does not say how images are scaled"):
            ask()


def test_the_blueprint_of_a_name_is_the_name() -> None:
    assert TimmEncoder("timm:resnet18.a1_in1k").blueprint() == "resnet18.a1_in1k"


def test_a_network_of_grey_images_states_one_mean(tmp_path: Path) -> None:
    own = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "input_size": [3, 64, 64]}
    config = {"architecture": "test_resnet", "pretrained_cfg": own, "model_args": {"in_chans": 1}}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    stated = TimmEncoder(f"local-dir:{tmp_path}").stated()
    assert stated.normalisation.n_channels == 1
    # ImageNet's three means, as one
    assert stated.normalisation.mean == pytest.approx(((0.485 + 0.456 + 0.406) / 3,))
    assert stated.normalisation.std == pytest.approx(((0.229 + 0.224 + 0.225) / 3,))


def test_the_cards_of_timm_say_size_scaling_and_licence() -> None:
    stated = TimmEncoder("vit_small_patch14_dinov2.lvd142m").stated()
    assert (stated.size, stated.resample, stated.licence) == (518, "bicubic", "apache-2.0")
    assert stated.normalisation == Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert stated.source == "timm's hub, timm/vit_small_patch14_dinov2.lvd142m"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet51", r"timm has no network 'resnet51'; like it: .*resnet50"),
        ("org/resnet50", r"'org/resnet50'; say of which library it is: local-dir:PATH or hf-hub:"),
        ("resnet50.b9", r"^backbone: Invalid pretrained tag \(b9\) for resnet50"),
        ("local-dir:/no/where", "/no/where: no folder with a config.json, as timm saves them"),
        ('timm:{"architecture": 3}', "is no blueprint of a network of timm"),
        ('timm:{"architecture": "test_vit", "arguments": 1}', "is no blueprint of a network"),
        ("timm:{", "is no blueprint of a network of timm"),
    ],
)
def test_what_timm_does_not_know_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TimmEncoder(text).stated()
    with pytest.raises(ConfigError, match=message):
        TimmEncoder(text).build(pretrained=False)


@pytest.mark.parametrize("text", ["test_resnet", "hf-hub:org/no-such-model"])
def test_weights_without_a_network_are_refused_at_once(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(downloads, "reachable", lambda server: False)
    with pytest.raises(
        ConfigError,
        match=rf"^weights: {text}: nothing to be had from timm's hub: it cannot be reached from"
        " here; give --weights FILE, --weights package .*, or --weights none for random ones$",
    ):
        build_backbone(BackboneConfig(backbone=text, image_sizes=(64,)))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"architecture": "no_such_net"}', "timm has no network 'no_such_net'"),
        ('{"pretrained_cfg": {}}', r"not a model as timm saves them \('architecture'\)"),
        ("{", "not a model as timm saves them"),
    ],
)
def test_a_folder_of_something_else_is_refused(config: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config, "utf-8")
    with pytest.raises(ConfigError, match=message):
        TimmEncoder(f"local-dir:{tmp_path}").stated()


def test_an_argument_that_a_network_does_not_take_is_one_line() -> None:
    parts = {"architecture": "test_vit", "arguments": {"wings": 2}}
    with pytest.raises(ConfigError, match=r"^backbone: test_vit: .*unexpected keyword .*'wings'"):
        TimmEncoder("timm:" + json.dumps(parts)).build(pretrained=False)
