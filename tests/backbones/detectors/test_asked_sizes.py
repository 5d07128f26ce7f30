"""Fine-tuned networks that answer at other sizes than the one they learnt at."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones.detectors.inputs import TRAINING_INPUTS
from backbones.networks.build import Detector, build_backbone
from backbones.settings.config import BackboneConfig
from backbones.train import train_backbones
from core.errors import ConfigError
from core.predictions import Predictions
from core.runs.workspace import Corpus, Workspace
from training.checkpoint import WEIGHTS, load_network
from training.devices.compute import Compute
from training.heads import build_head
from training.predict import predict

PLAIN = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(64,), regime="full", hidden=(),
    epochs=1, patience=1, batch_size=16, n_members=1, mirror=True, probe=False,
)  # fmt: skip


def train(corpus: Corpus, workspace: Workspace, config: BackboneConfig) -> Path:
    (home,) = train_backbones(
        corpus, workspace, names=("DRCT",), config=config, preset="tiny", compute=Compute()
    )
    return home


def probs(home: Path, split: str = "valid") -> np.ndarray:
    return Predictions.load(home / "predictions" / split).probs


def test_the_answer_is_the_mean_over_the_sizes(corpus: Corpus, workspace: Workspace) -> None:
    config = replace(PLAIN, test_sizes=(64, 96))
    home, plain = train(corpus, workspace, config), train(corpus, workspace, PLAIN)
    assert home != plain
    assert {path.name.split("-")[0] for path in workspace.cache.iterdir()} == {"64px", "96px"}
    inputs = TRAINING_INPUTS["full"](corpus, workspace, config=config, compute=Compute())
    ids = Predictions.load(home / "predictions" / "valid").image_ids
    rows = np.array([inputs.image_ids.index(image_id) for image_id in ids])
    labels = Predictions.load(home / "predictions" / "valid").labels
    model = inputs.new_model(rows, labels)
    model.load_state_dict(load_network(home / WEIGHTS, 0))
    assert isinstance(model, Detector)
    larger = predict(
        model, inputs.asked[96], rows=rows, compute=Compute(), mirror=True, batch_size=16
    )
    # Both learnt at 64 px alone, from the same seed.
    np.testing.assert_allclose(probs(home), (probs(plain) + larger) / 2, rtol=0, atol=1e-6)
    assert np.abs(probs(plain) - larger).max() > 1e-4


def test_one_size_in_place_of_that_learnt_at(corpus: Corpus, workspace: Workspace) -> None:
    home = train(corpus, workspace, replace(PLAIN, test_sizes=(96,)))
    plain = train(corpus, workspace, PLAIN)
    both = train(corpus, workspace, replace(PLAIN, test_sizes=(96, 64, 96)))
    np.testing.assert_allclose(probs(both), (probs(home) + probs(plain)) / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet"])
def test_a_detector_for_another_size_leaves_the_one_it_is_of(name: str) -> None:
    config = replace(PLAIN, backbone=name, image_sizes=(160,))
    backbone = build_backbone(config)
    model = Detector(backbone, build_head(backbone.n_features, 3, config=config)).eval()
    assert model.for_size(160) is model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    other = model.for_size(192)
    images = torch.zeros(2, 3, 192, 192, dtype=torch.uint8)
    with torch.inference_mode():
        assert other(images).shape == (2, 3)
        assert model(images[..., :160, :160]).shape == (2, 3)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key])


def test_a_size_that_the_network_does_not_take_is_refused_before_it_learns(
    corpus: Corpus, workspace: Workspace
) -> None:
    config = replace(PLAIN, backbone="test_vit", image_sizes=(160,), test_sizes=(170,))
    with pytest.raises(ConfigError, match="test_vit does not take images of 170 pixels"):
        train(corpus, workspace, config)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"test_sizes": (16,)}, "test_sizes: expected 32 to 4,096"),
        ({"regime": "frozen"}, "test_sizes: a frozen network looks at all of image_sizes"),
        ({"pooling": "none"}, "test_sizes: without pooling a network takes images of one size"),
    ],
)
def test_sizes_that_have_no_meaning_are_refused(settings: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        replace(PLAIN, **({"test_sizes": (96,)} | settings))  # type: ignore[arg-type]
