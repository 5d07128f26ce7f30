"""A bundle as Hugging Face's hub takes it: its card, its labels, and still a bundle."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.utils._validators import validate_repo_id
from typer.testing import CliRunner

from cli import app
from core.errors import BundleError, ConfigError, ExportError
from core.runs.workspace import Corpus, Workspace
from inference.bundle.bundle import read_bundle, write_bundle
from inference.export.hub import export_hub
from inference.place import EnsemblePlace
from inference.stream import decide_images
from tests.inference.conftest import test_images


@pytest.fixture(scope="module")
def hub(whole: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, _ = export_hub(
        tmp_path_factory.mktemp("hub") / "my detector", EnsemblePlace(workspace=whole.root)
    )
    return Path(folder)


def test_the_card_is_one_that_the_hub_reads(hub: Path, crossfitted: Corpus) -> None:
    card = ModelCard((hub / "README.md").read_text(encoding="utf-8"))
    assert isinstance(card.data, ModelCardData)
    data = card.data.to_dict()
    assert data["library_name"] == "radfuse"
    assert data["license"] == "other"
    assert data["license_name"]
    assert "license_link" not in data  # the hub takes a file LICENSE or a URL there, and no page
    assert {"radfuse", "radiology"} <= {*data["tags"]}
    assert card.data.eval_results is not None
    (result,) = card.data.eval_results
    assert result.metric_type == "f1"
    assert 0 <= result.metric_value <= 1
    assert result.dataset_name == crossfitted.name
    assert "no medical device" in card.text


def test_labels_are_columns_of_the_ensemble(hub: Path, crossfitted: Corpus) -> None:
    config = json.loads((hub / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {str(n): cui for n, cui in enumerate(crossfitted.labels.cuis)}
    assert config["label2id"] == {cui: int(n) for n, cui in config["id2label"].items()}
    assert config["label_names"]["C3"] == "stripes"
    assert config["image_sizes"] == [32, 48, 64]


def test_large_kinds_of_files_are_kept_apart(hub: Path, tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", hub, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    subprocess.run(["git", "init", "-q", hub], check=True)
    said = git("check-attr", "filter", "--", "statistics.safetensors", "reference/x.npy", "x.json")
    assert [line.rpartition(": ")[2] for line in said.splitlines()] == ["lfs", "lfs", "unspecified"]
    (hub / ".cache" / "huggingface").mkdir(parents=True)
    read_bundle(hub)  # what git and the hub's client leave does not matter


def test_it_decides_as_the_workspace_does(hub: Path, whole: Workspace, crossfitted: Corpus) -> None:
    images = test_images(crossfitted)
    both = [EnsemblePlace(bundle=hub), EnsemblePlace(workspace=whole.root)]
    ours, theirs = (next(iter(decide_images(place.read(), images))).decisions for place in both)
    np.testing.assert_array_equal(ours.decided.toarray(), theirs.decided.toarray())
    np.testing.assert_allclose(ours.probs, theirs.probs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_a_bundle_becomes_the_same_as_its_workspace(
    name: str, hub: Path, whole: Workspace, tmp_path: Path
) -> None:
    bundle = write_bundle(whole, tmp_path / name)
    folder, _ = export_hub(tmp_path / "hub", EnsemblePlace(bundle=bundle))
    sums = [(home / "SHA256SUMS").read_text(encoding="ascii") for home in (hub, Path(folder))]
    assert sums[0] == sums[1]
    again, _ = export_hub(tmp_path / "hub", EnsemblePlace(bundle=Path(folder)))
    assert (Path(again) / "SHA256SUMS").read_text(encoding="ascii") == sums[0]


def test_a_changed_bundle_is_refused_and_nothing_is_left(whole: Workspace, tmp_path: Path) -> None:
    bundle = write_bundle(whole, tmp_path / "bundle")
    (bundle / "README.md").write_text("mine", encoding="utf-8")
    with pytest.raises(BundleError, match=r"README\.md: was changed since it was written"):
        export_hub(tmp_path / "hub", EnsemblePlace(bundle=bundle))
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_plain_bundle_is_not_replaced(whole: Workspace, tmp_path: Path) -> None:
    bundle = write_bundle(whole, tmp_path / "bundle")
    with pytest.raises(ExportError, match="bundle: something else is there already"):
        export_hub(bundle, EnsemblePlace(workspace=whole.root))
    read_bundle(bundle)


def test_the_command_that_would_upload_it_is_printed(whole: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "of CT, and more"
    done = CliRunner().invoke(
        app, ["export", "--hub", str(folder), "-w", str(whole.root)], catch_exceptions=False
    )
    made, command = done.stdout.splitlines()
    assert made == str(folder)
    program, verb, name, source, target, visible = shlex.split(command)
    assert (program, verb, source, target) == ("hf", "upload", str(folder), ".")
    assert visible == "--private"
    assert name == "YOUR-NAME/of-CT-and-more"
    validate_repo_id(name)
    known = subprocess.run(
        [Path(sys.executable).with_name("hf"), "upload", "--help"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "REPO_ID [LOCAL_PATH] [PATH_IN_REPO]" in known
    assert "--private" in known


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "export: say what: --onnx FOLDER, --hub FOLDER, or both"),
        (("--hub", "x", "--opset", "18"), "--opset 18: is that of --onnx FOLDER"),
    ],
)
def test_the_command_asks_what_to_write(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CliRunner().invoke(app, ["export", *words], catch_exceptions=False)
