"""The concepts of an image as a cell holds them: lists of many kinds, tags, words for nothing.

Which of them a column writes is told by all of its cells: a comma separates where no cell has a
semicolon or a bar, and `0` is a class where other cells are numbers too. A code that stands with
other signs in what would be one concept is a list that was not understood: it is refused, or parted
where there is nothing but codes.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from core.errors import first_few
from core.storage.documents import parse_json
from corpus.readers.notes import Note, count
from corpus.readers.tables.cells import NOTHING_WORDS, is_unknown, words_in
from corpus.readers.tables.columns import plain

CODE = re.compile(r"C\d+|RID\d{3,}|[A-Z]\d{4,}", re.IGNORECASE | re.ASCII)
"""A code of a concept: UMLS, RadLex, MeSH. No code has a blank in it, so one parts two codes."""

_CODES = re.compile(r"C\d{7}(;C\d{7})*", re.ASCII)

_CUI = re.compile(r"(?<![^\W_])C\d{7}(?![^\W_])", re.IGNORECASE)
"""A code of UMLS among other signs."""

_LOOKS_LIKE_CUI = re.compile(r"[^\W\d_]\d{7}")  # with a letter of another alphabet

_OTHER_SIGNS = re.compile("[^a-zA-Z0-9]+")

_USUAL_SIGNS = re.compile(r"[a-zA-Z0-9\s,;|'\"]+")

_CALL = re.compile(
    r"(?:(?:np|numpy)\.)?(?:array|frozenset|set|list|tuple)\((.*?),?\s*(?:dtype=[^)]*)?\)",
    re.DOTALL,
)
"""A list as numpy and Python show it: array(['C1'], dtype=object)."""

_WHOLE = re.compile(r"(\d+)\.0+")

_CLEAN = re.compile(r"""[^\s,;|/:\[\](){}'"<>]+(;[^\s,;|/:\[\](){}'"<>]+)*""")

_BREAKS = re.compile(r"[\s,;|]+")

_IN_URL = re.compile(
    r"<?(?:(?:https?|ftp|urn):.*[/#:=]|(?:umls|cui)[/:] ?)(?P<code>[a-z]+\d+)/?>?", re.IGNORECASE
)

_BRACKETS = {"[": "]", "(": ")", "{": "}"}

_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")

_NUMBERS = re.compile(r"\d+(\.0+)?([\s;,|]+\d+(\.0+)?)*")

_SEPARATED = {";": "", "|": "between bars", ",": "between commas", " ": "between blanks"}

_SIGNS = "between other signs"

_NO_FINDING = {"nofinding", "nofindings"}


@dataclass(frozen=True)
class Writing:
    """How a column writes concepts.

    Attributes:
        between: what separates tags; "" where no cell has a separator.
        numbered: concepts are numbers, 0 among them.
        listed: cells are lists as Python or JSON write them, `[]` an empty one.
    """

    between: str = ";"
    numbered: bool = False
    listed: bool = False


@dataclass
class Seen:
    """What was found while cells were read: of each kind, one entry a cell or word."""

    nothing: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    tags: dict[str, str] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)


def writing_of(cells: Iterable[str]) -> Writing:
    """How the cells of a column are written."""
    cells = set(cells)
    plain_cells = [cell for cell in cells if cell[:1] not in _BRACKETS]
    between = next((s for s in ";|," if any(s in cell for cell in plain_cells)), "")
    listed = any(cell[:1] in _BRACKETS and cell not in NOTHING_WORDS for cell in cells)
    numbers = {n for cell in cells if _NUMBERS.fullmatch(cell) for n in _BREAKS.split(cell)}
    numbered = any(float(number) for number in numbers)
    return Writing(between=between, numbered=numbered, listed=listed)


def concepts_in(cell: str, *, writing: Writing, seen: Seen) -> list[str]:
    """The concepts of a cell, as they are written there; what was odd is added to `seen`.

    Raises:
        ValueError: a list is not closed or holds something else than words, or the cell mixes
            codes with other words.
    """
    cell = cell.strip()
    if _CODES.fullmatch(cell):
        return cell.split(";")
    if called := _CALL.fullmatch(cell):
        cell = called[1].strip() or "set()"
    if _CLEAN.fullmatch(cell) and not _has_nothing(cell, writing) and not _hides_code(cell):
        if len(cell) < 16 and plain(cell) in _NO_FINDING:
            seen.kept.append(cell)
        return [_numbered(part, writing) for part in cell.split(";")]
    if not cell or _is_nothing(cell, writing):
        if cell and not (cell == "[]" and writing.listed):
            seen.nothing.append(cell)
        return []
    given = _parts(cell, writing, seen)
    parts = [one for part in given for one in _codes_apart(part)]
    if len(parts) > len(given):
        seen.kinds[_SIGNS] += 1
    if any(_IN_URL.fullmatch(part.strip()) for part in parts):
        seen.kinds["written as addresses (http://..., UMLS:...)"] += 1
    words = [part for part in parts if _is_nothing(part, writing)]
    kept = [
        _concept(_numbered(part, writing), seen) for part in parts if not _is_nothing(part, writing)
    ]
    if words and not any(kept):
        seen.nothing.append(cell)
    else:
        seen.dropped += words
    return kept


