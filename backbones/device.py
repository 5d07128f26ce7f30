"""Which device to compute on."""

import torch

from core.errors import ConfigError


def find_device(asked: str) -> str:
    """The device asked for; `auto` is a CUDA device where there is one, else the processor.

    Raises:
        ConfigError: it is not there, or is not known.
    """
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if asked.partition(":")[0] not in ("cpu", "cuda"):
        raise ConfigError(f"--device {asked}: expected cpu, cuda, cuda:N or auto")
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"--device {asked}: no CUDA device is available here")
    return asked
