"""Ensembles on encoders from folders, joined ones among them: asked, carried, refused."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

from backbones.settings.config import BackboneConfig
from backbones.train import train_backbones
from core.errors import BundleError, MissingStageError
from core.predictions import SparsePredictions
from core.runs.external import ExternalResource, resources_of_members
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from ensembles.config import EnsembleConfig
from ensembles.ensemble import ensemble
from fusion.config import FuseConfig
from fusion.fuse import fuse
from inference.bundle.bundle import read_bundle, write_bundle
from inference.bundle.files import write_sums
from inference.export.folder import export_onnx
from inference.export.graphs import open_session
from inference.loaded.ensemble import LoadedEnsemble
from inference.loaded.workspace import read_ensemble
from inference.place import EnsemblePlace
from inference.stream import decoded, new_block
from reports.ensemble.page import write_report
from tests.conftest import save_prepared
from tests.inference.conftest import test_images
from training.devices.compute import Compute

HEADS = BackboneConfig(
    backbone="test_efficientnet", weights="auto", image_sizes=(32,), probe=False, hidden=(),
    epochs=1, patience=1, batch_size=16, n_members=1,
)  # fmt: skip
FUSE = FuseConfig(
    strategies=("one-hot", "retrieval"), hidden=(8,), epochs=1, patience=1, batch_size=32,
    n_members=1, k=(5,), temperature=(0.1,),
)  # fmt: skip


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks of one and of three channels, as timm saves them."""
    home = tmp_path_factory.mktemp("hub")
    torch.manual_seed(3)
    for name, network, channels in (
        ("grey", "test_efficientnet", 1),
        ("vit", "test_vit", 3),
        ("other", "test_resnet", 3),
    ):
        arguments = {"in_chans": 1} if channels == 1 else {}
        model = timm.create_model(network, num_classes=2, **arguments)
        save_for_hf(model, home / name, model_args=arguments or None, safe_serialization=True)
        note = home / name / "config.json"
        said = json.loads(note.read_text("utf-8"))
        said["pretrained_cfg"] |= {"license": "mit", "input_size": [channels, 32, 32]}
        note.write_text(json.dumps(said), "utf-8")
    return home


