"""A whole small ensemble that the tests of this room share; they leave it as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import torch

from backbones.settings.config import BackboneConfig
from backbones.train import train_backbones
from core.runs.workspace import Corpus, Workspace
from ensembles.config import EnsembleConfig
from ensembles.ensemble import ensemble
from fusion.config import FuseConfig
from fusion.fuse import fuse
from inference.archive.units import UnitSizes
from inference.bundle.bundle import write_bundle
from inference.bundle.checks import bare_forest
from inference.images import NewImage
from inference.place import EnsemblePlace
from inference.predict import predict_places
from tests.conftest import save_prepared
from training.devices.compute import Compute

TINY = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(32, 64), mirror=True, probe=False,
    hidden=(16,), epochs=2, patience=2, batch_size=16, n_members=1,
)  # fmt: skip
FINE = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(48,), mirror=True, probe=False,
    hidden=(16,), epochs=1, patience=1, batch_size=16, n_members=1, regime="full",
    pooling="gem",
)  # fmt: skip
FUSE = FuseConfig(
    strategies=(
        "one-hot", "prior-offset", "masked", "experts", "retrieval", "voted", "voted-blind",
        "constrained", "words", "routed", "prior",
    ),
    hidden=(16,), epochs=2, patience=2, batch_size=32, n_members=1, k=(5,), temperature=(0.1,),
    support=(0, 5),
)  # fmt: skip
QUICK = EnsembleConfig(stackers=("mean",), leave_one_out=False)


@pytest.fixture(scope="session")
def whole(crossfitted: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A cross-fitted ensemble of frozen and fine-tuned detectors and many strategies."""
    torch.set_num_threads(1)
    workspace = save_prepared(crossfitted, tmp_path_factory.mktemp("whole"))
    for preset, config, names in (
        ("tiny", TINY, ("global", "DRCT", "DRXR")),
        ("fine", FINE, ("DRCT",)),
    ):
        train_backbones(
            crossfitted, workspace, names=names, config=config, preset=preset, compute=Compute()
        )
    fuse(crossfitted, workspace, config=FUSE, preset="tiny", device="cpu")
    ensemble(crossfitted, workspace, config=QUICK, submit=True)
    return workspace


@pytest.fixture(scope="session")
def bundled(whole: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a bundle, a folder; to be read only."""
    return write_bundle(whole, tmp_path_factory.mktemp("bundled") / "whole")


def test_images(corpus: Corpus) -> list[NewImage]:
    table = corpus.table.of(split="test")
    rows = zip(table.image_ids, table.paths, table.categories, strict=True)
    return [NewImage(image_id=i, path=Path(p), category=c, told_by="folder") for i, p, c in rows]


test_images.__test__ = False  # type: ignore[attr-defined]


SMALL = UnitSizes(unit=4, part=3, block=4)

N = 50

Predict = Callable[..., bool]


@pytest.fixture(scope="session")
def scans(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 images in folders called by their category; the tenth and the last are broken."""
    home = tmp_path_factory.mktemp("scans")
    paths = [Path(path) for path in corpus.table.paths]
    for number in range(N):
        path = home / corpus.table.categories[number] / f"scan_{number:02d}.jpg"
        path.parent.mkdir(exist_ok=True)
        if number in (9, N - 1):
            path.write_bytes(b"no image")
        else:
            path.symlink_to(paths[number])
    return home


@pytest.fixture(scope="session")
def predict(whole: Workspace, scans: Path) -> Predict:
    """`predict` on the images."""

    def run(out: Path | None, **options: Any) -> bool:
        asked: dict[str, Any] = {"form": "csv", "top": 2, "edition": None, "device": "cpu"}
        asked |= {"category": None, "sizes": SMALL, **options}
        torch.set_num_threads(1)
        return predict_places([str(scans)], EnsemblePlace(workspace=whole.root), out=out, **asked)

    return run


@pytest.fixture(scope="session")
def undisturbed(predict: Predict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process writes that nobody disturbs."""
    out = tmp_path_factory.mktemp("undisturbed") / "decided.csv"
    assert predict(out)
    return out


@pytest.fixture
def forest(tmp_path: Path) -> Path:
    """A forest of three features in a bundle's place for it, to be changed."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2000, 3))
    settings = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 5}
    data = lightgbm.Dataset(features, (features[:, 0] > 0).astype(float))
    path = tmp_path / "stacker" / "lightgbm.txt"
    path.parent.mkdir()
    path.write_text(bare_forest(lightgbm.train(settings, data, 3).model_to_string()))
    return path
