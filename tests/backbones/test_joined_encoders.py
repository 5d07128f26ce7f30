"""Detectors on the frozen features of several encoders."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.models import save_for_hf

from backbones.auto import name_of_runs
from backbones.detectors.features import frozen_names, frozen_parts
from backbones.encoders.encoder import label_of
from backbones.request import TrainingRequest, train_asked
from backbones.settings.config import BackboneConfig
from backbones.train import train_backbones
from core.embeddings import Embeddings, join, makers_of
from core.errors import ConfigError
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from training.checkpoint import WEIGHTS, load_network
from training.devices.compute import Compute
from training.heads import Standardise

TINY = BackboneConfig(
    backbone="test_efficientnet", joined=("test_resnet",), weights="none", image_sizes=(32, 64),
    probe=False, hidden=(16,), epochs=2, patience=2, batch_size=16, n_members=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network in a folder, as timm saves it."""
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("hub") / "tiny-vit"
    save_for_hf(timm.create_model("test_vit", num_classes=3), folder)
    note = folder / "config.json"
    said = json.loads(note.read_text("utf-8"))
    said["pretrained_cfg"]["license"] = "mit"
    note.write_text(json.dumps(said), "utf-8")
    return folder


def test_features_stand_side_by_side_and_are_shared_with_whoever_takes_them(
    corpus: Corpus, workspace: Workspace, saved: Path
) -> None:
    both = replace(TINY, joined=("test_resnet", f"local-dir:{saved}"))
    homes = [
        train_backbones(
            corpus, workspace, names=["global"], config=config, preset="tiny", compute=Compute()
        )[0]
        for config in (replace(TINY, joined=()), both)
    ]
    alone, joined = (read_meta(home) for home in homes)
    assert joined["embeddings"][:2] == alone["embeddings"]
    assert [name.rpartition("-")[0] for name in joined["embeddings"][2:]] == [
        "test_resnet-160px", f"{label_of(f'local-dir:{saved}')}-160px"
    ]  # fmt: skip
    widths = [
        np.load(workspace.embeddings / name / "values.npy", mmap_mode="r").shape[1]
        for name in joined["embeddings"]
    ]
    assert len(load_network(homes[1] / WEIGHTS, 0)["0.mean"]) == sum(widths)
    first, second = joined["joined"]
    assert (first["backbone"], first["weights_from"]) == ("test_resnet", "random")
    # `weights none` makes all of them random, so nothing of the folder's weights is claimed.
    assert (second["weights_from"], second["weights_licence"]) == ("random", "")


def test_each_has_its_own_size_weights_and_licence(corpus: Corpus, saved: Path) -> None:
    text = f"local-dir:{saved}"
    config = replace(TINY, backbone="tf_efficientnet_lite0", weights="package", joined=(text,))
    parts = frozen_parts(corpus, config)
    assert [(p.config.backbone, p.size, p.config.weights) for p in parts] == [
        ("tf_efficientnet_lite0", 32, "package"), ("tf_efficientnet_lite0", 64, "package"),
        (text, 160, "auto"),
    ]  # fmt: skip
    assert parts[2].config.resample == "bicubic"
    alone = replace(config, backbone=text, image_sizes=(), joined=(), resample="own", weights="hub")
    assert frozen_names(corpus, alone) == (parts[2].name,)


def test_features_of_a_folder_are_found_wherever_it_lies(
    corpus: Corpus, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(TINY, backbone=f"local-dir:{saved}", joined=(), weights="auto")
    monkeypatch.chdir(saved.parent)
    short = replace(config, backbone="local-dir:tiny-vit")
    assert frozen_names(corpus, short) == frozen_names(corpus, config)


def test_runs_on_another_encoder_are_called_by_it(prepared_once: Workspace) -> None:
    given = (
        *("backbone=test_efficientnet", "image_sizes=32", "hidden=", "epochs=1", "patience=1"),
        *("n_members=1", "probe=false", "joined=test_resnet"),
    )
    request = TrainingRequest(
        category="DRCT", presets=("quick",), given=given, options={"weights": "none"}
    )
    (home,) = train_asked(request, prepared_once, device="cpu")
    assert read_meta(home)["preset"] == "quick-test_efficientnet+test_resnet"
    assert home.name.startswith("quick-test_efficientnet+test_resnet-")
    many = tuple(f"local-dir:/models/a_long_name_of_an_encoder_{n}" for n in range(9))
    name = name_of_runs("quick", replace(TINY, joined=many), preset=BackboneConfig())
    assert name.startswith("quick-test_efficientnet+9-")
    assert len(name) < 40


def test_a_joined_encoder_that_there_is_not_or_stands_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="joined: test_resnet stands twice"):
        replace(TINY, joined=("test_resnet", "test_resnet"))
    with pytest.raises(ConfigError, match="joined: features of several encoders are joined as"):
        replace(TINY, regime="full", image_sizes=(32,))
    request = TrainingRequest(presets=("quick",), given=("joined=test_resnot",))
    with pytest.raises(ConfigError, match="timm has no network 'test_resnot'"):
        request.over(BackboneConfig())


def test_a_deviation_is_held_against_those_of_its_own_encoder() -> None:
    rng = np.random.default_rng(0)
    large, small = rng.normal(0, 100, (50, 4)), rng.normal(0, 0.1, (50, 3))
    features = torch.tensor(np.concatenate([large, small], axis=1), dtype=torch.float32)
    together = Standardise.fitted(features)(features)
    assert float(together[:, 4:].std(dim=0).max()) < 0.1  # as if it were noise
    apart = Standardise.fitted(features, widths=(4, 3))(features)
    assert apart.std(dim=0, unbiased=False).numpy() == pytest.approx(np.ones(7), rel=1e-5)


def test_what_is_loaded_says_whose_columns_are_whose(tmp_path: Path) -> None:
    names = ["b0-32px-0a1b2c3d", "b0-64px-0a1b2c3e", "vit-64px-0a1b2c3f"]
    parts = []
    for name, width in zip(names, (4, 4, 3), strict=True):
        values = np.zeros((2, width), dtype=np.float32)
        Embeddings(source=name, image_ids=("a", "b"), values=values).save(tmp_path / name)
        parts.append(Embeddings.load(tmp_path / name))
    joined = join(parts)
    assert joined.blocks == (("b0", 8), ("vit", 3))
    assert joined.widths == (8, 3)
    assert joined.rows(["b"]).widths == (8, 3)
    assert makers_of(names) == "b0+vit"
