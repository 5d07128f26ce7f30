"""What an application is to its server, and the answer in one line."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]


def error_body(text: str) -> bytes:
    """The one line that says why there is no other answer."""
    return json.dumps({"error": text}, ensure_ascii=False).encode() + b"\n"
