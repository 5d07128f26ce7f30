"""Places where libraries keep what they would else make again, and functions compiled once.

numba keeps machine code, matplotlib its list of fonts, torch and timm their weights: by the code
or below the user's home. Where there is no home, or neither may be written (a service, a container,
a cluster's node), they warn or stop. A place is then found that can be written, and they are told.
"""

import getpass
import os
import secrets
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from core.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

PLACES = {
    "XDG_CACHE_HOME": "",
    "NUMBA_CACHE_DIR": "numba",
    "MPLCONFIGDIR": "matplotlib",
    "TORCH_HOME": "torch",
    "HF_HOME": "huggingface",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
    "TRITON_CACHE_DIR": "triton",
}
"""What tells a library where its cache goes, and the folder's name below ours."""

_CODE = Path(__file__).parent / "__pycache__"

_MEMORY = Path("/dev/shm")

_BLOCK = 4096  # bytes that a place must take: on a full disk an empty file can still be made


def settle_caches(workspace: Path | None = None) -> Path | None:
    """Tell libraries where to keep their caches, where their own places cannot be written.

    Call it before numba, matplotlib or torch is imported; the command line does. A library whose
    own place can be written is told nothing, and a variable that names a folder that can be written
    is kept. For the others the first of these is taken that can be written: `radfuse-<user id>` in
    the folder for temporary files, if nobody else may write to it, for machine code is run from it;
    `.caches` in the workspace; and such a folder in shared memory, which a container has even where
    its file system may not be written. Where none will do, nothing is set: functions are then
    compiled in each process anew.

    Args:
        workspace: the last resort but shared memory.

    Returns:
        The folder that libraries are told; None where none had to be told, or none will do.

    Raises:
        ConfigError: nothing at all can be written, no temporary file either, without which
            libraries stop.
    """
    wrong = [name for name in PLACES if not _works(name)]
    temporary = _temporary_files()
    if temporary is not None and not wrong:
        return None
    candidates = [temporary / f"radfuse-{_user_id()}"] if temporary else []
    candidates += [workspace.absolute() / ".caches"] if workspace else []
    candidates.append(_MEMORY / f"radfuse-{_user_id()}")
    home = next(filter(None, map(_private, candidates)), None)
    if home is None and temporary is None:
        where = f"the workspace {workspace}" if workspace else "the folder for temporary files"
        raise ConfigError(
            f"{where} cannot be written, nor can any other place for temporary files; name a"
            " workspace that can be, or one for them in the variable TMPDIR"
        )
    if home is None:
        return None
    os.environ.update({name: str(home / PLACES[name]) for name in wrong})
    if temporary is None:
        os.environ["TMPDIR"] = str(home)
        tempfile.tempdir = None  # asked again
    return home


def is_writable(folder: Path) -> bool:
    """Whether files can be written there, the folder made first where it is missing: by trying."""
    if not folder.is_absolute():
        return False
    place = next(p for p in (folder, *folder.parents) if os.path.exists(p))  # noqa: PTH110 - never raises
    probe = place / f".radfuse-{secrets.token_hex(8)}"
    try:
        probe.write_bytes(bytes(_BLOCK))
    except OSError:
        return False
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return True


def machine_code(function: F) -> F:
    """The function as machine code: made at its first call and kept on disk, if it can be kept.

    It holds no interpreter lock.
    """
    import numba  # half a second, for those alone who compile something

    try:
        return cast(F, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # no place: neither beside the code nor below the user's home
        return cast(F, numba.njit(nogil=True)(function))


def _works(name: str) -> bool:
    """Whether a library's place can be written: the one it is told, else its own."""
    if told := os.environ.get(name):
        return is_writable(Path(told).absolute())
    caches = _own("XDG_CACHE_HOME", "~/.cache")
    if name == "NUMBA_CACHE_DIR":
        return is_writable(_CODE) or is_writable(caches)
    if name == "MPLCONFIGDIR":
        return is_writable(caches) and is_writable(_own("XDG_CONFIG_HOME", "~/.config"))
    if name == "TORCHINDUCTOR_CACHE_DIR":
        return _user_is_known()  # who names a folder among temporary files
    return is_writable(caches)


def _own(name: str, usual: str) -> Path:
    """A folder of the user's; relative, and so never writable, where there is no home."""
    return Path(os.environ.get(name) or os.path.expanduser(usual))  # noqa: PTH111 - never raises


def _user_is_known() -> bool:
    """Whether the user has a name."""
    try:
        return bool(getpass.getuser())
    except (KeyError, OSError, ImportError):
        return False


def _user_id() -> int | str:
    return os.getuid() if hasattr(os, "getuid") else "user"


def _temporary_files() -> Path | None:
    """Python's folder for temporary files; None where it finds none that can be written."""
    try:
        return Path(tempfile.gettempdir()).absolute()
    except OSError:
        return None


def _private(folder: Path) -> Path | None:
    """The folder, made, if it is this user's alone and can be written; else None."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    is_own = stat.S_ISDIR(found.st_mode)
    if hasattr(os, "getuid"):
        is_own &= found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return folder if is_own and is_writable(folder) else None
