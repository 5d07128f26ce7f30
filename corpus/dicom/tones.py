"""From stored values to grey levels: rescale or modality table, then table or window of interest.

PS3.3, C.11.1 and C.11.2. A table goes before a window, the first window before others, and what
is said of a frame before what is said of the file (functional groups of enhanced files). Without
either, 8 bits are shown as they are, and more through the robust window that any picture of more
than 8 bits gets.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from corpus.dicom.datasets import items_of
from corpus.images.window import between, window

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Floats = npt.NDArray[np.float64]
Levels = npt.NDArray[np.uint8]
Stored = npt.NDArray[Any]
"""Values as a file stores them: whole ones of 8 to 32 bits, signed or not, or floating ones."""
Mask = npt.NDArray[np.bool_]
Function = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]

_MACROS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
_OVERSTATED = 12  # bits that entries of a table need at most where 16 are written by mistake


@dataclass(frozen=True, kw_only=True)
class Table:
    """A look-up table.

    Attributes:
        first: the value that the first entry stands for; those below get it, too.
        entries: (n,) what values become; those past the end get the last.
        bits: of an entry, by the header.
    """

    first: int
    entries: npt.NDArray[np.integer]
    bits: int

    def of(self, values: Floats) -> Floats:
        """What values become."""
        rows = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        return np.asarray(self.entries[rows.astype(np.intp)], dtype=np.float64)

    @property
    def highest(self) -> int:
        """The entry that means white: of all bits, but where the entries need far fewer than 16."""
        needed = max(int(self.entries.max()), 1).bit_length()
        return (1 << (needed if self.bits >= 16 and needed <= _OVERSTATED else self.bits)) - 1


@dataclass(frozen=True, kw_only=True)
class Window:
    """Centre and width, in the unit of the quantity."""

    centre: float
    width: float
    function: Function

    @property
    def is_usable(self) -> bool:
        """Whether the standard gives it a meaning."""
        least = 1 if self.function == "LINEAR" else 0
        finite = np.isfinite([self.centre, self.width]).all()
        return bool(finite and self.width >= least and self.width > 0)

    def of(self, values: Floats) -> Floats:
        """Values as 0 to 255.

            linear         ((x - (c - 0.5)) / (w - 1) + 0.5) 255, clipped
            linear exact   ((x - c) / w + 0.5) 255, clipped
            sigmoid        255 / (1 + exp(-4 (x - c) / w))

        A linear window of width 1 is a threshold: white above c - 0.5.
        """
        if self.function == "SIGMOID":
            power = np.clip(-4 * (values - self.centre) / self.width, -60, 60)
            return np.asarray(255 / (1 + np.exp(power)))
        one = 0.5 if self.function == "LINEAR" else 0.0
        centre, width = self.centre - one, self.width - 2 * one
        if width == 0:
            return np.where(values > centre, 255.0, 0.0)
        return np.asarray(np.clip((values - centre) / width + 0.5, 0, 1) * 255)


@dataclass(frozen=True, kw_only=True)
class Tones:
    """What a header says of the grey levels of one frame.

    Attributes:
        slope: of the rescale; 1 where there is none.
        intercept: of the rescale; 0 where there is none.
        modality: the table instead of a rescale, or None.
        interest: the table for the values of interest, or None.
        window: the first window, or None.
        stored: lowest and highest value that the stored bits can hold; None of floating values.
        bits: how many they are.
    """

    slope: float = 1.0
    intercept: float = 0.0
    modality: Table | None = None
    interest: Table | None = None
    window: Window | None = None
    stored: tuple[int, int] | None = None
    bits: int = 32

    @classmethod
    def of(cls, dataset: "Dataset", index: int) -> Self:
        """What a file says of its frame, counted from 0."""
        said = [dataset, *_of_frame(dataset, index)]
        modality, interest = _table(said, "ModalityLUTSequence"), _table(said, "VOILUTSequence")
        slope = _number(said, "RescaleSlope")
        bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
        signed = bool(dataset.get("PixelRepresentation"))
        low = -(1 << (bits - 1)) if signed else 0
        is_float = "PixelData" not in dataset
        return cls(
            slope=slope or 1.0,
            intercept=(_number(said, "RescaleIntercept") or 0.0) if slope != 0 else 0.0,
            modality=modality,
            interest=interest,
            window=_window(said),
            stored=None if is_float else (low, low + (1 << bits) - 1),
            bits=bits,
        )

    def quantity(self, stored: Stored) -> Floats:
        """Values in the unit that the window is given in."""
        values = stored.astype(np.float64)
        return self.modality.of(values) if self.modality else values * self.slope + self.intercept

    def levels(self, stored: Stored, *, left_out: Mask) -> tuple[Levels, tuple[str, ...]]:
        """(H, W) grey levels, 0 to 255, and by which way they were made.

        A window that makes one grey of values that differ is not believed: it is meant for another
        unit, or a placeholder.

        Args:
            stored: (H, W) stored values.
            left_out: (H, W) pixels that decide nothing, and whose levels are arbitrary.
        """
        values = self.quantity(np.where(left_out, 0, stored) if left_out.any() else stored)
        levels: Stored = values
        by = ""
        if self.interest is not None:
            levels = np.minimum(self.interest.of(values) * (255 / self.interest.highest), 255)
            by = "table"
        elif self.window is not None and self.window.is_usable:
            levels, by = self.window.of(values), "window"
        if by and (_differ(levels[~left_out]) or not _differ(values[~left_out])):
            return np.rint(levels).astype(np.uint8), (f"DICOM: through the {by} of its header",)
        told = self.interest is not None or self.window is not None
        if not told and self.stored is not None and self.bits <= 8:
            ends = self.quantity(np.array(self.stored))
            low, high = float(ends.min()), float(ends.max())
            return between(values, low=low, high=high), ()
        why = "the window of its header shows nothing" if told else "no window in its header"
        if self.modality is not None:
            levels, remarks = window(values, used=~left_out)
        else:  # the unit makes no difference, and 8 bits within more are known by stored values
            levels, remarks = window(stored, used=~left_out, inverted=self.slope < 0)
        return levels, (f"DICOM: {why}", *remarks)


def _differ(values: Floats) -> bool:
    return bool(values.size) and float(values.max()) - float(values.min()) >= 1e-9


def _of_frame(dataset: "Dataset", index: int) -> list["Dataset"]:
    """What functional groups say: those that all frames share, then the frame's own."""
    shared = items_of(dataset, "SharedFunctionalGroupsSequence")[:1]
    own = items_of(dataset, "PerFrameFunctionalGroupsSequence")[index : index + 1]
    macros = [items_of(group, name)[:1] for group in (*shared, *own) for name in _MACROS]
    return [first for macro in macros for first in macro]


