"""Image files wherever they lie: as files of their own, or packed into an archive or a table."""

import os
from pathlib import Path


def read_bytes(path: Path) -> bytes:
    """The content of an image file.

    Raises:
        FileNotFoundError: there is no such file.
    """
    return path.read_bytes()


def file_state(path: Path) -> os.stat_result:
    """Size and time of change of the file that holds an image.

    Raises:
        FileNotFoundError: there is no such file.
    """
    return path.stat()