def concept_notes(where: str, seen: Seen, *, writing: Writing | None = None) -> list[Note]:
    """What there is to say of cells that were read; `where` names the file."""
    notes = []
    if seen.nothing:
        cells = count(len(seen.nothing), "image")
        text = f"{where}: {cells} with a word for nothing as the only concept, read as no concept"
        notes.append(Note(f"{text}: {words_in(seen.nothing)}", grave=True))
    if seen.dropped:
        text = f"{count(len(seen.dropped), 'word')} for nothing among other concepts, dropped"
        notes.append(Note(f"{where}: {text}: {words_in(seen.dropped)}"))
    for kind, n in seen.kinds.items():
        notes.append(Note(f"{where}: concepts of {count(n, 'image')} {kind}, read as a list"))
    if seen.tags:
        first = next(iter(seen.tags))
        text = f"{count(len(seen.tags), 'concept')} with blanks inside, written with _"
        notes.append(Note(f"{where}: {text}: {seen.tags[first]!r} is {first}"))
    if writing and writing.numbered:
        notes.append(Note(f"{where}: concepts that are numbers, kept as names of classes"))
    if seen.kept:
        text = f"{words_in(seen.kept)} kept as a concept; leave the cell empty for none"
        notes.append(Note(f"{where}: {text}"))
    return notes


def tag_id(text: str) -> str:
    """A tag as the id of a concept: in capitals, `_` for blanks and separators inside.

    Example:
        >>> tag_id("chest tube"), tag_id("Opacity, left")
        ('CHEST_TUBE', 'OPACITY_LEFT')
    """
    return _BREAKS.sub("_", text.strip()).strip("_").upper()


def _is_nothing(word: str, writing: Writing) -> bool:
    word = word.strip()
    if not word:
        return False
    word = (word.strip("'\" ") or word).casefold()
    if word in ("0", "0.0"):
        return not writing.numbered
    return word in NOTHING_WORDS or is_unknown(word)


def _has_nothing(cell: str, writing: Writing) -> bool:
    return any(_is_nothing(part, writing) for part in cell.split(";"))


def _numbered(part: str, writing: Writing) -> str:
    """A class that is a number without the `.0` that pandas adds where a cell is missing."""
    told = _WHOLE.fullmatch(part.strip()) if writing.numbered else None
    return told[1] if told else part


def _hides_code(text: str) -> bool:
    """Whether concepts between semicolons have one that is more than a code, but has a code in it.

    So has one whose letter only looks like the C of a code.
    """
    for part in text.split(";"):
        bare = part.strip("'\" ")
        if CODE.fullmatch(bare) or _IN_URL.fullmatch(bare):
            continue
        if _CUI.search(bare) or (not bare.isascii() and _LOOKS_LIKE_CUI.fullmatch(bare)):
            return True
    return False


def _codes_apart(part: str) -> list[str]:
    """The codes of a part that has nothing but codes and signs, any other part as it is.

    Raises:
        ValueError: it has a code among other words.
    """
    words = [word for word in _OTHER_SIGNS.split(part) if word]
    if len(words) > 1 and all(map(_CUI.fullmatch, words)):
        return words
    if _hides_code(part):
        raise ValueError(part)
    return [part]


