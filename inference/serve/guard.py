"""What every request passes before it is read, and what is noted of it: nothing that it holds.

An ASGI application around the one that answers: host, origin, method, token, time; a line of log
and the counters; and one line of JSON for whatever goes wrong.
"""

import asyncio
import hmac
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from core.progress import say
from inference.serve.asgi import App, Message, Receive, Send, error_body
from inference.serve.blocks import print_frames
from inference.serve.limits import ClientGone, Doors, Limits, RequestRefused, host_name
from inference.serve.measures import Measures

IMAGES = "radfuse.images"
"""Where the application tells, in the scope of a request, how many images it decided."""

OPEN = ("/healthz", "/healthz/live")
"""Paths that ask for no token."""

_GONE = 499  # as nginx notes it; nobody gets it


class Guard:
    """The application with a door."""

    def __init__(
        self,
        app: App,
        *,
        doors: Doors,
        limits: Limits,
        measures: Measures,
        methods: Mapping[str, str],
    ) -> None:
        """Around an application.

        Args:
            app: that answers.
            doors: who may ask.
            limits: of its time.
            measures: that are kept.
            methods: the one method of each path.
        """
        self.app, self.limits, self.measures, self.methods = app, limits, measures, methods
        self.names = doors.names
        self.expected = f"Bearer {doors.token}".encode() if doors.token else b""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, come what may."""
        if scope["type"] != "http":  # neither lifespan nor websocket is asked for
            raise AssertionError(scope["type"])
        start, answer = time.perf_counter(), _Answer(send)
        refused: RequestRefused | None = None
        try:
            self._look_at(scope)
            async with asyncio.timeout(self.limits.request_s):
                await self.app(scope, receive, answer)
        except RequestRefused as error:
            refused = error
        except TimeoutError:
            text = f"not answered within {self.limits.request_s:g} s"
            refused = RequestRefused(504, "time", text=text)
        except asyncio.CancelledError:
            refused = RequestRefused(503, "stopping", text="the server is being stopped")
        except ClientGone:
            answer.status = _GONE
        except Exception as error:  # noqa: BLE001 - a bug: the next request is another one
            print_frames(error)
            refused = RequestRefused(500, "bug", text="an error of the server; its log says where")
        if refused is not None:
            self.measures.refused.labels(refused.reason).inc()
            await answer.refuse(refused)
        self._note(scope, answer.status, time.perf_counter() - start)

    def _look_at(self, scope: Mapping[str, Any]) -> None:
        """Refuse who asks under another name, from another page, for something else, or unknown."""
        headers = [(name.lower(), value) for name, value in scope["headers"]]
        n_bytes = len(scope["raw_path"]) + len(scope["query_string"])
        if n_bytes + sum(len(n) + len(v) + 4 for n, v in headers) > self.limits.head_bytes:
            text = f"a head of more than {self.limits.head_bytes:,} bytes"  # that came in one piece
            raise RequestRefused(431, "head", text=text)
        framed = {name for name, _ in headers} & {b"content-length", b"transfer-encoding"}
        if len(framed) > 1 or not scope["http_version"].startswith("1."):
            # A proxy before this may see its end elsewhere, and another request in the rest.
            text = "not a request of HTTP/1.1"
            raise RequestRefused(400, "head", text=text, headers={"Connection": "close"})
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        if len(hosts) != 1 or host_name(hosts[0]) not in self.names:
            raise RequestRefused(421, "host", text="asked under a name that is not this server's")
        origin = next((v.decode("latin-1") for n, v in headers if n == b"origin"), None)
        if origin is not None and host_name(urlsplit(origin).netloc) not in self.names:
            raise RequestRefused(403, "origin", text="asked by a page of another place")
        shown = next((value for name, value in headers if name == b"authorization"), b"")
        if self.expected and scope["path"] not in OPEN:
            kind, _, token = shown.partition(b" ")
            given = b"Bearer " + token.strip() if kind.lower() == b"bearer" else b""
            if not hmac.compare_digest(given, self.expected):
                raise RequestRefused(
                    401,
                    "token",
                    text="expected the header `Authorization: Bearer TOKEN`",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        method = self.methods.get(scope["path"])
        if method is None:
            raise RequestRefused(404, "path", text="there is nothing here")
        if scope["method"] != method:
            text = f"expected {method}"
            raise RequestRefused(405, "method", text=text, headers={"Allow": method})

    def _note(self, scope: Mapping[str, Any], status: int, seconds: float) -> None:
        """A line of log; paths that are not the server's may hold anything, and are not in it."""
        path = scope["path"] if scope["path"] in self.methods else "elsewhere"
        method = scope["method"] if scope["method"] in ("GET", "POST") else "other"
        n_images = scope.get(IMAGES, 0)
        images = f" {n_images} image{'' if n_images == 1 else 's'}" if n_images else ""
        say(f"{method} {path} {status} {seconds:.3f} s{images}")
        self.measures.requests.labels(path, str(status)).inc()
        self.measures.answering.observe(seconds)


class _Answer:
    """Sends, and knows what was sent."""

    def __init__(self, send: Send) -> None:
        self.send, self.status = send, 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-content-type-options", b"nosniff"),
                (b"cache-control", b"no-store"),
            ]
        await self.send(message)

    async def refuse(self, refused: RequestRefused) -> None:
        """Send one line of JSON, where nothing was sent so far."""
        if self.status:
            return
        body = error_body(refused.text)
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **refused.headers,
        }
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self({"type": "http.response.start", "status": refused.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body})
