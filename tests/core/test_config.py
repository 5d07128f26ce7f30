"""Settings: overlays, files, options, fingerprints."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from core.config import configured, fingerprint, overlay, parse_settings
from core.errors import ConfigError
from core.storage.documents import read_toml


@dataclass(frozen=True, kw_only=True)
class Settings:
    epochs: int = 3
    rate: float = 1e-3
    mirror: bool = False
    loss: Literal["bce", "asl"] = "bce"
    size: Literal[224, 450] = 224
    layers: tuple[int, ...] = (64,)
    floor: float | None = None
    weights: str | None = "package"
    name: str = "default"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ConfigError(f"epochs must be at least 1, found {self.epochs}")


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("epochs", "5", 5),
        ("epochs", "-0_7", None),
        ("rate", "1e-4", 1e-4),
        ("rate", "1", 1.0),
        ("mirror", "true", True),
        ("mirror", "false", False),
        ("loss", "asl", "asl"),
        ("size", "450", 450),
        ("layers", "32,16", (32, 16)),
        ("layers", "", ()),
        ("floor", "none", None),
        ("floor", "0.02", 0.02),
        ("weights", "none", None),
        ("weights", "file.safetensors", "file.safetensors"),
        ("name", "none", "none"),
    ],
)
def test_text_is_read_as_the_type_of_the_field(key: str, text: str, value: Any) -> None:
    if key == "epochs" and value is None:
        with pytest.raises(ConfigError, match="epochs must be at least 1, found -7"):
            overlay(Settings(), {key: text})
        return
    changed = overlay(Settings(), {key: text})
    assert getattr(changed, key) == value
    assert type(getattr(changed, key)) is type(value)


def test_a_lone_number_is_a_list_of_one() -> None:
    assert overlay(Settings(), {"layers": 32}).layers == (32,)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("epochs", "3.5", "expected a whole number, found '3.5'"),
        ("epochs", 3.0, "expected a whole number, found 3.0"),
        ("epochs", True, "expected a whole number, found True"),
        ("rate", "fast", "expected a number, found 'fast'"),
        ("rate", False, "expected a number, found False"),
        ("mirror", "yes", "expected true or false, found 'yes'"),
        ("mirror", 1, "expected true or false, found 1"),
        ("loss", "dice", "found 'dice'"),
        ("size", "300", "found '300'"),
        ("layers", "32,x", "found '32,x'"),
        ("layers", True, "found True"),
        ("floor", "low", "expected a number or none, found 'low'"),
        ("name", 3, "expected text, found 3"),
        ("name", {"table": 1}, "expected text, found {'table': 1}"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(key: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=f"settings: {key}: .*{expected}"):
        overlay(Settings(), {key: value})


def test_a_misspelt_setting_gets_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"unknown setting 'epoch'; did you mean 'epochs'\?"):
        overlay(Settings(), {"epoch": 1})


def test_a_strange_setting_gets_the_list() -> None:
    with pytest.raises(ConfigError, match="unknown setting 'zzz'; known: epochs, floor, layers"):
        overlay(Settings(), {"zzz": 1})


def test_an_overlay_leaves_the_config_alone() -> None:
    config = Settings()
    assert overlay(config, {"epochs": 9}) == replace(config, epochs=9)
    assert config.epochs == 3
    assert overlay(config, {}) == config


def test_a_toml_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('epochs = 7\nlayers = [8, 4]\nloss = "asl"\n', "utf-8")
    config = overlay(Settings(), read_toml(tmp_path / "a.toml"))
    assert (config.epochs, config.layers, config.loss) == (7, (8, 4), "asl")


@pytest.mark.parametrize("content", [b"epochs = ", b"\xe9 = 1"])
def test_a_file_that_is_no_toml_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.toml: not TOML"):
        read_toml(tmp_path / "a.toml")


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.toml: no such file"):
        read_toml(tmp_path / "a.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_toml(tmp_path)


def test_options_are_split_at_the_first_equals_sign() -> None:
    assert parse_settings(["name=a=b", " rate = 1 "]) == {"name": "a=b", "rate": "1"}


def test_an_option_without_equals_sign_is_refused() -> None:
    with pytest.raises(ConfigError, match="--set epochs: expected key=value"):
        parse_settings(["epochs"])


def test_options_lie_over_the_file_which_lies_over_the_config(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("epochs = 7\nrate = 0.5\n", "utf-8")
    config = configured(
        Settings(epochs=2, rate=0.1, mirror=True), file=tmp_path / "a.toml", given=["epochs=9"]
    )
    assert (config.epochs, config.rate, config.mirror) == (9, 0.5, True)
    options = {"epochs": 4, "rate": None, "weights": "none"}
    config = configured(config, file=None, given=["epochs=9", "rate=0.2"], options=options)
    assert (config.epochs, config.rate, config.weights) == (4, 0.2, None)


def test_a_mistake_names_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("epoch = 7\n", "utf-8")
    with pytest.raises(ConfigError, match=r"a\.toml: unknown setting 'epoch'"):
        configured(Settings(), file=tmp_path / "a.toml", given=[])
    with pytest.raises(ConfigError, match="--set: epochs: expected a whole number"):
        configured(Settings(), file=None, given=["epochs=x"])


def test_a_fingerprint_changes_with_every_part() -> None:
    base = fingerprint(Settings(), "DRCT", 1)
    assert base == fingerprint(Settings(), "DRCT", 1)
    assert len({base, fingerprint(Settings(epochs=4), "DRCT", 1), fingerprint(Settings(), 1)}) == 3
    assert len(base) == 8
    int(base, 16)


def test_a_fingerprint_does_not_depend_on_the_order_of_a_mapping() -> None:
    assert fingerprint({"a": 1, "b": Path("x")}) == fingerprint({"b": Path("x"), "a": 1})


def test_of_a_choice_a_message_says_what_there_is_to_choose_from() -> None:
    with pytest.raises(ConfigError, match="test: loss: expected one of bce, asl, found 'bse'"):
        overlay(Settings(), {"loss": "bse"}, origin="test")
    with pytest.raises(ConfigError, match="size: expected one of 224, 450, found '300'"):
        overlay(Settings(), {"size": "300"}, origin="test")
