"""Functions compiled by numba, with their types kept for the checker, and run on all cores."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numba
import numpy as np

from core.storage.caches import machine_code

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function to machine code at its first call, and keep that on disk.

    It holds no interpreter lock, so that `in_blocks` can run it on every core. numba's own parallel
    back end would bring a second OpenMP runtime into the process, beside that of LightGBM.
    """
    return machine_code(function)


def n_cores() -> int:
    """Cores that may be used: `NUMBA_NUM_THREADS` of the environment, else all of them."""
    return int(numba.config.NUMBA_NUM_THREADS)


def in_blocks(n: int, work: Callable[[int, int], None], *, worth_it: int = 256) -> None:
    """Call `work(first, last)` for ranges that together are 0 to n, on as many cores as numba may.

    What is done with one item must not depend on the others: the ranges differ by machine.

    Args:
        worth_it: with fewer items, all are one range.
    """
    n_threads = n_cores()
    if n_threads == 1 or n < worth_it:
        work(0, n)
        return
    bounds = np.linspace(0, n, min(n, 4 * n_threads) + 1).astype(int).tolist()
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in pool.map(work, bounds[:-1], bounds[1:]):
            pass
