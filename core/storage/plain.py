"""Plain files: nothing else is opened where a path comes from a user or from data.

A pipe never ends and keeps whoever opens it, a device may do anything or hold no end of bytes, and
a file of holes is as large as somebody wished. They are told by their place, before they are
opened. Links are followed.
"""

import stat
from pathlib import Path

from core.errors import ConceptError, CorpusError

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def plain_file(
    path: Path, *, error: type[ConceptError] = CorpusError, most_bytes: int | None = None
) -> Path:
    """The path itself, where it leads to a file, a folder or nothing: whoever opens it says which.

    Args:
        path: as it was given.
        error: what is raised.
        most_bytes: that the file may have; None for any number.

    Raises:
        ConceptError: of that kind; it is a pipe, a socket, a device, or larger.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        return path
    if kind := _KINDS.get(stat.S_IFMT(found.st_mode)):
        raise error(f"{path}: {kind}, which is not opened; expected a file")
    if most_bytes is not None and found.st_size > most_bytes and stat.S_ISREG(found.st_mode):
        raise error(f"{path}: {found.st_size:,} bytes, more than {most_bytes:,}; make it smaller")
    return path
