"""Settings: frozen dataclasses, overlaid in one order, with a fingerprint.

Defaults < preset < TOML file < `--set key=value`.
"""

import dataclasses
import difflib
import hashlib
import json
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from core.errors import ConfigError
from core.storage.plain import plain_file

C = TypeVar("C")


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
    hints = typing.get_type_hints(type(config))
    changed = {}
    for key, value in settings.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(hints))}"
            raise ConfigError(f"{origin}: unknown setting {key!r}; {hint}")
        changed[key] = _convert(value, hints[key], f"{origin}: {key}")
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
        except ValueError:
            continue
    expected = " or ".join(map(_in_words, options))
    raise ConfigError(f"{where}: expected {expected}, found {value!r}")


def _in_words(option: Any) -> str:
    """A type as a message names it; of a choice, what there is to choose from."""
    if typing.get_origin(option) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(option)))}"
    return getattr(option, "__name__", str(option))


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
    raise ValueError(value)


def read_toml(path: Path) -> dict[str, Any]:
    """Settings of a TOML file.

    Raises:
        ConfigError: the file is missing, cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(plain_file(path, error=ConfigError).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML ({error})") from None


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
            raise ConfigError(f"{option} {text}: expected key=value")
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
        raise ConfigError(f"{option} {name}: expected one of {', '.join(presets)}")
    return presets[name]


def configured(
    config: C,
    *,
    file: Path | None,
    given: Sequence[str],
    options: Mapping[str, Any] | None = None,
) -> C:
    """The config under a TOML file under given options.

    Args:
        config: what is changed.
        file: a TOML file; None without one.
        given: settings as `key=value`.
        options: settings that have an option of their own; None where that was not given.

    Raises:
        ConfigError: as `overlay`, `read_toml` and `parse_settings`.
    """
    if file is not None:
        config = overlay(config, read_toml(file), origin=str(file))
    own = {key: value for key, value in (options or {}).items() if value is not None}
    return overlay(config, parse_settings(given) | own, origin="--set")


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
