"""Tensors out of ONNX files: written by hand, by the onnx package, and cut short."""

import struct
from pathlib import Path

import numpy as np
import pytest

from backbones.onnx_tensors import read_onnx_tensors


def field(number: int, content: bytes) -> bytes:
    """A field of bytes: key, length, content; all short enough for one byte each."""
    return bytes([number << 3 | 2, len(content)]) + content


def tensor(name: str, shape: bytes, kind: int, content: bytes) -> bytes:
    return field(5, shape + bytes([2 << 3, kind]) + field(8, name.encode()) + field(9, content))


NUMBERS = struct.pack("<6f", *range(6))


def test_a_file_written_by_hand_is_read(tmp_path: Path) -> None:
    path = tmp_path / "made.onnx"
    packed = tensor("packed", field(1, bytes([2, 3])), 1, NUMBERS)
    one_by_one = tensor("one by one", bytes([1 << 3, 3, 1 << 3, 2]), 1, NUMBERS)
    whole_numbers = tensor("int64", bytes([1 << 3, 1]), 7, bytes(8))
    other = bytes([3 << 3 | 1]) + bytes(8) + bytes([4 << 3 | 5]) + bytes(4)  # of fixed width
    graph = field(2, b"a graph") + packed + whole_numbers + one_by_one
    # 300 = 0b10_0101100: the lowest seven bits come first, the highest bit says that more follow.
    version = bytes([1 << 3, 0b1010_1100, 0b10])
    path.write_bytes(version + other + field(7, graph))
    found = read_onnx_tensors(path)
    assert found.keys() == {"packed", "one by one"}
    np.testing.assert_array_equal(found["packed"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found["one by one"], [[0, 1], [2, 3], [4, 5]])
    assert found["packed"].dtype == np.float32
    assert found["packed"].flags.writeable


def test_what_the_onnx_package_writes_is_read(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    arrays = {
        "weight": np.random.default_rng(0).normal(size=(40, 3, 5, 5)).astype(np.float32),
        "bias": np.ones(40, dtype=np.float32),
        "scalar": np.float32(3.5).reshape(()),
        "empty": np.zeros((0, 4), dtype=np.float32),
        "shape": np.array([1, -1]),
    }
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = onnx.helper.make_graph([], "made", [], [], tensors)
    onnx.save(onnx.helper.make_model(graph), tmp_path / "made.onnx")
    found = read_onnx_tensors(tmp_path / "made.onnx")
    assert found.keys() == arrays.keys() - {"shape"}
    for name, array in found.items():
        np.testing.assert_array_equal(array, arrays[name])


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    whole = field(7, tensor("a", bytes([1 << 3, 6]), 1, NUMBERS))
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cut short"):
            read_onnx_tensors(path)


def test_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(b"\x0f")
    with pytest.raises(ValueError, match="not a protobuf message: wire type 7"):
        read_onnx_tensors(path)
    path.write_bytes(field(7, tensor("a", bytes([1 << 3, 7]), 1, NUMBERS)))
    with pytest.raises(ValueError, match=r"a: 24 bytes do not make a tensor of \[7\]"):
        read_onnx_tensors(path)
