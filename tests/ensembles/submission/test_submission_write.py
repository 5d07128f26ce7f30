"""Submissions as files."""

import zipfile
from pathlib import Path

import pytest

from core.editions import EDITIONS
from core.errors import AlignmentError, ConfigError, SubmissionError
from ensembles.submission.check import check_submission
from ensembles.submission.score import score_submission
from ensembles.submission.write import write_submission

IDS = ["img2", "img1", "img3"]
SETS = [("C2", "C1"), (), ("C3",)]


@pytest.mark.parametrize(
    ("year", "content"),
    [
        (2017, b"img2\tC2;C1\nimg1\t\nimg3\tC3\n"),
        (2020, b"img2\tC2;C1\nimg1\t\nimg3\tC3\n"),
        (2022, b"img2|C2;C1\nimg1|\nimg3|C3\n"),
        (2023, b"img2|C2;C1\nimg1|\nimg3|C3\n"),
        (2025, b"ID,CUIs\nimg2,C2;C1\nimg1,\nimg3,C3\n"),
        (2026, b"ID,CUIs\nimg2,C2;C1\nimg1,\nimg3,C3\n"),
    ],
)
def test_each_edition_gets_its_format(year: int, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "submission.csv"
    upload = write_submission(path, image_ids=IDS, concept_sets=SETS, edition=year)
    assert path.read_bytes() == content
    assert upload == (path if year < 2025 else path.with_suffix(".zip"))
    assert not list(path.parent.glob(".*"))


@pytest.mark.parametrize("year", EDITIONS)
def test_what_is_written_passes_the_check_and_scores(year: int, tmp_path: Path) -> None:
    upload = write_submission(tmp_path / "run.csv", image_ids=IDS, concept_sets=SETS, edition=year)
    assert check_submission(upload, edition=year, expected_ids=IDS) == []
    truth = tmp_path / "truth.csv"
    header = "ID\tCUIs\n" if year in (2022, 2023) else ""
    separator = "," if year > 2023 else "\t"
    rows = "".join(f"{i}{separator}{';'.join(c)}\n" for i, c in zip(IDS, SETS, strict=True))
    truth.write_text(("ID,CUIs\n" if year > 2023 else header) + rows, encoding="utf-8")
    assert score_submission(upload, truth=truth, edition=year).f1 == 1.0


def test_the_zip_holds_submission_csv_whatever_the_file_is_called(tmp_path: Path) -> None:
    upload = write_submission(tmp_path / "best.csv", image_ids=IDS, concept_sets=SETS, edition=2025)
    assert upload.name == "best.zip"
    with zipfile.ZipFile(upload) as archive:
        [member] = archive.infolist()
        assert member.filename == "submission.csv"
        assert member.date_time == (1980, 1, 1, 0, 0, 0)
        assert member.external_attr == 0o644 << 16  # everybody may read it
        assert archive.read("submission.csv") == (tmp_path / "best.csv").read_bytes()


def test_equal_submissions_make_equal_zips(tmp_path: Path) -> None:
    first, second = (
        write_submission(tmp_path / name, image_ids=IDS, concept_sets=SETS, edition=2026)
        for name in ("1.csv", "2.csv")
    )
    assert first.read_bytes() == second.read_bytes()


def test_a_hundred_concepts_are_written_and_one_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.txt"
    concepts = [f"C{i}" for i in range(101)]
    write_submission(path, image_ids=["a"], concept_sets=[concepts[:100]], edition=2020)
    before = path.read_bytes()
    with pytest.raises(SubmissionError, match=r"run\.txt:1: 101 concepts; at most 100 .* nothing"):
        write_submission(path, image_ids=["a"], concept_sets=[concepts], edition=2020)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("ids", "sets", "reason"),
    [
        (["a", "b"], [("C1",), ("C2", "C2")], "concepts stand twice"),
        (["a", "a"], [("C1",), ("C2",)], "image 'a' stands twice"),
        (["a", "b,C1;"], [("C1",), ("C\t2",)], "cells: 3"),
        (["a", "b"], [("C1",), ("C1;C2",)], r"image 'b': .* \['C1;C2'\] would be read as"),
        (["a", "b"], [("C1",), (" C1",)], r"\[' C1'\] would be read as \['C1'\]"),
        (["a", "b"], [("C1",), ("C1\r",)], "blank line|would be read as"),
        (["a", "b\nc"], [("C1",), ("C1",)], "not in the test set|missing"),
    ],
)
def test_what_the_evaluator_would_misread_is_not_written(
    ids: list[str], sets: list[tuple[str, ...]], reason: str, tmp_path: Path
) -> None:
    year = 2023 if reason.startswith(r"\[") else 2020
    path = tmp_path / "run.txt"
    with pytest.raises(SubmissionError, match=f"{reason}.*nothing was written"):
        write_submission(path, image_ids=ids, concept_sets=sets, edition=year)
    assert not list(tmp_path.iterdir())


def test_ids_with_commas_are_quoted_where_the_edition_reads_quotes(tmp_path: Path) -> None:
    ids = ['a,"1"', "b"]
    upload = write_submission(
        tmp_path / "run.csv", image_ids=ids, concept_sets=[("C1",), ()], edition=2026
    )
    assert check_submission(upload, edition=2026, expected_ids=ids) == []


def test_what_2026_refuses_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match=r"run\.csv:2: not C and digits: \['c1'\]"):
        write_submission(
            tmp_path / "run.csv", image_ids=["a"], concept_sets=[("c1",)], edition=2026
        )


def test_images_that_the_evaluator_drops_can_be_written(tmp_path: Path) -> None:
    upload = write_submission(
        tmp_path / "run.csv", image_ids=["x_ID", "b"], concept_sets=[("C1",), ()], edition=2025
    )
    [fault] = check_submission(upload, edition=2025, expected_ids=["x_ID", "b"])
    assert fault.severity == "warning"


def test_as_many_concept_sets_as_images_are_needed(tmp_path: Path) -> None:
    with pytest.raises(AlignmentError, match=r"run\.txt: 3 images but 1 concept sets"):
        write_submission(tmp_path / "run.txt", image_ids=IDS, concept_sets=[()], edition=2020)


def test_the_zip_is_not_to_be_named(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match=r"run\.zip: name the \.csv"):
        write_submission(tmp_path / "run.zip", image_ids=IDS, concept_sets=SETS, edition=2025)


def test_an_edition_without_public_evaluator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"edition 2024: .* 2025"):
        write_submission(tmp_path / "run.csv", image_ids=IDS, concept_sets=SETS, edition=2024)


@pytest.mark.parametrize(
    ("image_id", "concepts"), [("a\ud800", ("C1",)), ("a", ("C\ud800",)), ("a\ud800", ("\ud800",))]
)
def test_what_has_no_bytes_is_not_written(
    image_id: str, concepts: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(SubmissionError, match=r"image 'a.*nothing was written"):
        write_submission(
            tmp_path / "run.txt", image_ids=[image_id], concept_sets=[concepts], edition=2020
        )
    assert not list(tmp_path.iterdir())


def test_a_set_that_would_be_read_as_an_empty_one_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match=r"image 'a': the concepts \[''\] would be read as"):
        write_submission(tmp_path / "run.txt", image_ids=["a"], concept_sets=[("",)], edition=2020)
