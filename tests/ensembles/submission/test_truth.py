"""Truth files, read as the evaluators read them."""

from pathlib import Path

import pytest

from core.editions import EDITIONS
from core.errors import ConfigError, CorpusError
from core.runs.workspace import Workspace
from ensembles.submission.truth import Truth, expected_ids, read_truth


def read(folder: Path, year: int, text: str | bytes) -> Truth:
    path = folder / "truth.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_truth(path, edition=year)


@pytest.mark.parametrize(
    ("year", "text"),
    [
        (2020, "b\tC1;C2\na\tC3\n"),
        (2022, "ID\tcuis\nb\tC1;C2\na\tC3\n"),
        (2023, "b|C1;C2\na|C3\n"),
        (2023, "ID\tCUIs\nb\tC1;C2\na\tC3\n"),
        (2025, 'ID,CUIs\nb,"C1;C2"\na,C3\n'),
        (2026, "ID,CUIs\nb,C1;C2\na,C3\n"),
    ],
)
def test_concepts_are_read_in_the_order_of_the_file(year: int, text: str, tmp_path: Path) -> None:
    truth = read(tmp_path, year, text)
    assert list(truth.concepts.items()) == [("b", ("C1", "C2")), ("a", ("C3",))]
    assert truth.image_ids == ("b", "a")
    assert truth.warnings == ()


def test_an_empty_cell_is_no_concept_until_2020_and_an_empty_one_since(tmp_path: Path) -> None:
    assert read(tmp_path, 2020, "a\t\nb\n").concepts == {"a": (), "b": ()}
    assert read(tmp_path, 2025, "ID,CUIs\na,\n").concepts == {"a": ("",)}


@pytest.mark.parametrize("year", [2022, 2023, 2025, 2026])
def test_an_id_alone_is_refused_since_2022(year: int, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=rf"truth\.csv:2: one cell; .* separated as in {year}"):
        read(tmp_path, year, "ID\nimg1\n")


def test_a_third_cell_is_refused_until_2020_and_ignored_since(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"truth\.csv:1: cells: 3"):
        read(tmp_path, 2020, "a\tC1\tx\n")
    assert read(tmp_path, 2025, "ID,CUIs\na,C1,x\n").concepts == {"a": ("C1",)}


@pytest.mark.parametrize("year", EDITIONS)
def test_a_blank_line_is_refused(year: int, tmp_path: Path) -> None:
    separator = EDITIONS[year].truth_separator
    with pytest.raises(CorpusError, match=r"truth\.csv:2: blank line; remove it"):
        read(tmp_path, year, f"ID{separator}CUIs\n\na{separator}C1\n")


def test_2022_drops_the_first_line_whatever_it_holds_and_that_is_told(tmp_path: Path) -> None:
    truth = read(tmp_path, 2022, "a\tC1\nb\tC2\n")
    assert list(truth.concepts) == ["b"]
    [warning] = truth.warnings
    assert "truth.csv:1: the first line is taken for a header: 'a' is not scored" in str(warning)


def test_2026_wants_no_id_of_the_first_line_but_scores_it(tmp_path: Path) -> None:
    truth = read(tmp_path, 2026, "a,C1\nb,C2\n")
    assert list(truth.concepts) == ["a", "b"]
    assert truth.image_ids == ("b",)


def test_an_id_with_capital_id_is_dropped_since_2023_and_that_is_told(tmp_path: Path) -> None:
    text = "ID,CUIs\na,C1\nxIDy,C2\n"
    truth = read(tmp_path, 2025, text)
    assert list(truth.concepts) == ["a"]
    assert truth.image_ids == ("a",)
    assert ["'xIDy' has 'ID' in its name" in str(w) for w in truth.warnings] == [True]
    assert read(tmp_path, 2026, text).image_ids == ("a", "xIDy")
    assert list(read(tmp_path, 2020, "xIDy\tC2\n").concepts) == ["xIDy"]


@pytest.mark.parametrize("year", EDITIONS)
def test_of_an_image_that_stands_twice_the_last_line_counts(year: int, tmp_path: Path) -> None:
    separator = EDITIONS[year].truth_separator
    rows = [("ID", "CUIs"), ("a", "C1"), ("b", "C2"), ("a", "C3")]
    text = "".join(f"{separator.join(row)}\n" for row in rows[year < 2022 :])
    truth = read(tmp_path, year, text)
    assert list(truth.concepts.items()) == [("a", ("C3",)), ("b", ("C2",))]
    assert truth.image_ids == ("a", "b")
    [warning] = truth.warnings
    assert "image 'a' stands twice; its last line counts" in str(warning)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"none\.csv: no such file"):
        read_truth(tmp_path / "none.csv", edition=2020)
    with pytest.raises(CorpusError, match="cannot be read"):
        read_truth(tmp_path, edition=2020)
    with pytest.raises(CorpusError, match=r"truth\.csv:2: not UTF-8 \(byte 0xe9\)"):
        read(tmp_path, 2020, b"a\tC1\n\xe9\tC1\n")
    with pytest.raises(CorpusError, match=r"truth\.csv:2: cannot be read as a table"):
        read(tmp_path, 2020, "a\tC1\nb\t" + "C" * 140_000 + "\n")


def test_an_edition_without_public_evaluator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="edition 2024"):
        read_truth(tmp_path / "none.csv", edition=2024)


def test_lines_are_counted_from_the_first_byte(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"truth\.csv:2: not UTF-8"):
        read(tmp_path, 2020, b"\n\xe9\n")
    with pytest.raises(CorpusError, match=r"truth\.csv:1: cannot be read as a table"):
        read(tmp_path, 2020, "a\t" + "C" * 140_000 + "\n")


def test_an_id_on_the_second_line_that_is_taken_for_a_header_is_told_of(tmp_path: Path) -> None:
    [warning] = read(tmp_path, 2025, "ID,CUIs\nxIDy,C2\n").warnings
    assert "truth.csv:2: image 'xIDy' has 'ID' in its name" in str(warning)


def test_2026_wants_ids_without_the_blanks_around_them(tmp_path: Path) -> None:
    text = "ID,CUIs\n a ,C1\n"
    assert read(tmp_path, 2026, text).image_ids == ("a",)
    assert read(tmp_path, 2025, text).image_ids == (" a ",)


def test_the_images_to_submit_are_those_of_the_truth_else_of_the_prepared_test_split(
    tmp_path: Path, prepared_once: Workspace
) -> None:
    path = tmp_path / "truth.csv"
    path.write_text("b\tC1\na\tC2\n", encoding="utf-8")
    assert expected_ids(path, edition=2020, workspace=None) == ("b", "a")
    assert expected_ids(path, edition=2020, workspace=prepared_once) == ("b", "a")
    of_test = tuple(f"test_{number:02d}" for number in range(8))
    assert expected_ids(None, edition=2020, workspace=prepared_once) == of_test
    assert expected_ids(None, edition=2020, workspace=None) is None
