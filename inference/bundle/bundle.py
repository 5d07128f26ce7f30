"""The body of `bundle`: a workspace's ensemble to one folder or zip; and a bundle read again."""

import hashlib
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.errors import BundleError, ConceptError, ConfigError
from core.progress import say
from core.runs.ensemble import newest_ensemble
from core.runs.workspace import Workspace
from core.storage.archives import BrokenZipError, OpenZip
from core.storage.drafts import draft_folder, replace_folder
from inference.bundle.card import card_of
from inference.bundle.files import (
    AGAIN,
    CARD,
    FOR_HUBS,
    FORMAT,
    FORMATS_READ,
    GRAPH,
    SUMS,
    check_digests,
    check_listed,
    files_in,
    parse_sums,
    read_bytes,
    write_sums,
)
from inference.bundle.graph import BundleGraph, as_written_now
from inference.bundle.read import read_parts
from inference.bundle.tensors import BundleFiles
from inference.bundle.typed import parse_json, typed
from inference.bundle.write import version_of_radfuse, write_parts
from inference.bundle.zips import ENDING, unpacked, write_zip
from inference.loaded.ensemble import LoadedEnsemble
from inference.loaded.workspace import read_ensemble


def write_bundle(workspace: Workspace, out: Path, *, training_ids: bool = False) -> Path:
    """Write the ensemble that was last made as one folder, or as a zip where `out` ends so.

    It is written whole or not at all; a bundle that is there is replaced.

    Args:
        workspace: with the runs that it was made of.
        out: folder or zip to write.
        training_ids: whether ids of the training images are written as well.

    Returns:
        The folder or zip.

    Raises:
        ConfigError: something else is there.
        MissingStageError: there is no ensemble, or a member cannot be asked of new images.
    """
    out = out.absolute()
    is_zip = out.suffix.lower() == ENDING
    _refuse_other(out, is_zip=is_zip)
    run = newest_ensemble(workspace.open_corpus(), workspace)
    ensemble = read_ensemble(workspace)
    if ensemble.guess is not None and ensemble.guess.lacking:
        say(f"note: images without a category will be refused: {ensemble.guess.lacking}")
    with draft_folder(out) as draft:
        home = draft / "files" if is_zip else draft
        home.mkdir(exist_ok=True)
        card = card_of(
            run, ensemble=ensemble, version=version_of_radfuse(), training_ids=training_ids
        )
        (home / CARD).write_text(card, encoding="utf-8")
        write_parts(
            home, ensemble, run=run.folder.name, made=run.meta["made"], training_ids=training_ids
        )
        write_sums(home)
        _open_to_readers(home)
        n_bytes = sum((home / name).stat().st_size for name in files_in(home, shown=home))
        if is_zip:
            write_zip(home, draft / out.name)
            (draft / out.name).replace(out)
        else:
            replace_folder(out, draft)
    say(
        f"{n_bytes / 1e6:,.0f} MB; `predict IMAGES --bundle {shlex.quote(out.name)}` decides by it"
        " anywhere"
    )
    return out


def _refuse_other(out: Path, *, is_zip: bool) -> None:
    """Refuse to replace what is no bundle."""
    is_bundle = False
    if is_zip and out.is_file():
        with suppress(BrokenZipError), OpenZip(out) as archive:
            is_bundle = {GRAPH, SUMS} <= {member.filename for member in archive.members}
    else:
        is_bundle = not is_zip and (out / GRAPH).is_file() and (out / SUMS).is_file()
    is_empty = not is_zip and out.is_dir() and not any(out.iterdir())
    if ((out.exists() or out.is_symlink()) and not (is_bundle or is_empty)) or out.is_symlink():
        raise ConfigError(f"{out}: is there and no bundle; name another place, or remove it")


def _open_to_readers(draft: Path) -> None:
    """Give all files the rights that new files have: tensors are written for their owner alone."""
    rights = stat.S_IMODE((draft / SUMS).stat().st_mode)
    for name in files_in(draft, shown=draft):
        (draft / name).chmod(rights)


