"""A bundle as a zip: the same bytes whenever it is written, unpacked without trust in it."""

import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from core.errors import BundleError
from core.storage.archives import ENCRYPTED, BrokenZipError, OpenZip, is_link
from core.storage.drafts import draft_folder
from inference.bundle.files import (
    AGAIN,
    GRAPH,
    MOST_BYTES,
    SUMS,
    check_listed,
    check_name,
    files_in,
    parse_sums,
)
from inference.bundle.typed import parse_json

ENDING = ".zip"

_MOST_TIMES = 20
"""What files may be larger than their zip: of weights a tenth is saved, of zeros all but 1/1000."""


def write_zip(folder: Path, path: Path) -> None:
    """Write the files of a folder, in order of their names, uncompressed and without their times.

    Raises:
        OSError: it cannot be written.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in files_in(folder, shown=folder):
            entry = zipfile.ZipInfo(name)  # of 1980
            entry.external_attr, entry.create_system = (stat.S_IFREG | 0o644) << 16, 3
            entry.file_size = (folder / name).stat().st_size
            with archive.open(entry, "w") as target, (folder / name).open("rb") as source:
                shutil.copyfileobj(source, target, 2**20)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A temporary folder with the files of a bundle's zip, gone when the block ends.

    What was mapped from it stays readable: the system keeps it until the last one lets go.

    Args:
        path: of the zip.

    Raises:
        BundleError: it is no zip, or not a bundle's: an entry leaves the folder, is a link, is
            encrypted, stands twice, or is of another size than the bundle says; or it cannot be
            read, or has no room among the temporary files.
    """
    try:
        archive = OpenZip(path)
    except FileNotFoundError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); {AGAIN}") from None
    except BrokenZipError as error:
        raise _broken(path, error) from None
    with archive, ExitStack() as stack:
        try:
            place = Path(tempfile.gettempdir()) / "radfuse-bundle"
            draft = stack.enter_context(draft_folder(place))
            draft.chmod(0o700)
            _unpack(archive, draft, path)
        except OSError as error:
            raise BundleError(
                f"{path}: cannot be unpacked among the temporary files ({error.strerror}); name"
                " another place in TMPDIR, or unpack it yourself and give the folder"
            ) from None
        except BrokenZipError as error:
            raise _broken(path, error) from None
        yield draft


def _broken(path: Path, error: BrokenZipError) -> BundleError:
    return BundleError(f"{path}: not a zip that can be read ({error}); {AGAIN}")


def _unpack(archive: OpenZip, draft: Path, path: Path) -> None:
    entries = _entries(archive, path)
    n_bytes, n_packed = sum(e.file_size for e in entries.values()), path.stat().st_size
    if n_bytes > _MOST_TIMES * n_packed:
        raise BundleError(
            f"{path}: would unpack to {n_bytes:,} bytes, {n_bytes // n_packed} times its own size;"
            " do not use it"
        )
    sums = parse_sums(_small(archive, entries, SUMS, path), where=path / SUMS)
    check_listed([*entries], sums, shown=path)
    sizes = _sizes(_small(archive, entries, GRAPH, path), path)
    for name, entry in entries.items():
        expected = sizes.get(name, entry.file_size)
        if entry.file_size != expected:
            raise BundleError(
                f"{path / name}: {entry.file_size:,} bytes, where the bundle says {expected:,};"
                f" {AGAIN}"
            )
    for name, entry in entries.items():
        target = draft / name
        target.parent.mkdir(exist_ok=True)
        with target.open("xb") as file:
            archive.copy(entry, file, most=entry.file_size)


def _entries(archive: OpenZip, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The files of a zip by name."""
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.members:
        name = entry.orig_filename
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if is_link(entry):
            raise BundleError(f"{path}: {name[:100]!a} is a link; do not use it")
        if name.endswith("/"):  # a folder
            check_name(f"{name}x.txt", where=path)
            continue
        check_name(name, where=path)
        if kind not in (0, stat.S_IFREG):
            raise BundleError(f"{path / name}: is no plain file; do not use it")
        if entry.flag_bits & ENCRYPTED:
            raise BundleError(f"{path / name}: is encrypted; unpack it, and give the folder")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BundleError(f"{path / name}: packed in a way that is not known; {AGAIN}")
        if name in found:
            raise BundleError(f"{path / name}: stands twice in the zip; do not use it")
        found[name] = entry
    return found


def _small(
    archive: OpenZip, entries: Mapping[str, zipfile.ZipInfo], name: str, path: Path
) -> bytes:
    """What a file of text in the zip holds."""
    if name not in entries:
        raise BundleError(f"{path}: no {name} in it, so it is no bundle")
    return archive.read(entries[name], most=MOST_BYTES)


def _sizes(data: bytes, path: Path) -> dict[str, int]:
    """Bytes of each file, as far as `bundle.json` says it; the rest is looked at later."""
    said = parse_json(data, where=path / GRAPH)
    sizes = said.get("files") if isinstance(said, dict) else None
    if not isinstance(sizes, dict):
        return {}
    return {name: size for name, size in sizes.items() if type(size) is int}
