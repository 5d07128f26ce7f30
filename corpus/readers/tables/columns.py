"""What columns are called: the names that tables give to the same thing."""

from collections.abc import Iterable, Mapping, Sequence

from core.errors import CorpusError
from corpus.readers.notes import Note

PATHS = (
    "image", "filename", "file", "file_path", "image_path", "image_file", "img", "img_path",
    "img_name", "image_name", "image_index", "image_filename", "picture",
)  # fmt: skip

IDS = ("id", "img_id", "image_uid")

CAPTIONS = ("captions", "image_caption")

MANIFEST: Mapping[str, tuple[str, ...]] = {
    "path": PATHS,
    "image_id": IDS,
    "split": ("subset", "partition", "data_split", "dataset_split"),
    "category": (),
    "concepts": (
        "concept", "labels", "label", "cuis", "cui", "tags", "tag", "finding_labels", "label_cuis",
        "concept_ids",
    ),
    "group": (),
    "concept_names": (),
    "caption": CAPTIONS,
}  # fmt: skip
"""Columns of a manifest, and other names that are taken for them where the first is missing.

Capitals, blanks, `_` and `-` make no difference to any of them.
"""

ANNOTATIONS: Mapping[str, tuple[str, ...]] = {
    "image_id": (*IDS, *PATHS),
    "group": (),
    "split": (),
    "category": (),
    "caption": CAPTIONS,
}
"""The same of `groups.csv` and `metadata.csv`."""

_GROUPS = ("patient", "patient_id", "subject", "subject_id", "study_id", "pmcid", "article_id")


_CODES = ("cuis", "cui", "labelcuis", "conceptids")
"""Names of columns of codes, which count before columns of words."""


def plain(name: str) -> str:
    """A name in small letters and digits alone.

    Example:
        >>> plain(" Image ID"), plain("image_id"), plain("ImageID")
        ('imageid', 'imageid', 'imageid')
    """
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def known_names(meanings: Mapping[str, Sequence[str]]) -> set[str]:
    """All names of the columns with a meaning, plain."""
    return {plain(name) for meaning, names in meanings.items() for name in (meaning, *names)}


def rename(
    header: Sequence[str], meanings: Mapping[str, Sequence[str]], *, file: str
) -> tuple[tuple[str, ...], list[Note]]:
    """The header with the names of `meanings`, and a note on what was taken for what.

    The name itself counts before its spelling in other letters, and that before another name.

    Raises:
        CorpusError: two columns could be the same, or a name stands twice; `file` begins the line.
    """
    names = list(header)
    taken: dict[str, str] = {}
    for meaning, others in meanings.items():
        if meaning in header:
            continue
        same = [name for name in header if plain(name) == plain(meaning)]
        alike = [name for name in header if plain(name) in {plain(other) for other in others}]
        found = [name for name in dict.fromkeys(same or alike) if name not in meanings]
        if meaning == "concepts" and sum(plain(name) in _CODES for name in found) == 1:
            found = [name for name in found if plain(name) in _CODES]
        if len(found) > 1:
            which = " and ".join(repr(name) for name in found)
            raise CorpusError(
                f"{file}: columns {which} could each be {meaning!r}; give one of them that name"
            )
        if found:
            taken[found[0]] = meaning
            names[names.index(found[0])] = meaning
    if twice := [name for name in names if names.count(name) > 1]:
        raise CorpusError(f"{file}: column {twice[0]!r} stands twice; keep one")
    if not taken:
        return tuple(names), []
    said = ", ".join(f"{name!r} is {meaning}" for name, meaning in taken.items())
    return tuple(names), [Note(f"{_short(file)}: columns by other names: {said}")]


def hidden_groups(header: Iterable[str], *, file: str) -> list[Note]:
    """A note where no column is the group, but one sounds like it."""
    header = list(header)
    like = {plain(name) for name in _GROUPS}
    found = [name for name in header if plain(name) in like]
    if "group" in header or not found:
        return []
    text = f"column {found[0]!r} is metadata; call it group to keep its images together"
    return [Note(f"{file}: {text}")]


def _short(file: str) -> str:
    return file.replace("\\", "/").rpartition("/")[2]
