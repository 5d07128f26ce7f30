"""Whether the evaluator would take a submission."""

import stat
import zipfile
from pathlib import Path

import pytest

from core.editions import EDITIONS, rules_of
from core.errors import ConfigError, SubmissionError
from ensembles.submission.check import (
    Fault,
    cell_reasons,
    check_submission,
    first_lines,
    id_reasons,
    parse_submission,
    read_submission,
    verdict_on,
    whole_faults,
)

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
    with pytest.raises(
        SubmissionError, match=r"expected the file submission\.csv and nothing else"
    ):
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


def reasons_of(cells: list[str], year: int, *, lenient: bool = False) -> list[tuple[str, str]]:
    return list(cell_reasons(cells, rules_of(year), lenient=lenient))


def many(n: int) -> str:
    return ";".join(f"C{i}" for i in range(n))


def test_a_fault_reads_as_file_line_and_reason() -> None:
    assert str(Fault(Path("run.txt"), 7, "blank line")) == "run.txt:7: blank line"
    assert str(Fault(Path("run.txt"), None, "2 missing")) == "run.txt: 2 missing"


@pytest.mark.parametrize("year", EDITIONS)
@pytest.mark.parametrize("cell", ["C1", "C0040405;C0024485", "", many(100)])
def test_a_plain_list_has_no_fault_in_any_edition(year: int, cell: str) -> None:
    assert reasons_of(["a", cell], year) == []


# Cell, and for each rule whether a word of the reason is rejected (r), warned of (w) or absent (-):
# 2020, its public script, 2022, 2023, 2025, 2026.
TRAPS = [
    ("C1;", "empty concept", "wwwwwr"),
    (";C1", "empty concept", "wwwwwr"),
    ("C1;C1", "stand twice", "rwrrrr"),
    ("C1;;", "stand twice", "rwrrrr"),
    ("C1; C1", "stand twice", "rwrrrr"),
    ("C1;c1", "only in case", "wwwwww"),
    ("C1;c2", "not C and digits", "-----r"),
    ("C1;XYZ", "not C and digits", "wwwwwr"),
    ('"C1"', "not C and digits", "wwwwwr"),
    ("C1; C2", "make them other concepts", "ww----"),
    (" C1", "around the concepts", "-----r"),
    ("C1 ", "around the concepts", "-----r"),
    (" ", "around the concepts", "-----r"),
    (many(101), "101 concepts; at most 100", "rwrrrr"),
]


@pytest.mark.parametrize(("cell", "word", "fate"), TRAPS)
def test_each_trap_in_the_concepts_meets_its_fate_in_each_edition(
    cell: str, word: str, fate: str
) -> None:
    rules = [
        (2020, False),
        (2020, True),
        (2022, False),
        (2023, False),
        (2025, False),
        (2026, False),
    ]
    letter = {"rejected": "r", "warning": "w"}
    found = ""
    for year, lenient in rules:
        severities = {
            how for how, why in reasons_of(["a", cell], year, lenient=lenient) if word in why
        }
        assert len(severities) <= 1
        found += letter[severities.pop()] if severities else "-"
    assert found == fate


@pytest.mark.parametrize("year", EDITIONS)
def test_a_third_cell_is_rejected(year: int) -> None:
    [(how, why), *_] = reasons_of(["a", "C1", "x"], year)
    assert how == "rejected"
    assert why.startswith("cells: 3; expected an id and its concepts")


def test_an_id_alone_is_fine_until_2020_suspect_since_2022_and_rejected_in_2026() -> None:
    assert reasons_of(["a"], 2020) == []
    for year in (2022, 2023, 2025):
        [(how, why)] = reasons_of(["a"], year)
        assert how == "warning"
        assert "scores 0, an empty cell 1" in why
    [(how, why)] = reasons_of(["a"], 2026)
    assert (how, why[:8]) == ("rejected", "cells: 1")


@pytest.mark.parametrize(
    ("year", "line", "expected"),
    [
        (2020, "a,C1", "',' is no separator here, expected TAB"),
        (2022, "a\tC1", "TAB is no separator here, expected '|'"),
        (2023, "a,C1", "',' is no separator here, expected '|' or TAB"),
        (2025, "a|C1", "'|' is no separator here, expected ','"),
    ],
)
def test_another_separator_is_pointed_out(year: int, line: str, expected: str) -> None:
    assert reasons_of([line], year) == [("warning", f"one cell; {expected}")]


