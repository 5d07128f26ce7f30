"""The images a submission must hold and their true concepts, read as the evaluator reads them."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.editions import Edition, rules_of
from core.errors import CorpusError
from core.runs.workspace import Workspace
from core.storage.documents import plain_file
from ensembles.submission.check import BYTE_ORDER_MARK, Fault


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What the evaluator reads in a truth file.

    Attributes:
        concepts: true concepts by image, as they stand in the file; the last line of an image
            counts.
        image_ids: the images that a submission must hold, in the order that 2026 wants. Its
            strict check drops the first line whatever it holds, so this can differ from
            `concepts`.
        warnings: lines that are dropped or overwritten, and other things worth a look.
    """

    concepts: Mapping[str, tuple[str, ...]]
    image_ids: tuple[str, ...]
    warnings: tuple[Fault, ...]


def read_truth(path: Path, *, edition: int) -> Truth:
    """True concepts of an edition's images.

    Raises:
        ConfigError: no evaluator of that year is public.
        CorpusError: the file is missing or unreadable, or a line is blank or has fewer or
            more cells than the evaluator takes.
    """
    rules = rules_of(edition)
    text = _read_text(path)
    concepts: dict[str, tuple[str, ...]] = {}
    image_ids: list[str] = []
    warnings: list[Fault] = []
    line = 0
    try:
        for line, cells in rules.rows(text, truth=True):
            dropped = _is_dropped(line, cells, rules)
            if not (cells or dropped):
                raise CorpusError(f"{path}:{line}: blank line; remove it")
            if dropped or cells[0] in concepts:
                warnings += _warnings(path, line, cells, dropped=dropped)
            if not dropped:
                concepts[cells[0]] = _concepts(path, line, cells, rules)
            if cells and not (rules.strict and line == 1):
                image_ids.append(cells[0].strip() if rules.strict else cells[0])
    except csv.Error as error:
        raise CorpusError(f"{path}:{line + 1}: cannot be read as a table ({error})") from None
    wanted = image_ids if rules.strict else concepts
    return Truth(
        concepts=concepts, image_ids=tuple(dict.fromkeys(wanted)), warnings=tuple(warnings)
    )


def _read_text(path: Path) -> str:
    try:
        return plain_file(path).read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise CorpusError(f"{path}: no such file") from None
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{error.object[error.start]:02x}"
        raise CorpusError(f"{path}:{line}: not UTF-8 ({found})") from None


def _is_dropped(line: int, cells: list[str], rules: Edition) -> bool:
    """Whether the evaluator drops a line, as a header or as what it takes for one."""
    if rules.truth_header and line == 1:
        return True
    return bool(cells) and rules.takes_for_header(cells[0])


def _concepts(path: Path, line: int, cells: list[str], rules: Edition) -> tuple[str, ...]:
    """Concepts of a line.

    Until 2020 an id alone is an image without concepts and a third column is a mistake; since 2022
    it is the other way round.
    """
    if rules.empty_truth == "counted":
        if len(cells) == 1:
            raise CorpusError(
                f"{path}:{line}: one cell; expected an id and its concepts, separated as in"
                f" {rules.year}"
            )
        return rules.split(cells[1])
    if len(cells) > 2:
        raise CorpusError(f"{path}:{line}: cells: {len(cells)}; expected an id and its concepts")
    return rules.split(cells[1]) if len(cells) == 2 else ()


def _warnings(path: Path, line: int, cells: list[str], *, dropped: bool) -> list[Fault]:
    """What to tell of a line that is dropped, or whose image stood before."""
    image_id = cells[0] if cells else ""
    if not dropped:
        reason = f"image {image_id!r} stands twice; its last line counts"
    elif line > 1:
        reason = f"image {image_id!r} has 'ID' in its name: it is taken for a header, not scored"
    elif image_id.lstrip(BYTE_ORDER_MARK) == "ID":
        return []
    else:
        reason = f"the first line is taken for a header: {image_id!r} is not scored"
    return [Fault(path, line, reason, "warning")]


def expected_ids(
    truth: Path | None, *, edition: int, workspace: Workspace | None
) -> tuple[str, ...] | None:
    """Images of a truth file, else of the test split of a workspace; None where neither is given.

    Raises:
        ConfigError: no evaluator of that year is public.
        CorpusError: the truth is missing or malformed.
        MissingStageError: nothing is prepared in the workspace.
    """
    if truth is not None:
        return read_truth(truth, edition=edition).image_ids
    if workspace is not None:
        return workspace.open_corpus().table.of(split="test").image_ids
    return None
