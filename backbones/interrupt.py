"""SIGTERM and Ctrl-C that wait for the end of a training step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Pending:
    """The signal that came, if one did."""

    number: int = 0


@contextmanager
def deferred_signals() -> Iterator[Pending]:
    """Note SIGTERM and Ctrl-C for the length of a block instead of ending at once.

    Whoever holds the block looks at `Pending.number` at good moments, saves, and leaves by
    `SystemExit(128 + number)`. A second signal ends the process at once, as it would have without
    the block. Outside the main thread Python gives no signals, and nothing is deferred.
    """
    pending = Pending()
    if threading.current_thread() is not threading.main_thread():
        yield pending
        return
    former = {number: signal.getsignal(number) for number in _SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        pending.number = number
        for each, handler in former.items():
            signal.signal(each, handler)

    for number in _SIGNALS:
        signal.signal(number, note)
    try:
        yield pending
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
