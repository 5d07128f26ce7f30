"""Detectors trained once on the made corpus, for the tests of fusion to read."""

import shutil
from pathlib import Path

import pytest

from backbones.config import BackboneConfig
from backbones.train import detector_names, train_backbones
from core.workspace import Corpus, Workspace

FROZEN = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(64,), mirror=False, hidden=(16,),
    epochs=4, patience=4, batch_size=16, n_members=1,
)  # fmt: skip


@pytest.fixture
def frozen() -> BackboneConfig:
    """The settings of the trained detectors."""
    return FROZEN


@pytest.fixture(scope="session")
def trained_once(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("trained"))
    train_backbones(
        corpus, workspace, names=detector_names(None), config=FROZEN, preset="tiny", device="cpu"
    )
    return workspace


@pytest.fixture
def trained(trained_once: Workspace, tmp_path: Path) -> Workspace:
    """A workspace with the global detector and the specialists of CT and X-ray."""
    return Workspace(Path(shutil.copytree(trained_once.root, tmp_path / "trained")))
