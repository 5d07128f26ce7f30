"""Functions compiled by numba, with their types kept for the checker."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """The same function as machine code, made at its first call and kept on disk.

    One thread: the kernels here take well under a second at 15,970 images x 3,047 concepts, and
    numba's parallel back end would bring a second OpenMP runtime into the process.
    """
    return cast(F, numba.njit(cache=True, nogil=True)(function))
