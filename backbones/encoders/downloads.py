"""Files of addresses and of Hugging Face's hub, at once refused where those cannot be reached.

And packages that need not be installed.
"""

import importlib
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from core.errors import ConfigError, first_line

_PATIENCE_S = 5.0
"""How long a server may take to answer at all. The hub's own client asks for 23 seconds where there
is no network, and for minutes where what it sends is dropped."""


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
        reason = first_line(error)
        raise ConfigError(f"weights: {address} cannot be downloaded ({reason}); {other}") from None
    return path


def package(name: str, *, extra: str) -> Any:
    """An optional package, imported.

    Args:
        name: as it is imported.
        extra: of this project that installs it.

    Raises:
        ConfigError: it is not installed, or does not import.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        reason = "" if error.name == name.partition(".")[0] else f" ({first_line(error)})"
        raise ConfigError(
            f"backbone: needs the package {name}{reason}; install it with"
            f" pip install 'radfuse[{extra}]'"
        ) from None


def hub_folder(repo: str, *, config: str, beside: Sequence[str] = (), fetch: bool = True) -> Path:
    """The folder of the hub's cache with a model's settings, downloaded where it lacks them.

    What is in the cache is taken from there, without a look at the hub.

    Args:
        repo: `ORG/NAME`.
        config: file that there must be.
        beside: further small files, where the model has them.
        fetch: whether what the cache lacks is downloaded.

    Raises:
        ConfigError: there is no such model, or the hub cannot be reached.
    """
    found = _cached(repo, config)
    if not fetch:
        if found in (None, _ABSENT):
            raise ConfigError(f"backbone: no {config} of {repo} in the hub's cache on this machine")
        return found.parent
    commit = found.parent.name if found else None
    try:
        for name in (*beside, "README.md"):  # first, so that with the settings the rest is there
            if _cached(repo, name, commit=commit) is None:
                _download(repo, name, commit=commit)
        found = found or _download(repo, config)
    except ConfigError:
        if found is None:
            raise
    if found is None or found == _ABSENT:
        raise ConfigError(f"backbone: {repo} of Hugging Face's hub has no {config}")
    return found.parent


def hub_weights(repo: str, *, commit: str | None, names: Sequence[str]) -> Path | None:
    """The first of these files that a model has, downloaded where the cache lacks it.

    Args:
        repo: `ORG/NAME`.
        commit: the name of the folder that `hub_folder` gave; None for the newest.
        names: of files, the best first.

    Raises:
        ConfigError: as `hub_folder`.
    """
    cached = {name: _cached(repo, name, commit=commit) for name in names}
    found = next((path for path in cached.values() if path not in (None, _ABSENT)), None)
    for name in [name for name in names if cached[name] is None]:
        found = found or _download(repo, name, commit=commit)
    return found


_ABSENT = Path()
"""What is known not to be there."""


def _cached(repo: str, name: str, *, commit: str | None = None) -> Path | None:
    """A file in the cache; `_ABSENT` where it is noted there that the model has none."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repo, name, revision=commit)
    except HFValidationError as error:
        raise ConfigError(f"backbone: {first_line(error)}") from None
    if found is None:
        return None
    return Path(found) if isinstance(found, str) else _ABSENT


def _download(repo: str, name: str, *, commit: str | None = None) -> Path | None:
    """A file of the hub; None where the model has none of that name."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    quiet_hub()
    try:
        # Once and shortly; the download itself asks again and again. It also says what there is
        # not, and notes that in the cache.
        with suppress(EntryNotFoundError):
            get_hf_file_metadata(hf_hub_url(repo, name, revision=commit), timeout=_PATIENCE_S)
        return Path(hf_hub_download(repo, name, revision=commit))
    except LocalEntryNotFoundError as error:  # the hub went away between the two
        raise _out_of_reach(repo, error) from None
    except EntryNotFoundError:
        return None
    except GatedRepoError:
        raise ConfigError(
            f"weights: {repo} is lent on terms; accept them at https://huggingface.co/{repo}, then"
            " run `hf auth login`"
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise ConfigError(
            f"backbone: Hugging Face's hub has no {repo} that you may see; check the name, or run"
            " `hf auth login`"
        ) from None
    except Exception as error:
        client = type(error).__module__.partition(".")[0]
        if isinstance(error, OSError) or client in _CLIENTS:
            raise _out_of_reach(repo, error) from None
        raise


_CLIENTS = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "huggingface_hub")
"""Packages whose errors mean that the hub was not reached."""


def _out_of_reach(repo: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"weights: Hugging Face's hub cannot be reached for {repo} ({first_line(error)}); fetch its"
        " folder where there is a network and name that folder"
    )


def quiet_hub() -> None:
    """Keep the hub's client from writing on the terminal: what matters is raised here."""
    from huggingface_hub.utils import disable_progress_bars

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    disable_progress_bars()
