"""Named tensors on disk, as safetensors."""

import errno
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

WEIGHTS = "model.safetensors"
"""Name of the weights in a run folder."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, from wherever they are.

    Raises:
        OSError: they cannot be written; the file is named.
    """
    plain = {name: value.cpu().contiguous() for name, value in tensors.items()}
    try:
        save_file(plain, path)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(path)) from None


def numbered(networks: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of several networks as one mapping; network k's names begin with `k.`."""
    return {
        f"{number}.{name}": value
        for number, network in enumerate(networks)
        for name, value in network.items()
    }


def join_networks(path: Path, parts: list[Path]) -> None:
    """Write several networks' files as one, `numbered`."""
    save_tensors(path, numbered(map(load_file, parts)))


def load_network(path: Path, number: int) -> dict[str, Tensor]:
    """One network of a file of several, by its own names."""
    prefix = f"{number}."
    tensors = load_file(path)
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
