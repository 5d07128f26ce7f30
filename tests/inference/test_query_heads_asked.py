"""Detectors whose heads ask the last map, through everything that comes after training."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from backbones.detectors.features import frozen_parts
from backbones.settings.config import BackboneConfig
from backbones.train import train_backbones
from core.embeddings import Embeddings
from core.errors import BundleError
from core.predictions import Predictions
from core.runs.detectors import DetectorRun, find_runs
from core.runs.workspace import Corpus, Workspace
from ensembles.config import EnsembleConfig
from ensembles.ensemble import ensemble
from fusion.config import FuseConfig
from fusion.fuse import fuse
from inference.bundle.bundle import read_bundle, write_bundle
from inference.bundle.files import write_sums
from inference.export.detectors import block_of, detectors_of
from inference.export.folder import export_onnx
from inference.export.graphs import open_session, run_graph
from inference.heatmaps import HeatMapper
from inference.loaded.ensemble import LoadedEnsemble
from inference.place import EnsemblePlace
from inference.stream import decoded, new_block
from tests.conftest import save_prepared
from tests.inference.conftest import test_images
from training.devices.compute import Compute

HEADS = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(96,), mirror=True, probe=False,
    epochs=2, patience=2, batch_size=16, n_members=1, regime="full", head="queries", n_queries=3,
    query_width=64, layer_decay=0.8, prior_bias=True, augment="hflip", ema=0.5,
)  # fmt: skip
WORDS = replace(HEADS, head="words", regime="last", layer_decay=1.0)
FUSE = FuseConfig(
    strategies=("one-hot",), hidden=(8,), epochs=1, patience=1, batch_size=32, n_members=1,
    k=(5,), temperature=(0.1,),
)  # fmt: skip


@pytest.fixture(scope="module")
def asked(crossfitted: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Detectors by learnt queries and by words, a specialist, fusion on the features of each."""
    torch.set_num_threads(1)
    workspace = save_prepared(crossfitted, tmp_path_factory.mktemp("asked") / "runs")
    for preset, config, names in (
        ("by-queries", HEADS, ["global"]),
        ("by-words", WORDS, ["global", "DRCT"]),
    ):
        train_backbones(
            crossfitted, workspace, names=names, config=config, preset=preset, compute=Compute()
        )
        fuse(
            crossfitted, workspace, config=replace(FUSE, embeddings=(preset,)), preset="tiny",
            device="cpu",
        )  # fmt: skip
    ensemble(
        crossfitted, workspace, submit=True,
        config=EnsembleConfig(stackers=("mean",), leave_one_out=False),
    )  # fmt: skip
    return workspace


@pytest.fixture(scope="module")
def runs(asked: Workspace, crossfitted: Corpus) -> Mapping[str, DetectorRun]:
    found = find_runs(asked, crossfitted.fingerprint)
    return {run.preset: run for run in found if run.category == "global"}


def members_say(found: LoadedEnsemble, corpus: Corpus) -> dict[str, Predictions]:
    images = test_images(corpus)
    block = new_block(found, images, pixels=[decoded(found, image) for image in images])
    return {member.name: member.answer(block) for member in found.members}


def test_what_is_read_again_says_of_new_images_what_was_said_of_test(
    asked: Workspace, runs: Mapping[str, DetectorRun], crossfitted: Corpus
) -> None:
    said = members_say(EnsemblePlace(workspace=asked.root).read("cpu"), crossfitted)
    for preset in ("by-queries", "by-words"):
        found = said[f"global/{preset}"]
        expected = runs[preset].predictions("test").rows(found.image_ids).probs
        assert np.ptp(expected, axis=0).max() > 0
        np.testing.assert_allclose(found.probs, expected, atol=1e-5)


def test_features_of_such_a_detector_are_pooled(
    asked: Workspace, runs: Mapping[str, DetectorRun]
) -> None:
    for run in runs.values():
        names = json.loads((run.folder / "meta.json").read_text("utf-8"))["embeddings"]
        assert len(names) == 3  # a fold each
        for name in names:
            assert Embeddings.load(asked.embeddings / name).values.shape[1] == 256


def test_names_lie_in_the_weights_and_differ_between_networks_of_other_folds(
    runs: Mapping[str, DetectorRun], crossfitted: Corpus
) -> None:
    tensors = load_file(runs["by-words"].folder / "model.safetensors")
    first, second = (tensors[f"{k}.head.points"] for k in (0, 1))
    n = len(crossfitted.labels)
    assert first.shape == second.shape == (n, 128)
    assert not torch.equal(first, second)  # each from the images that its network learns from
    torch.testing.assert_close(first.norm(dim=1), torch.ones(n))


