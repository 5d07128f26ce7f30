"""A small library made by hand, and the whole small ensemble of `inference`'s tests."""

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from browser.judgements import Judgement
from browser.library import Library
from core.images import ImageTable
from core.labels import LabelSpace
from core.runs.workspace import Corpus, Workspace
from tests.inference.conftest import whole  # noqa: F401

SETS: tuple[tuple[str, ...] | None, ...] = (
    ("C1", "C2"),
    ("C1",),
    ("C2", "C3"),
    (),
    None,
    None,
)
"""True concepts of six images; of the last two, test, they are not known."""

DECIDED = (("C1", "C2"), ("C2",), ("C2",), ("C3",), ("C1",), ())


def made_library(root: Path, *, year: int = 2025) -> Library:
    """Six images: CT, CT, X-ray, X-ray, CT, none; the first two are of one group."""
    n = len(SETS)
    table = ImageTable(
        image_ids=tuple(f"Image_{k}" for k in range(n)),
        paths=("",) * n,
        categories=("DRCT", "DRCT", "DRXR", "DRXR", "DRCT", ""),
        splits=("train", "train", "train", "valid", "test", "test"),
        folds=np.array([0, 0, 1, 1, -1, -1], dtype=np.int16),
        groups=("g1", "g1", "g2", "g3", "g4", ""),
        concepts=SETS,
    )
    corpus = Corpus(
        name="by hand",
        table=table,
        labels=LabelSpace(("C1", "C2", "C3")),
        names={"C1": "Chest", "C2": "Lung nodule"},
        edition=year,
        fingerprint="hand0000",
        notes=(),
        protocol="crossfit",
    )
    return Library(
        corpus=corpus,
        workspace=Workspace(root),
        categories=(*table.categories[:5], "DRXR"),
        guessed=np.array([False] * 5 + [True]),
        doubts={},
        duplicates={0: [(2, 0.97)], 2: [(0, 0.97)]},
    )


def judged(library: Library, decided: tuple[tuple[str, ...], ...] = DECIDED) -> Judgement:
    """What was decided, with the probabilities 0.9, 0.8, ... in the order of the concepts."""
    sets = [library.labels.columns(own) for own in decided]
    probs = [0.9 - 0.1 * place for own in decided for place in range(len(own))]
    starts = np.cumsum([0, *map(len, sets)])
    return Judgement(
        name="made",
        library=library,
        known=np.ones(len(library), dtype=np.bool_),
        decided=csr_array(
            (np.array(probs, np.float32), np.concatenate(sets), starts),
            shape=(len(library), len(library.labels)),
        ),
        expected_f1=np.array([0.9, 0.4, 0.6, 0.2, 0.7, np.nan]),
        disagreement=np.array([0.1, 0.3, 0.2, 0.0, 0.4, 0.0]),
    )


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """The library made by hand."""
    return made_library(tmp_path)


@pytest.fixture
def judgement(library: Library) -> Judgement:
    """What was decided of its images."""
    return judged(library)
