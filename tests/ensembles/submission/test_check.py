"""Whether the evaluator would take a submission."""

import zipfile
from pathlib import Path

import pytest

from core.editions import EDITIONS, rules_of
from core.errors import ConfigError, SubmissionError
from ensembles.submission.check import check_submission, parse_submission, read_submission

IDS = ["img1", "img2", "img3"]

GOOD = {
    2020: "img1\tC1;C2\nimg2\nimg3\tC3\n",
    2022: "img1|C1;C2\nimg2|\nimg3|C3\n",
    2023: "img1|C1;C2\nimg2|\nimg3|C3\n",
    2025: "ID,CUIs\nimg1,C1;C2\nimg2,\nimg3,C3\n",
    2026: "ID,CUIs\nimg1,C1;C2\nimg2,\nimg3,C3\n",
}
YEARS = list(GOOD)


def check(
    folder: Path, year: int, text: str | bytes, ids: list[str] | None = None
) -> list[tuple[str, int | None, str]]:
    path = folder / "run.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    faults = check_submission(path, edition=year, expected_ids=IDS if ids is None else ids)
    assert all(fault.path == path and "\n" not in str(fault) for fault in faults)
    return [(fault.severity, fault.line, fault.reason) for fault in faults]


@pytest.mark.parametrize("year", YEARS)
def test_a_good_submission_has_no_fault(year: int, tmp_path: Path) -> None:
    assert check(tmp_path, year, GOOD[year]) == []


@pytest.mark.parametrize("year", YEARS)
def test_line_ends_do_not_matter(year: int, tmp_path: Path) -> None:
    assert check(tmp_path, year, GOOD[year].replace("\n", "\r\n")) == []
    assert check(tmp_path, year, GOOD[year].rstrip("\n")) == []


@pytest.mark.parametrize("year", YEARS)
def test_the_order_matters_in_2026_only(year: int, tmp_path: Path) -> None:
    faults = check(tmp_path, year, GOOD[year], ["img2", "img1", "img3"])
    assert [how for how, _, _ in faults] == (["rejected"] if year == 2026 else [])


@pytest.mark.parametrize("year", YEARS)
@pytest.mark.parametrize("blank", ["\n", " \n"])
def test_a_blank_line_is_rejected(year: int, blank: str, tmp_path: Path) -> None:
    lines = GOOD[year].splitlines(keepends=True)
    faults = check(tmp_path, year, "".join([*lines[:2], blank, *lines[2:]]))
    assert ("rejected", 3) in [fault[:2] for fault in faults]


@pytest.mark.parametrize("year", YEARS)
def test_every_fault_is_named_with_its_line(year: int, tmp_path: Path) -> None:
    header, separator = (year > 2023, {2020: "\t", 2022: "|", 2023: "|"}.get(year, ","))
    rows = ["img1", "C1;C1"], ["img1", "C2"], ["img9", "C3"], ["img3", "C1", "x"]
    text = "ID,CUIs\n" * header + "".join(f"{separator.join(row)}\n" for row in rows)
    faults = [
        (line, why[:22]) for how, line, why in check(tmp_path, year, text) if how != "warning"
    ]
    assert faults == [
        (1 + header, "concepts stand twice: "),
        (2 + header, "image 'img1' stands tw"),
        (3 + header, "image 'img9' is not in"),
        (4 + header, "cells: 3; expected an "),
        (None, "1 of 3 images are miss"),
    ]


def test_a_header_is_welcome_since_2023_required_in_2026_and_unknown_before(
    tmp_path: Path,
) -> None:
    for year in (2023, 2025):
        separator = EDITIONS[year].separator
        bare = GOOD[year].removeprefix("ID,CUIs\n")
        assert check(tmp_path, year, bare) == []
        assert check(tmp_path, year, f"ID{separator}CUIs\n{bare}") == []
    for year in (2020, 2022):
        [(how, line, why)] = check(tmp_path, year, "ID\n" + GOOD[year])[:1]
        assert (how, line) == ("rejected", 1)
        assert "no header" in why
    [(how, line, why)] = check(tmp_path, 2026, GOOD[2026].removeprefix("ID,CUIs\n"))
    assert (how, line) == ("rejected", 1)
    assert why == "expected the header ID,CUIs; found 'img1,C1;C2'"


@pytest.mark.parametrize("header", ["id,cuis", "ID,Concepts", "ID", "ID,CUIs,x", "CUIs,ID"])
def test_2026_wants_its_header_to_the_letter(header: str, tmp_path: Path) -> None:
    text = GOOD[2026].replace("ID,CUIs", header)
    assert ("rejected", 1) in [fault[:2] for fault in check(tmp_path, 2026, text)]


@pytest.mark.parametrize("year", YEARS)
def test_a_byte_order_mark_is_told_of_and_mostly_rejected(year: int, tmp_path: Path) -> None:
    faults = check(tmp_path, year, "\ufeff" + GOOD[year])
    assert (
        "warning",
        1,
        "byte order mark at the start; it becomes part of the first cell",
    ) in faults
    # Only the header of 2025 swallows it.
    assert any(how == "rejected" for how, _, _ in faults) == (year != 2025)


@pytest.mark.parametrize("year", YEARS)
def test_another_encoding_is_rejected_with_its_line(year: int, tmp_path: Path) -> None:
    faults = check(tmp_path, year, GOOD[year].encode() + b"im\xe9\n")
    assert faults == [("rejected", GOOD[year].count("\n") + 1, "not UTF-8 (byte 0xe9)")]


@pytest.mark.parametrize("year", YEARS)
def test_an_empty_file_is_rejected(year: int, tmp_path: Path) -> None:
    faults = check(tmp_path, year, b"")
    assert ("rejected", None, "3 of 3 images are missing: ['img1', 'img2', 'img3']") in faults
    assert len(faults) == (2 if year == 2026 else 1)


