"""How the images of a corpus are read where their files leave a choice, and what was met."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from core.errors import ConfigError

Background = Literal["black", "white"]
"""What shows through transparent pixels."""

Frame = Literal["first", "middle", "last"] | int
"""Which of the pages or frames of a file is read; numbers count from 1."""

UNREADABLE_FILE, REMARKS_FILE = "unreadable.csv", "remarks.csv"
"""In the folder of a prepared corpus, a row an image: why it cannot be decoded; what was done to
show it."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """The settings of `prepare` that every later reading of the images keeps to.

    Attributes:
        background: what transparent pixels are put on.
        frame: of files with several pages or frames; None for what is usual of their kind: the
            first of a TIFF or an animation, the middle one of a DICOM series.
    """

    background: Background = "black"
    frame: Frame | None = None

    def __post_init__(self) -> None:
        if self.background not in get_args(Background):
            raise ConfigError(f"background: expected black or white, found {self.background!r}")

    @property
    def changes(self) -> dict[str, Any]:
        """What is not as usual, by name: a part of fingerprints and files only where there is."""
        told = {"background": self.background, "frame": self.frame}
        return {name: value for name, value in told.items() if value != getattr(USUAL, name)}


USUAL = Decoding()
"""How images are read unless something else is asked for."""


def parse_frame(text: str) -> Frame | None:
    """A frame as it is typed: first, middle, last or its number; None for `usual`.

    Raises:
        ConfigError: it is none of them.
    """
    match text:
        case "usual":
            return None
        case "first" | "middle" | "last":
            return text
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise ConfigError(f"frames: expected usual, first, middle, last or a number, found {text!r}")


def frame_index(frame: Frame, n_frames: int) -> int:
    """Which of `n_frames` frames is read, from 0 on; the last one where the number is beyond them.

    Example:
        >>> [frame_index(frame, 4) for frame in ("first", "middle", "last", 2, 9)]
        [0, 2, 3, 1, 3]
    """
    named = {"first": 0, "middle": n_frames // 2, "last": n_frames - 1}
    return min(frame - 1, n_frames - 1) if isinstance(frame, int) else named[frame]
