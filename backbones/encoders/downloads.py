"""Files at an address, downloaded once, at once refused where it cannot be reached."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from core.errors import ConfigError

_PATIENCE_S = 5.0
"""How long a server may take to answer at all."""


@lru_cache(maxsize=64)
def reachable(server: str) -> bool:
    """Whether a server, `https://host`, answers, whatever it says."""
    try:
        with urlopen(Request(server, method="HEAD"), timeout=_PATIENCE_S):
            return True
    except HTTPError:
        return True
    except OSError:  # what urllib raises is one, a timeout as well
        return False


def hub_reachable() -> bool:
    """Whether Hugging Face's hub answers, and may be asked."""
    from huggingface_hub import constants

    return not constants.is_offline_mode() and reachable(constants.ENDPOINT)


@contextmanager
def hub_at_once() -> Iterator[None]:
    """Within, the hub is what this machine keeps of it, where it cannot be reached.

    Its client would else try for half a minute, and write that on the terminal.
    """
    from huggingface_hub import constants

    was = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = not hub_reachable()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was


def kept_at(address: str, *, folder: Path) -> Path:
    """Where the file of an address lies once it was downloaded."""
    return folder / Path(urlsplit(address).path).name


def downloaded(address: str, *, folder: Path, what: str) -> Path:
    """The file of an address in a folder, downloaded where it is not there yet.

    Args:
        address: `https://host/path/name`; eight or more hexadecimal digits at the end of the name,
            after a hyphen, are the beginning of its SHA-256.
        folder: where it is kept.
        what: it is, for a message.

    Raises:
        ConfigError: it is not there and cannot be downloaded.
    """
    path = kept_at(address, folder=folder)
    if path.is_file():
        return path
    import torch.hub

    parts = urlsplit(address)
    server = f"{parts.scheme}://{parts.netloc}"
    other = "give --weights FILE, or --weights none for random ones"
    if not reachable(server):
        raise ConfigError(
            f"weights: {what} lie on {parts.netloc}, which cannot be reached from here; {other}"
        )
    digest = re.search(r"-([0-9a-f]{8,})$", path.stem)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            address, str(path), hash_prefix=digest[1] if digest else None, progress=False
        )
    except (OSError, RuntimeError) as error:  # the latter of another hash
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"weights: {address} cannot be downloaded ({reason}); {other}") from None
    return path

