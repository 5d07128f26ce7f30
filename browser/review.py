"""Images that somebody marked to look at again, kept in the workspace as a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from core.errors import ConfigError
from core.storage.drafts import draft_file
from core.storage.tables import csv_row, meant_as_written, read_rows, write_rows

MARKS: Mapping[str, str] = {
    "look": "look again",
    "label": "label doubtful",
    "category": "category doubtful",
    "image": "image unusable",
    "fine": "seen, fine",
}
"""Marks, in words."""

_HEADER = ("image_id", "mark", "note", "marked")
_HEADER_FOR_PEOPLE = ("image_id", "mark", "note", "marked_at_utc")
_LONGEST = 2000  # characters of a note


@dataclass(frozen=True)
class Mark:
    """A mark on an image.

    Attributes:
        mark: one of `MARKS`.
        note: of whoever marked it.
        marked: when, as ISO 8601 in UTC.
    """

    mark: str
    note: str
    marked: str


@dataclass
class Review:
    """Marks of a workspace by image id; every change is written at once.

    Attributes:
        path: the table.
    """

    path: Path
    marks: dict[str, Mark] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @classmethod
    def open(cls, path: Path) -> "Review":
        """The marks of a table, none where it is not there.

        Raises:
            PredictionsError: the table is not as it was written.
        """
        return cls(path=path, marks=_read(path))

    def set(self, image_id: str, *, mark: str, note: str = "") -> None:
        """Mark an image, or take its mark away with "".

        What another process wrote meanwhile is kept. A note may have several lines.

        Raises:
            ConfigError: there is no such mark, or the note is too long.
        """
        if mark and mark not in MARKS:
            raise ConfigError(f"mark={mark}: expected one of {', '.join(MARKS)}")
        note = "\n".join(" ".join(line.split()) for line in note.splitlines()).strip()
        if len(note) > _LONGEST:
            raise ConfigError(f"note: {len(note):,} characters, expected at most {_LONGEST:,}")
        with self._lock:
            marks = _read(self.path)
            marks.pop(image_id, None)
            if mark:
                now = datetime.now(UTC).isoformat(timespec="seconds")
                marks[image_id] = Mark(mark=mark, note=note, marked=now)
            rows = [_HEADER, *((i, m.mark, m.note, m.marked) for i, m in marks.items())]
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with draft_file(self.path) as draft:
                write_rows(draft, rows)
            self.marks = marks

    def as_csv(self, columns: Mapping[str, Mapping[str, str]]) -> str:
        """The marks as a table for people: marks in words, a CUI or a name as it is.

        Args:
            columns: further columns, by name, of images by id.
        """
        lines = [csv_row((*_HEADER_FOR_PEOPLE, *columns))]
        for image_id, mark in self.marks.items():
            further = [values.get(image_id, "") for values in columns.values()]
            marked = mark.marked[:19].replace("T", " ")
            cells = (image_id, MARKS.get(mark.mark, mark.mark), mark.note, marked, *further)
            lines.append(csv_row(cells, for_people=True))
        return "".join(lines)


def _read(path: Path) -> dict[str, Mark]:
    if not path.is_file():
        return {}
    with meant_as_written(path):
        _, *rows = read_rows(path)
        return {image_id: Mark(mark, note, marked) for image_id, mark, note, marked in rows}
