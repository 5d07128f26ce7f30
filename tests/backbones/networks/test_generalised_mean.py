"""Pooling by the generalised mean: its exponent learns, is kept, handed on and exported."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from backbones.detectors.features import for_features
from backbones.networks.build import Detector, build_backbone, unlock_last
from backbones.settings.config import BackboneConfig
from backbones.settings.presets import GROUPS, PRESETS
from backbones.train import train_backbones
from core.embeddings import Embeddings
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from training.checkpoint import WEIGHTS, load_network
from training.devices.compute import Compute
from training.devices.speed import Speed
from training.heads import build_head
from training.optim import build_optimizer, parameter_groups

GEM = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(64,), pooling="gem", regime="full",
    hidden=(), input_dropout=0.0, loss="bce", learning_rate=1e-2, layer_decay=0.5,
    weight_decay=0.1, schedule="constant", epochs=2, patience=2, batch_size=16, n_members=1,
    probe=False,
)  # fmt: skip
EXPONENT = "backbone.generalised.exponent"


def detector(config: BackboneConfig = GEM) -> Detector:
    torch.manual_seed(0)
    backbone = build_backbone(config)
    return Detector(backbone, build_head(backbone.n_features, 3, config=config))


def images(size: int = 64) -> Tensor:
    return torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (6, 3, size, size), dtype=np.uint8)
    )


def with_exponent(value: float) -> Detector:
    model = detector().eval()
    assert model.backbone.generalised is not None
    model.backbone.generalised.exponent.data.fill_(value)
    return model


def test_it_is_the_mean_at_one_and_nears_the_maximum() -> None:
    places = torch.tensor([[[1.0, 2.0, 4.0, 1.0]]])
    gem = with_exponent(1.0).backbone.generalised
    assert gem is not None
    with torch.no_grad():
        assert float(gem(places)) == pytest.approx(2)
        gem.exponent.fill_(3)  # the third root of (1 + 8 + 64 + 1) / 4
        assert float(gem(places)) == pytest.approx(18.5 ** (1 / 3))
        gem.exponent.fill_(60)
        assert float(gem(places)) == pytest.approx(4, rel=0.03)


def test_the_exponent_learns_at_the_rate_of_the_head_and_is_not_decayed() -> None:
    model = detector()
    exponent = dict(model.named_parameters())[EXPONENT]
    (group,) = [g for g in parameter_groups(model, GEM) if any(p is exponent for p in g["params"])]
    assert (group["lr"], group["weight_decay"]) == (1e-2, 0.0)
    optimizer = build_optimizer(model, GEM)
    model(images()).square().mean().backward()
    optimizer.step()
    assert float(exponent.detach()) != 3.0


def test_the_exponent_learns_where_only_the_last_stages_do() -> None:
    model = detector(replace(GEM, regime="last"))
    unlock_last(model, 1)
    assert dict(model.named_parameters())[EXPONENT].requires_grad


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_powers_are_taken_in_full_precision(precision: str) -> None:
    model = detector().eval()
    speed = Speed(precision=precision)  # type: ignore[arg-type]
    with torch.inference_mode():
        plain = model.backbone(images())
        with speed.autocast("cpu"):
            half = model.backbone(images())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, plain, rtol=0.05, atol=0.02)


def test_a_folded_network_pools_by_its_own_exponent() -> None:
    backbone = with_exponent(2.0).backbone
    folded = for_features(backbone, size=64, device="cpu")
    with torch.inference_mode():
        torch.testing.assert_close(folded(images()), backbone(images()), rtol=1e-4, atol=1e-5)
        other = with_exponent(5.0).backbone(images())
    assert not torch.allclose(folded(images()), other)


def test_a_transformers_places_are_pooled_without_its_token() -> None:
    config = replace(GEM, backbone="test_vit", image_sizes=(160,))
    backbone = build_backbone(config).eval()
    with torch.inference_mode():
        found = backbone.encoder.last_map(
            backbone.network, (images(160).float() - backbone.mean) / backbone.std
        )
        expected = found.places.clamp_min(1e-6).pow(3).mean(dim=2).pow(1 / 3)
        torch.testing.assert_close(backbone(images(160)), expected)
    assert found.places.shape[2] == 100  # of 16 pixels each side


def test_a_detector_keeps_it_hands_it_on_and_pools_features_by_it(
    corpus: Corpus, workspace: Workspace
) -> None:
    def train(config: BackboneConfig, category: str) -> Path:
        (home,) = train_backbones(
            corpus, workspace, names=(category,), config=config, preset="tiny", compute=Compute()
        )
        return home

    home = train(GEM, "global")
    kept = load_network(home / WEIGHTS, 0)
    exponent = float(kept[EXPONENT])
    assert exponent != 3.0
    started = build_backbone(replace(GEM, weights=str(home)))
    assert started.generalised is not None
    assert float(started.generalised.exponent.detach()) == exponent
    assert build_backbone(replace(GEM, weights=str(home), pooling="mean")).generalised is None
    (name,) = read_meta(home)["embeddings"]
    values = Embeddings.load(workspace.embeddings / name).values
    assert (values > 0).all()  # as generalised means are
    plain = train(replace(GEM, pooling="mean"), "global")
    fresh = build_backbone(replace(GEM, weights=str(plain)))
    assert fresh.generalised is not None
    assert float(fresh.generalised.exponent.detach()) == 3.0  # that one had none to hand on


def test_the_recipes_are_as_published() -> None:
    for name in GROUPS["aueb"]:
        config = PRESETS[name]
        assert (config.loss, config.pooling, config.augment, config.hidden) == (
            "bce",
            "gem",
            "none",
            (),
        )
        assert (config.learning_rate, config.batch_size, config.image_sizes) == (1e-4, 16, (224,))
    third, fourth = PRESETS["densenet"], PRESETS["swin-b"]
    assert third.asymmetry == {"gamma_neg": 4.0, "gamma_pos": 1.0, "margin": 0.05}
    assert (third.epochs, third.learning_rate, third.batch_size) == (6, 2e-4, 32)
    assert fourth.asymmetry == {"gamma_neg": 2.0, "gamma_pos": 1.0, "margin": 0.0}
    assert (fourth.sampling, fourth.ema, fourth.epochs) == ("rare", 0.999, 25)
