"""What every request passes: who asks, under which name, with which key; what every answer says."""

import hmac
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from inference.serve.asgi import App, Message, Send
from inference.serve.limits import Doors, host_name

KEY = "key"
"""The parameter of the first address that holds the key; a cookie holds it from then on."""

_MOST_BODY = 16 << 10  # bytes

_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self';"
        b" connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),  # with none, forms would come from nowhere
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class Refused(Exception):  # noqa: N818 - it is an answer
    """A request that is not let in."""

    def __init__(self, status: int, text: str) -> None:
        """With a status of HTTP and one line."""
        super().__init__(text)
        self.status, self.text = status, text


class BrowserGuard:
    """Lets requests through that may see the pages.

    They have to come under a name of `Doors` (pages of other sites that point a name of their own
    at this machine are refused), and with the key: as a parameter once, then as a cookie that no
    other site's requests carry. What changes anything has to come from these pages.
    """

    def __init__(self, app: App, *, doors: Doors, port: int) -> None:
        """Before an application; the key is the token of `doors`, "" where none is asked for."""
        self.app, self.names, self.key = app, doors.names, doors.token
        self.cookie = f"radfuse-{port}"  # cookies of all ports of a host are in one jar

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        headers = [(name.lower(), value) for name, value in scope["headers"]]
        try:
            self._check_host(headers)
            entered = self._check_key(scope, headers)
            if entered:
                await _answer(send, 303, b"", [(b"location", entered), self._set_cookie])
                return
            self._check_method(scope, headers)
        except Refused as refused:
            text = f"{refused.text}\n".encode()
            await _answer(send, refused.status, text, [(b"content-type", b"text/plain")])
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message.get("headers", ())}
                further = [(b"cache-control", b"no-store")] if b"cache-control" not in own else []
                message["headers"] = [*message.get("headers", ()), *_HEADERS, *further]
            await send(message)

        await self.app(scope, receive, guarded)

    def _check_host(self, headers: list[tuple[bytes, bytes]]) -> None:
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        if len(hosts) != 1 or host_name(hosts[0]) not in self.names:
            raise Refused(421, "not a name of this server; see `browse --help`, --allowed-host")

    def _check_key(self, scope: Any, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The address to go on with, where the key stands in it; b"" where the cookie has it."""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        shown = [value for name, value in query if name == KEY]
        if self.key and shown and _same(shown[0], self.key):
            rest = urlencode([pair for pair in query if pair[0] != KEY])
            path: bytes = scope["raw_path"].split(b"?")[0]
            return path + (f"?{rest}".encode() if rest else b"")
        if self.key and not _same(self._cookie_of(headers), self.key):
            raise Refused(403, "open the address that `browse` printed: it holds the key")
        return b""

    def _cookie_of(self, headers: list[tuple[bytes, bytes]]) -> str:
        for name, value in headers:
            if name == b"cookie":
                try:
                    found = SimpleCookie(value.decode("latin-1")).get(self.cookie)
                except CookieError:
                    continue
                if found is not None:
                    return found.value
        return ""

    @property
    def _set_cookie(self) -> tuple[bytes, bytes]:
        value = f"{self.cookie}={self.key}; Path=/; HttpOnly; SameSite=Strict"
        return b"set-cookie", value.encode()

    def _check_method(self, scope: Any, headers: list[tuple[bytes, bytes]]) -> None:
        if scope["method"] in ("GET", "HEAD"):
            return
        if scope["method"] != "POST":
            raise Refused(405, "expected GET or POST")
        given = dict(headers)
        site, origin = given.get(b"sec-fetch-site"), given.get(b"origin")
        if site is not None and site not in (b"same-origin", b"none"):
            raise Refused(403, "a change has to come from these pages")
        if origin is not None:
            netloc = urlsplit(origin.decode("latin-1")).netloc
            if host_name(netloc) not in self.names:
                raise Refused(403, "a change has to come from these pages")
        try:
            length = int(given.get(b"content-length", b"-1"))
        except ValueError:
            length = -1
        if not 0 <= length <= _MOST_BODY:
            raise Refused(413, f"expected a body of at most {_MOST_BODY:,} bytes")


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


async def _answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", str(len(body)).encode())
    further = [*headers, length, *_HEADERS, (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": further})
    await send({"type": "http.response.body", "body": body})