@pytest.fixture(scope="module")
def made(crossfitted: Corpus, hub: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Heads on joined features and on one encoder's, a fine-tuned network, retrieval on both."""
    torch.set_num_threads(1)
    workspace = save_prepared(crossfitted, tmp_path_factory.mktemp("any") / "runs")
    grey = replace(HEADS, backbone=f"local-dir:{hub / 'grey'}", weights="hub")
    joined = replace(grey, joined=(f"local-dir:{hub / 'vit'}",), mirror=True)
    fine = replace(grey, backbone=f"local-dir:{hub / 'vit'}", regime="full", pooling="cls+mean")
    for preset, config in (("quick", grey), ("quick-both", joined), ("finetune", fine)):
        train_backbones(
            crossfitted, workspace, names=["global"], config=config, preset=preset,
            compute=Compute(),
        )  # fmt: skip
    for names in (("quick-both",), ("quick",), ("finetune",)):
        fuse(
            crossfitted, workspace, config=replace(FUSE, embeddings=names), preset="tiny",
            device="cpu",
        )  # fmt: skip
    ensemble(
        crossfitted, workspace, submit=True,
        config=EnsembleConfig(stackers=("mean",), leave_one_out=False),
    )  # fmt: skip
    return workspace


def probs_of(found: LoadedEnsemble, corpus: Corpus) -> np.ndarray[Any, Any]:
    images = test_images(corpus)
    block = new_block(found, images, pixels=[decoded(found, image) for image in images])
    return found.decide(block).probs


def test_strategies_on_each_are_members_and_say_of_new_images_what_they_said_of_test(
    made: Workspace, crossfitted: Corpus
) -> None:
    found = read_ensemble(made)
    names = [member.name for member in found.members]
    assert [n for n in names if n.startswith("global")] == [
        "global/finetune", "global/quick", "global/quick-both"
    ]  # fmt: skip
    assert sum(name.startswith("retrieval/") for name in names) == 3
    run = next(made.ensembles.glob("*/predictions/test"))
    said = SparsePredictions.load(run)
    rows = [said.image_ids.index(image.image_id) for image in test_images(crossfitted)]
    assert probs_of(found, crossfitted) == pytest.approx(said.probs.toarray()[rows], abs=1e-4)
    assert {look[1] for look in found.looks} == {"bilinear", "bicubic"}


def test_a_bundle_needs_no_folder_of_the_encoders(
    made: Workspace, crossfitted: Corpus, hub: Path, tmp_path: Path
) -> None:
    expected = probs_of(read_ensemble(made), crossfitted)
    out = write_bundle(made, tmp_path / "bundle")
    graph = json.loads((out / "bundle.json").read_text("utf-8"))
    assert {e["backbone"].partition(":")[0] for e in graph["networks"].values()} == {"timm"}
    assert str(hub) not in (out / "bundle.json").read_text("utf-8")
    away = hub.rename(hub.with_name("away"))
    try:
        again = read_bundle(out)
        assert np.array_equal(probs_of(again, crossfitted), expected)
        # A fine-tuned network lies in its run, a frozen one in its folder.
        with pytest.raises(MissingStageError, match=r"their network cannot be had any more \(.*No"):
            read_ensemble(made)
    finally:
        away.rename(hub)
    card = (out / "README.md").read_text("utf-8")
    assert "| `local-dir:grey` | grey | mit | " in card
    assert str(hub) not in card


@pytest.mark.slow  # a minute: torch traces each network
def test_graphs_say_by_which_filter_their_images_are_scaled(
    made: Workspace, crossfitted: Corpus, tmp_path: Path
) -> None:
    folder = export_onnx(tmp_path / "graphs", EnsemblePlace(workspace=made.root))
    inputs = {
        frozenset(entry.name for entry in open_session(home / "model.onnx").get_inputs())
        for home in folder.iterdir()
        if home.is_dir()
    }
    assert len({*frozenset().union(*inputs)}) == 2  # a size or a filter each
    assert frozenset().union(*inputs) in inputs  # those of the joined detector
    assert any(name.endswith("_bicubic") for name in frozenset().union(*inputs))
    text = (folder / "README.md").read_text("utf-8")
    assert "## External resources" in text
    assert "local-dir:grey from grey; licence: mit" in text


def test_other_weights_in_the_folder_are_refused(
    made: Workspace, hub: Path, tmp_path: Path
) -> None:
    file = hub / "grey" / "model.safetensors"
    kept = shutil.copy(file, tmp_path / "kept")
    save_file({name: own + 1 for name, own in load_file(file).items()}, file)
    try:
        with pytest.raises(MissingStageError, match="has other weights now than when they were"):
            read_ensemble(made)
    finally:
        shutil.copy(kept, file)


def test_external_resources_are_those_of_all_encoders(made: Workspace, crossfitted: Corpus) -> None:
    run = next(folder for folder in made.ensembles.iterdir() if folder.is_dir())
    members = read_meta(run)["members"]
    users = resources_of_members(members, crossfitted, workspace=made)
    assert {own: len(names) for own, names in users.items()} == {
        ExternalResource(encoder="local-dir:grey", source="grey", licence="mit"): 6,
        ExternalResource(encoder="local-dir:vit", source="vit", licence="mit"): 6,
    }
    page, _ = write_report(crossfitted, made)
    text = page.read_text("utf-8")
    assert "## External resources" in text
    assert "| local-dir:vit" in text


Change = Callable[[dict[str, Any]], None]


def changed(bundle: Path, out: Path, change: Change) -> Path:
    """A bundle with another `bundle.json`, its checksum among the others."""
    shutil.copytree(bundle, out)
    graph = json.loads((out / "bundle.json").read_text("utf-8"))
    change(graph)
    (out / "bundle.json").write_text(json.dumps(graph), "utf-8")
    digest = hashlib.sha256((out / "bundle.json").read_bytes()).hexdigest()
    lines = [
        f"{digest}  bundle.json" if line.endswith("  bundle.json") else line
        for line in (out / "SHA256SUMS").read_text("utf-8").splitlines()
    ]
    (out / "SHA256SUMS").write_text("\n".join(lines) + "\n", "utf-8")
    return out


def test_a_bundle_of_the_layout_before_is_read(bundled: Path, tmp_path: Path) -> None:
    def before(graph: dict[str, Any]) -> None:
        graph["format"] = 1
        del graph["distance"]
        graph["files"] = {n: size for n, size in graph["files"].items() if "distance/" not in n}
        for own in graph["networks"].values():
            del own["pooling"]
        for own in graph["parts"]:
            if own["kind"] == "detector":
                for name in ("head", "n_queries", "query_width"):
                    del own[name]
                if own["pooling"] == "own":
                    own["pooling"] = "mean"
                own["backbone"] = own["backbone"] or "test_efficientnet"

    plain = shutil.copytree(bundled, tmp_path / "plain", ignore=shutil.ignore_patterns("distance"))
    write_sums(plain)
    assert read_bundle(changed(plain, tmp_path / "before", before)).members


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("local-dir:/tmp", "reaches for no folder and no hub"),
        ("hf-hub:who/knows", "reaches for no folder and no hub"),
        ("transformers:who", "reaches for no folder and no hub"),
        ('timm:{"architecture": "test_vit", "arguments": {"depth": 90000}}', "more layers than"),
        ('timm:{"architecture": "test_vit", "arguments": {"embed_dim": 100000}}',
         "is not among its tensors"),
        ('timm:{"architecture": "test_vit", "arguments": {"depth": 90000000}}', "larger numbers"),
        ('timm:{"architecture": "test_vit", "arguments": {"checkpoint_path": "x.pth"}}',
         "no blueprint"),
        ('timm:{"architecture": "test_vit", "arguments": {"img_size": "/etc"}}', "no folder"),
    ],
)  # fmt: skip
def test_a_bundle_reaches_for_nothing_and_makes_nothing_large(
    bundled: Path, tmp_path: Path, backbone: str, message: str
) -> None:
    def hostile(graph: dict[str, Any]) -> None:
        for own in graph["networks"].values():
            own["backbone"] = backbone

    with pytest.raises(BundleError, match=message):
        read_bundle(changed(bundled, tmp_path / "hostile", hostile))
