"""Sections of a page, each written once, in Markdown that reads well as plain text too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from core.runs.external import ExternalResource, note_on_resources, rows_of_resources
from core.storage.text import brief, plain


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with aligned columns, the first to the left, the others to the right.

    Cells are text (see `core.storage.text.plain`); the header is Markdown.

    Example:
        >>> print(table(["source", "F1"], [["prior", "0.5"]]))
        | source |  F1 |
        | :----- | --: |
        | prior  | 0.5 |
    """
    cells = [list(header), *(list(map(plain, row)) for row in rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [f":{'-' * (widths[0] - 1)}", *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    return "\n".join([line(cells[0]), f"| {' | '.join(rule)} |", *map(line, cells[1:])])


def picture(name: str, caption: str) -> str:
    """A figure that lies beside the page."""
    return f"![{caption}]({name}.svg)"


def photograph(name: str, caption: str) -> str:
    """A picture that is a JPEG beside the page."""
    return f"![{caption}]({name}.jpg)"


def errors(margin: float) -> str:
    """A number of standard errors in words.

    Example:
        >>> errors(1.0), errors(0.5)
        ('1 standard error', '0.5 standard errors')
    """
    return f"{margin:g} standard error{'' if margin == 1 else 's'}"


def versions_of(meta: Mapping[str, Any]) -> str:
    """Python, machine and packages by which a run was made, as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in meta["packages"].items())
    return plain(brief(f"Python {meta['python']}, {meta['machine']}; {versions}", longest=2000))


def resources_table(
    users: Mapping[ExternalResource, Sequence[str]], *, header: str = "members"
) -> str:
    """Weights of others that networks started from, and who took them; a line where there are none.

    Args:
        users: who takes them, by resource.
        header: what those are called.
    """
    if not users:
        return "None: all networks started from random weights."
    found = table(["encoder", "weights from", "their licence", header], rows_of_resources(users))
    return f"{found}\n\n{note}" if (note := note_on_resources(users)) else found


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page.

    Attributes:
        heading: above it; empty for none.
        paragraphs: Markdown; figures stand in it as `reports.pages.markdown.picture` writes them.
        figures: those figures, by name.
        pictures: JPEG files that stand in it as `photograph` writes them, by name.
    """

    heading: str
    paragraphs: Sequence[str]
    figures: Mapping[str, Figure] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)


def as_markdown(title: str, parts: Sequence[Section]) -> str:
    """The page as Markdown, under a title of any text."""
    lines = [f"# {plain(title)}"]
    for part in parts:
        lines += [f"## {part.heading}"] if part.heading else []
        lines += part.paragraphs
    return "\n\n".join(lines) + "\n"