def id_reason(image_id: str, year: int, *, lenient: bool = False) -> list[tuple[str, str]]:
    rules = rules_of(year)
    given = id_reasons(image_id, rules, expected={"a", "b"}, first_line={"b": 3}, lenient=lenient)
    return list(given)


def test_a_known_new_image_has_no_fault() -> None:
    assert id_reason("a", 2020) == []


def test_an_image_twice_is_rejected_but_by_the_public_script() -> None:
    expected = "image 'b' stands twice, first on line 3"
    assert id_reason("b", 2020) == [("rejected", expected)]
    assert id_reason("b", 2020, lenient=True) == [("warning", expected)]


@pytest.mark.parametrize(
    ("image_id", "remedy"),
    [
        ("c", "set$"),
        ("\ufeffa", "remove the byte order mark"),
        (" a", "remove the blanks or quotes"),
        ('"a"', "remove the blanks or quotes"),
        ("a\tC1", "TAB does not separate"),
        ("a,C1", "',' does not separate"),
        ("ID", "has no header"),
    ],
)
def test_an_unknown_image_is_rejected_with_the_likely_reason(image_id: str, remedy: str) -> None:
    [(how, why)] = id_reason(image_id, 2022)
    assert how == "rejected"
    assert "is not in the test set" in why
    assert remedy.rstrip("$") in why
    assert not remedy.endswith("$") or why.endswith("set")


def test_a_quoted_comma_is_no_wrong_separator() -> None:
    [(_, why)] = id_reason("a,b", 2025)
    assert why.endswith("is not in the test set")


def test_an_unknown_image_of_great_length_is_shown_in_part() -> None:
    [(_, why)] = id_reason("x" * 500, 2022)
    assert why == f"image '{'x' * 60}' is not in the test set"


def test_images_are_not_looked_for_where_they_are_not_known() -> None:
    rules = rules_of(2022)
    assert list(id_reasons("z", rules, expected=None, first_line={}, lenient=False)) == []


def test_an_image_taken_for_a_header_is_told_of() -> None:
    [(how, why)] = id_reason("x_ID_1", 2025)
    assert how == "warning"
    assert "takes the line for a header and never scores it" in why
    assert [how for how, _ in id_reason("x_ID_1", 2026)] == ["warning", "rejected"]
    assert [how for how, _ in id_reason("x_ID_1", 2022)] == ["rejected"]


def whole(found: list[str], expected: list[str] | None, year: int) -> list[str]:
    positions = None if expected is None else {i: n for n, i in enumerate(expected)}
    lines = {i: n for n, i in enumerate(found, start=2)}
    faults = whole_faults(Path("f"), rules_of(year), expected=positions, first_line=lines)
    return [f"{fault.severity} {fault}" for fault in faults]


def test_missing_images_are_counted_and_named() -> None:
    assert whole(["b"], ["a", "b", "c"], 2020) == [
        "rejected f: 2 of 3 images are missing: ['a', 'c']"
    ]


def test_the_order_of_a_whole_submission_matters_in_2026_only() -> None:
    assert whole(["b", "a", "c"], ["a", "b", "c"], 2025) == []
    [order] = whole(["b", "a", "c"], ["a", "b", "c"], 2026)
    assert order.startswith("rejected f:2: images must stand in the order of the truth: 'b' where")
    assert order.endswith("'a' belongs (2 of 3 are misplaced)")


def test_missing_and_unknown_images_do_not_misplace_the_others() -> None:
    assert whole(["x", "b", "c"], ["a", "b", "c"], 2026) == [
        "rejected f: 1 of 3 images are missing: ['a']"
    ]


def test_what_was_not_looked_for_is_said() -> None:
    [said] = whole(["a"], None, 2026)
    assert said.startswith("warning f: unknown, missing and misplaced images were not looked for")


