"""Zips from anywhere: nothing is read of one before its directory was held against its bytes.

Nothing else of ours opens them. What is wrong with one is a `BrokenZipError` in a few words, to
which each caller puts the path and what to do. What a member unpacks to is bounded twice: by the
size that the directory says, before it is read, and by that size again while it is.
"""

import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import IO

ENCRYPTED = 1
"""A flag of a member."""

_MOST_MEMBERS = 2_000_000
_FREE_BYTES = 64 << 20
_MOST_TIMES = 100
"""What a member beyond 64 MiB may be larger than in its zip; text comes to 20, zeros to 1,000."""

_PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BLOCK = 1 << 20
_SMALL_BLOCK = 4096
"""Bytes read at once of kinds that unpack all that they are given, up to 20,000 times as much."""

_HEADER = 30  # bytes before a member's name

_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, struct.error),
    *(NotImplementedError, RuntimeError, ValueError, LookupError, OverflowError, MemoryError),
)
"""What the library raises at a zip that is broken, or of a kind that it does not read."""


class BrokenZipError(ValueError):
    """What is wrong with a zip or one of its members, in a few words without a path."""


class LockedZipError(BrokenZipError):
    """A member that is whole, but encrypted or packed in a way that is not known."""


class OpenZip:
    """A zip whose directory was read, and holds what its file can.

    Attributes:
        members: its entries in their order, folders among them; names as they stand there.
    """

    def __init__(self, path: Path) -> None:
        """Open a zip; to be closed, or used as a context.

        Raises:
            BrokenZipError: it is no whole zip, has members where others are, or too many.
            FileNotFoundError: there is no such file.
        """
        with _broken():
            self._archive = zipfile.ZipFile(path)
        self.members = tuple(self._archive.infolist())
        try:
            self._check()
        except BrokenZipError:
            self.close()
            raise

    def __enter__(self) -> "OpenZip":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._archive.close()

    def _check(self) -> None:
        if len(self.members) > _MOST_MEMBERS:
            raise BrokenZipError(f"{len(self.members):,} members, more than {_MOST_MEMBERS:,}")
        places = sorted(
            (m.header_offset, m.header_offset + _HEADER + m.compress_size) for m in self.members
        )
        if any(end > start for (_, end), (start, _) in pairwise(places)):
            raise BrokenZipError("its members lie over each other")

    def blocks(self, member: zipfile.ZipInfo, *, most: int) -> Iterator[bytes]:
        """What a member holds, a block after the other.

        Args:
            member: of `members`.
            most: bytes that it may hold.

        Raises:
            BrokenZipError: it is encrypted, damaged, packed in a way that is not known, of another
                size than the directory says, or larger than allowed.
        """
        check_size(member, most=most)
        left = member.file_size
        size = _BLOCK if member.compress_type in _PLAIN else _SMALL_BLOCK
        with _broken(), self._archive.open(member) as file:
            while block := file.read(size):
                left -= len(block)
                yield block
        if left:
            raise BrokenZipError("not of the size that its zip says")

    def read(self, member: zipfile.ZipInfo, *, most: int) -> bytes:
        """What a member holds; arguments and errors as `blocks`."""
        return b"".join(self.blocks(member, most=most))

    def first(self, member: zipfile.ZipInfo, n_bytes: int) -> bytes:
        """So many bytes from a member's start, or all it has where that is less.

        Raises:
            BrokenZipError: as `blocks`, as far as it is read.
        """
        found = bytearray()
        size = min(n_bytes, _BLOCK if member.compress_type in _PLAIN else _SMALL_BLOCK)
        with _broken(), self._archive.open(member) as file:
            while len(found) < n_bytes and (block := file.read(size)):
                found += block
        return bytes(found[:n_bytes])

    def copy(self, member: zipfile.ZipInfo, target: IO[bytes], *, most: int) -> None:
        """Write what a member holds to a file.

        Raises:
            BrokenZipError: as `blocks`.
            OSError: it cannot be written.
        """
        for block in self.blocks(member, most=most):
            target.write(block)


def check_size(member: zipfile.ZipInfo, *, most: int) -> None:
    """Refuse a member that says of itself that it is larger than it may be.

    Raises:
        BrokenZipError: it does.
    """
    if member.file_size > most:
        raise BrokenZipError(f"{member.file_size:,} bytes once unpacked, more than {most:,}")
    if member.file_size > max(_FREE_BYTES, _MOST_TIMES * member.compress_size):
        raise BrokenZipError(
            f"{member.file_size:,} bytes once unpacked, more than {_MOST_TIMES} times its size"
        )


def is_link(member: zipfile.ZipInfo) -> bool:
    """Whether a member stands for a link."""
    return stat.S_ISLNK(member.external_attr >> 16)


@contextmanager
def _broken() -> Iterator[None]:
    try:
        yield
    except BrokenZipError:
        raise
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = error.strerror or "packed in a way that is not known"  # bz2 gives no reason
        raise BrokenZipError(reason) from None
    except NotImplementedError as error:
        raise LockedZipError(_first_line(error)) from None
    except RuntimeError:  # what zipfile raises for want of a password
        raise LockedZipError("encrypted") from None
    except _BROKEN as error:
        raise BrokenZipError(_first_line(error)) from None


def _first_line(error: Exception) -> str:
    text = next(iter(str(error).splitlines()), "") or type(error).__name__
    return ascii(text[:200])[1:-1]
