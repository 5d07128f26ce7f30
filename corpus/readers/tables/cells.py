"""What a cell means: words for nothing, splits, categories."""

import re
from collections import Counter
from collections.abc import Iterable

from core.categories import CATEGORIES, KNOWN_NAMES, UNKNOWN, category_of_name
from core.errors import CorpusError
from core.images import SPLITS
from corpus.readers.files import SPLIT_WORDS
from corpus.readers.notes import Note, count

_GAPS = frozenset((
    "nan", "-nan", "null", "na", "n/a", "#n/a", "<na>", "nat", "n.a.", "nil", r"\n", "#nv",
    "#null!", "#value!", "#ref!", "#div/0!", "#num!", "#name?",
))  # fmt: skip
"""Words that are no value in any column: programs alone write them. `unknown` and `none` may be
one (a licence, a contrast agent); `None` as Python writes it is not. `\\N` is a database's."""

UNKNOWN_WORDS = _GAPS | {
    "none", "unknown", "missing", "?", "undefined", "unspecified", "not available",
    "not applicable", "not specified",
}  # fmt: skip
"""What programs and people write for a value that they do not have."""

NOTHING_WORDS = frozenset((
    "0", "0.0", "[]", "{}", "()", '""', "''", "[nan]", "set()", "no concept", "no concepts",
))  # fmt: skip
"""What they write for no value, beside dashes and dots; whether there is none or none is known,
they do not say."""

_DASHES = re.compile("[-–—_.…]+")

_FURTHER_SPLIT_WORDS = {
    "train": ("trn", "tr"),
    "valid": ("validate", "development"),
    "test": ("tst",),
}
"""What tables call the splits beside the words of folders and files."""

_SPLIT_OF = {
    word: split
    for split, words in SPLIT_WORDS.items()
    for word in (*words, *_FURTHER_SPLIT_WORDS[split])
}


def is_unknown(text: str) -> bool:
    """Whether a cell is a word for a value that is not known, or a dash.

    Example:
        >>> [is_unknown(text) for text in ("NaN", "None", " - ", "none such")]
        [True, True, True, False]
    """
    word = text.strip().casefold()
    return word in UNKNOWN_WORDS or is_dash(word)


def is_dash(text: str) -> bool:
    """Whether a cell holds dashes or dots alone.

    Example:
        >>> is_dash("---"), is_dash("."), is_dash("-1")
        (True, True, False)
    """
    return bool(_DASHES.fullmatch(text))


def is_gap(text: str, *, numbers: bool = False) -> bool:
    """Whether a cell of any further column is a word for a missing value.

    Args:
        text: the cell.
        numbers: the column holds numbers otherwise: `unknown`, `none`, `-` and `?` are missing too.
    """
    if text == "None" or text.casefold() in _GAPS:
        return True
    return numbers and is_unknown(text)


def is_number(text: str) -> bool:
    """Whether a cell is a number, with a point or a comma in it."""
    try:
        float(text.replace(",", ".", 1))
    except ValueError:
        return False
    return text.casefold() not in UNKNOWN_WORDS


def split_of(text: str, *, where: str) -> str:
    """The split that a cell names.

    Raises:
        CorpusError: none has such a name; `where` says in which file and line.

    Example:
        >>> split_of("Validation", where="m.csv: line 2"), split_of("dev", where="m.csv: line 3")
        ('valid', 'valid')
    """
    if split := _SPLIT_OF.get(text.strip().strip("'\"").casefold()):
        return split
    raise CorpusError(
        f"{where}: split {text!r}; expected one of {', '.join(SPLITS)} (or training, validation,"
        " val, dev, testing)"
    )


def is_split(text: str) -> str | None:
    """The split that a cell names, None where it names none."""
    return _SPLIT_OF.get(text.casefold())


def category_at(where: str, name: str) -> str:
    """The category that a cell names; `UNKNOWN` for an empty one and for a word for no value.

    Raises:
        CorpusError: no category has that name; `where` says in which file and line.
    """
    if name in CATEGORIES:
        return name
    if not name.strip() or is_unknown(name):
        return UNKNOWN
    if category := category_of_name(name):
        return category
    raise CorpusError(f"{where}: category {name!r}; expected nothing or one of {KNOWN_NAMES}")


def renamed_note(renamed: Iterable[tuple[str, str]], *, file: str, what: str) -> tuple[Note, ...]:
    """A note on values that go by another name, given as (name in the file, name here)."""
    counted = Counter(pair for pair in renamed if pair[0] != pair[1])
    if not counted:
        return ()
    names = [f"{name!r} is {value} ({n})" for (name, value), n in counted.most_common(9)]
    more = f" and {count(len(counted) - 9, 'other name')}" if len(counted) > 9 else ""
    return (Note(f"{file}: {what}: {', '.join(names)}{more}"),)


def words_in(texts: Iterable[str]) -> str:
    """Words with how often they stand there, the frequent ones first.

    Example:
        >>> words_in(["nan", "None", "nan"])
        "'nan' (2), 'None' (1)"
    """
    return ", ".join(f"{word!r} ({n})" for word, n in Counter(texts).most_common(5))
