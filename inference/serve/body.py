"""The body of a request, read into memory within limits: nothing of it touches a disk.

starlette writes files above a megabyte to temporary ones, so forms are read here, piece by piece,
by the parser that it uses as well.
"""

import asyncio
import time
import unicodedata
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from inference.serve.limits import ClientGone, Limits, RequestRefused, busy
from inference.serve.measures import Measures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from python_multipart.multipart import MultipartCallbacks

RAW = ("image/", "application/dicom", "application/octet-stream")
"""How content types of bodies begin that are an image."""

_FORM = "multipart/form-data"
_NO_NAME = "image"
_LONGEST = 200  # characters of a name
_FIELDS = 16  # beside the files
_FIELD_BYTES = 1024


@dataclass(frozen=True, kw_only=True)
class Upload:
    """An image of a request.

    Attributes:
        name: of the file, without folders; only for answers.
        content: its bytes.
    """

    name: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What a request holds: its images, and what is said of all of them."""

    uploads: Sequence[Upload]
    fields: Mapping[str, str]


class Held:
    """Bytes of bodies in memory, of all requests."""

    def __init__(self, most: int, measures: Measures) -> None:
        """None so far."""
        self.most, self.measures, self.n_bytes = most, measures, 0

    @contextmanager
    def account(self) -> "Iterator[Account]":
        """For the bytes of one request, which are given back at the end."""
        account = Account(self)
        try:
            yield account
        finally:
            account.give_back()


class Account:
    """Bytes of one request that count among those that are held."""

    def __init__(self, held: Held) -> None:
        """None so far."""
        self.held, self.n_bytes = held, 0

    def take(self, n_bytes: int) -> None:
        """So many more.

        Raises:
            RequestRefused: together with those of others they are too many.
        """
        held = self.held
        if held.n_bytes + n_bytes > held.most:
            raise busy("memory", "too many requests at once; try again in a second")
        self._change(n_bytes)

    def give_back(self) -> None:
        """None any more."""
        self._change(-self.n_bytes)

    def _change(self, n_bytes: int) -> None:
        self.n_bytes += n_bytes
        self.held.n_bytes += n_bytes
        self.held.measures.held.set(self.held.n_bytes)


async def read_body(
    request: Request, *, limits: Limits, account: Account, measures: Measures
) -> Sent:
    """The images of a request and its further fields.

    Args:
        request: with files in a form, or an image as its whole body.
        limits: of its size, and of the time until it is there.
        account: for its bytes.
        measures: told how long it took.

    Raises:
        RequestRefused: it is too large or too slow, or no form and no image.
        ClientGone: it does not go on.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    media_type = kind.decode("latin-1").strip().lower()
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        text = "a compressed body (Content-Encoding); send the files as they are"
        raise RequestRefused(415, "encoding", text=text)
    is_form = media_type == _FORM
    if not is_form and not media_type.startswith(RAW):
        text = f"expected {_FORM} with files, or an image with its type (image/png, ...)"
        raise RequestRefused(415, "type", text=text)
    if is_form and not options.get(b"boundary"):
        raise RequestRefused(422, "form", text=f"{_FORM} without a boundary")
    start = time.perf_counter()
    pieces = _within(request, limits.request_bytes, account)
    try:
        async with asyncio.timeout(limits.read_s):
            if is_form:
                sent = await _read_form(pieces, options[b"boundary"], limits=limits)
            else:
                content = b"".join([piece async for piece in pieces])
                name = safe_name(request.query_params.get("name", ""))
                sent = Sent(uploads=[Upload(name=name, content=content)], fields={})
    except TimeoutError:
        text = f"the request was not there within {limits.read_s:g} s"
        raise RequestRefused(408, "slow", text=text) from None
    except ClientDisconnect:
        raise ClientGone from None
    measures.reading.observe(time.perf_counter() - start)
    return sent


async def _within(request: Request, most: int, account: Account) -> AsyncIterator[bytes]:
    """The body piece by piece, until it is too large; of a length that says so, nothing."""
    too_large = RequestRefused(413, "bytes", text=f"a request of more than {most:,} bytes")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > most:
        raise too_large
    n_bytes = 0
    async for piece in request.stream():
        n_bytes += len(piece)
        if n_bytes > most:
            raise too_large
        account.take(len(piece))
        yield piece


async def _read_form(pieces: AsyncIterator[bytes], boundary: bytes, *, limits: Limits) -> Sent:
    form = _Form(limits.files)
    try:
        parser = MultipartParser(boundary, form.callbacks)
        async for piece in pieces:
            parser.write(piece)
        parser.finalize()
    except FormParserError:
        raise RequestRefused(422, "form", text=f"a broken {_FORM}") from None
    if not form.ended:
        raise RequestRefused(422, "form", text=f"{_FORM} that is cut short")
    return Sent(uploads=form.uploads, fields=form.fields)


class _Form:
    """Takes what the parser finds, part by part."""

    def __init__(self, most_files: int) -> None:
        self.most_files = most_files
        self.uploads: list[Upload] = []
        self.fields: dict[str, str] = {}
        self.ended = False
        self.header, self.value = b"", b""
        self.disposition = b""
        self.name, self.file_name = "", ""
        self.is_file = False
        self.pieces: list[bytes] = []
        self.n_bytes = self.n_fields = 0
        self.callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._more_of_header,
            "on_header_value": self._more_of_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._more,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self.disposition, self.pieces, self.n_bytes = b"", [], 0

    def _more_of_header(self, data: bytes, start: int, end: int) -> None:
        self.header += data[start:end]

    def _more_of_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def _header_end(self) -> None:
        if self.header.lower() == b"content-disposition":
            self.disposition = self.value
        self.header = self.value = b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self.disposition)
        if b"name" not in options:
            raise RequestRefused(422, "form", text="a part of the form has no name")
        self.name = options[b"name"].decode("utf-8", "replace")
        self.is_file = b"filename" in options
        self.file_name = options.get(b"filename", b"").decode("utf-8", "replace")
        if self.is_file and len(self.uploads) == self.most_files:
            raise RequestRefused(413, "files", text=f"more than {self.most_files} files")
        if not self.is_file:
            self.n_fields += 1
            if self.n_fields > _FIELDS:
                raise RequestRefused(413, "fields", text=f"more than {_FIELDS} fields")

    def _more(self, data: bytes, start: int, end: int) -> None:
        self.n_bytes += end - start
        if not self.is_file and self.n_bytes > _FIELD_BYTES:
            text = f"a field of more than {_FIELD_BYTES} bytes that is no file"
            raise RequestRefused(413, "fields", text=text)
        self.pieces.append(data[start:end])

    def _part_end(self) -> None:
        content = b"".join(self.pieces)
        self.pieces = []
        if not self.is_file:
            self.fields[self.name] = content.decode("utf-8", "replace")
        elif content or self.file_name:  # browsers send an empty one where no file was chosen
            self.uploads.append(Upload(name=safe_name(self.file_name), content=content))

    def _end(self) -> None:
        self.ended = True


def safe_name(name: str) -> str:
    """A file's name as it may stand in an answer: no folder, no sign that cannot be seen.

    Example:
        >>> safe_name("../../etc/passwd"), safe_name("scans/a.png"), safe_name("..")
        ('passwd', 'a.png', 'image')
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    seen = "".join(sign for sign in last if unicodedata.category(sign)[0] != "C").strip()
    return _NO_NAME if seen in ("", ".", "..") else seen[-_LONGEST:]
