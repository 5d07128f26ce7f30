"""JSON from anywhere as values of known types: whatever else is in it ends in one line."""

import dataclasses
import math
import reprlib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from core.errors import BundleError
from core.storage import documents

T = TypeVar("T")

_MOST = 2**53
"""Whole numbers beyond it are none that a program wrote as such."""


def parse_json(data: bytes, *, where: object) -> Any:
    """What a JSON text says.

    Args:
        data: the text.
        where: its path, for messages.

    Raises:
        BundleError: it is not JSON, has NaN or infinity in it or a key twice, or nests too deeply.
    """
    try:
        return documents.parse_json(data, constant=_refuse, pairs=_once)
    except ValueError as error:
        text = " ".join(str(error).split())[:200]
        raise BundleError(f"{where}: not JSON ({text}); make the bundle again") from None


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def typed(hint: type[T], value: Any, *, where: object) -> T:
    """A value of JSON as a dataclass or whatever else is asked for.

    Of a union of dataclasses that one is taken whose `kind` the value has.

    Args:
        hint: a dataclass, a TypedDict, a tuple, a mapping, a plain type, a literal, or a union.
        value: of JSON.
        where: its place, for messages.

    Raises:
        BundleError: it is of another type, or lacks a key, or has another; the place is named.
    """
    found: T = _typed(hint, value, str(where))
    return found


def _typed(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _of_union(arguments, value, where)
    if origin is typing.Literal:
        if any(type(value) is type(one) and value == one for one in arguments):
            return value
        raise _unlike(value, f"one of {', '.join(map(repr, arguments))}", where)
    if hint is types.NoneType:
        if value is not None:
            raise _unlike(value, "null", where)
        return None
    if origin is tuple:
        return _of_tuple(arguments, value, where)
    if origin in (dict, Mapping):
        items = _object(value, where).items()
        return {key: _typed(arguments[1], own, _below(where, key)) for key, own in items}
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        fields = dataclasses.fields(hint)
        own = _entries(value, typing.get_type_hints(hint), [f.name for f in fields], where)
        return hint(**own)
    if typing.is_typeddict(hint):
        hints = typing.get_type_hints(hint)
        return _entries(value, hints, list(hints), where, may_lack=hint.__optional_keys__)
    return _plain(hint, value, where)


def _of_union(options: Sequence[Any], value: Any, where: str) -> Any:
    if value is None and types.NoneType in options:
        return None
    options = [option for option in options if option is not types.NoneType]
    if len(options) == 1:
        return _typed(options[0], value, where)
    kinds = {_kind_of(option): option for option in options}
    if None not in kinds:
        kind = _object(value, where).get("kind")
        if not isinstance(kind, str) or kind not in kinds:
            raise _unlike(kind, f"one of {', '.join(map(str, kinds))}", f"{where}: kind")
        return _typed(kinds[kind], value, where)
    for option in options:  # of plain types, such as a number or a word
        try:
            return _typed(option, value, where)
        except BundleError:
            continue
    raise _unlike(value, "another type", where)


def _kind_of(option: Any) -> str | None:
    """The one literal that the `kind` of a dataclass or TypedDict may be."""
    hints = typing.get_type_hints(option) if isinstance(option, type) else {}
    literal = typing.get_args(hints["kind"]) if "kind" in hints else ()
    return str(literal[0]) if literal else None


def _of_tuple(arguments: Sequence[Any], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _unlike(value, "a list", where)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_typed(arguments[0], own, _below(where, n)) for n, own in enumerate(value))
    if len(value) != len(arguments):
        raise _unlike(value, f"a list of {len(arguments)}", where)
    pairs = enumerate(zip(arguments, value, strict=True))
    return tuple(_typed(own, part, _below(where, n)) for n, (own, part) in pairs)


def _entries(
    value: Any,
    hints: Mapping[str, Any],
    names: Sequence[str],
    where: str,
    may_lack: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    given = _object(value, where)
    if strange := sorted(given.keys() - {*names}):
        raise BundleError(f"{where}: unknown entry {reprlib.repr(strange[0])}; made by another"
                          " version")  # fmt: skip
    if lacking := [name for name in names if name not in given and name not in may_lack]:
        raise BundleError(f"{where}: lacks {lacking[0]!r}; made by another version")
    there = [name for name in names if name in given]
    return {name: _typed(hints[name], given[name], _below(where, name)) for name in there}


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _unlike(value, "an object", where)
    return value


def _plain(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if abs(value) <= _MOST if isinstance(value, int) else math.isfinite(value):
            return float(value)
    elif hint is int and type(value) is int:
        if abs(value) <= _MOST:
            return value
    elif type(value) is hint:
        return value
    words = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}
    raise _unlike(value, words.get(hint, "something else"), where)


def _below(where: str, key: object) -> str:
    text = str(key)
    return f"{where}: {text if text.isprintable() and len(text) <= 40 else reprlib.repr(text)}"


def _unlike(value: Any, expected: str, where: str) -> BundleError:
    found = ascii(reprlib.repr(value)).strip("'\"")
    return BundleError(f"{where}: expected {expected}, found {found}; make the bundle again")
