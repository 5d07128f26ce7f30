"""What can be wrong in one line of a submission, and how the evaluator takes it."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.editions import MAX_CONCEPTS, Edition
from core.errors import first_few

Severity = Literal["rejected", "warning"]
Reason = tuple[Severity, str]

BYTE_ORDER_MARK = "\ufeff"

_CUI = re.compile(r"C\d+")
_CUIS = re.compile(r"C\d+(;C\d+)*")
_SEPARATORS = {"\t": "TAB", "|": "'|'", ",": "','"}


@dataclass(frozen=True)
class Fault:
    """Something wrong in a submission or a truth; as text `file:line: reason`.

    Attributes:
        path: the file; for a zip, the file within it.
        line: line number from 1; None where the whole file is meant.
        reason: what was found and, where that is not plain, what to do.
        severity: `rejected`: the evaluator refuses the file. `warning`: it takes the file, but
            reads the line otherwise than its author will have meant.
    """

    path: Path
    line: int | None
    reason: str
    severity: Severity = "rejected"

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.reason}"


def id_reasons(
    image_id: str,
    rules: Edition,
    *,
    expected: Collection[str] | None,
    first_line: Mapping[str, int],
    lenient: bool,
) -> Iterator[Reason]:
    """What is wrong with the image of a line.

    Args:
        image_id: first cell of the line.
        rules: the edition.
        expected: images that may stand there; None if they are not known.
        first_line: the line on which each earlier image stood first.
        lenient: a repeated image passes, its last line counts.
    """
    shown = repr(image_id[:60])
    if rules.takes_for_header(image_id):
        yield (
            "warning",
            f"image {shown} has 'ID' in its name: the evaluator takes the line for a header and"
            " never scores it",
        )
        if not rules.strict:
            return
    if image_id in first_line:
        severity: Severity = "warning" if lenient else "rejected"
        yield severity, f"image {shown} stands twice, first on line {first_line[image_id]}"
    if expected is not None and image_id not in expected:
        yield "rejected", f"image {shown} is not in the test set{_remedy(image_id, rules)}"


def _remedy(image_id: str, rules: Edition) -> str:
    """The likely reason why an id is not known, for the end of a message."""
    if image_id.startswith(BYTE_ORDER_MARK):
        return "; remove the byte order mark at the start of the file"
    if other := _other_separators(image_id, rules):
        return f"; {other[0]} does not separate id and concepts here"
    if image_id == "ID":
        return "; this edition has no header"
    if image_id != image_id.strip(" \"'"):
        return "; remove the blanks or quotes around it"
    return ""


def cell_reasons(cells: Sequence[str], rules: Edition, *, lenient: bool) -> Iterator[Reason]:
    """What is wrong with the number of cells of a line, or with its concepts.

    The strict check runs before lines are dropped, the limit of 100 concepts after.

    Args:
        cells: at least the image id.
        rules: the edition.
        lenient: repeated concepts and more than 100 of them pass.
    """
    dropped = rules.takes_for_header(cells[0])
    if dropped and not rules.strict:
        return
    if len(cells) > 2 or (rules.strict and len(cells) != 2):
        yield (
            "rejected",
            f"cells: {len(cells)}; expected an id and its concepts, separated by"
            f" {_separator_name(rules)}",
        )
    if len(cells) == 1:
        yield from _bare_reasons(cells[0], rules)
        return
    as_read = rules.split(cells[1])
    plain = _CUIS.fullmatch(cells[1]) is not None  # nearly every line is
    concepts = as_read if plain else tuple(concept.strip() for concept in as_read)
    distinct = set(concepts)
    if len(concepts) > MAX_CONCEPTS and not dropped:
        yield (
            "warning" if lenient else "rejected",
            f"{len(concepts)} concepts; at most {MAX_CONCEPTS} are allowed",
        )
    if len(distinct) < len(concepts):
        twice = sorted(concept for concept in distinct if concepts.count(concept) > 1)
        yield "warning" if lenient else "rejected", f"concepts stand twice: {first_few(twice)}"
    if rules.strict and cells[1] != cells[1].strip():
        yield "rejected", "blanks around the concepts; remove them"
    if not plain:
        yield from _spelling_reasons(as_read, rules)


def _other_separators(image_id: str, rules: Edition) -> list[str]:
    """Separators of other editions in an id, in words; 2023 has two, of which one was not used."""
    own = "" if rules.pipe_or_tab else rules.separator
    return [name for mark, name in _SEPARATORS.items() if mark in image_id and mark != own]


def _separator_name(rules: Edition) -> str:
    return "'|' or TAB" if rules.pipe_or_tab else _SEPARATORS[rules.separator]


def _bare_reasons(image_id: str, rules: Edition) -> Iterator[Reason]:
    """What is wrong with a line of one cell; without concepts it may be meant so."""
    if rules.strict:
        return
    if other := _other_separators(image_id, rules):
        yield (
            "warning",
            f"one cell; {other[0]} is no separator here, expected {_separator_name(rules)}",
        )
    elif rules.empty_truth == "counted":
        yield (
            "warning",
            "no separator after the id: against an image without concepts this scores 0, an empty"
            " cell 1",
        )


def _spelling_reasons(concepts: Sequence[str], rules: Edition) -> Iterator[Reason]:
    """What is wrong with the spelling of concepts that are not a plain list of CUIs."""
    if concepts in ((), ("",)):
        return
    if "" in (stripped := [concept.strip() for concept in concepts]):
        yield (
            ("rejected", "empty concept; remove the surplus ';'")
            if rules.strict
            else ("warning", "empty concept, scored as a wrong one; remove the surplus ';'")
        )
    strange = [c for c in stripped if c and not _CUI.fullmatch(c if rules.strict else c.upper())]
    if strange:
        how: Severity = "rejected" if rules.strict else "warning"
        yield how, f"not C and digits: {first_few(strange)}"
    if padded := [c for c, bare in zip(concepts, stripped, strict=True) if c != bare]:
        yield "warning", f"blanks around concepts make them other concepts: {first_few(padded)}"
    if len({c.upper() for c in stripped}) < len(set(stripped)):
        yield "warning", "concepts that differ only in case count once"


def whole_faults(
    path: Path,
    rules: Edition,
    *,
    expected: Mapping[str, int] | None,
    first_line: Mapping[str, int],
) -> Iterator[Fault]:
    """What is wrong with the images of a file as a whole: missing ones, and their order.

    Args:
        path: named in the faults.
        rules: the edition.
        expected: position of each image that must be there; None if they are not known.
        first_line: line of each image that is there, in the order of the file.
    """
    if expected is None:
        reason = "unknown, missing and misplaced images were not looked for: no ids were given"
        yield Fault(path, None, reason, "warning")
        return
    if missing := [i for i in expected if i not in first_line]:
        reason = f"{len(missing)} of {len(expected)} images are missing: {first_few(missing)}"
        yield Fault(path, None, reason)
    if rules.strict:
        found = [i for i in first_line if i in expected]
        ordered = sorted(found, key=expected.__getitem__)
        if wrong := [(f, o) for f, o in zip(found, ordered, strict=True) if f != o]:
            image_id, wanted = wrong[0]
            reason = (
                f"images must stand in the order of the truth: {image_id!r} where {wanted!r}"
                f" belongs ({len(wrong)} of {len(found)} are misplaced)"
            )
            yield Fault(path, first_line[image_id], reason)
