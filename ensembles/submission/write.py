"""Submissions as files: written in an edition's format and checked before they take their name."""

import io
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path

from core.editions import Edition, rules_of
from core.errors import AlignmentError, SubmissionError
from core.storage.drafts import draft_file
from core.storage.tables import csv_row
from core.storage.text import unwritable
from ensembles.submission.check import ZIP_MEMBER, parse_submission

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # equal submissions make equal zips


def write_submission(
    path: Path, *, image_ids: Sequence[str], concept_sets: Sequence[Collection[str]], edition: int
) -> Path:
    """Write a submission and give the file to upload.

    In 2025 and 2026 that is a zip beside the file: same name, ending `.zip`, holding
    `submission.csv` whatever the file is called. In other editions it is the file itself. Nothing
    is written unless the edition's evaluator would take it; a file of that name is replaced whole.

    Args:
        path: the file to write; its folder is made.
        image_ids: N test images; for 2026 in the order of the truth, which nothing here can check.
        concept_sets: N collections of at most 100 distinct concepts, written in their order; an
            empty one gives an empty cell.
        edition: year of the task.

    Returns:
        The file to upload.

    Raises:
        ConfigError: no evaluator of that year is public.
        AlignmentError: the numbers of images and of concept sets differ.
        SubmissionError: the evaluator would refuse the file, or read in it other concepts than
            those given; line and reason are named.
    """
    rules = rules_of(edition)
    if len(image_ids) != len(concept_sets):
        raise AlignmentError(
            f"{path}: {len(image_ids)} images but {len(concept_sets)} concept sets to submit"
        )
    if rules.zipped and path.suffix == ".zip":
        raise SubmissionError(f"{path}: name the .csv; its zip is written beside it")
    data = _as_bytes(path, image_ids, concept_sets, rules)
    _require_taken(data, path, image_ids, concept_sets, rules)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(path, data)
    if not rules.zipped:
        return path
    upload = path.with_suffix(".zip")
    _write_whole(upload, _as_zip(data))
    return upload


def _as_bytes(
    path: Path,
    image_ids: Sequence[str],
    concept_sets: Sequence[Collection[str]],
    rules: Edition,
) -> bytes:
    """The submission as UTF-8 without byte order mark, lines ending in LF.

    Raises:
        SubmissionError: a cell cannot be written so that it is read again.
    """
    rows = [
        [image_id, ";".join(concepts)]
        for image_id, concepts in zip(image_ids, concept_sets, strict=True)
    ]
    for image_id, cell in rows:
        if reason := unwritable(image_id) or unwritable(cell):
            raise SubmissionError(f"{path}: image {image_id[:60]!r}: {reason}; nothing was written")
    if rules.header:
        rows.insert(0, list(rules.header))
    if rules.quotes:  # all of them have commas
        return "".join(map(csv_row, rows)).encode()
    return "".join(f"{rules.separator.join(row)}\n" for row in rows).encode()


def _require_taken(
    data: bytes,
    path: Path,
    image_ids: Sequence[str],
    concept_sets: Sequence[Collection[str]],
    rules: Edition,
) -> None:
    """Refuse what the evaluator would refuse, or would read as something else.

    Raises:
        SubmissionError: it would.
    """
    submission = parse_submission(data, path=path, rules=rules, expected_ids=image_ids)
    if rejected := submission.rejected:
        raise SubmissionError(f"{rejected[0]}; nothing was written")
    for image_id, concepts in zip(image_ids, concept_sets, strict=True):
        read = submission.predicted.get(image_id)  # None: the evaluator drops the line
        if read is not None and read != tuple(concepts) and (concepts or read not in ((), ("",))):
            raise SubmissionError(
                f"{path}: image {image_id!r}: the concepts {list(concepts)} would be read as"
                f" {list(read)}; nothing was written"
            )


def _as_zip(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        member = zipfile.ZipInfo(ZIP_MEMBER, date_time=_ZIP_TIME)
        member.external_attr = 0o644 << 16
        archive.writestr(member, data, compress_type=zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _write_whole(path: Path, data: bytes) -> None:
    """Write under a temporary name, then rename, so that no half-written file is ever seen."""
    with draft_file(path) as draft:
        draft.write_bytes(data)