def read_bundle(path: Path, *, device: str = "cpu") -> LoadedEnsemble:
    """The ensemble of a bundle: the same values that it was written from.

    Every file is held against its checksum, and nothing of it is ever run.

    Args:
        path: of the folder or zip.
        device: where its networks are to run.

    Raises:
        BundleError: it is not whole, was changed, is of another format, or is no bundle; the file
            is named.
    """
    with _opened(path) as folder:
        try:
            return _read(folder, path, device)
        except BundleError:
            raise
        except ConceptError as error:
            text = " ".join(str(error).replace(str(folder), str(path)).split("\n"))
            where = "" if str(path) in text else f"{path}: "
            raise BundleError(f"{where}{text[:_LONGEST]}; make the bundle again") from None
        except OSError as error:
            raise _unreadable(error, folder, path) from None
        except _MISFITS as error:
            text = next(iter(str(error).splitlines()), "")[:_LONGEST] or type(error).__name__
            raise BundleError(
                f"{path}: its parts do not fit together ({ascii(text)[1:-1]}); make the bundle"
                " again"
            ) from None


_LONGEST = 300  # characters of what others say is wrong

_MISFITS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError),
    *(TypeError, ValueError, MemoryError),
)
"""What parts raise that were not made for each other."""


def bundle_identity(path: Path) -> str:
    """SHA-256 of the checksums: the same of a folder and of its zip, and of no other bundle.

    Raises:
        BundleError: there is no bundle, or it cannot be read.
    """
    with _opened(path) as folder:
        try:
            return hashlib.sha256(read_bytes(folder / SUMS, shown=path / SUMS)).hexdigest()
        except OSError as error:
            raise _unreadable(error, folder, path) from None


def _unreadable(error: OSError, folder: Path, path: Path) -> BundleError:
    """The system does not let a file be read: as one line that names it."""
    name = str(error.filename or path).replace(str(folder), str(path))
    return BundleError(f"{name}: cannot be read ({error.strerror}); {AGAIN}")


@contextmanager
def _opened(path: Path) -> Iterator[Path]:
    """The folder of a bundle; that of a zip is there for the length of the block."""
    if path.is_dir():
        yield path
    elif path.is_file():
        with unpacked(path) as folder:
            yield folder
    else:
        raise BundleError(f"{path}: no such folder or zip; name a bundle that `bundle` wrote")


def _read(folder: Path, path: Path, device: str) -> LoadedEnsemble:
    if not (folder / GRAPH).is_file() or (folder / GRAPH).is_symlink():
        raise BundleError(f"{path}: no {GRAPH} in it, so it is no bundle")
    data = read_bytes(folder / GRAPH, shown=path / GRAPH)
    sums = parse_sums(read_bytes(folder / SUMS, shown=path / SUMS), where=path / SUMS)
    if hashlib.sha256(data).hexdigest() != sums[GRAPH]:
        raise BundleError(f"{path / GRAPH}: was changed since it was written; {AGAIN}")
    said = parse_json(data, where=path / GRAPH)
    form = said.get("format") if isinstance(said, dict) else None
    if form not in FORMATS_READ or type(form) is not int:
        known = f"{', '.join(map(str, FORMATS_READ[:-1]))} and {FORMAT}"
        raise BundleError(
            f"{path / GRAPH}: of format {str(form)[:20]!r}; this version reads {known}: take the"
            " version that wrote it, or make the bundle again"
        )
    if form != FORMAT:
        said = as_written_now(said)
    check_listed(files_in(folder, shown=path), sums, shown=path)
    check_digests(folder, sums, shown=path)
    graph = typed(BundleGraph, said, where=path / GRAPH)
    files = BundleFiles(folder, {*sums}, shown=path)
    ensemble = read_parts(files, graph, device=device)
    if strange := sorted({*sums} - files.asked - {GRAPH, CARD, FOR_HUBS}):
        raise BundleError(
            f"{path / strange[0]}: no part of the bundle is made of it; do not use it"
        )
    return ensemble
