from typing import Any

import pytest

from core.config import overlay
from core.errors import ConfigError
from fusion.config import PRESETS, FuseConfig
from fusion.strategies import STRATEGIES


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k: expected at least 1, found 0"),
        ({"temperature": 0}, "temperature: expected above 0, found 0"),
        ({"temperature": "nan"}, "temperature: expected above 0, found nan"),
        ({"k": ""}, "k: expected at least one"),
        ({"strategies": ""}, "strategies: expected at least one"),
        ({"guess_share": 1}, r"guess_share: expected \[0, 1\), found 1"),
        ({"metadata_dropout": -0.1}, r"metadata_dropout: expected \[0, 1\), found -0.1"),
        ({"support": "5,-1"}, "support: expected 0 or more, found -1"),
        ({"approximate_from": 0}, "approximate_from: expected at least 1, found 0"),
        ({"constant_from": 0}, "constant_from: expected at least 1, found 0"),
        ({"end_to_end_epochs": -1}, "end_to_end_epochs: expected 0 or more, found -1"),
        ({"epochs": 0}, "epochs: expected at least 1"),  # of the shallow network
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        overlay(FuseConfig(), settings)


def test_every_preset_names_known_strategies() -> None:
    for config in PRESETS.values():
        assert set(config.strategies) <= set(STRATEGIES)
