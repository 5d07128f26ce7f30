"""What was decided, held against what is true, by hand."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from browser.judgements import (
    Judgement,
    ensembles_of,
    judgement_of,
    judgement_of_submission,
)
from browser.library import Library
from core.errors import SubmissionError
from core.runs.ensemble import read_scores
from core.runs.workspace import Workspace
from tests.core.storage.unlisted import forget_files


def test_concepts_are_right_missed_or_invented(judgement: Judgement) -> None:
    # True {1,2} {1} {2,3} {} ? ?, decided {1,2} {2} {2} {3} {1} {}.
    assert judgement.right.toarray().astype(int).tolist() == [
        [1, 1, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0],
    ]  # fmt: skip
    assert judgement.counts["missed"].tolist() == [0, 1, 1, 0, 0, 0]
    assert judgement.counts["invented"].tolist() == [0, 1, 0, 1, 0, 0]
    assert judgement.counts["decided"].tolist() == [2, 1, 1, 1, 1, 0]
    assert judgement.judged.tolist() == [True] * 4 + [False] * 2


def test_f1_is_that_of_the_corpus_edition(judgement: Judgement) -> None:
    # 2025 counts the image without true concepts: 1, 0, 2 * 1 / (2 + 1), 0; 2020 leaves it out.
    np.testing.assert_allclose(judgement.f1, [1, 0, 2 / 3, 0, np.nan, np.nan])
    of_2020 = replace(judgement.library, corpus=replace(judgement.library.corpus, edition=2020))
    np.testing.assert_allclose(
        replace(judgement, library=of_2020).f1, [1, 0, 2 / 3, np.nan, np.nan, np.nan]
    )


def test_concepts_outside_the_label_space_are_missed(
    library: Library, judgement: Judgement
) -> None:
    table = library.corpus.table
    concepts = (("C1", "C2", "C99"), *table.concepts[1:])
    corpus = replace(library.corpus, table=replace(table, concepts=concepts))
    other = replace(judgement, library=replace(library, corpus=corpus))
    assert other.counts["missed"].tolist()[:2] == [1, 1]
    assert other.f1[0] == pytest.approx(2 * 2 / (2 + 3))


def test_a_submission_is_read_by_the_corpus_edition(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text("ID,CUIs\nImage_1,C1;C77\nImage_4,C2;C3\nelsewhere,C1\n")
    found = judgement_of_submission(path, library, name="run.csv")
    assert found.known.tolist() == [False, True, False, False, True, False]
    assert found.counts["decided"].tolist() == [0, 1, 0, 0, 2, 0]
    assert found.f1[1] == 1.0
    assert not found.has_probs


def test_a_file_that_is_no_submission_is_refused(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SubmissionError, match="not UTF-8"):
        judgement_of_submission(path, library, name="run.csv")


def test_an_ensemble_is_judged_as_it_judged_itself(whole: Workspace) -> None:
    library = Library.open(whole)
    ((name, folder),) = ensembles_of(library).items()
    found = judgement_of(folder, library)
    assert found.name == name
    assert found.known.all()
    ids, scores = read_scores(folder / "valid_f1.csv")
    rows = library.corpus.table.row_numbers(ids)
    np.testing.assert_allclose(found.f1[rows], scores["submission"], atol=1e-12)
    assert np.all((found.decided.data > 0) & (found.decided.data <= 1))
    assert not np.isnan(found.expected_f1[rows]).any()


def test_an_ensemble_of_an_earlier_version_decides_nothing_that_is_known(
    whole: Workspace, tmp_path: Path
) -> None:
    copied = Workspace(Path(shutil.copytree(whole.root, tmp_path / "whole")))
    library = Library.open(copied)
    (folder,) = ensembles_of(library).values()
    forget_files(folder)
    for name in ("decided.csv", "decided-test.csv"):
        (folder / name).unlink()
    found = judgement_of(folder, library)
    assert not found.known.any()
    assert np.isnan(found.f1).all()
