"""Whether an edition's evaluator would take a submission, with every reason why not.

The public script of 2017-2020 lets repeated images, repeated concepts and more than 100 concepts
pass; the platform refused them, and so does this.
"""

import csv
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from core.editions import MAX_CONCEPTS, Edition, rules_of
from core.errors import SubmissionError, bounded, first_few
from core.storage.archives import BrokenZipError, OpenZip, is_link
from core.storage.documents import plain_file

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
        return bounded(f"{place}: {self.reason}")


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


ZIP_MEMBER = "submission.csv"
"""The only file in an uploaded zip."""

_BLANK = "blank line; remove it"


@dataclass(frozen=True)
class Submission:
    """What the evaluator reads in a file.

    Attributes:
        predicted: concepts by image in the order of the file, as they stand there; () for a line
            without a second cell. Of an image that stands twice the last line counts.
        faults: all of them, those of the whole file last; `predicted` means something only if
            none is `rejected`.
    """

    predicted: Mapping[str, tuple[str, ...]]
    faults: tuple[Fault, ...]

    @property
    def rejected(self) -> list[Fault]:
        """The faults for which the evaluator refuses the file."""
        return [fault for fault in self.faults if fault.severity == "rejected"]


def check_submission(
    path: Path, *, edition: int, expected_ids: Sequence[str] | None = None
) -> list[Fault]:
    """Every fault of a submission, in the order of its lines; those of the whole file last.

    Args:
        path: the file, or a zip with `submission.csv` in it where the edition takes one.
        edition: year of the task.
        expected_ids: the test images in the order of the truth. None: unknown, missing and
            misplaced images are not looked for, and a warning says so.

    Returns:
        Faults; the evaluator takes the file if none is `rejected`.

    Raises:
        ConfigError: no evaluator of that year is public.
        SubmissionError: the file is missing, unreadable, or a zip that does not hold what it
            should.
    """
    rules = rules_of(edition)
    data, shown = read_submission(path, rules)
    return list(parse_submission(data, path=shown, rules=rules, expected_ids=expected_ids).faults)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a reader is told of a submission.

    Attributes:
        lines: what is wrong or odd, the reasons to refuse it first.
        sentence: whether the evaluator would take it.
        is_taken: the same, to decide by.
    """

    lines: tuple[str, ...]
    sentence: str
    is_taken: bool


def verdict_on(path: Path, *, edition: int, expected_ids: Sequence[str] | None) -> Verdict:
    """Whether the evaluator would take a submission; arguments and errors as `check_submission`."""
    faults = check_submission(path, edition=edition, expected_ids=expected_ids)
    ordered = sorted(faults, key=lambda fault: fault.severity != "rejected")
    n_rejected = sum(fault.severity == "rejected" for fault in faults)
    n_images = None if expected_ids is None else len(expected_ids)
    against = "its images not compared" if n_images is None else f"all {n_images:,} images"
    taken = f"{path}: the {edition} evaluator would take it ({against})"
    refused = f"{path}: {n_rejected} faults; the evaluator would refuse it"
    return Verdict(
        lines=tuple(first_lines(ordered)),
        sentence=refused if n_rejected else taken,
        is_taken=not n_rejected,
    )


def first_lines(faults: Sequence[object]) -> list[str]:
    """Faults in lines, the first fifty of too many."""
    lines = [str(fault) for fault in faults[:_SHOWN_FAULTS]]
    n_more = len(faults) - len(lines)
    return [*lines, f"... and {n_more:,} more"] if n_more else lines


_SHOWN_FAULTS = 50
_MOST_FAULTS = 100_000
_MOST_BYTES = 1 << 30  # of a file: of ten million images of a corpus of one's own
_MOST_UNPACKED = 32 << 20
"""Of what lies in a zip, thirty times what a submission of an edition has."""


def read_submission(path: Path, rules: Edition) -> tuple[bytes, Path]:
    """Bytes of a submission, from its zip if it lies in one, and the path to name in messages.

    Raises:
        SubmissionError: the file cannot be read, or the zip is not one that the platform takes.
    """
    try:
        plain_file(path, error=SubmissionError, most_bytes=_MOST_BYTES)
        if path.suffix != ".zip":
            return path.read_bytes(), path
        if not rules.zipped:
            raise SubmissionError(f"{path}: edition {rules.year} takes no zip; give the file in it")
        with OpenZip(path) as archive:
            names = [member.orig_filename for member in archive.members]
            if names != [ZIP_MEMBER] or is_link(archive.members[0]):
                raise SubmissionError(
                    f"{path}: expected the file {ZIP_MEMBER} and nothing else in the zip, found"
                    f" {first_few(names)}"
                )
            return archive.read(archive.members[0], most=_MOST_UNPACKED), path / ZIP_MEMBER
    except FileNotFoundError:
        raise SubmissionError(f"{path}: no such file") from None
    except OSError as error:
        raise SubmissionError(f"{path}: cannot be read ({error.strerror})") from None
    except BrokenZipError as error:
        raise SubmissionError(f"{path}: cannot be read as a zip ({error}); zip it again") from None


def parse_submission(
    data: bytes,
    *,
    path: Path,
    rules: Edition,
    expected_ids: Sequence[str] | None,
    public_script: bool = False,
) -> Submission:
    """What the evaluator reads in the bytes of a submission, with every fault.

    Args:
        data: content of the file.
        path: named in the faults.
        rules: the edition.
        expected_ids: as in `check_submission`.
        public_script: what only the platform of 2017-2020 refused is a warning.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Submission({}, (Fault(path, line, f"not UTF-8 (byte 0x{data[error.start]:02x})"),))
    lenient = public_script and rules.empty_truth == "left out"
    expected = None if expected_ids is None else _wanted(expected_ids, rules)
    told = islice(_text_reasons(text, rules), _MOST_FAULTS)
    faults = [Fault(path, line, why, how) for line, (how, why) in told]
    first_line: dict[str, int] = {}
    predicted: dict[str, tuple[str, ...]] = {}
    line = 0
    try:
        for line, cells in rules.rows(text):
            reasons = list(_header_reasons(cells, rules)) if line == 1 else []
            if not cells:
                reasons += [] if rules.strict else [("rejected", _BLANK)]
            elif not (line == 1 and _is_header(cells[0], rules)):
                reasons += id_reasons(
                    cells[0], rules, expected=expected, first_line=first_line, lenient=lenient
                )
                reasons += cell_reasons(cells, rules, lenient=lenient)
                first_line.setdefault(cells[0], line)
                if not rules.takes_for_header(cells[0]):
                    predicted[cells[0]] = rules.split(cells[1]) if len(cells) > 1 else ()
            faults += [Fault(path, line, why, how) for how, why in reasons]
            if len(faults) > _MOST_FAULTS:
                n = f"more than {_MOST_FAULTS:,} faults before it; the rest was not looked at"
                return Submission({}, (*faults, Fault(path, line + 1, n)))
    except csv.Error as error:
        faults.append(Fault(path, line + 1, f"cannot be read as a table ({error})"))
    if line == 0:
        faults += [Fault(path, 1, why, how) for how, why in _header_reasons([], rules)]
    faults += whole_faults(path, rules, expected=expected, first_line=first_line)
    faults.sort(key=lambda fault: (fault.line is None, fault.line or 0))
    return Submission(predicted, tuple(faults))


def _wanted(expected_ids: Sequence[str], rules: Edition) -> dict[str, int]:
    """Position of each image that must be there.

    The evaluator never misses an image that it takes for a header; the strict check before it does.
    """
    kept = (i for i in expected_ids if rules.strict or not rules.takes_for_header(i))
    return {image_id: position for position, image_id in enumerate(dict.fromkeys(kept))}


def _is_header(image_id: str, rules: Edition) -> bool:
    """Whether the first line is dropped and was meant to be."""
    return rules.id_marks_header and image_id.lstrip(BYTE_ORDER_MARK) == "ID"


def _header_reasons(cells: Sequence[str], rules: Edition) -> Iterator[Reason]:
    """What is wrong with the first line where a header must stand."""
    if rules.strict and tuple(cells) != rules.header:
        yield "rejected", f"expected the header ID,CUIs; found {','.join(cells)[:60]!r}"


def _text_reasons(text: str, rules: Edition) -> Iterator[tuple[int, Reason]]:
    """Lines and reasons of what is wrong whatever the columns."""
    if text.startswith(BYTE_ORDER_MARK):
        yield 1, ("warning", "byte order mark at the start; it becomes part of the first cell")
    if rules.strict:
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                yield number, ("rejected", _BLANK)
