"""Parts of a page: each is written once, for Markdown and HTML alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a page.

    Attributes:
        heading: above it; empty for none.
        paragraphs: Markdown; figures stand in it as `reports.pages.markdown.picture` writes them.
        figures: those figures, by name.
    """

    heading: str
    paragraphs: Sequence[str]
    figures: Mapping[str, Figure] = field(default_factory=dict)


def as_markdown(title: str, parts: Sequence[Part]) -> str:
    """The page as Markdown."""
    lines = [f"# {title}"]
    for part in parts:
        lines += [f"## {part.heading}"] if part.heading else []
        lines += part.paragraphs
    return "\n\n".join(lines) + "\n"
