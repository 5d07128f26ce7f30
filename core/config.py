"""Settings: frozen dataclasses, overlaid in one order, with a fingerprint.

Defaults < preset < TOML file < `--set key=value`.

A number among the settings is annotated with its range, `epochs: Annotated[int, Range(least=1,
most=100_000)]`, and a class of settings calls `check_ranges` before it looks at anything else.
"""

import dataclasses
import difflib
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from core.errors import ConfigError, bounded, excerpt
from core.storage.documents import read_toml

C = TypeVar("C")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """What a number among the settings may be.

    Attributes:
        least: the smallest; None where there is none, or `above` says it.
        most: the largest.
        above: what it is larger than.
        below: what it is smaller than.
        also: one number beside the range, 0 for a setting that is then not used, say.

    Example:
        >>> print(Range(least=0, below=1), "|", Range(above=0, most=10))
        0 or more, below 1 | above 0, at most 10
        >>> 1.0 in Range(least=0, below=1), float("nan") in Range(least=0), True in Range(most=1)
        (False, False, False)
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    also: float | None = None

    def __contains__(self, value: object) -> bool:
        """Whether this is a number of the range; NaN, infinity, true and false are in none."""
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return False
        if not (isinstance(value, int) or math.isfinite(value)):
            return False
        return value == self.also or (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        """The range in words."""
        also = "" if self.also is None else f"{_digits(self.also)}, or "
        if self.least is not None and self.most is not None:
            return f"{also}{_digits(self.least)} to {_digits(self.most)}"
        words = [
            f"{_digits(self.least)} or more" if self.least is not None else "",
            f"above {_digits(self.above)}" if self.above is not None else "",
            f"at most {_digits(self.most)}" if self.most is not None else "",
            f"below {_digits(self.below)}" if self.below is not None else "",
        ]
        return also + ", ".join(filter(None, words))


def _digits(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) or 1e-4 <= abs(value) < 1e6 else f"{value:g}"


SEED = Range(least=0, most=2**63 - 1)
"""Of whatever random numbers start from: what numpy, torch and csv files hold alike."""

Seed = Annotated[int, SEED]
Count = Annotated[int, Range(least=1, most=10**6)]
"""Of folds, neighbours, images at once: none of them is ever a million."""


@dataclasses.dataclass(frozen=True)
class NumericField:
    """A field of settings that holds a number, or several.

    Attributes:
        kind: int or float.
        range: of each number; None where the field says none.
        may_lack: whether None stands for no number.
        is_tuple: whether there are several.
    """

    kind: type[int] | type[float]
    range: Range | None = None
    may_lack: bool = False
    is_tuple: bool = False


def numeric_fields(config: type[Any]) -> Mapping[str, NumericField]:
    """The fields of a class of settings that hold numbers, by name."""
    known: Any = config  # a class can be a key, which mypy does not see
    return _numeric_fields(known)


@functools.cache
def _numeric_fields(config: Any) -> Mapping[str, NumericField]:
    hints = typing.get_type_hints(config, include_extras=True)
    found = {f.name: _numeric(hints[f.name]) for f in dataclasses.fields(config)}
    return {name: field for name, field in found.items() if field is not None}


def _numeric(hint: Any) -> NumericField | None:
    """What an annotation says of a number; None where it is of something else."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is int or hint is float:
        return NumericField(hint)
    if origin not in (Annotated, tuple, typing.Union, types.UnionType):
        return None
    inner = next(filter(None, map(_numeric, arguments)), None)
    if inner is None:
        return None
    if origin is Annotated:
        ranges = [extra for extra in arguments if isinstance(extra, Range)]
        return dataclasses.replace(inner, range=next(iter(ranges), inner.range))
    if origin is tuple:
        return dataclasses.replace(inner, is_tuple=True)
    return dataclasses.replace(inner, may_lack=types.NoneType in arguments)


def check_ranges(config: Any, *, called: Mapping[str, str] | None = None) -> None:
    """Refuse numbers among the settings that are out of their field's range.

    Args:
        config: a dataclass whose numbers are annotated with a `Range`.
        called: names of fields for the message, where they are not the user's.

    Raises:
        ConfigError: a number is out of its range, NaN, infinite, or no number at all; the setting
            and its range are named.
    """
    for name, field in numeric_fields(type(config)).items():
        value = getattr(config, name)
        numbers = value if field.is_tuple and isinstance(value, tuple) else (value,)
        for number in numbers:
            if number is None and field.may_lack:
                continue
            fits = isinstance(number, field.kind | int) and not isinstance(number, bool)
            if not fits or (field.range is not None and number not in field.range):
                expected = field.range or ("a whole number" if field.kind is int else "a number")
                raise ConfigError(
                    f"{(called or {}).get(name, name)}: expected {expected},"
                    f" found {excerpt(number)}"
                )


def overlay(config: C, settings: Mapping[str, Any], *, origin: str = "settings") -> C:
    """A copy of the config with some fields changed; text is read as the field's type.

    Raises:
        ConfigError: no field has that name (the nearest one is named), or the value does not fit
            the field's type, or the config refuses it.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Config:
        ...     epochs: int = 3
        >>> overlay(Config(), {"epochs": "5"})
        Config(epochs=5)
    """
    return _overlaid(config, {key: (f"{origin}: {key}", settings[key]) for key in settings}, origin)


