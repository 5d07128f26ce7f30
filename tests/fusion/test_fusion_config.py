from typing import Any

import pytest

from core.config import overlay
from core.errors import ConfigError
from fusion.config import PRESETS, FuseConfig
from fusion.strategies import STRATEGIES


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k: expected .*, found 0"),
        ({"temperature": 0}, "temperature: expected .*, found 0"),
        ({"temperature": "nan"}, "temperature: expected .*, found nan"),
        ({"k": ""}, "k: expected at least one"),
        ({"strategies": ""}, "strategies: expected at least one"),
        ({"guess_share": 1}, r"guess_share: expected .*, found 1"),
        ({"metadata_dropout": -0.1}, r"metadata_dropout: expected .*, found -0.1"),
        ({"support": "5,-1"}, "support: expected .*, found -1"),
        ({"approximate_from": 0}, "approximate_from: expected .*, found 0"),
        ({"constant_from": 0}, "constant_from: expected .*, found 0"),
        ({"end_to_end_epochs": -1}, "end_to_end_epochs: expected .*, found -1"),
        ({"epochs": 0}, "epochs: expected 1 to 100,000"),  # of the shallow network
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        overlay(FuseConfig(), settings)


def test_every_preset_names_known_strategies() -> None:
    for config in PRESETS.values():
        assert set(config.strategies) <= set(STRATEGIES)
