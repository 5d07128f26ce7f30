"""Images as browsers show them: decoded as networks see them, upright, opaque, small."""

from collections import OrderedDict
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image

from browser.library import Library
from core.errors import ImageError
from core.storage.text import brief

SIZES = {"small": 200, "large": 900}
"""Longest side in pixels, by name."""

_HELD = 64 << 20  # bytes of encoded images that are kept


@dataclass
class Pictures:
    """JPEG images of a library, kept while there is room.

    Attributes:
        library: whose images are shown; nothing else can be read by it.
    """

    library: Library
    _kept: "OrderedDict[tuple[int, str], bytes]" = field(default_factory=OrderedDict)
    _n_bytes: int = 0
    _lock: Lock = field(default_factory=Lock)

    def jpeg(self, row: int, size: str) -> bytes:
        """An image of a row, its sides in proportion, no larger than it is.

        Raises:
            ImageError: it cannot be read; one line without its path.
        """
        with self._lock:
            if (row, size) in self._kept:
                self._kept.move_to_end((row, size))
                return self._kept[row, size]
        made = self._make(row, SIZES[size])
        with self._lock:
            if (row, size) not in self._kept:
                self._kept[row, size] = made
                self._n_bytes += len(made)
            while self._n_bytes > _HELD:
                self._n_bytes -= len(self._kept.popitem(last=False)[1])
        return made

    def shape(self, row: int, *, longest: int) -> tuple[int, int]:
        """Width and height of an image whose longest side has so many pixels.

        Raises:
            ImageError: as `jpeg`.
        """
        with Image.open(BytesIO(self.jpeg(row, "large"))) as image:
            scale = longest / max(image.size)
            return max(1, round(image.width * scale)), max(1, round(image.height * scale))

    def _make(self, row: int, longest: int) -> bytes:
        from corpus.images.decode import read_picture  # with numba, which takes half a second

        path = Path(self.library.corpus.table.paths[row])
        try:
            found = read_picture(path, draft=longest, decoding=self.library.corpus.decoding)
        except ImageError as error:
            raise ImageError(brief(str(error).replace(str(path), path.name))) from None
        image = Image.fromarray(np.ascontiguousarray(found.pixels))
        image.thumbnail((longest, longest), Image.Resampling.BILINEAR)
        file = BytesIO()
        image.save(file, "JPEG", quality=88)
        return file.getvalue()
