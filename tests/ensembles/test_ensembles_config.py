from dataclasses import asdict
from typing import Any

import pytest

from core.config import fingerprint, overlay
from core.errors import ConfigError
from ensembles.config import PRESETS, EnsembleConfig
from ensembles.stacking.registry import STACKERS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stackers": ""}, "stackers: expected at least one"),
        ({"floor": 0}, "floor: expected .*, found 0"),
        ({"floor": 1}, "floor: expected .*, found 1"),
        ({"top": 0}, "top: expected .*, found 0"),
        ({"min_true": 0}, "min_true: expected .*, found 0"),
        ({"margin": -0.1}, "margin: expected .*, found -0.1"),
        ({"caution": -1}, "caution: expected .*, found -1"),
        ({"constant_from": -1}, "constant_from: expected .*, found -1"),
        ({"prior_adjustment": -0.1}, "prior_adjustment: expected .*, found -0.1"),
        ({"prior_adjustment": 2.1}, "prior_adjustment: expected .*, found 2.1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        overlay(EnsembleConfig(), settings)


def test_runs_of_before_a_setting_came_are_found_again() -> None:
    first = {
        *("stackers", "floor", "top", "most", "margin", "caution", "min_true", "nomissing"),
        *("constant_from", "fall_back", "leave_one_out"),
    }
    values = asdict(EnsembleConfig())
    before = {name: value for name, value in values.items() if name in first}
    assert fingerprint(EnsembleConfig()) == fingerprint(before)
    for name in values.keys() - first:
        changed = 0.2 if name == "prior_adjustment" else not values[name]
        assert fingerprint(overlay(EnsembleConfig(), {name: changed})) != fingerprint(before)


def test_every_preset_names_known_stackers() -> None:
    for config in PRESETS.values():
        assert set(config.stackers) <= set(STACKERS)
