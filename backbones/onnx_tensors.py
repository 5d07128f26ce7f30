"""Named float32 tensors of an ONNX file, without the packages that run such files."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_FLOAT32 = 1
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


class _Field(NamedTuple):
    number: int
    value: int
    content: memoryview


def read_onnx_tensors(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The float32 initialisers of the file's graph that lie in the file as plain bytes, by name.

    An ONNX file is a protobuf message: the graph is field 7 of the model, initialisers are field 5
    of the graph, and of an initialiser 1 are its dimensions, 2 its type, 8 its name, 9 its bytes.

    Source: onnx/onnx.proto of https://github.com/onnx/onnx;
        https://protobuf.dev/programming-guides/encoding/

    Raises:
        ValueError: the file is cut short or is something else.
    """
    model = memoryview(path.read_bytes())
    graphs = [field.content for field in _fields(model) if field.number == 7]
    messages = [f.content for graph in graphs for f in _fields(graph) if f.number == 5]
    return dict(tensor for message in messages if (tensor := _tensor(message)))


def _tensor(message: memoryview) -> tuple[str, npt.NDArray[np.float32]] | None:
    """Name and values of an initialiser; None where it is of another type."""
    shape: list[int] = []
    kind, name, content = 0, "", None
    for field in _fields(message):
        if field.number == 1:
            shape += _varints(field.content) if field.content else [field.value]
        elif field.number == 2:
            kind = field.value
        elif field.number == 8:
            name = str(field.content, "utf-8")
        elif field.number == 9:
            content = field.content
    if kind != _FLOAT32 or content is None:
        return None
    if len(content) != 4 * math.prod(shape):
        raise ValueError(f"{name}: {len(content)} bytes do not make a tensor of {shape}")
    return name, np.frombuffer(content, dtype="<f4").astype(np.float32).reshape(shape)


def _fields(message: memoryview) -> Iterator[_Field]:
    """The fields of a protobuf message: a number for a varint, bytes for all else."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind, value, size = key & 7, 0, 0
        if kind == _VARINT:
            value, at = _varint(message, at)
        elif kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"not a protobuf message: wire type {kind}")
        if at + size > len(message):
            raise ValueError("cut short")
        yield _Field(key >> 3, value, message[at : at + size])
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while True:
        if at == len(message):
            raise ValueError("cut short")
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _varints(packed: memoryview) -> Iterator[int]:
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        yield value
