"""JSON and TOML from anywhere: the values that stand in them, or one line that says why not.

Both are read within limits, for a text may nest deeper than Python goes, or have a number of more
digits than it turns into one. Nothing else of ours calls their parsers.
"""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import ConfigError, PredictionsError
from core.storage.plain import plain_file

MOST_BYTES = 256 << 20
"""Of a file of JSON: ten times what a decision over 100,000 concepts takes."""

_MOST_SETTINGS = 64 << 10  # bytes; the keys of longer ones could keep the parser for minutes
_DEEPEST = 100
_TOO_DEEP = "it nests too deeply"
_MOST_DIGITS = 300
"""Of a whole number: as many as a fraction can be."""


def parse_json(
    text: str | bytes,
    *,
    constant: Callable[[str], Any] | None = None,
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """What a JSON text says.

    Args:
        text: UTF-8 where it is bytes.
        constant: what becomes of NaN and infinity; None for the numbers.
        pairs: what becomes of an object's entries; None for a dict.

    Raises:
        ValueError: it is not JSON, nests too deeply, or has a number of too many digits; what is
            wrong is said in one short line.
    """
    try:
        found = json.loads(text, parse_int=_whole, parse_constant=constant, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    plain = text if isinstance(text, str) else text.decode("latin1")
    if plain.count("[") + plain.count("{") > _DEEPEST:
        _check(found)
    return found


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def read_json(path: Path, *, again: str = "make it again") -> Any:
    """What a file of JSON says.

    Args:
        path: the file, of a run.
        again: what to do about one that is lost or damaged.

    Raises:
        PredictionsError: it is missing, too large, cannot be read or is not JSON.
    """
    plain_file(path, error=PredictionsError, most_bytes=MOST_BYTES)
    try:
        return parse_json(path.read_bytes())
    except FileNotFoundError:
        raise PredictionsError(f"{path}: no such file; {again}") from None
    except OSError as error:
        raise PredictionsError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise PredictionsError(f"{path}: not JSON ({error}); {again}") from None


def read_object(path: Path, *, again: str = "make it again") -> dict[str, Any]:
    """What a file of JSON says that holds an object.

    Raises:
        PredictionsError: as `read_json`, or it holds something else.
    """
    found = read_json(path, again=again)
    if not isinstance(found, dict):
        raise PredictionsError(f"{path}: expected an object, found {type(found).__name__}; {again}")
    return found


def read_toml(path: Path) -> dict[str, Any]:
    """Settings of a TOML file.

    Raises:
        ConfigError: the file is missing, too large, cannot be read or is not TOML.
    """
    plain_file(path, error=ConfigError, most_bytes=_MOST_SETTINGS)
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        _check(found)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except RecursionError:
        raise ConfigError(f"{path}: not TOML ({_TOO_DEEP})") from None
    except ValueError as error:
        many = "digits" in str(error) and "limit" in str(error)  # Python's words name its settings
        raise ConfigError(
            f"{path}: not TOML ({'a number of thousands of digits' if many else error})"
        ) from None
    return found


def _check(value: Any) -> None:
    """Refuse what is too deep to be shown or too large to be a number."""
    waiting = [(value, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError(_TOO_DEEP)
        if isinstance(value, int) and value.bit_length() > _MOST_DIGITS * 3:
            raise ValueError("a number of hundreds of digits")
        inside = value.values() if isinstance(value, dict) else value
        if isinstance(inside, list | type({}.values())):
            waiting += ((one, depth + 1) for one in inside)
