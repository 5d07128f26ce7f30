"""Files that transformers writes name tensors otherwise than the networks it builds."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from backbones.encoders.transformers_files import transformers_package
from backbones.networks.checkpoint_files import read_checkpoint
from backbones.networks.matching import Taken, fitted_tensors
from core.errors import ConfigError

transformers = pytest.importorskip("transformers")

SMALL = {
    **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "image_size": 64, "patch_size": 16},
}
SWIN = {
    **{"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]},
    **{"image_size": 64, "patch_size": 4, "window_size": 4},
}


@pytest.fixture(scope="module", autouse=True)
def quiet() -> None:
    transformers_package()


def config_of(kind: str, **settings: Any) -> Any:
    return transformers.CONFIG_MAPPING[kind](**(SWIN if kind == "swin" else SMALL) | settings)


def written(model: Any, folder: Path) -> Path:
    """The file that the library writes of a model without a tensor at nothing."""
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    model.save_pretrained(folder)
    return folder / "model.safetensors"


def taken(path: Path, network: nn.Module, *, partial: bool = False) -> Taken:
    return fitted_tensors(read_checkpoint(path), network, name="net", partial=partial)


def assert_all(found: Taken, network: nn.Module, model: nn.Module) -> None:
    """All of the network's tensors are those that the model has in memory, in whatever precision.

    What transformers renames comes back in that of its network, all else in that of the file.
    """
    expected = model.state_dict()
    assert found.tensors.keys() >= dict(network.named_parameters()).keys()
    for name, value in found.tensors.items():
        torch.testing.assert_close(value.to(expected[name].dtype), expected[name], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["dinov2", "vit", "beit", "swin", "dinov3_vit"])
def test_a_file_of_transformers_gives_its_network(kind: str, tmp_path: Path) -> None:
    config = config_of(kind)
    model = transformers.AutoModel.from_config(config)
    path = written(model, tmp_path)
    network = transformers.AutoModel.from_config(config)
    if load_file(path).keys() >= dict(network.named_parameters()).keys():
        pytest.skip(f"transformers {transformers.__version__} writes its own names of {kind}")
    found = taken(path, network)
    assert_all(found, network, model)
    assert re.match(
        r"weights: model\.safetensors \(as transformers reads them\): (\d+) of \1 tensors of net"
        r" taken$",
        found.line,
    )


def test_a_trainers_checkpoint_of_a_classifier_gives_its_network(tmp_path: Path) -> None:
    config = config_of("dinov2")
    model = transformers.AutoModelForImageClassification.from_config(config)
    state = load_file(written(model, tmp_path))
    wrapped: dict[str, Tensor] = {f"model.{name}": value.half() for name, value in state.items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "last.ckpt")
    network = transformers.AutoModel.from_config(config)
    found = taken(tmp_path / "last.ckpt", network)
    assert_all(found, network, model.dinov2.half().float())
    left = r"2 left over \((model\.)?classifier\.bias, (model\.)?classifier\.weight\)"
    assert re.search(left, found.line)
    assert not found.doubtful


def test_a_deeper_network_of_transformers_says_what_is_unused(tmp_path: Path) -> None:
    deeper = transformers.AutoModel.from_config(config_of("vit", num_hidden_layers=3))
    network = transformers.AutoModel.from_config(config_of("vit"))
    found = taken(written(deeper, tmp_path), network)
    assert found.doubtful
    assert "BUT 16 OF THE FILE'S NETWORK ARE UNUSED" in found.line


def test_a_tensor_of_another_shape_is_named_with_both(tmp_path: Path) -> None:
    wider = transformers.AutoModel.from_config(config_of("vit", intermediate_size=80))
    network = transformers.AutoModel.from_config(config_of("vit"))
    path = written(wider, tmp_path)
    with pytest.raises(ConfigError, match=r"first '.*\.weight', 80 x 32 for 64 x 32"):
        taken(path, network)
    found = taken(path, network, partial=True)
    assert "6 STAY RANDOM" in found.line
    assert found.tensors.keys() < network.state_dict().keys()