def _overlaid(config: C, settings: Mapping[str, tuple[str, Any]], origin: str) -> C:
    """The config with settings, each with the place that a message names."""
    hints = typing.get_type_hints(type(config))
    changed = {}
    for key, (where, value) in settings.items():
        if key not in hints:
            near = difflib.get_close_matches(key[:100], hints, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(hints))}"
            raise ConfigError(f"{origin}: unknown setting {excerpt(key)}; {hint}")
        changed[key] = _convert(value, hints[key], where)
    return dataclasses.replace(config, **changed)  # type: ignore[type-var]  # C is a dataclass


def _convert(value: Any, hint: Any, where: str) -> Any:
    """The value as the annotated type; only what is meant beyond doubt is converted."""
    options = (
        typing.get_args(hint)
        if typing.get_origin(hint) in (typing.Union, types.UnionType)
        else (hint,)
    )
    for option in sorted(options, key=lambda option: option is not types.NoneType):  # "none" first
        try:
            return _convert_one(value, option)
        except (ValueError, OverflowError):  # the latter of whole numbers beyond any fraction
            continue
    expected = " or ".join(map(_in_words, options))
    raise ConfigError(f"{where}: expected {expected}, found {excerpt(value)}")


def _in_words(option: Any) -> str:
    """A type as a message names it; of a choice, what there is to choose from."""
    if typing.get_origin(option) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(option)))}"
    if typing.get_origin(option) is tuple:
        return "values with commas between them"
    return _WORDS.get(option) or str(getattr(option, "__name__", option))


_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    types.NoneType: "none",
}


def _convert_one(value: Any, option: Any) -> Any:
    origin, arguments = typing.get_origin(option), typing.get_args(option)
    if option is types.NoneType:
        if value is None or value == "none":
            return None
    elif origin is typing.Literal:
        for argument in arguments:
            if value in (argument, str(argument)):
                return argument
    elif origin is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        if isinstance(parts, (int, float)) and not isinstance(parts, bool):
            parts = (parts,)
        if isinstance(parts, Sequence):
            return tuple(_convert_one(part, arguments[0]) for part in parts if part != "")
    elif option is bool:
        if isinstance(value, bool):
            return value
        if value in ("true", "false"):
            return value == "true"
    elif option is int:
        if isinstance(value, (int, str)) and not isinstance(value, bool):
            return int(value)
    elif option is float:
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            return float(value)
    elif option is str and isinstance(value, str):
        return value
    raise ValueError


def parse_settings(given: Sequence[str], *, option: str = "--set") -> dict[str, str]:
    """`key=value` options as a mapping.

    Args:
        given: what stood behind the option, each time it was given.
        option: its name, for the message.

    Raises:
        ConfigError: an option has no `=`.
    """
    settings = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{option} {bounded(text, longest=100)}: expected key=value")
        settings[key.strip()] = value.strip()
    return settings


def preset_of(presets: Mapping[str, C], name: str, *, option: str = "--preset") -> C:
    """The named preset.

    Args:
        presets: by name.
        name: which one.
        option: where it was named, for the message.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in presets:
        asked = bounded(name, longest=100)
        raise ConfigError(f"{option} {asked}: expected one of {', '.join(presets)}")
    return presets[name]


def configured(
    config: C,
    *,
    file: Path | None,
    given: Sequence[str],
    options: Mapping[str, Any] | None = None,
    called: Mapping[str, str] | None = None,
) -> C:
    """The config under a TOML file under given options.

    Args:
        config: what is changed.
        file: a TOML file; None without one.
        given: settings as `key=value`.
        options: settings that have an option of their own; None where that was not given.
        called: options that have another name than their setting.

    Raises:
        ConfigError: as `overlay`, `read_toml` and `parse_settings`.
    """
    if file is not None:
        config = overlay(config, read_toml(file), origin=str(file))
    own = {
        key: ((called or {}).get(key) or f"--{key.replace('_', '-')}", value)
        for key, value in (options or {}).items()
        if value is not None
    }
    settings = {key: (f"--set: {key}", value) for key, value in parse_settings(given).items()}
    return _overlaid(config, settings | own, "--set")


def later(default: Any, *, was: Any = None) -> Any:
    """A setting that came after runs were named by the others of its class.

    At its default it takes no part in a fingerprint, so that those runs are found again.

    Args:
        default: its default.
        was: what stood for the default before; None where there was no such setting.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Old:
        ...     epochs: int = 3
        >>> @dataclasses.dataclass(frozen=True)
        ... class New(Old):
        ...     sampling: str = later("uniform")
        >>> fingerprint(New()) == fingerprint(Old()) != fingerprint(New(sampling="rare"))
        True
    """
    return dataclasses.field(default=default, metadata={_WAS: was})


_WAS = "was"


def fingerprint(*parts: Any) -> str:
    """Eight hex digits that name what decides a result: configs (dataclasses) and plain values."""
    plain = [_plain(p) if dataclasses.is_dataclass(p) else p for p in parts]
    text = json.dumps(plain, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _plain(config: Any) -> dict[str, Any]:
    """Settings by name; those that came later are, at their default, as they were before."""
    values = dataclasses.asdict(config)
    for field in dataclasses.fields(config):
        if _WAS in field.metadata and values[field.name] == field.default:
            was = field.metadata[_WAS]
            values |= {field.name: was}
            if was is None:
                del values[field.name]
    return values
