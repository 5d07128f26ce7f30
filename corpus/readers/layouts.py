"""Which reader fits a folder."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from core.errors import CorpusError, first_few
from core.storage.documents import plain_file
from corpus.readers import manifest
from corpus.readers.files import is_leftover
from corpus.readers.notes import count
from corpus.readers.reading import Reading, regrouped
from corpus.readers.releases import huggingface, imageclef, imageclef_2021, roco
from corpus.readers.releases.imageclef import (
    EDITION_2022,
    EDITION_2023,
    EDITION_2025,
    EditionLayout,
    is_edition,
    read_edition,
)


class Reader(Protocol):
    """A function that turns a corpus' files into a reading."""

    def __call__(self, source: Path, /, *, strict: bool = False) -> Reading:
        """The corpus of a folder or file."""
        ...


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way in which a corpus lies on disk.

    Attributes:
        title: the layout in words.
        looked_for: what its folder has, for the message when no layout fits.
        fits: whether a path has it.
        read: its reader.
    """

    title: str
    looked_for: str
    fits: Callable[[Path], bool]
    read: Reader


def _edition(edition: EditionLayout) -> Layout:
    return Layout(
        title=edition.layout,
        looked_for=edition.concepts.format(split="train"),
        fits=partial(is_edition, edition=edition),
        read=partial(read_edition, edition=edition),
    )


LAYOUTS: dict[str, Layout] = {
    "2020": Layout(
        title=imageclef.LAYOUT,
        looked_for=imageclef.LOOKED_FOR,
        fits=imageclef.is_imageclef_2020,
        read=imageclef.read_imageclef_2020,
    ),
    "2021": Layout(
        title=imageclef_2021.LAYOUT,
        looked_for=imageclef_2021.LOOKED_FOR,
        fits=imageclef_2021.is_imageclef_2021,
        read=imageclef_2021.read_imageclef_2021,
    ),
    "2022": _edition(EDITION_2022),
    "2023": _edition(EDITION_2023),
    "2025": _edition(EDITION_2025),
    "2026": Layout(
        title=imageclef.LAYOUT_2026,
        looked_for=imageclef.LOOKED_FOR_2026,
        fits=imageclef.is_imageclef_2026,
        read=imageclef.read_imageclef_2026,
    ),
    "roco": Layout(
        title=roco.LAYOUT,
        looked_for=roco.LOOKED_FOR,
        fits=roco.is_roco,
        read=roco.read_roco,
    ),
    "parquet": Layout(
        title=huggingface.LAYOUT,
        looked_for=huggingface.LOOKED_FOR,
        fits=huggingface.is_huggingface,
        read=huggingface.read_huggingface,
    ),
    "manifest": Layout(
        title=manifest.LAYOUT,
        looked_for=manifest.LOOKED_FOR,
        fits=manifest.is_manifest,
        read=manifest.read_manifest,
    ),
}

_FEW = 50  # folders that are looked into for a corpus one or two levels down

_ARCHIVES = (".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".7z", ".rar")

# Corpora whose files lie as those of another year.
_SAME_AS = {"2019": "2020", "2024": "2025", "rocov2": "2025", "huggingface": "parquet"}


def read_corpus(
    source: Path, *, layout: str | None = None, strict: bool = False, group_by: str = ""
) -> Reading:
    """The corpus of a folder or a manifest, with every oddity counted in its notes.

    Args:
        source: the folder of a corpus, or a manifest.
        layout: a name of `LAYOUTS`, 2019, 2024, rocov2 or huggingface; None recognises
            it.
        strict: refuse a corpus in which labels or images are lost, or a group is in two splits.
        group_by: metadata column whose values are the groups; "" for those that are given.

    Raises:
        CorpusError: the source is missing, no layout or more than one fits it, there is no layout
            of that name, or the reader refuses a file.
    """
    if not plain_file(source).exists():
        raise CorpusError(f"{source}: no such file or folder")
    reader = _reader(source, layout)
    if group_by:
        return regrouped(reader.read(source), group_by, strict=strict)
    return reader.read(source, strict=strict)


def _reader(source: Path, layout: str | None) -> Layout:
    """The layout of a name, or the one that fits a source."""
    if layout is not None:
        return _named(layout)
    fitting = {name: known for name, known in LAYOUTS.items() if known.fits(source)}
    if not fitting:
        raise _not_recognised(source)
    if len(fitting) > 1:
        titles = ", ".join(f"{name} ({known.title})" for name, known in fitting.items())
        raise CorpusError(
            f"{source}: more than one layout fits: {titles}; name the one to read:"
            f" {' or '.join(f'--layout {name}' for name in fitting)}"
        )
    return next(iter(fitting.values()))


def _named(layout: str) -> Layout:
    known = LAYOUTS.get(_SAME_AS.get(layout, layout))
    if known is None:
        raise CorpusError(f"no layout {layout!r}; known: {', '.join([*LAYOUTS, *_SAME_AS])}")
    return known


def _not_recognised(source: Path) -> CorpusError:
    if source.is_file():
        return CorpusError(
            f"{source}: a manifest ends in {' or '.join(manifest.ENDINGS)}; unpack an archive first"
        )
    inside = sorted(path for path in source.iterdir() if not is_leftover(path.name))
    if not inside:
        return CorpusError(f"{source}: the folder is empty")
    folders = [path for path in inside if path.is_dir()]
    deeper = [path for folder in folders[:_FEW] for path in sorted(folder.iterdir())[:_FEW]]
    below = [
        path
        for path in (*folders, *deeper)
        if path.is_dir() and any(k.fits(path) for k in LAYOUTS.values())
    ]
    if below:
        return CorpusError(f"{source}: no layout of a corpus here, but there is one in {below[0]}")
    archives = [path.name for path in inside if path.suffix.lower() in _ARCHIVES]
    if archives:
        text = f"no layout of a corpus, but {count(len(archives), 'archive')} {first_few(archives)}"
        return CorpusError(
            f"{source}: {text}: unpack the concept lists beside; images may stay in a .zip"
        )
    looked_for = "; ".join(f"{known.looked_for} ({known.title})" for known in LAYOUTS.values())
    return CorpusError(f"{source}: no layout of a corpus; looked for {looked_for}")
