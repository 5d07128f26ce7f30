"""Threads of the libraries that decide: one pool of them works at a time.

torch has its networks run by a team of OpenMP's threads for every thread that calls it, BLAS keeps
another pool, forests of LightGBM and functions of numba run on threads that `ensembles.compiled`
starts. Each of them takes all cores. Within one decision they follow each other; of two decisions
at once every team would have all cores to itself in its books, and its threads would wait in turns
for those of the other, spinning. So one decides at a time, whichever thread asks.

LightGBM is asked with one thread of its own alone (`ensembles.stacking.forest`): the OpenMP runtime
that it loads, a second one beside torch's, starts none.
"""

import os
import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from core.errors import ConfigError

Asked = ParamSpec("Asked")
Said = TypeVar("Said")

_TURN = threading.RLock()


def in_turn(function: Callable[Asked, Said]) -> Callable[Asked, Said]:
    """The function, waited for while another thread is in one that is decorated likewise.

    A process that is forked while a thread computes must not call it: OpenMP's threads are not
    there. Processes here are spawned.
    """

    @wraps(function)
    def turn(*args: Asked.args, **kwargs: Asked.kwargs) -> Said:
        with _TURN:
            return function(*args, **kwargs)

    return turn


def wait_asleep() -> None:
    """Have threads that wait for work sleep; to be called before torch is imported.

    By itself each keeps a core busy for milliseconds, which on cores that somebody else needs as
    well took 8 s instead of 2 s to read an ensemble. What the environment asks for is kept.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def use_threads(n: int) -> None:
    """Have every pool work with so many threads from now on; 0 leaves what each found itself.

    Sums are added in another order by other numbers of threads: see docs/predict.md.

    Args:
        n: threads of a pool.

    Raises:
        ConfigError: it is negative.
    """
    if n < 0:
        raise ConfigError(f"--threads {n}: expected 1 or more, or 0 for all cores")
    if n == 0:
        return
    import numba
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(n)
    threadpool_limits(limits=n)  # for good: what it returns would take it back
    numba.config.NUMBA_NUM_THREADS = min(n, numba.config.NUMBA_NUM_THREADS)
