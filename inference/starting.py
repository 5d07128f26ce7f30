"""A quick start: timm without torch's compiler, which nothing that asks an ensemble runs."""

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any, TypeVar

F = TypeVar("F")

_COMPILER = "torch._dynamo"
_UTILS = f"{_COMPILER}.utils"


def start_quickly() -> None:
    """Prepare a process that only asks an ensemble; to be called before torch is imported.

    Threads that wait for work sleep, where the environment does not ask for anything else: by
    itself each keeps a core busy for milliseconds, which on cores that somebody else needs as well
    took 8 s instead of 2 s to read an ensemble.

    timm, and torchvision with it, is imported without torch's compiler, which takes 1.2 s. They
    import the compiler for two things alone, which something stands in for here: to mark
    functions that it is to leave as they are, and to ask what it can do. Whoever imports it
    afterwards gets the compiler itself; only those marks are lost. A version that asks for more is
    imported as usual, by whoever needs it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if _COMPILER in sys.modules or "timm" in sys.modules:
        return
    compiler, utils = _StandIn(_COMPILER), _StandIn(_UTILS)
    compiler.disable = _left_as_it_is  # type: ignore[attr-defined]
    compiler.utils = utils  # type: ignore[attr-defined]
    utils.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    sys.modules.update({_COMPILER: compiler, _UTILS: utils})
    try:
        with suppress(ImportError):
            importlib.import_module("timm")
    finally:
        _step_back()


class _StandIn(ModuleType):
    """A module of which little is asked; what is missing is the real one's."""

    __path__: list[str] = []  # noqa: RUF012 - a package, with no other module in it

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # looked for by inspect in every module there is
            raise AttributeError(name)
        _step_back()
        return getattr(importlib.import_module(self.__name__), name)


def _step_back() -> None:
    """Make room for the real modules."""
    for name in (_UTILS, _COMPILER):
        if isinstance(sys.modules.get(name), _StandIn):
            del sys.modules[name]
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(vars(torch).get("_dynamo"), _StandIn):
        del torch._dynamo


def _left_as_it_is(function: F | None = None, *_: object, **__: object) -> F | Callable[[F], F]:
    """`torch._dynamo.disable`, where nothing compiles."""
    return (lambda marked: marked) if function is None else function


def _is_compile_supported(device_type: str) -> Any:
    """That of the compiler, asked when it is needed: a deterministic `roi_align`."""
    return importlib.import_module(_UTILS).is_compile_supported(device_type)
