"""Connections: what uvicorn leaves without a limit has one here.

uvicorn waits for the head of a request, and for the rest of a body that was answered already, as
long as the client likes, and beyond `limit_concurrency` it refuses requests of connections that
wait for nothing. Here both have seconds, and of too many connections the later ones are told so.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from inference.serve.asgi import App, error_body
from inference.serve.limits import Limits
from inference.serve.measures import Measures

_TOLD = 256  # connections beyond the limit that get an answer; further ones are closed

_STATUS = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large"}


class LimitedConfig(uvicorn.Config):
    """uvicorn's settings with what its connections are to know.

    Attributes:
        limits: of connections and heads.
        measures: that are kept.
    """

    def __init__(self, app: App, *, limits: Limits, measures: Measures) -> None:
        """For an application."""
        self.limits, self.measures = limits, measures
        super().__init__(
            app,
            http=Connection,
            loop="asyncio",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=limits.head_bytes,
            timeout_keep_alive=int(limits.head_s) or 1,
            timeout_graceful_shutdown=int(limits.stop_s) or 1,
            backlog=max(128, limits.connections),
        )


class Connection(H11Protocol):
    """A client's connection, closed where nothing comes of it."""

    config: LimitedConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As uvicorn makes one."""
        super().__init__(*args, **kwargs)
        self._overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a client, or tell one too many that there is no place."""
        super().connection_made(transport)
        opened = transport.get_extra_info("socket")
        if opened is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            # Whoever takes no answer from the line would keep it for ever.
            longest_ms = int(1000 * self.config.limits.request_s)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, longest_ms)
        self.config.measures.connections.set(len(self.connections))
        beyond = len(self.connections) - self.config.limits.connections
        if beyond > _TOLD:
            self.config.measures.refused.labels("connections").inc()
            transport.abort()
        elif beyond > 0:
            self.app = self._no_place
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a client."""
        self._unwatch()
        super().connection_lost(exc)
        self.config.measures.connections.set(len(self.connections))

    def data_received(self, data: bytes) -> None:
        """Go on with a request."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request, for a while also where this one has not ended."""
        super().on_response_complete()
        still_sends = (self.conn.our_state, self.conn.their_state) == (h11.DONE, h11.SEND_BODY)
        if still_sends and not self.transport.is_closing():
            self._unwatch()
            # Closed at once, the answer might be lost on its way.
            self._overdue = self.loop.call_later(self.config.limits.head_s, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; called while its exception is handled."""
        del msg
        error = sys.exception()
        hint = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if hint == 431:
            self._answer(431, f"a head of more than {self.config.limits.head_bytes:,} bytes")
        else:
            self._answer(400, "not a request of HTTP/1.1")

    def shutdown(self) -> None:
        """End when the request in work is answered."""
        with suppress(h11.LocalProtocolError):
            super().shutdown()
            return
        self.transport.close()

    def _watch(self) -> None:
        """Give a head that has not ended its time; a body's is counted where it is read."""
        if self.conn.their_state is not h11.IDLE:
            if self.conn.our_state is not h11.DONE:  # else the rest of a body is waited for
                self._unwatch()
        elif self._overdue is None and not self.transport.is_closing():
            self._overdue = self.loop.call_later(self.config.limits.head_s, self._head_is_late)

    def _unwatch(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _head_is_late(self) -> None:
        if self.conn.trailing_data[0]:
            self._answer(408, f"no whole head within {self.config.limits.head_s:g} s")
        else:
            self.transport.close()

    def _answer(self, status: int, text: str) -> None:
        """Answer what no application has seen, and close; an answer begun is only closed."""
        self.config.measures.refused.labels("head" if status != 408 else "slow").inc()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = error_body(text)
            head = f"HTTP/1.1 {status} {_STATUS[status]}\r\ncontent-type: application/json\r\n"
            head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(head.encode() + body)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    async def _no_place(self, scope: Any, receive: Any, send: Any) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.config.limits.head_s):
                while (await receive()).get("more_body"):
                    pass
        self.config.measures.refused.labels("connections").inc()
        body = error_body("too many connections; try again in a second")
        headers = [(b"content-type", b"application/json"), (b"retry-after", b"1")]
        headers.append((b"connection", b"close"))
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Server(uvicorn.Server):
    """uvicorn's server, of which a signal is the end and no death."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGTERM and Ctrl-C: uvicorn would raise them again when all is done."""
        try:
            before = {n: signal.signal(n, self.handle_exit) for n in _SIGNALS}
        except ValueError:  # not in the main thread
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


_SIGNALS = (signal.SIGTERM, signal.SIGINT)
