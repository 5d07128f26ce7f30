"""The licence of a file of weights, as what lies beside it says."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from backbones.networks.licences import licence_beside
from backbones.networks.weights import origin_of
from backbones.settings.config import BackboneConfig


def weights(folder: Path, **metadata: str) -> Path:
    path = folder / "model.safetensors"
    save_file({"w": torch.ones(1)}, path, metadata=metadata or None)
    return path


def test_nothing_is_stated_where_nothing_says_so(tmp_path: Path) -> None:
    path = weights(tmp_path, format="pt")
    assert licence_beside(path) == licence_beside(tmp_path) == ""
    assert licence_beside(tmp_path / "gone.pth") == ""
    torch.save({"w": torch.ones(1)}, tmp_path / "a.pth")
    assert licence_beside(tmp_path / "a.pth") == ""


def test_a_safetensors_file_says_it_itself(tmp_path: Path) -> None:
    path = weights(tmp_path, license="cc-by-4.0")
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# Model\n")
    assert licence_beside(path) == licence_beside(tmp_path) == "cc-by-4.0"


@pytest.mark.parametrize(
    ("front", "stated"),
    [
        ("license: mit", "mit"),
        ("license: other\nlicense_name: health-ai\nlicense_link: LICENSE", "health-ai"),
        ("license:\n- mit\n- apache-2.0", "mit, apache-2.0"),
        ("tags:\n- timm", ""),
        ("license: [unclosed", ""),
    ],
)
def test_a_model_card_beside_the_file_says_it(tmp_path: Path, front: str, stated: str) -> None:
    path = weights(tmp_path)
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# Model\n")
    assert licence_beside(path) == licence_beside(tmp_path) == stated


def test_a_readme_that_is_no_model_card_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Project\nlicense: mit\n")
    assert licence_beside(weights(tmp_path)) == ""
    (tmp_path / "README.md").write_bytes(b"---\nlicense: \xff\n---\n")
    assert licence_beside(weights(tmp_path)) == ""


def test_timms_config_says_it(tmp_path: Path) -> None:
    path = weights(tmp_path)
    config = {"architecture": "resnet18", "pretrained_cfg": {"license": "apache-2.0"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert licence_beside(path) == "apache-2.0"
    (tmp_path / "config.json").write_text("[1]")
    assert licence_beside(path) == ""


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("\n   Apache License\n   Version 2.0, January 2004\n", "Apache-2.0"),
        ("MIT License\n\nCopyright (c) 2024\n", "MIT"),
        ("Attribution-NonCommercial 4.0 International\n", "CC-BY-NC-4.0"),
        ("# The Hospital's Own Terms\nFor research only.\n", "The Hospital's Own Terms"),
        ("\x1b[31mred", ""),
    ],
)
def test_the_licence_of_a_folder_counts_for_the_folder_alone(
    tmp_path: Path, text: str, stated: str
) -> None:
    path = weights(tmp_path)
    (tmp_path / "LICENSE").write_text(text)
    assert licence_beside(tmp_path) == stated
    assert licence_beside(path) == ""  # it may be of anything that lies there


def test_the_origin_of_weights_has_their_licence(tmp_path: Path) -> None:
    path = weights(tmp_path, license="cc-by-4.0")
    for given in (path, tmp_path):
        origin = origin_of(BackboneConfig(backbone="test_resnet", weights=str(given)))
        assert origin.licence == "cc-by-4.0"
        assert origin.text.startswith(f"{given.name}, sha256 ")
