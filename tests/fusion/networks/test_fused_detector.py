"""Fusion heads trained together with the network below them, on the made corpus."""

import errno
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import fusion.fuse
import fusion.networks.end_to_end
from backbones.settings.config import BackboneConfig
from backbones.settings.presets import PRESETS
from backbones.train import train_backbones
from core.config import overlay
from core.errors import ConfigError
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from fusion.config import FuseConfig
from fusion.fuse import FusionRun, fuse
from fusion.inputs.gather import FusionInputs, gather_inputs
from fusion.networks.end_to_end import end_to_end
from training.checkpoint import Checkpoint, save_tensors
from training.devices.compute import Compute

CONFIG = FuseConfig(end_to_end="tiny")

TUNED = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(64,), probe=False, regime="full",
    hidden=(16,), epochs=40, patience=40, batch_size=8, n_members=1, learning_rate=3e-3,
)  # fmt: skip


@pytest.fixture(autouse=True)
def tiny_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny", TUNED)


@pytest.fixture
def fusion_inputs(corpus: Corpus, trained: Workspace) -> FusionInputs:
    return gather_inputs(corpus, trained, embeddings=(), device="cpu")


def test_the_head_and_the_network_below_it_learn(fusion_inputs: FusionInputs) -> None:
    fused = end_to_end(fusion_inputs, CONFIG, earlier={}, name="one-hot")
    for made in (fused.predictions, fused.without_category):
        for split in ("valid", "test"):
            assert made[split].source == "one-hot-e2e"
            assert made[split].image_ids == fusion_inputs.corpus.images(split).image_ids
            assert made[split].out_of_sample
    probs, is_ct = fused.predictions["valid"].probs, np.array([1, 1, 1, 1, 0, 0, 0, 0] * 2)
    assert ((probs[:, 0] > probs[:, 1]) == is_ct).mean() > 0.8  # C1 on CT, C2 on X-ray
    before = end_to_end(
        fusion_inputs, overlay(CONFIG, {"end_to_end_epochs": 1}), earlier={}, name="one-hot"
    )
    key = next(name for name in fused.weights if name.endswith("conv_stem.weight"))
    assert not torch.equal(fused.weights[key], before.weights[key])
    assert fused.chosen["started from"] == "none"


def test_it_starts_from_a_detector_that_asks_places_and_has_a_head_on_pooled_features(
    corpus: Corpus, trained: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_queries = replace(TUNED, head="queries", query_width=64, epochs=1, patience=1)
    monkeypatch.setitem(PRESETS, "by-queries", by_queries)
    (folder,) = train_backbones(
        corpus, trained, names=["global"], config=by_queries, preset="own", compute=Compute()
    )
    config = overlay(CONFIG, {"end_to_end": "by-queries"})
    inputs = gather_inputs(corpus, trained, embeddings=(), device="cpu")
    fused = end_to_end(inputs, config, earlier={}, name="one-hot")
    assert fused.chosen["started from"] == str(folder)
    heads = [tensor for name, tensor in fused.weights.items() if ".head." in name]
    assert max(tensor.shape[-1] for tensor in heads) == 256 + 7  # pooled features, the category
    assert not [name for name in fused.weights if "decoder" in name or "queries" in name]


def test_a_network_that_was_killed_goes_on_to_the_same_end(
    fusion_inputs: FusionInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = overlay(CONFIG, {"end_to_end_epochs": 8})
    whole = end_to_end(fusion_inputs, config, earlier={}, name="film")
    (unfinished,) = whole.unfinished
    shutil.rmtree(unfinished)
    monkeypatch.setattr(fusion.networks.end_to_end, "_CHECKPOINT_S", 0.0)
    kills = iter([False] * 18 + [True])
    saved = Checkpoint.save

    def save_and_die(self: Checkpoint, state: dict[str, object]) -> None:
        saved(self, state)
        if next(kills, False):
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        end_to_end(fusion_inputs, config, earlier={}, name="film")
    resumed = end_to_end(fusion_inputs, config, earlier={}, name="film")
    np.testing.assert_array_equal(
        resumed.predictions["test"].probs, whole.predictions["test"].probs
    )


def test_the_checkpoint_stays_until_the_run_is_on_disk(
    fusion_inputs: FusionInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = overlay(CONFIG, {"strategies": "film-e2e", "end_to_end_epochs": 2})
    monkeypatch.setattr(fusion.networks.end_to_end, "_CHECKPOINT_S", 0.0)

    def run() -> FusionRun:
        (made,) = fuse(
            fusion_inputs.corpus,
            fusion_inputs.workspace,
            config=config,
            preset="tiny",
            device="cpu",
        )
        return made

    def full_disk(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fusion.fuse, "save_tensors", full_disk)
    with pytest.raises(OSError, match="No space left"):
        run()
    unfinished = fusion_inputs.workspace.fusion / "unfinished"
    assert list(unfinished.glob("film-e2e-from-*/checkpoint*"))
    monkeypatch.setattr(fusion.fuse, "save_tensors", save_tensors)
    steps = []
    monkeypatch.setattr(Checkpoint, "save", lambda self, state: steps.append(state))
    made = run()
    assert not steps  # it was trained to its end before
    assert read_meta(made.folder)["strategy"] == "film-e2e"
    assert not unfinished.exists()


def test_the_start_is_a_fine_tuned_detector_of_the_network_even_if_others_are_newer(
    fusion_inputs: FusionInputs, corpus: Corpus
) -> None:
    folders = {}
    for preset, backbone in (("tiny", "test_efficientnet"), ("other", "test_resnet")):
        settings = replace(TUNED, backbone=backbone, epochs=1)
        (folders[preset],) = train_backbones(
            corpus, fusion_inputs.workspace, names=("global",), config=settings, preset=preset,
            compute=Compute(),
        )  # fmt: skip
    config = overlay(CONFIG, {"end_to_end_epochs": 1})
    fused = end_to_end(fusion_inputs, config, earlier={}, name="one-hot")
    assert fused.chosen["started from"] == str(folders["tiny"])


@pytest.mark.parametrize(
    ("preset", "message"),
    [("quick", "end_to_end: quick trains heads alone"), ("swim", "end_to_end swim: expected one")],
)
def test_a_preset_that_does_not_fine_tune_is_refused(
    preset: str, message: str, fusion_inputs: FusionInputs
) -> None:
    with pytest.raises(ConfigError, match=message):
        end_to_end(fusion_inputs, replace(CONFIG, end_to_end=preset), earlier={}, name="one-hot")
