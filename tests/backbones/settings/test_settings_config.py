"""Settings of training: what is refused, and that the presets are consistent."""

from typing import Any

import pytest

from backbones.settings.config import BackboneConfig
from backbones.settings.presets import PRESETS
from core.config import fingerprint, overlay
from core.errors import ConfigError
from fusion.config import FuseConfig
from training.config import FitConfig


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("batch_size", 0, "batch_size: expected .*, found 0"),
        ("epochs", 0, "epochs: expected .*, found 0"),
        ("patience", -1, "patience: expected .*, found -1"),
        ("n_members", 0, "n_members: expected .*, found 0"),
        ("hidden", (8, 0), r"hidden: expected .*, found 0"),
        ("seed", -1, "seed: expected .*, found -1"),
        ("dropout", 1.0, r"dropout: expected .*, found 1.0"),
        ("input_dropout", -0.1, r"input_dropout: expected .*, found -0.1"),
        ("learning_rate", 0.0, "learning_rate: expected .*, found 0.0"),
        ("learning_rate", float("nan"), "learning_rate: expected .*, found nan"),
        ("weight_decay", -1.0, "weight_decay: expected .*, found -1.0"),
        ("micro_batch", -1, "micro_batch: expected .*, found -1"),
        ("warmup", -0.5, "warmup: expected .*, found -0.5"),
        ("clip_norm", float("nan"), "clip_norm: expected .*, found nan"),
        ("mixup", -1.0, "mixup: expected .*, found -1.0"),
        ("momentum_decay", -1.0, "momentum_decay: expected .*, found -1.0"),
        ("epsilon", 0.0, "epsilon: expected .*, found 0.0"),
        ("stop_threshold", 1.0, r"stop_threshold: expected .*, found 1.0"),
        ("bce_epochs", -1, "bce_epochs: expected .*, found -1"),
        ("loss_temperature", 0.0, "loss_temperature: expected .*, found 0.0"),
        ("seeds", 0, "seeds: expected .*, found 0"),
        ("ema", 1.0, r"ema: expected .*, found 1.0"),
        ("negative_smoothing", -0.1, r"negative_smoothing: expected .*, found -0.1"),
        ("plateau_factor", 1.0, r"plateau_factor: expected .*, found 1.0"),
        ("plateau_patience", -1, "plateau_patience: expected .*, found -1"),
    ],
)
def test_training_settings_out_of_range_are_refused(setting: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        overlay(FitConfig(), {setting: value})
    with pytest.raises(ConfigError, match=message):
        overlay(BackboneConfig(), {setting: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"mean": "0.5,0.5"},
            "mean, std: expected one number each for grey images or three .* 2 and 0",
        ),
        ({"mean": "0.5", "std": "0"}, "std: expected .*, found 0.0"),
        ({"pooling": "max"}, "pooling: expected .*, found 'max'"),
        ({"image_sizes": "224,16"}, r"expected .*, found 16"),
        ({"regime": "full", "image_sizes": "96,128"}, "regime full: expected one of image_sizes"),
        ({"regime": "last", "image_sizes": "96,128"}, "regime last: expected one of image_sizes"),
        ({"image_sizes": "224", "n_stages": "0"}, "n_stages: expected .*, found 0"),
        ({"layer_decay": "0"}, r"layer_decay: expected .*, found 0.0"),
        ({"folds": "1"}, "folds: expected .*, found 1"),
        ({"augment": "hflip"}, "a frozen network sees each image once; use regime full"),
        ({"pooling": "none"}, "pooling none: needs the regime last or full"),
        ({"folds": "2", "stop_on": "val1"}, "folds: networks that hold out train stop on it, not "),
        ({"regime": "thawed"}, "regime: expected .*, found 'thawed'"),
        ({"loss": "hinge"}, "loss: expected .*, found 'hinge'"),
        (
            {"regime": "full", "image_sizes": "96", "head": "queries", "query_text": "texts"},
            "query_text: the head queries reads no names; use the head words",
        ),
        ({"query_text": "texts"}, "query_text: the head layers reads no names"),
    ],
)
def test_detector_settings_that_do_not_fit_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        overlay(BackboneConfig(), settings)


def test_settings_come_as_text_from_the_command_line() -> None:
    given = {"hidden": "256,64", "mirror": "false", "image_sizes": "96", "regime": "full"}
    config = overlay(BackboneConfig(), given)
    assert config.hidden == (256, 64)
    assert (config.mirror, config.image_sizes, config.regime) == (False, (96,), "full")
    assert overlay(config, {"hidden": ""}).hidden == ()


def test_every_setting_changes_the_fingerprint() -> None:
    base = BackboneConfig()
    changed = [
        overlay(base, {name: value})
        for name, value in {"seed": 1, "dropout": 0.1, "image_sizes": (96,), "loss": "bce"}.items()
    ]
    assert len({fingerprint(config) for config in (base, *changed)}) == 5


def test_presets_are_of_every_regime() -> None:
    assert {config.regime for config in PRESETS.values()} == {"frozen", "last", "full"}


@pytest.mark.parametrize("config", [BackboneConfig, FuseConfig])
def test_no_setting_of_a_training_gets_another_meaning(config: type[FitConfig]) -> None:
    own = vars(config).get("__annotations__", {})
    assert not set(own) & set(FitConfig.__annotations__)
