"""Signals that wait for the end of a step."""

import os
import signal
import threading

import pytest

from backbones.interrupt import deferred_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_does_not_end_the_work(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with deferred_signals() as pending:
        assert pending.number == 0
        os.kill(os.getpid(), number)
        assert pending.number == number
    assert signal.getsignal(number) is before


def test_the_second_ctrl_c_ends_at_once() -> None:
    with deferred_signals() as pending:
        os.kill(os.getpid(), signal.SIGINT)
        assert pending.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_gives_the_signals_back() -> None:
    with pytest.raises(KeyError, match="gone"), deferred_signals():
        raise KeyError("gone")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_outside_the_main_thread_nothing_is_deferred() -> None:
    handlers = []

    def work() -> None:
        with deferred_signals() as pending:
            handlers.append((signal.getsignal(signal.SIGINT), pending.number))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [(signal.default_int_handler, 0)]
