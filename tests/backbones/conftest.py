"""What the tests of detectors share."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from core.runs import new_folder
from core.workspace import Corpus, Workspace


@pytest.fixture
def prepared(corpus: Corpus, tmp_path: Path) -> Callable[[str], Workspace]:
    """Workspaces of a name that hold the made corpus as `prepare` would have written it."""

    def prepare(name: str) -> Workspace:
        workspace = Workspace(tmp_path / name)
        meta = {"name": corpus.name, "edition": 2020, "fingerprint": "made0000", "notes": []}
        with new_folder(workspace.corpus, meta) as draft:
            corpus.table.save(draft / "images.csv")
            corpus.labels.save(draft / "labels.txt")
            with (draft / "names.csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(corpus.names.items())
        return workspace

    return prepare