def test_a_verdict_gives_the_reasons_to_refuse_first(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text("img1|C1;c1\nimg2|C2;C2\nimg3|C3\n", encoding="utf-8")
    verdict = verdict_on(path, edition=2022, expected_ids=IDS)
    assert verdict.lines == (
        f"{path}:2: concepts stand twice: ['C2']",
        f"{path}:1: concepts that differ only in case count once",
    )
    assert verdict.sentence == f"{path}: 1 faults; the evaluator would refuse it"
    assert not verdict.is_taken


def test_a_verdict_says_against_which_images_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text(GOOD[2022], encoding="utf-8")
    all_there = verdict_on(path, edition=2022, expected_ids=IDS)
    assert all_there.sentence == f"{path}: the 2022 evaluator would take it (all 3 images)"
    assert (all_there.lines, all_there.is_taken) == ((), True)
    unknown = verdict_on(path, edition=2022, expected_ids=None)
    assert unknown.sentence.endswith("would take it (its images not compared)")
    assert (len(unknown.lines), unknown.is_taken) == (1, True)


def test_fifty_faults_are_shown_and_the_others_counted() -> None:
    faults = [Fault(Path("f"), line, "blank line") for line in range(1, 1053)]
    assert first_lines(faults[:50]) == [f"f:{line}: blank line" for line in range(1, 51)]
    assert first_lines(faults) == [*first_lines(faults[:50]), "... and 1,002 more"]


def test_after_a_hundred_thousand_faults_the_rest_is_not_looked_at() -> None:
    def faults(n: int) -> list[Fault]:
        data = b"\n" * n + b"x|C1\n"
        read = parse_submission(data, path=Path("f"), rules=rules_of(2022), expected_ids=["x"])
        return list(read.faults)

    assert len(faults(100_000)) == 100_000
    *_, last = faults(100_001)
    said = "more than 100,000 faults before it; the rest was not looked at"
    assert str(last) == f"f:100002: {said}"


def test_a_file_of_more_than_a_gibibyte_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "run.txt"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)  # no block of it is written
    with pytest.raises(SubmissionError, match=r"1,073,741,825 bytes, more than 1,073,741,824"):
        check_submission(path, edition=2020)


def test_a_zip_is_unpacked_up_to_32_mebibytes(tmp_path: Path) -> None:
    path = tmp_path / "run.zip"

    def packed(n_bytes: int) -> Path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("submission.csv", bytes(n_bytes))
        return path

    data, shown = read_submission(packed(32 << 20), rules_of(2025))
    assert (len(data), shown) == (32 << 20, path / "submission.csv")
    with pytest.raises(SubmissionError, match="33,554,433 bytes once unpacked"):
        read_submission(packed((32 << 20) + 1), rules_of(2025))


def test_a_zip_with_a_link_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("submission.csv")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "run.zip", "w") as archive:
        archive.writestr(link, "/etc/hostname")
    with pytest.raises(SubmissionError, match="and nothing else in the zip"):
        read_submission(tmp_path / "run.zip", rules_of(2025))


def test_lines_are_counted_from_the_first_byte(tmp_path: Path) -> None:
    assert check(tmp_path, 2020, b"\n\xe9\n") == [("rejected", 2, "not UTF-8 (byte 0xe9)")]
    [(how, line, why), *_] = check(tmp_path, 2020, "img1\t" + "C" * 140_000 + "\n")
    assert (how, line, why[:16]) == ("rejected", 1, "cannot be read a")


def test_an_empty_file_of_2026_lacks_its_header_on_line_1(tmp_path: Path) -> None:
    [missing, _] = check(tmp_path, 2026, b"")
    assert missing == ("rejected", 1, "expected the header ID,CUIs; found ''")
    assert check(tmp_path, 2026, b"ID,CUIs\n", []) == []


def test_faults_stand_in_the_order_of_their_lines(tmp_path: Path) -> None:
    text = "ID,CUIs\nimg1,C1;C1\nimg2,\n\nimg3,c3\n"
    lines = [line for _, line, _ in check(tmp_path, 2026, text)]
    assert lines == [2, 4, 5]


def test_only_what_stands_twice_is_named() -> None:
    [(_, why)] = reasons_of(["a", "C3;C1;C2;C1;C3;C3"], 2022)
    assert why == "concepts stand twice: ['C1', 'C3']"


def test_the_limit_of_concepts_does_not_hold_for_a_line_that_2026_drops() -> None:
    assert reasons_of(["x_ID", many(101)], 2026) == []
    assert [how for how, _ in reasons_of(["x_ID", "C1;C1"], 2026)] == ["rejected"]
    assert reasons_of(["x_ID", "C1;C1", "x"], 2025) == []
