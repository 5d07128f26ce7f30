"""Whether an edition's evaluator would take a submission, with every reason why not.

The public script of 2017-2020 lets repeated images, repeated concepts and more than 100 concepts
pass; the platform refused them, and so does this.
"""

import csv
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.editions import Edition, rules_of
from core.errors import SubmissionError, first_few
from ensembles.faults import (
    BYTE_ORDER_MARK,
    Fault,
    Reason,
    cell_reasons,
    id_reasons,
    whole_faults,
)

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


def read_submission(path: Path, rules: Edition) -> tuple[bytes, Path]:
    """Bytes of a submission, from its zip if it lies in one, and the path to name in messages.

    Raises:
        SubmissionError: the file cannot be read, or the zip is not one that the platform takes.
    """
    try:
        if path.suffix != ".zip":
            return path.read_bytes(), path
        if not rules.zipped:
            raise SubmissionError(f"{path}: edition {rules.year} takes no zip; give the file in it")
        with zipfile.ZipFile(path) as archive:
            if (names := archive.namelist()) != [ZIP_MEMBER]:
                raise SubmissionError(
                    f"{path}: expected {ZIP_MEMBER} and nothing else in the zip, found"
                    f" {first_few(names)}"
                )
            return archive.read(ZIP_MEMBER), path / ZIP_MEMBER
    except FileNotFoundError:
        raise SubmissionError(f"{path}: no such file") from None
    except OSError as error:
        raise SubmissionError(f"{path}: cannot be read ({error.strerror})") from None
    except zipfile.BadZipFile as error:
        raise SubmissionError(f"{path}: cannot be read as a zip ({error})") from None


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
    faults = [Fault(path, line, why, how) for line, (how, why) in _text_reasons(text, rules)]
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
