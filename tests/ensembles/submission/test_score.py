"""Official scores, by hand; test_official_reference.py compares them with plain references."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.editions import rules_of
from core.errors import ConfigError, CorpusError, SubmissionError
from core.labels import LabelSpace
from core.metrics import sample_f1
from ensembles.submission.score import (
    SECONDARY_CONCEPTS,
    OfficialScore,
    score_submission,
    summed_f1,
    upper_cased,
)

Lines = list[tuple[str, ...]]

ROCO = Path(__file__).parents[4] / "shared" / "roco" / "validation_cuis.txt"


def as_file(path: Path, separator: str, rows: Lines) -> Path:
    path.write_text("".join(f"{separator.join(row)}\n" for row in rows), encoding="utf-8")
    return path


def score(folder: Path, year: int, run: Lines, truth: Lines, **options: Any) -> OfficialScore:
    """Score rows of (id, cell), under headers where the edition has them."""
    rules = rules_of(year)
    truth_header: Lines = [("ID", "CUIs")] if year >= 2022 else []
    run_header: Lines = [rules.header] if rules.header else []
    return score_submission(
        as_file(folder / "run.csv", rules.separator, run_header + run),
        truth=as_file(
            folder / "truth.csv",
            "|" if year == 2023 else rules.truth_separator,
            truth_header + truth,
        ),
        edition=year,
        **options,
    )


TRUTH: Lines = [("a", "C1;C2"), ("b", "C3"), ("c", "C1")]
RUN: Lines = [("a", "C1"), ("b", "C3"), ("c", "C2;C3")]


@pytest.mark.parametrize("year", [2017, 2018, 2019, 2020, 2022, 2023, 2025, 2026])
def test_the_score_by_hand(year: int, tmp_path: Path) -> None:
    # 2*1/(2+1), 2*1/(1+1), 2*0/(1+2); their mean.
    found = score(tmp_path, year, RUN, TRUTH)
    assert found.f1 == (2 / 3 + 1.0 + 0.0) / 3
    assert found.n_images == 3
    assert found.warnings == ()


@pytest.mark.parametrize("year", [2020, 2022, 2023, 2025])
def test_case_does_not_matter_until_2025(year: int, tmp_path: Path) -> None:
    found = score(tmp_path, year, [("a", "c1;C2")], [("a", "C1;c2")])
    assert found.f1 == 1.0


def test_concepts_that_differ_in_case_count_once(tmp_path: Path) -> None:
    found = score(tmp_path, 2025, [("a", "c1;C1")], [("a", "C1;C2")])
    assert found.f1 == 2 * 1 / (2 + 1)
    assert ["only in case" in str(warning) for warning in found.warnings] == [True]


def test_blanks_around_concepts_matter_until_2020_only(tmp_path: Path) -> None:
    run, truth = [("a", "C1; C2")], [("a", "C1;C2")]
    assert score(tmp_path, 2020, [*run], [*truth]).f1 == 2 * 1 / (2 + 2)
    assert score(tmp_path, 2022, [*run], [*truth]).f1 == 1.0


def test_a_trailing_semicolon_is_a_wrong_concept(tmp_path: Path) -> None:
    for year in (2020, 2022, 2023, 2025):
        found = score(tmp_path, year, [("a", "C1;C2;")], [("a", "C1;C2")])
        assert found.f1 == 2 * 2 / (2 + 3)
        assert ["surplus ';'" in str(warning) for warning in found.warnings] == [True]
    with pytest.raises(SubmissionError, match=r"run\.csv:2: empty concept; remove the surplus ';'"):
        score(tmp_path, 2026, [("a", "C1;C2;")], [("a", "C1;C2")])


def test_images_without_truth_are_left_out_until_2020(tmp_path: Path) -> None:
    truth: Lines = [("a", "C1"), ("b", ""), ("c",)]
    found = score(tmp_path, 2020, [("a", "C1"), ("b", "C9"), ("c", "")], truth)
    assert (found.f1, found.n_images) == (1.0, 1)


@pytest.mark.parametrize("year", [2022, 2023, 2025])
def test_since_2022_an_empty_cell_hits_an_empty_truth_and_an_id_alone_does_not(
    year: int, tmp_path: Path
) -> None:
    truth: Lines = [("a", "C1"), ("b", ""), ("c", ""), ("d", "")]
    run: Lines = [("a", "C1"), ("b", ""), ("c",), ("d", "C9")]
    found = score(tmp_path, year, run, truth)
    assert (found.f1, found.n_images) == ((1 + 1 + 0 + 0) / 4, 4)


def test_images_taken_for_headers_are_no_part_of_the_mean(tmp_path: Path) -> None:
    truth: Lines = [("a", "C1"), ("x_ID", "C1")]
    for year in (2023, 2025, 2026):
        found = score(tmp_path, year, [("a", "C1"), ("x_ID", "C9")], truth)
        assert (found.f1, found.n_images, len(found.warnings)) == (1.0, 1, 2)
    assert score(tmp_path, 2022, [("a", "C1"), ("x_ID", "C9")], truth).f1 == 0.5


def test_the_secondary_score_keeps_fifteen_concepts(tmp_path: Path) -> None:
    # a: {C0040405} against {C0040405, C0024485}: 2*1/(1+2). b: no such concept is true: left out.
    # c: missed: 0. So (2/3 + 0) / 2.
    truth: Lines = [("a", "C0040405;C1"), ("b", "C2"), ("c", "C0041618")]
    run: Lines = [("a", "C0040405;C0024485;C1"), ("b", "C0040405"), ("c", "C1")]
    second = as_file(tmp_path / "manual.csv", ",", [("ID", "CUIs"), *truth])
    for year in (2025, 2026):
        found = score(tmp_path, year, run, truth, secondary_truth=second)
        assert (found.secondary_f1, found.n_secondary) == ((2 / 3 + 0.0) / 2, 2)
    assert len(SECONDARY_CONCEPTS) == 15


def test_the_secondary_score_is_that_of_the_manual_list(tmp_path: Path) -> None:
    # A program read the captions: on b it missed the chest, on d it found one that nobody chose.
    # Against the manual list a 1, b 1, c 1, d 2*1/(2+1): 11/12 = 0.9167, what the official script
    # prints. Against the other truth b would be 2*1/(2+1) as well: 10/12 = 0.8333.
    ct, chest = "C0040405", "C0817096"
    run: Lines = [("a", ct), ("b", f"{ct};{chest}"), ("c", "C0041618"), ("d", f"{ct};{chest}")]
    truth: Lines = [("a", ct), ("b", ct), ("c", "C0041618"), ("d", ct)]
    manual: Lines = [
        ("ID", "CUIs"),
        ("a", ct),
        ("b", f"{ct};{chest}"),
        ("c", "C0041618"),
        ("d", ct),
    ]
    second = as_file(tmp_path / "concepts_manual.csv", ",", manual)
    for year in (2025, 2026):
        found = score(tmp_path, year, run, truth, secondary_truth=second)
        assert found.secondary_f1 == (1 + 1 + 1 + 2 / 3) / 4
        assert round(found.secondary_f1, 4) == 0.9167
        assert round(found.f1, 4) == 0.8333


def test_without_a_truth_of_its_own_there_is_no_secondary_score(tmp_path: Path) -> None:
    run: Lines = [("a", "C0040405")]
    for year in (2020, 2022, 2025, 2026):
        found = score(tmp_path, year, run, run)
        assert (found.secondary_f1, found.n_secondary) == (None, 0)


def test_a_secondary_truth_without_such_a_concept_is_refused(tmp_path: Path) -> None:
    second = as_file(tmp_path / "second.csv", ",", [("ID", "CUIs"), *TRUTH])
    for year in (2025, 2026):
        with pytest.raises(CorpusError, match=r"second\.csv: no image has one of the 15 concepts"):
            score(tmp_path, year, RUN, TRUTH, secondary_truth=second)


def test_an_edition_without_a_secondary_score_takes_no_truth_of_it(tmp_path: Path) -> None:
    for year in (2020, 2022, 2023):
        with pytest.raises(ConfigError, match=rf"edition {year}: has no secondary score"):
            score(tmp_path, year, RUN, TRUTH, secondary_truth=tmp_path / "second.csv")


def test_the_secondary_score_can_have_a_truth_of_its_own(tmp_path: Path) -> None:
    second = as_file(
        tmp_path / "second.csv",
        ",",
        [("ID", "CUIs"), ("a", "C0040405"), ("b", "C0040405"), ("c", ""), ("d", "C0024485")],
    )
    run: Lines = [("a", "C0040405"), ("b", "C3"), ("c", "C2")]
    found = score(tmp_path, 2025, run, TRUTH, secondary_truth=second)
    # a 1, b 0, c left out; d, which no submission can hold, counts with 0: 1 / 3.
    assert (found.secondary_f1, found.n_secondary) == (1 / 3, 3)
    with pytest.raises(CorpusError, match=r"no submission fits it.*\['d'\]"):
        score(tmp_path, 2026, run, TRUTH, secondary_truth=second)
    as_file(second, ",", [("ID", "CUIs"), ("a", "C0040405")])
    for year in (2025, 2026):
        with pytest.raises(CorpusError, match=r"second\.csv: 2 of 3 images .*\['b', 'c'\]"):
            score(tmp_path, year, run, TRUTH, secondary_truth=second)


TWICE: Lines = [("a", "C9"), ("b", "C3;C3"), ("c", "C1"), ("a", "C1")]


def test_until_2020_what_the_platform_refused_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SubmissionError, match=r"run\.csv:2: concepts stand twice: \['C3'\] \(the first of 2 faults"
    ):
        score(tmp_path, 2020, TWICE, TRUTH)


def test_the_public_script_lets_it_pass(tmp_path: Path) -> None:
    # The last line of a counts: 2*1/(2+1); C3 twice is C3 once: 1; c: 1.
    found = score(tmp_path, 2020, TWICE, TRUTH, public_script=True)
    assert found.f1 == (2 / 3 + 1.0 + 1.0) / 3
    assert len(found.warnings) == 2


def test_the_public_script_makes_no_difference_since_2022(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="stand"):
        score(tmp_path, 2022, TWICE, TRUTH, public_script=True)


def test_the_sum_runs_in_the_order_of_the_submission() -> None:
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(500):
        n, m, both = rng.integers(1, 20), rng.integers(1, 20), rng.integers(0, 20)
        shared = [f"B{i}" for i in range(min(n, m, both))]
        true = frozenset([*shared, *(f"T{i}" for i in range(n - len(shared)))])
        decided = frozenset([*shared, *(f"D{i}" for i in range(m - len(shared)))])
        pairs.append((true, decided))
    space = LabelSpace.of(true | decided for true, decided in pairs)
    sums = set()
    for _ in range(20):
        rng.shuffle(pairs)
        total, _ = summed_f1(pairs)
        targets = space.encode([true for true, _ in pairs])
        matrix = space.encode([decided for _, decided in pairs]).matrix
        assert total / 500 == sample_f1(targets, matrix, empty_truth="counted")
        sums.add(total)
    assert len(sums) > 1  # the order is seen in the last bits


def test_upper_case_is_that_of_python() -> None:
    assert upper_cased(["c1", "C1", "ß"]) == {"C1", "SS"}


@pytest.mark.parametrize(
    ("year", "run", "truth"),
    [(2020, "a\tC1\n", "a\t\n"), (2020, "", ""), (2022, "", "ID\tcuis\n"), (2025, "", "ID,CUIs\n")],
)
def test_a_truth_without_anything_to_score_is_refused(
    year: int, run: str, truth: str, tmp_path: Path
) -> None:
    (tmp_path / "run.csv").write_text(run, encoding="utf-8")
    (tmp_path / "truth.csv").write_text(truth, encoding="utf-8")
    with pytest.raises(CorpusError, match=r"truth\.csv: no image has a true concept"):
        score_submission(tmp_path / "run.csv", truth=tmp_path / "truth.csv", edition=year)


def test_a_truth_of_2026_without_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.csv").write_text("ID,CUIs\na,C1\nb,C2\n", encoding="utf-8")
    (tmp_path / "truth.csv").write_text("a,C1\nb,C2\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"truth\.csv: no submission fits it: .*\['a'\]"):
        score_submission(tmp_path / "run.csv", truth=tmp_path / "truth.csv", edition=2026)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    truth = as_file(tmp_path / "truth.txt", "\t", TRUTH)
    with pytest.raises(SubmissionError, match=r"run\.txt: no such file"):
        score_submission(tmp_path / "run.txt", truth=truth, edition=2020)
    with pytest.raises(CorpusError, match=r"none\.txt: no such file"):
        score_submission(truth, truth=tmp_path / "none.txt", edition=2020)
    with pytest.raises(ConfigError, match="edition 2021"):
        score_submission(truth, truth=truth, edition=2021)


@pytest.mark.skipif(not ROCO.exists(), reason="the ROCO concept lists are not here")
def test_real_concept_lists_score_one_against_themselves(tmp_path: Path) -> None:
    lines = ROCO.read_text(encoding="utf-8").splitlines()
    cells = [line.replace("\t\t", "\t").split("\t") for line in lines]
    rows: Lines = [(row[0], ";".join(dict.fromkeys(c for c in row[1:] if c))) for row in cells]
    truth = as_file(tmp_path / "truth.txt", "\t", rows)
    found = score_submission(truth, truth=truth, edition=2020)
    assert found.f1 == 1.0
    assert found.n_images == sum(bool(cell) for _, cell in rows)


def test_a_score_is_told_with_the_secondary_one_where_there_is_one(tmp_path: Path) -> None:
    truth: Lines = [("a", "C0040405;C1"), ("b", "C2")]
    second = as_file(tmp_path / "second.csv", ",", [("ID", "CUIs"), *truth])
    # primary 2*1/(1+2) and 1; secondary 1 for a, b left out
    run: Lines = [("a", "C0040405"), ("b", "C2")]
    alone = score(tmp_path, 2025, run, truth)
    assert alone.lines == [f"F1 {(2 / 3 + 1) / 2!r} over 2 images (2025 rule)"]
    assert alone.numbers == {"f1": (2 / 3 + 1) / 2, "n_images": 2}
    both = score(tmp_path, 2025, run, truth, secondary_truth=second)
    assert both.lines == [*alone.lines, "secondary F1 1.0 over 1 images"]
    assert both.numbers == {**alone.numbers, "secondary_f1": 1.0, "n_secondary": 1}


def test_what_is_odd_in_the_second_truth_is_told_too(tmp_path: Path) -> None:
    second = as_file(
        tmp_path / "second.csv", ",", [("ID", "CUIs"), ("a", "C0040405"), ("a", "C0024485")]
    )
    found = score(tmp_path, 2025, [("a", "C1")], [("a", "C1")], secondary_truth=second)
    [warning] = found.warnings
    assert "second.csv:3: image 'a' stands twice" in str(warning)


def test_one_fault_is_not_the_first_of_several(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match=r"run\.csv:1: concepts stand twice: \['C1'\]$"):
        score(tmp_path, 2020, [("a", "C1;C1")], [("a", "C1")])
