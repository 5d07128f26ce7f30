"""Text files as programs write them: their encoding, told by the content."""

import codecs
import re
from pathlib import Path

from core.errors import CorpusError
from core.storage.documents import plain_file
from corpus.readers.notes import Note, count

_MARKS = (  # that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_PLAIN = "utf-8"

_MARK = "\ufeff"

_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069]")
"""Blanks without width and marks of direction or hyphenation, as web pages and chats leave them."""

_PACKED = {
    b"PK\x03\x04": "a zip or an Excel workbook; save it as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save it as CSV UTF-8",
    b"PAR1": "parquet; end its name in .parquet",
    b"\x1f\x8b": "gzip; unpack it first",
    b"\x89HDF": "HDF5; write it as csv",
}
"""First bytes of files that are called .csv all the same."""


def read_text(path: Path) -> tuple[str, list[Note]]:
    """The text of a file, and a note where it is not UTF-8.

    UTF-8 is read with and without a byte order mark, UTF-16 and UTF-32 with one, and UTF-16 without
    one where every second byte of its first line is zero. Anything else is refused: which letters
    the bytes of an older encoding stand for can only be guessed. Marks inside the text, as files
    joined end to end have them, are dropped and counted.

    Raises:
        CorpusError: the file is missing, holds a zero byte, or is not text in these encodings; the
            first line that is not is named, with what it says in Windows' encoding.
    """
    try:
        content = plain_file(path).read_bytes()
    except FileNotFoundError:
        raise CorpusError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise CorpusError(f"{path}: a folder; expected a file") from None
    if kind := next((what for start, what in _PACKED.items() if content.startswith(start)), None):
        raise CorpusError(f"{path}: not readable as UTF-8 text: this is {kind}")
    mark, encoding = _encoding(content)
    body = content[len(mark) :]
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: {_not_text(body, error)}") from None
    if "\0" in text:
        line = len((text[: text.index("\0")] + ".").splitlines())
        raise CorpusError(f"{path}: line {line}: a zero byte (NUL) in it; remove it")
    notes = []
    if encoding != _PLAIN:
        notes.append(Note(f"{path.name}: read as {encoding.upper()[:6]}"))
    if inside := text.count(_MARK):
        text = text.replace(_MARK, "")
        marks = count(inside, "byte order mark")
        notes.append(Note(f"{path.name}: {marks} inside the text, dropped"))
    if not text.isascii():
        text, n_invisible = _INVISIBLE.subn("", text)
        if n_invisible:
            signs = count(n_invisible, "invisible sign")
            notes.append(Note(f"{path.name}: {signs} (blanks without width and the like), dropped"))
    return text, notes


def _encoding(content: bytes) -> tuple[bytes, str]:
    """The byte order mark and the encoding."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return mark, encoding
    start = content[:200]
    if len(start) > 3 and not any(start[1::2]):
        return b"", "utf-16-le"
    if len(start) > 3 and not any(start[0::2]):
        return b"", "utf-16-be"
    return b"", _PLAIN


def _not_text(body: bytes, error: UnicodeDecodeError) -> str:
    line = len((body[: error.start] + b".").splitlines())
    cells = body.splitlines()[line - 1] if error.encoding == _PLAIN else b""
    near = cells.decode("cp1252", errors="replace").strip()
    shown = f"; in Windows-1252 the line is {near[:60]!r}" if near else ""
    return (
        f"line {line}: not readable as UTF-8 text ({error.reason}){shown}; save the file as UTF-8"
        " (Excel: CSV UTF-8; or iconv -f WINDOWS-1252 -t UTF-8)"
    )
