"""Every number that a user can set has a range, and whatever lies outside ends in one line."""

import dataclasses
import math
import re
import typing
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cli
from backbones.detectors.ray import Cluster
from backbones.detectors.run import RunOptions
from backbones.encoders.encoder import Normalisation
from backbones.settings.config import BackboneConfig
from backbones.settings.presets import PRESETS
from core.config import Count, NumericField, Range, Seed, check_ranges, numeric_fields, overlay
from core.errors import ConfigError
from corpus.deal import DealConfig
from corpus.prepare import PrepareConfig
from corpus.sampling.config import SampleConfig
from ensembles.config import EnsembleConfig
from fusion.config import FuseConfig
from inference.serve.limits import Doors, Limits
from training.config import FitConfig

SETTINGS: tuple[Any, ...] = (
    *(PrepareConfig(), DealConfig(), FitConfig(), BackboneConfig(), FuseConfig(), EnsembleConfig()),
    *(Limits(), Doors(), RunOptions(), Cluster(), Normalisation((0.5,), (0.5,))),
    SampleConfig(strategy="random", keep=0.5),
)
NAMES_OF_A_LIST = {"--edition", "--experiments"}
"""Numbers that are names: what else there is, is said where they are looked up."""


def fields() -> Iterator[Any]:
    for config in SETTINGS:
        for name, field in numeric_fields(type(config)).items():
            yield pytest.param(config, name, field, id=f"{type(config).__name__}.{name}")


def outside(field: NumericField) -> list[Any]:
    """Numbers that no range has, and those just beyond this one's ends."""
    assert field.range is not None
    values: list[Any] = [math.nan, math.inf, -math.inf, 2**64, -(2**70), 10**5000, True, "1", 1j]
    if field.kind is int:
        values += [0.5, 1e300]
    limits = (field.range.least, field.range.most)
    values += [end + step for end, step in zip(limits, (-1, 1), strict=True) if end is not None]
    values += [e for e in (field.range.above, field.range.below) if e is not None]
    return values


@pytest.mark.parametrize(("config", "name", "field"), list(fields()))
def test_a_number_out_of_range_is_refused_in_one_line_with_its_name_and_range(
    config: Any, name: str, field: NumericField
) -> None:
    assert field.range is not None, "a setting without a range"
    assert {None, field.range.least, field.range.above} != {None}, "without a smallest number"
    assert {None, field.range.most, field.range.below} != {None}, "without a largest number"
    for value in outside(field):
        own = (value,) if field.is_tuple else value
        with pytest.raises(ConfigError) as caught:
            dataclasses.replace(config, **{name: own})
        line = str(caught.value)
        assert f"expected {field.range}, found " in line
        assert name in line.replace("-", "_")
        assert "\n" not in line
        assert len(line) < 250


@pytest.mark.parametrize(("config", "name", "field"), list(fields()))
def test_the_default_lies_in_the_range(config: Any, name: str, field: NumericField) -> None:
    value = getattr(config, name)
    for number in value if field.is_tuple else (value,):
        assert field.range is not None
        assert number in field.range or (number is None and field.may_lack)


def test_every_class_of_settings_is_among_those_looked_at() -> None:
    root = Path(__file__).parents[2]
    packages = ("corpus", "training", "backbones", "fusion", "ensembles", "inference")
    files = [path for package in packages for path in (root / package).rglob("*.py")]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    named = set(re.findall(r"^class (\w+Config)\b(?!\(uvicorn)", text, flags=re.MULTILINE))
    assert named == {n for n in (type(c).__name__ for c in SETTINGS) if n.endswith("Config")}


def test_presets_lie_in_their_ranges() -> None:
    for config in PRESETS.values():
        check_ranges(config)


@given(text=st.text(max_size=40) | st.integers().map(str) | st.floats().map(str))
def test_whatever_is_typed_is_a_value_of_the_range_or_refused(text: str) -> None:
    for config, name in ((PrepareConfig(), "seed"), (FuseConfig(), "temperature")):
        with suppress(ConfigError):
            check_ranges(overlay(config, {name: text}))


def options() -> Iterator[Any]:
    for command in cli.app.registered_commands:
        assert command.callback is not None
        name = command.callback.__name__.replace("_", "-")
        hints = typing.get_type_hints(command.callback)
        for parameter, hint in hints.items():
            kinds = {int, float} & {hint, *typing.get_args(hint)}
            option = f"--{parameter.replace('_', '-')}"
            if kinds and option not in NAMES_OF_A_LIST:
                yield pytest.param(name, option, *kinds, id=f"{name} {option}")


@pytest.mark.parametrize(("command", "option", "kind"), list(options()))
def test_a_number_on_the_command_line_has_a_range(command: str, option: str, kind: type) -> None:
    wrong = [str(10**30), str(-(10**30))] + (["nan", "inf", "1e308"] if kind is float else [])
    needed = {"deal": ["x", "--out", "x.csv"], "predict": ["x"]}.get(command, [])
    for value in wrong:
        with pytest.raises(ConfigError, match=rf"^{option}: expected .*, found "):
            cli.app([command, *needed, f"{option}={value}"], standalone_mode=False)


def test_the_options_of_numbers_were_found() -> None:
    assert len(list(options())) >= 25


def test_a_range_holds_its_ends_as_it_says() -> None:
    assert [n in Range(least=0, below=1) for n in (0, 0.5, 1)] == [True, True, False]
    assert [n in Range(above=0, most=1) for n in (0, 1, 2)] == [False, True, False]
    assert [n in Range(least=2, most=9, also=0) for n in (0, 1, 2)] == [True, False, True]
    assert str(Range(least=2, most=9_000, also=0)) == "0, or 2 to 9,000"
    assert str(Range(least=1e-6, most=2)) == "1e-06 to 2"


def test_fields_of_numbers_are_told_by_their_annotation() -> None:
    @dataclasses.dataclass
    class Made:
        plain: int
        seed: Seed
        several: tuple[Annotated[float, Range(least=0)], ...]
        maybe: Count | None
        text: str = ""
        choice: typing.Literal["a"] | None = None
        flag: bool = False

    # Annotations of a class in a function are not looked up by name: they are the types here.
    assert {n: (f.kind, f.may_lack, f.is_tuple) for n, f in numeric_fields(Made).items()} == {
        "plain": (int, False, False),
        "seed": (int, False, False),
        "several": (float, False, True),
        "maybe": (int, True, False),
    }
    with pytest.raises(ConfigError, match=r"^plain: expected a whole number, found 1\.5"):
        check_ranges(Made(1.5, 0, (), None))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^--n: expected a whole number, found nan"):
        check_ranges(Made(math.nan, 0, (), None), called={"plain": "--n"})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^several: expected 0 or more, found -1"):
        check_ranges(Made(1, 0, (1, -1), 2))