def _parts(cell: str, writing: Writing, seen: Seen) -> Sequence[str]:
    if cell[:2] in ('"[', '"{') and cell[-1] == '"' and (once := _decoded(cell)):
        cell = once  # JSON in JSON
    if cell[0] in _BRACKETS:
        seen.kinds["written as [...]"] += 1
        return _listed(cell)
    if len(cell) > 1 and cell[0] == cell[-1] and cell[0] in "'\"" and cell.count(cell[0]) == 2:
        seen.kinds["in quotes"] += 1
        inner = cell[1:-1].strip()
        return _parts(inner, writing, seen) if inner else [""]
    if _IN_URL.fullmatch(cell) and not re.search(r"[\s;|,]", cell):
        return [cell]
    if not _USUAL_SIGNS.fullmatch(cell) and _hides_code(cell):
        words = [word for word in _OTHER_SIGNS.split(cell) if word]
        if len(words) > 1 and all(map(_CUI.fullmatch, words)):
            seen.kinds[_SIGNS] += 1
            return words
    words = [word.strip("'\"") for word in _BREAKS.split(cell) if word.strip("'\"")]
    codes = [bool(CODE.fullmatch(word) or _IN_URL.fullmatch(word)) for word in words]
    separators = {separator for separator in ";|," if separator in cell}
    if all(codes) and words:
        if separators - {";"} or (not separators and len(words) > 1):
            how = next((s for s in "|," if s in separators), " ")
            seen.kinds[_SEPARATED[how]] += 1
        # An empty one between two separators is counted as such, so those are split at.
        return _split(cell, ";") if separators == {";"} else words
    between = writing.between if writing.between in separators else ""
    if any(codes) and between in ("", ","):  # a comma is a guess, that no code speaks against
        raise ValueError(cell)
    if between and between != ";":
        seen.kinds[_SEPARATED[between]] += 1
    parts = _split(cell, between) if between else [cell]
    if odd := [part for part in parts if _mixed(part)]:
        raise ValueError(odd[0])
    return parts


def _split(cell: str, separator: str) -> list[str]:
    return cell.split(separator)


def _decoded(cell: str) -> str:
    """The text that a cell holds as JSON, "" where it holds none."""
    try:
        found = parse_json(cell)
    except ValueError:
        return ""
    return found.strip() if isinstance(found, str) else ""


def _mixed(part: str) -> bool:
    """Whether a part holds a code and more: a separator that was not understood."""
    words = [word for word in _BREAKS.split(part) if word]
    return len(words) > 1 and any(CODE.fullmatch(word) for word in words)


def _listed(cell: str) -> list[str]:
    """The entries of a list as Python, JSON, numpy or a person writes it."""
    if cell[-1] != _BRACKETS[cell[0]]:
        raise ValueError(cell)
    try:
        found = parse_json(cell)
    except ValueError:
        inner = cell[1:-1]
        quoted = [single or double for single, double in _QUOTED.findall(inner)]
        bare = _QUOTED.sub("", inner)
        words = [word for word in _BREAKS.split(bare) if word]
        if quoted and not words:
            return quoted  # numpy writes no commas, which to Python is one word
        try:
            found = ast.literal_eval(cell)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            if quoted and all(map(is_unknown, words)):
                return [*quoted, *words]  # a nan among them, which is no word of Python
            found = _bare(inner, cell)
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, (list, tuple, set, frozenset)):
        raise ValueError(cell)
    if any(isinstance(one, (list, tuple, set, dict)) for one in found):
        raise ValueError(cell)
    if isinstance(found, (set, frozenset)):
        found = sorted(found, key=str)
    return ["nan" if one is None or one != one else str(one) for one in found]


def _bare(inner: str, cell: str) -> list[str]:
    """Entries without quotes: [C1, C2]."""
    if re.search(r"""[\[\](){}'"]""", inner):
        raise ValueError(cell)
    separator = next((s for s in ";|," if s in inner), None)
    return [part.strip() for part in inner.split(separator)]


def _concept(part: str, seen: Seen) -> str:
    """A concept without the address or the blanks it is written with."""
    if told := _IN_URL.fullmatch(part):
        return told["code"]
    bare = part.strip("'\" ")
    if plain(bare) in _NO_FINDING:
        seen.kept.append(bare)
    if _BREAKS.search(bare):
        tag = tag_id(bare)
        seen.tags.setdefault(tag, bare)
        return tag
    return part if part.strip() == bare else bare


def names_of_tags(seen: Iterable[Seen]) -> Mapping[str, str]:
    """Concept to the tag that it was written as, of those with blanks inside."""
    return {tag: text for one in seen for tag, text in one.tags.items()}


def names_beside(
    cells: Iterable[tuple[Sequence[str], str]], *, where: str
) -> tuple[dict[str, str], list[Note]]:
    """Names of concepts from a column that runs parallel to theirs.

    Args:
        cells: the concepts of an image as they stand in its cell, and the cell with their names,
            `;` between them.
        where: the file, for the note.

    Returns:
        CUI to name, and a note on cells that hold more or fewer names than concepts.
    """
    names: dict[str, str] = {}
    odd = []
    for concepts, text in cells:
        given = [name.strip() for name in text.split(";")] if text else []
        if len(given) != len(concepts):
            odd += [text] if text else []
            continue
        for concept, name in zip(concepts, given, strict=True):
            if name and concept:
                names.setdefault(concept.strip().upper(), name)
    if not odd:
        return names, []
    text = f"{count(len(odd), 'cell')} with more or fewer names than concepts, passed over"
    return names, [Note(f"{where}: {text}: {first_few(odd, n=2)}")]
