"""Tensors of a bundle's files, each held against what it must be, and networks built of them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from backbones.encoders.blueprints import check_blueprint, check_layout
from backbones.networks.build import Backbone, build_backbone
from backbones.settings.config import BackboneConfig
from core.errors import BundleError
from core.storage.arrays import load_array
from inference.bundle.files import AGAIN, check_name, read_bytes
from inference.bundle.typed import parse_json
from training.checkpoint import tensors_in

Array = npt.NDArray[Any]
T = TypeVar("T")


class TensorFile:
    """A file of named tensors, read when the first is asked for.

    Args:
        path: of the file.
        shown: what messages call it.
    """

    def __init__(self, path: Path, *, shown: Path) -> None:
        self.path, self.shown = path, shown

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """All of them by name.

        Raises:
            BundleError: the file is not of safetensors.
        """
        try:
            return tensors_in(self.path)
        except (OSError, ValueError) as error:
            raise self.error(f"cannot be read as tensors ({error})") from None

    def error(self, text: str) -> BundleError:
        """What is wrong with the file, as an error."""
        return BundleError(f"{self.shown}: {text}; make the bundle again")

    def array(self, name: str, *shape: int | None, dtype: npt.DTypeLike) -> Array:
        """A tensor as an array.

        Args:
            name: its name.
            shape: that it must have; None for any length.
            dtype: that it must have.

        Raises:
            BundleError: it is missing, of another shape or type, or not finite.
        """
        if name not in self.tensors:
            raise self.error(f"lacks the tensor {name!r}")
        tensor = self.tensors[name]
        fits = len(tensor.shape) == len(shape) and all(
            wanted is None or own == wanted for own, wanted in zip(tensor.shape, shape, strict=True)
        )
        own = str(tensor.dtype).removeprefix("torch.")
        if not fits or own != np.dtype(dtype).name:
            wanted = " x ".join("any" if n is None else str(n) for n in shape)
            found = " x ".join(map(str, tensor.shape))
            raise self.error(
                f"tensor {name!r}: expected {wanted} of {np.dtype(dtype).name}; found {found or 1}"
                f" of {own}"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise self.error(f"tensor {name!r}: has numbers that are not finite")
        return tensor.numpy()

    def shares(self, name: str, *shape: int) -> Array:
        """A tensor of float32 in [0, 1]; see `array`.

        Raises:
            BundleError: as `array`, or a number lies outside.
        """
        found = self.array(name, *shape, dtype=np.float32)
        if (found < 0).any() or (found > 1).any():
            raise self.error(f"tensor {name!r}: has numbers that are no shares")
        return found

    def biases(self, name: str, *shape: int) -> Array:
        """A tensor of float32, minus infinity among its numbers where something is impossible.

        Raises:
            BundleError: it is missing, of another shape or type, or has other strange numbers.
        """
        tensor = self.tensors.get(name)
        if tensor is None or tensor.shape != shape or tensor.dtype != torch.float32:
            raise self.error(f"lacks the tensor {name!r}")
        if bool((torch.isnan(tensor) | (tensor == torch.inf)).any()):
            raise self.error(f"tensor {name!r}: has numbers that are not finite")
        return tensor.numpy()

    def fitting(self, build: Callable[[], T]) -> T:
        """What is built of the tensors.

        Args:
            build: builds it.

        Raises:
            BundleError: the tensors are not those that it takes.
        """
        try:
            return build()
        except (RuntimeError, LookupError, TypeError, ValueError) as error:
            text = next(iter(str(error).splitlines()), "")[:200]
            raise self.error(f"its tensors do not fit ({text or type(error).__name__})") from None

    def csr(self, name: str, shape: tuple[int | None, int], *, dtype: npt.DTypeLike) -> csr_array:
        """A sparse matrix as `csr_tensors` wrote it.

        Args:
            name: of the matrix.
            shape: rows, None for any number, and columns.
            dtype: of its entries; boolean ones are not stored.

        Raises:
            BundleError: it is missing, or is no sparse matrix of this shape.
        """
        n_rows, n_columns = shape
        length = None if n_rows is None else n_rows + 1
        pointers = self.array(f"{name}.pointers", length, dtype=np.int64)
        columns = self.array(f"{name}.columns", None, dtype=np.int32)
        values: Array = np.ones(len(columns), dtype=np.bool_)
        if np.dtype(dtype) != np.bool_:
            values = self.array(f"{name}.values", len(columns), dtype=dtype)
        sizes = np.diff(pointers)
        ordered = len(pointers) and pointers[0] == 0 and pointers[-1] == len(columns)
        if not ordered or (sizes < 0).any() or not _ascending(columns, pointers, n_columns):
            raise self.error(f"{name!r} is no sparse matrix of {n_columns} columns")
        parts = (values, columns, pointers.astype(np.int32))
        return csr_array(parts, shape=(len(pointers) - 1, n_columns))

    def networks(self) -> list[dict[str, Tensor]]:
        """The tensors of several networks, in the order of their numbers, by their own names.

        Raises:
            BundleError: the numbers are not 0, 1, 2, ..., or a weight is not finite.
        """
        found: dict[str, dict[str, Tensor]] = {}
        for name, tensor in self.tensors.items():
            self._check_weight(name, tensor)
            number, _, own = name.partition(".")
            found.setdefault(number, {})[own] = tensor
        if not found or {*found} != {str(number) for number in range(len(found))}:
            raise self.error("the networks in it are not numbered through")
        return [found[str(number)] for number in range(len(found))]

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The weights whose names begin so, by the rest of their names.

        Raises:
            BundleError: one has numbers that are not finite.
        """
        found = {}
        for name, tensor in self.tensors.items():
            if name.startswith(prefix):
                self._check_weight(name, tensor)
                found[name.removeprefix(prefix)] = tensor
        return found

    def _check_weight(self, name: str, tensor: Tensor) -> None:
        if tensor.dtype not in (torch.float32, torch.int64):  # the counts of normalisation
            raise self.error(f"tensor {name!r} is of {tensor.dtype}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise self.error(f"tensor {name!r}: has numbers that are not finite")


class BundleFiles:
    """The files of a bundle that was checked, by their names.

    Args:
        folder: where they lie.
        names: theirs.
        shown: what messages call the bundle.

    Attributes:
        asked: names of those that were asked for so far.
    """

    def __init__(self, folder: Path, names: Collection[str], *, shown: Path) -> None:
        self.folder, self.names, self.shown = folder, names, shown
        self.asked: set[str] = set()
        self._tensors: dict[str, TensorFile] = {}

    def path(self, name: str) -> Path:
        """Where a file lies.

        Raises:
            BundleError: the bundle has none of that name.
        """
        check_name(name, where=self.shown)
        if name not in self.names:
            raise BundleError(f"{self.shown / name}: missing from the bundle; {AGAIN}")
        self.asked.add(name)
        return self.folder / name

    def tensors(self, name: str) -> TensorFile:
        """A file of tensors, the same however often it is asked for."""
        if name not in self._tensors:
            self._tensors[name] = TensorFile(self.path(name), shown=self.shown / name)
        return self._tensors[name]

    def array(self, name: str) -> Array:
        """An array mapped from its file, of any shape and type of plain numbers.

        Raises:
            PredictionsError: it is none.
        """
        return load_array(self.path(name))

    def json(self, name: str) -> Any:
        """What a file of JSON says."""
        shown = self.shown / name
        return parse_json(read_bytes(self.path(name), shown=shown), where=shown)


def _ascending(columns: Array, pointers: Array, n_columns: int) -> bool:
    """Whether the columns of each row are within the matrix, ascending and distinct."""
    if not len(columns):
        return True
    starts = np.zeros(len(columns), dtype=np.bool_)
    starts[pointers[:-1][pointers[:-1] < len(columns)]] = True
    rising = bool((np.diff(columns) > 0)[~starts[1:]].all())
    return rising and int(columns.min()) >= 0 and int(columns.max()) < n_columns


def csr_tensors(name: str, matrix: csr_array) -> dict[str, Tensor]:
    """A sparse matrix as tensors; of a boolean one the entries that are true alone."""
    ordered = csr_array(matrix, copy=True)
    ordered.sort_indices()
    ordered.eliminate_zeros()
    found = {
        f"{name}.pointers": torch.tensor(ordered.indptr.astype(np.int64)),
        f"{name}.columns": torch.tensor(ordered.indices.astype(np.int32)),
    }
    if ordered.dtype != np.bool_:
        found[f"{name}.values"] = torch.tensor(ordered.data)
    return found


_SCALES = ((1, 3, 1, 1), (1, 1, 1, 1))  # of colours; of grey levels


def backbone_of(
    config: BackboneConfig, tensors: Mapping[str, Tensor], *, stored: TensorFile
) -> Backbone:
    """A network with its weights, and with the mean and deviation that its images are scaled by.

    It is laid out without memory first and held against the tensors: whatever a bundle names,
    nothing is made that is larger than what lies in it.

    Args:
        config: its settings.
        tensors: by the network's own names, with `mean` and `std`.
        stored: their file.

    Raises:
        BundleError: they are not those of the network.
        ConfigError: its library has no such network, or is not installed.
    """
    own = {name: tensor for name, tensor in tensors.items() if name not in ("mean", "std")}
    for name in ("mean", "std"):
        scale = tensors.get(name)
        if scale is None or scale.shape not in _SCALES or not scale.dtype.is_floating_point:
            raise stored.error(f"lacks the {name} of its network's images")
    check_blueprint(config.backbone)
    check_layout(config.backbone, own, size=config.image_sizes[0])
    any_scale = (0.5,) * tensors["mean"].numel()  # the tensors take its place
    config = replace(config, weights="none", mean=any_scale, std=any_scale)
    try:
        with torch.device("meta"):
            backbone = build_backbone(config)
    except (NotImplementedError, RuntimeError):  # it looks at numbers while it is built
        backbone = build_backbone(config)
    expected = backbone.state_dict()
    for name in sorted({*expected} | {*own}):
        if name not in own or name not in expected or not _alike(own[name], expected[name]):
            raise stored.error(f"tensor {name!r} is not that of a {config.backbone}")
    if any(buffer.is_meta and name not in expected for name, buffer in _unsaved(backbone)):
        backbone = build_backbone(config)  # with tables that it makes itself
    backbone.load_state_dict(own, assign=True)
    backbone.mean, backbone.std = tensors["mean"].clone(), tensors["std"].clone()
    return backbone


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def _unsaved(backbone: Backbone) -> list[tuple[str, Tensor]]:
    """Buffers but for the scale of images, which is set anyway."""
    return [(n, b) for n, b in backbone.named_buffers() if n not in ("mean", "std")]


def check_widths(state: Mapping[str, Tensor], widths: Sequence[int], *, stored: TensorFile) -> None:
    """Refuse layers that are larger than all tensors together, before they are made.

    Args:
        state: tensors of the network.
        widths: numbers between its layers, from its features to its concepts.
        stored: the file of the tensors.

    Raises:
        BundleError: they are.
    """
    n_there = sum(tensor.numel() for tensor in state.values())
    pairs = pairwise(widths)
    if min(widths[1:]) < 1 or sum(a * b for a, b in pairs) > n_there:
        raise stored.error("layers of other widths than its tensors")
