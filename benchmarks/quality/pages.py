"""The command of a benchmark that makes a page and a figure of a workspace."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

Run = Callable[..., Sequence[Path]]
"""Makes the files of a page: `run(workspace, folder, text=...)`."""


def make_page(run: Run, *, name: str) -> None:
    """Make what the command line asks for, and print the page.

    Args:
        run: makes it.
        name: of the page, without its ending.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("workspace", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--text", default="", help="a sentence model: its package or its folder")
    given = parser.parse_args()
    for path in run(given.workspace, given.folder, text=given.text):
        print(path)
    print((given.folder / f"{name}.md").read_text(encoding="utf-8"))