def _last(said: "list[Dataset]", keyword: str) -> object:
    """The value that the last one gives; None where none does."""
    values = [one.get(keyword) for one in said]
    return next((v for v in reversed(values) if v is not None and v != ""), None)


def _number(said: "list[Dataset]", keyword: str) -> float | None:
    """The first number of a value that may have several."""
    value = _last(said, keyword)
    if value is None:
        return None
    several = value if not isinstance(value, str | float | int) else [value]
    return float(next(iter(several), None) or 0)  # type: ignore[call-overload]  # any iterable


def _window(said: "list[Dataset]") -> Window | None:
    centre, width = _number(said, "WindowCenter"), _number(said, "WindowWidth")
    if centre is None or width is None:
        return None
    function = str(_last(said, "VOILUTFunction") or "LINEAR").strip().upper()
    known: dict[str, Function] = {"LINEAR_EXACT": "LINEAR_EXACT", "SIGMOID": "SIGMOID"}
    return Window(centre=centre, width=width, function=known.get(function, "LINEAR"))


def _table(said: "list[Dataset]", keyword: str) -> Table | None:
    """The first table of a sequence; None where there is none, or it is empty."""
    tables = [item for one in said for item in items_of(one, keyword)[:1]]
    if not tables:
        return None
    item = tables[-1]
    n_entries, first, bits = (int(value) for value in item.LUTDescriptor)
    data = item.LUTData
    if isinstance(data, bytes):
        little = said[0].file_meta.TransferSyntaxUID.is_little_endian
        wide = len(data) >= 2 * (n_entries or 1 << 16)
        entries = np.frombuffer(data, ("<u2" if little else ">u2") if wide else "u1")
    else:
        entries = np.atleast_1d(np.asarray(data))
    signed = bool(said[0].get("PixelRepresentation"))
    if signed and first >= 1 << 15:  # written as if unsigned
        first -= 1 << 16
    entries = entries[: n_entries or 1 << 16].astype(np.int64)
    return Table(first=first, entries=entries, bits=bits) if len(entries) else None