@pytest.fixture(scope="module")
def written(asked: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(asked, tmp_path_factory.mktemp("written") / "bundle")


def test_a_bundle_holds_them_and_says_the_same(
    asked: Workspace, written: Path, crossfitted: Corpus
) -> None:
    expected = members_say(EnsemblePlace(workspace=asked.root).read("cpu"), crossfitted)
    parts = json.loads((written / "bundle.json").read_text("utf-8"))["parts"]
    heads = sorted(own["head"] for own in parts if own["kind"] == "detector")
    assert heads == ["queries", "words", "words"]
    found = members_say(read_bundle(written), crossfitted)
    assert found.keys() == expected.keys()
    for name, said in found.items():
        np.testing.assert_array_equal(said.probs, expected[name].probs)


@pytest.mark.parametrize(
    ("head", "changes", "message"),
    [
        ("queries", {"query_width": 2048}, "layers of other widths than its tensors"),
        ("queries", {"n_queries": 2}, "its tensors do not fit"),
        ("queries", {"head": "words"}, "its tensors do not fit"),
        ("words", {"head": "queries"}, "its tensors do not fit"),
        ("words", {"head": "layers"}, "its tensors do not fit|layers of other widths"),
        ("words", {"query_width": 2048}, "layers of other widths than its tensors"),
    ],
)
def test_a_head_of_other_tensors_is_refused_before_it_is_made(
    head: str, changes: dict[str, object], message: str, written: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(written, tmp_path / "b"))
    graph = json.loads((bundle / "bundle.json").read_text("utf-8"))
    next(own for own in graph["parts"] if own.get("head") == head).update(changes)
    (bundle / "bundle.json").write_text(json.dumps(graph), "utf-8")
    write_sums(bundle)
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle)


def test_graphs_say_what_torch_says(asked: Workspace, crossfitted: Corpus, tmp_path: Path) -> None:
    place = EnsemblePlace(workspace=asked.root)
    folder = tmp_path / "graphs"
    export_onnx(folder, place)
    found = detectors_of(place.read("cpu"))
    images = [decoded(found[0].ensemble, image) for image in test_images(crossfitted)]
    block = block_of(found, images)
    assert len(found) == 3
    for detector in found:
        session = open_session(folder / detector.name / "model.onnx", n_threads=1)
        for n in (1, len(block)):
            given = run_graph(session, [block.pixels[look][:n] for look in detector.looks])
            expected = detector.probabilities(block)[:n]
            np.testing.assert_allclose(given, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("preset", ["by-queries", "by-words"])
def test_places_are_told_of_the_map_that_is_asked(
    preset: str, asked: Workspace, runs: Mapping[str, DetectorRun], crossfitted: Corpus
) -> None:
    mapper = HeatMapper.of(asked, crossfitted, detector=runs[preset])
    cuis = crossfitted.labels.cuis
    found = mapper.maps_of("train_05", concepts=cuis)
    assert found.maps.shape == (len(cuis), 3, 3)
    said = runs[preset].predictions("labelled").rows(["train_05"]).probs[0]
    assert found.probabilities == pytest.approx(said, abs=1e-5)
    assert found.maps.max() == 1
    for column, cui in enumerate(cuis):
        alone = mapper.maps_of("train_05", concepts=[cui])
        assert alone.maps[0] == pytest.approx(found.maps[column], abs=1e-5)


def test_a_specialist_starts_from_a_global_detector_with_its_names(
    asked: Workspace, runs: Mapping[str, DetectorRun], crossfitted: Corpus
) -> None:
    config = replace(
        WORDS, weights=str(runs["by-words"].folder), prior_bias=False, epochs=1, patience=1,
        learning_rate=1e-9, ema=0.0,
    )  # fmt: skip
    (folder,) = train_backbones(
        crossfitted, asked, names=["DRXR"], config=config, preset="started", compute=Compute()
    )
    theirs, own = (
        load_file(home / "model.safetensors") for home in (runs["by-words"].folder, folder)
    )
    run = next(r for r in find_runs(asked, crossfitted.fingerprint) if r.folder == folder)
    there = crossfitted.labels.columns(run.predictions("test").labels.cuis)
    assert torch.equal(own["1.head.points"], theirs["1.head.points"][torch.from_numpy(there)])
    torch.testing.assert_close(own["1.head.last.weight"], theirs["1.head.last.weight"])


def test_features_of_the_frozen_encoder_are_pooled_whatever_the_head(
    crossfitted: Corpus,
) -> None:
    (by_head,) = frozen_parts(crossfitted, HEADS)
    (plain,) = frozen_parts(crossfitted, replace(HEADS, head="layers"))
    assert by_head == plain
    assert by_head.config.given == "own"
