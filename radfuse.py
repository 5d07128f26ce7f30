"""radfuse from Python: `from radfuse import load`.

    model = load("bundle")                # a bundle's folder or zip, or a workspace
    model.predict(["a.png", "scans/"])    # a DataFrame with a row a concept

Importing this loads neither torch nor pandas; `load` does. In the wheel it is the package itself.
"""

import os
from typing import TYPE_CHECKING, Any

from core.errors import ConceptError

if TYPE_CHECKING:
    from inference.model import Model

__all__ = ["ConceptError", "Model", "__version__", "load"]

__version__ = "0.1.0"


def load(place: "str | os.PathLike[str]", *, device: str = "auto") -> "Model":
    """A finished ensemble that decides images.

    Args:
        place: a bundle, as a folder or a zip, or a workspace, of which the ensemble is meant that
            was last made.
        device: `cpu`, `cuda`, `cuda:N`, or `auto` for a GPU where there is one.

    Raises:
        ConceptError: nothing of the kind is there, it is not whole, or the device is not there;
            one line says what to do.
    """
    from inference.model import open_model

    return open_model(place, device=device)


def __getattr__(name: str) -> Any:
    """`Model`, for annotations and `isinstance`, imported when it is asked for."""
    if name == "Model":
        from inference.model import Model

        return Model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
