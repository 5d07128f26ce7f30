"""`stats`: a corpus in numbers and figures, one Markdown page with csv, SVG and PNG beside it."""

from pathlib import Path

from core.errors import ConfigError, first_few
from core.runs.workspace import Corpus
from core.storage.folders import (
    META,
    draft_folder,
    is_complete,
    read_meta,
    replace_folder,
    write_json,
)
from reports.pages.figures import save_figure, style
from reports.statistics.counts import Counted
from reports.statistics.figures import draw
from reports.statistics.page import overview, page
from reports.statistics.tables import write_tables

PAGE = "stats.md"


def write_stats(corpus: Corpus, folder: Path) -> list[str]:
    """Count a corpus and write `stats.md` with its tables and figures.

    The same corpus gives the same bytes; an older folder of `stats` is replaced.

    Args:
        corpus: what to count; its images are not opened.
        folder: where the page goes.

    Returns:
        The overview in lines, the path of the page first.

    Raises:
        ConfigError: the folder holds what `stats` did not write.
        CorpusError: no image of the corpus has a concept.
    """
    _refuse_foreign(folder)
    counted = Counted.of(corpus)
    with draft_folder(folder) as draft:
        with style():
            for name, figure in draw(counted).items():
                save_figure(figure, draft, name)
        write_tables(counted, draft)
        (draft / PAGE).write_text(page(counted), encoding="utf-8")
        files = sorted(path.name for path in draft.iterdir())
        write_json(draft / META, {"corpus": corpus.fingerprint, "files": files})
        replace_folder(folder, draft)
    return [str(folder / PAGE), corpus.name, *(f"  {line}" for line in overview(counted))]


def _refuse_foreign(folder: Path) -> None:
    """Refuse to replace a folder in which something else lies."""
    if not folder.exists():
        return
    ours = {META, *(read_meta(folder, "files")["files"] if is_complete(folder) else ())}
    if foreign := sorted(path.name for path in folder.iterdir() if path.name not in ours):
        raise ConfigError(
            f"{folder}: would be replaced, but holds what `stats` did not write:"
            f" {first_few(foreign)}; move that away"
        )
