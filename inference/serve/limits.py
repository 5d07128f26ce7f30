"""What the server takes at most, and how it says that something is too much."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from core.config import Range, check_ranges
from core.errors import ConfigError
from core.storage.documents import plain_file

TOKEN = "RADFUSE_TOKEN"
"""Variable of the environment with the token."""

_SHORTEST = 16  # characters of a token

LOCAL = ("localhost", "127.0.0.1", "::1")

Seconds = Annotated[float, Range(above=0, most=86_400)]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of requests and of what waits.

    Attributes:
        request_bytes: of a body, with all its files.
        files: images of a request.
        pixels: of an image, by its header; a larger one is not decoded.
        read_s: seconds in which the body of a request has to be there; its head in at most ten.
        request_s: seconds in which a request is answered.
        stop_s: seconds in which requests are finished once the server is told to stop.
        queue: images that are decoded or wait to be decided, of all requests.
        connections: open at once; the next ones are answered that there is no place.
        held_bytes: of bodies in memory, of all requests.
        head_bytes: of a request's first line and headers.
        company_s: seconds for which a decoded image waits for one that is still being decoded.
        block: images that are decided at once.
        decoders: images that are decoded at once.
        exact: whether networks run full batches, as `predict` has them: the same bits, and one
            image takes the time of 32.
    """

    request_bytes: Annotated[int, Range(least=1, most=1 << 40)] = 64 << 20
    files: Annotated[int, Range(least=1, most=100_000)] = 32
    pixels: Annotated[int, Range(least=1, most=10**10)] = 40_000_000
    read_s: Seconds = 30.0
    request_s: Seconds = 60.0
    stop_s: Seconds = 20.0
    queue: Annotated[int, Range(least=1, most=1_000_000)] = 256
    connections: Annotated[int, Range(least=1, most=100_000)] = 256
    held_bytes: Annotated[int, Range(least=1, most=1 << 40)] = 512 << 20
    head_bytes: Annotated[int, Range(least=1 << 10, most=16 << 20)] = 16 << 10
    company_s: Annotated[float, Range(least=0, most=60)] = 0.005
    block: Annotated[int, Range(least=1, most=10_000)] = 32
    decoders: Annotated[int, Range(least=1, most=1_000)] = 2
    exact: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.held_bytes < self.request_bytes:
            raise ConfigError(
                f"held_bytes={self.held_bytes}: expected at least those of one request,"
                f" {self.request_bytes}"
            )
        if self.files > self.queue:
            raise ConfigError(
                f"queue={self.queue}: expected at least the images of one request, {self.files}"
            )

    @property
    def head_s(self) -> float:
        """Seconds for a request's first line and headers, and for an idle connection."""
        return min(10.0, self.read_s)


@dataclass(frozen=True, kw_only=True)
class Doors:
    """Who may ask, and under which name.

    Attributes:
        host: where the server listens.
        port: 0 for a free one.
        token: that requests have to show; "" where none is needed.
        allowed_hosts: names under which the server is asked, beside its own.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Range(least=0, most=65_535)] = 8000
    token: str = field(default="", repr=False)
    allowed_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_ranges(self)
        if not is_local(self.host) and not self.token:
            raise ConfigError(
                f"--host {self.host}: others can reach it, so a token is needed: name a file that"
                f" holds it with --token-file, or set {TOKEN}"
            )
        if self.token and (len(self.token) < _SHORTEST or not self.token.isascii()):
            raise ConfigError(
                f"the token is no word of {_SHORTEST} or more ASCII characters; make one with"
                ' `python -c "import secrets; print(secrets.token_urlsafe(32))"`'
            )
        if any(sign.isspace() for sign in self.token):
            raise ConfigError("the token has a space or a line end in it; expected one word")
        for name in self.allowed_hosts:
            if not host_name(name):
                raise ConfigError(f"--allowed-host {name!r}: expected a name, as scans.example")

    @property
    def names(self) -> frozenset[str]:
        """Names under which requests may ask, as `host_name` gives them."""
        return frozenset(map(host_name, (*LOCAL, self.host, *self.allowed_hosts)))


def is_local(host: str) -> bool:
    """Whether only this machine can reach a place.

    Example:
        >>> [is_local(host) for host in ("127.0.0.1", "localhost", "0.0.0.0")]
        [True, True, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_HOST = re.compile(
    r"(?:\[([0-9a-f:.]+)\]|([^\s:@/\\\[\]]+?)\.?)(?::\d{0,5})?|([0-9a-f:.]*:[0-9a-f:.]+)"
)
"""A name, or an address of IPv6 in brackets, with or without a port; or such an address alone."""


def host_name(value: str) -> str:
    """The name in a Host header: without the port, in small letters; "" where it is none.

    Example:
        >>> [host_name(value) for value in ("Localhost:8000", "[::1]:8000", "::1", "localhost:8@a")]
        ['localhost', '::1', '::1', '']
    """
    found = _HOST.fullmatch(value.strip().lower())
    return "" if found is None else next(filter(None, found.groups()))


def read_token(
    file: Path | None, environment: Mapping[str, str], *, option: str = "--token-file"
) -> str:
    """The token of a file, else of the environment, else "".

    Args:
        file: with the token alone.
        environment: variables by name.
        option: that names the file, for a message.

    Raises:
        ConfigError: the file cannot be read, or is empty.
    """
    if file is None:
        return environment.get(TOKEN, "").strip()
    try:
        token = plain_file(file, error=ConfigError).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise ConfigError(f"{option} {file}: cannot be read ({reason.lower()})") from None
    if not token:
        raise ConfigError(f"{option} {file}: is empty")
    return token


class RequestRefused(Exception):  # noqa: N818 - it is an answer
    """A request that gets another answer than decisions.

    Attributes:
        status: of HTTP.
        reason: a word, counted by.
        text: one line for whoever asked.
        headers: further ones.
    """

    def __init__(
        self, status: int, reason: str, *, text: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """An answer of this status."""
        super().__init__(text)
        self.status, self.reason, self.text = status, reason, text
        self.headers = dict(headers or {})


def busy(reason: str, text: str) -> RequestRefused:
    """The answer to a request that may come again in a second."""
    return RequestRefused(503, reason, text=text, headers={"Retry-After": "1"})


class ClientGone(Exception):  # noqa: N818 - nobody is left to be told
    """Whoever asked has hung up."""