def test_an_id_with_capital_id_is_dropped_since_2023(tmp_path: Path) -> None:
    ids = ["img_ID_1", "img2"]
    assert check(tmp_path, 2022, "img_ID_1|C1\nimg2|C2\n", ids) == []
    for text in ("img_ID_1|C1\nimg2|C2\n", "img_ID_1|C1;C1|x\nimg2|C2\n"):
        [(how, line, why)] = check(tmp_path, 2023, text, ids)
        assert (how, line) == ("warning", 1)
        assert "never scores it" in why
    assert check(tmp_path, 2023, "img2|C2\n", ids) == []


def test_2026_checks_a_line_before_it_is_dropped(tmp_path: Path) -> None:
    ids = ["img_ID_1", "img2"]
    good = check(tmp_path, 2026, "ID,CUIs\nimg_ID_1,C1\nimg2,C2\n", ids)
    assert [how for how, _, _ in good] == ["warning"]
    for text in ("ID,CUIs\nimg2,C2\n", "ID,CUIs\nimg_ID_1,C1;C1\nimg2,C2\n"):
        assert "rejected" in [how for how, _, _ in check(tmp_path, 2026, text, ids)]


def test_quotes_are_read_in_2025_and_literal_in_2022(tmp_path: Path) -> None:
    assert check(tmp_path, 2025, 'ID,CUIs\n"img1","C1;C2"\nimg2,""\nimg3,C3\n') == []
    faults = check(tmp_path, 2022, '"img1"|C1\nimg2|\nimg3|C3\n')
    assert faults[0][0] == "rejected"
    assert faults[0][2].endswith("remove the blanks or quotes around it")


def test_the_first_line_decides_the_separator_of_2023(tmp_path: Path) -> None:
    assert check(tmp_path, 2023, "img1\tC1\nimg2\t\nimg3\tC2\n") == []
    faults = check(tmp_path, 2023, "img1|C1\nimg2\tC1\nimg3\tC2\n")
    assert {line for how, line, _ in faults if how == "rejected"} == {2, 3, None}


@pytest.mark.parametrize("line_break", ["\x0c", "\u2028", "\x85"])
def test_2026_takes_more_than_line_ends_for_blank_lines(line_break: str, tmp_path: Path) -> None:
    text = GOOD[2026].replace("C1;", f"C1;{line_break}{line_break}")
    assert ("rejected", 3, "blank line; remove it") in check(tmp_path, 2026, text)
    assert check(tmp_path, 2025, text) == []


def test_a_cell_past_the_limit_of_the_csv_module_is_rejected(tmp_path: Path) -> None:
    faults = check(tmp_path, 2020, "img1\tC1\nimg2\t" + "C" * 140_000 + "\n")
    assert ("rejected", 2) in [fault[:2] for fault in faults]


def test_without_ids_only_the_form_is_checked_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "run.txt"
    path.write_text(GOOD[2020], encoding="utf-8")
    [fault] = check_submission(path, edition=2020)
    assert fault.severity == "warning"
    assert "no ids were given" in fault.reason
    path.write_text("img9\tC1;C1\n", encoding="utf-8")
    assert [f.severity for f in check_submission(path, edition=2020)] == ["rejected", "warning"]


def test_what_is_read_is_what_the_evaluator_reads() -> None:
    data = b"b|C2; c1\na|\nc\n"
    read = parse_submission(data, path=Path("f"), rules=rules_of(2022), expected_ids=None)
    assert dict(read.predicted) == {"b": ("C2", "c1"), "a": ("",), "c": ()}
    assert list(read.predicted) == ["b", "a", "c"]


def test_of_an_image_that_stands_twice_the_last_line_counts_at_the_first_place() -> None:
    read = parse_submission(
        b"a\tC1\nb\tC2\na\tC3\n",
        path=Path("f"),
        rules=rules_of(2020),
        expected_ids=["a", "b"],
        public_script=True,
    )
    assert list(read.predicted.items()) == [("a", ("C3",)), ("b", ("C2",))]
    assert read.rejected == []


def test_a_zip_is_opened_where_the_edition_takes_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "run.zip", "w") as archive:
        archive.writestr("submission.csv", GOOD[2025] + "img9,C1\n")
    [fault] = check_submission(tmp_path / "run.zip", edition=2025, expected_ids=IDS)
    assert str(fault).endswith("run.zip/submission.csv:5: image 'img9' is not in the test set")
    with pytest.raises(SubmissionError, match="edition 2023 takes no zip"):
        check_submission(tmp_path / "run.zip", edition=2023, expected_ids=IDS)


@pytest.mark.parametrize("names", [[], ["run.csv"], ["submission.csv", "notes.txt"]])
def test_a_zip_with_other_files_is_refused(names: list[str], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "run.zip", "w") as archive:
        for name in names:
            archive.writestr(name, "")
    with pytest.raises(SubmissionError, match=r"expected submission\.csv and nothing else"):
        check_submission(tmp_path / "run.zip", edition=2026)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_bytes(b"no zip")
    with pytest.raises(SubmissionError, match=r"run\.txt: no such file"):
        check_submission(tmp_path / "run.txt", edition=2020)
    with pytest.raises(SubmissionError, match="cannot be read"):
        check_submission(tmp_path, edition=2020)
    with pytest.raises(SubmissionError, match=r"no\.zip: cannot be read as a zip"):
        read_submission(tmp_path / "no.zip", rules_of(2025))


def test_an_edition_without_public_evaluator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="edition 2021"):
        check_submission(tmp_path / "run.txt", edition=2021)
