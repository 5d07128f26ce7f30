"""A corpus of one's own: the list for people, and the score on labels of one's own."""

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from core.errors import CorpusError, SubmissionError
from core.labels import LabelSpace
from ensembles.calibration.temperature import Calibration
from ensembles.decisions.rule import DecisionRule
from ensembles.decisions.thresholds import Thresholds
from ensembles.submission.own_corpus import score_own, write_concepts
from ensembles.submission.write import write_submission

IDS = ["COVID-1", "b", "c"]  # the first would be taken for a header by the evaluators
SETS = [("C1", "C2"), (), ("C1",)]


def submitted(folder: Path, year: int = 2025) -> Path:
    return write_submission(folder / "run.csv", image_ids=IDS, concept_sets=SETS, edition=year)


def test_every_decided_concept_is_a_row_with_its_name_the_most_probable_first(
    tmp_path: Path,
) -> None:
    labels = LabelSpace(("C1", "C2", "C3"))
    probs = np.array([[0.5, 0.8, 0.1], [0.2, 0.2, 0.2], [0.9, 0.3, 0.6]], dtype=np.float32)
    rule = DecisionRule(
        kind="thresholds",
        thresholds=Thresholds(global_=0.4),
        always={"DRCT": ("C3",)},
    )
    decided = rule.probs_of(
        csr_array(np.array([[1, 1, 0], [0, 0, 0], [1, 0, 1]], dtype=bool)),
        probs,
        categories=["DRXR", "DRXR", "DRCT"],
        labels=labels,
        calibrated_by=DecisionRule(kind="top-k", calibration=Calibration(temperature=0.5)),
    )
    write_concepts(
        tmp_path / "concepts.csv",
        decided,
        image_ids=["b", "c", "a"],
        labels=labels,
        names={"C1": "chest", "C2": 'a "b", c'},
    )
    # Temperature 1/2 doubles log odds: 0.8 gives 16 / 17, 0.5 stays, 0.9 gives 81 / 82. C3 is sure.
    assert (tmp_path / "concepts.csv").read_text() == (
        "image,CUI,name,probability\n"
        'b,C2,"a ""b"", c",0.9412\n'
        "b,C1,chest,0.5000\n"
        "a,C3,,1.0000\n"
        "a,C1,chest,0.9878\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["concepts.csv"]


@pytest.mark.parametrize("year", [2022, 2025, 2026])
def test_an_id_that_evaluators_take_for_a_header_is_scored(year: int, tmp_path: Path) -> None:
    own = score_own(
        submitted(tmp_path, 2025) if year > 2022 else submitted(tmp_path, year),
        truth={"COVID-1": ("C1",), "b": (), "c": ("c1",)}, edition=year,
    )  # fmt: skip
    # 2 * 1 / (1 + 2) = 2/3; none and none: 1; C1 in any case: 1
    assert (own.f1, own.n_images, own.n_unlabelled) == ((2 / 3 + 1.0 + 1.0) / 3, 3, 0)


def test_until_2020_an_image_without_true_concepts_is_left_out(tmp_path: Path) -> None:
    truth = {"COVID-1": ("C1", "C2"), "b": (), "c": ("C2",)}
    own = score_own(submitted(tmp_path, 2020), truth=truth, edition=2020)
    assert (own.f1, own.n_images) == (0.5, 2)


def test_images_without_labels_are_left_out_and_counted(tmp_path: Path) -> None:
    own = score_own(submitted(tmp_path), truth={"c": ("C1", "C2")}, edition=2025)
    assert (own.f1, own.n_images, own.n_unlabelled) == (2 / 3, 1, 2)


def test_a_labelled_image_that_is_not_submitted_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SubmissionError, match=r"1 of 2 labelled test images are not in it: \['d'\]"
    ):
        score_own(submitted(tmp_path), truth={"c": ("C1",), "d": ("C1",)}, edition=2025)


def test_a_fault_of_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text("ID,CUIs\nc,C1\nc,C2\n")
    with pytest.raises(SubmissionError, match=r"run\.csv:3: image 'c' stands twice"):
        score_own(path, truth={"c": ("C1",)}, edition=2025)


def test_the_list_for_people_is_no_submission(tmp_path: Path) -> None:
    path = tmp_path / "concepts.csv"
    path.write_text("image,CUI,name,probability\nc,C1,chest,0.9\n")
    with pytest.raises(SubmissionError, match="the list for people; score the submission beside"):
        score_own(path, truth={"c": ("C1",)}, edition=2025)


def test_without_labels_there_is_no_score(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no test image has labels to score by"):
        score_own(submitted(tmp_path), truth={}, edition=2025)
    with pytest.raises(CorpusError, match="no labelled test image has a concept, and 2020 scores"):
        score_own(submitted(tmp_path, 2020), truth={"b": ()}, edition=2020)


def test_a_score_is_told_with_what_was_left_out(tmp_path: Path) -> None:
    own = score_own(
        submitted(tmp_path), truth={"c": ("C1", "C2")}, edition=2025, named="the hospital"
    )
    assert own.lines == [
        f"F1 {2 / 3!r} over 1 test images of the hospital; 2 without labels left out"
    ]
    assert own.numbers == {"f1": 2 / 3, "n_images": 1}
    truth = {"COVID-1": ("C1",), "b": (), "c": ("C1",)}
    whole = score_own(submitted(tmp_path), truth=truth, edition=2025)
    assert whole.lines == [f"F1 {(2 / 3 + 1 + 1) / 3!r} over 3 test images of the corpus"]


def test_an_image_that_is_called_id_is_scored_where_it_has_labels(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text("ID,C1\nc,C1\n", encoding="utf-8")
    own = score_own(path, truth={"ID": ("C1",), "c": ("C2",)}, edition=2025)
    assert (own.f1, own.n_images, own.n_unlabelled) == ((1.0 + 0.0) / 2, 2, 0)


def test_the_strict_form_of_2026_is_not_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text("c,c1\nb,C2\n", encoding="utf-8")  # no header, no capital
    own = score_own(path, truth={"b": ("C2",), "c": ("C1",)}, edition=2026)
    assert (own.f1, own.n_images) == (1.0, 2)
