"""Official scores against plain references, one an edition, on files full of mistakes.

The references are written from the rules of the editions, with scikit-learn on each image; a file
must be refused by both, or get the same number to the last bit.
"""

import csv
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from sklearn.metrics import f1_score

from core.errors import CorpusError, SubmissionError
from ensembles.submission.score import SECONDARY_CONCEPTS, score_submission

N_CASES = 200

MANUAL = "manual.csv"
"""The truth of the secondary score, beside the other."""

ConceptLists = dict[str, list[str]]
Scores = tuple[float | None, float | None]


class RefusedError(Exception):
    """The reference does not take the files."""


def table(path: Path, separator: str) -> list[list[str]]:
    """Cells of each line; only the comma comes with quotes."""
    try:
        with path.open(encoding="utf-8") as file:
            if separator == ",":
                return list(csv.reader(file))
            return list(csv.reader(file, delimiter=separator, quoting=csv.QUOTE_NONE))
    except (UnicodeDecodeError, csv.Error) as error:
        raise RefusedError from error


def mean_f1(
    true: ConceptLists, found: ConceptLists, *, keep: frozenset[str] | None = None
) -> float | None:
    """One scikit-learn call an image with true concepts, added in the order found."""
    total, n = 0.0, len(true)
    for image_id, concepts in found.items():
        t, d = ({c.upper() for c in given} for given in (true[image_id], concepts))
        t, d = (t & keep, d & keep) if keep else (t, d)
        if t:
            union = sorted(t | d)
            total += f1_score([c in t for c in union], [c in d for c in union], average="binary")
        else:
            n -= 1
    return total / n if n else None


def public_script_2020(run: Path, truth: Path) -> Scores:
    """The public script: an id, TAB, concepts; the last line of an image counts."""
    read: list[ConceptLists] = []
    for path in (run, truth):
        pairs: ConceptLists = {}
        for cells in table(path, "\t"):
            if len(cells) not in (1, 2):
                raise RefusedError
            cell = cells[1] if len(cells) == 2 else ""
            pairs[cells[0]] = cell.split(";") if cell.strip() else []
        read.append(pairs)
    found, true = read
    if found.keys() != true.keys():
        raise RefusedError
    return mean_f1(true, found), None


def split(cell: str) -> list[str]:
    return [concept.strip() for concept in cell.split(";")]


def reference_2020(run: Path, truth: Path) -> Scores:
    """The platform refused more: an image twice, a concept twice, more than 100 of them."""
    rows = table(run, "\t")
    lists = [split(cells[1]) for cells in rows if len(cells) == 2 and cells[1].strip()]
    n_images = len({cells[0] for cells in rows if cells})
    if n_images < len(rows) or any(len(set(c)) < len(c) or len(c) > 100 for c in lists):
        raise RefusedError
    return public_script_2020(run, truth)


def true_concepts(rows: list[list[str]]) -> ConceptLists:
    """A truth since 2022: at least two cells a line."""
    if any(len(cells) < 2 for cells in rows):
        raise RefusedError
    return {cells[0]: split(cells[1]) for cells in rows}


def decided_concepts(rows: list[list[str]], true: ConceptLists) -> ConceptLists:
    """A submission since 2022: each image of the truth once, with at most 100 distinct concepts."""
    found: ConceptLists = {}
    for cells in rows:
        concepts = split(cells[1]) if len(cells) == 2 else []
        if len(cells) not in (1, 2) or cells[0] in found or cells[0] not in true:
            raise RefusedError
        if len(concepts) > 100 or len(set(concepts)) < len(concepts):
            raise RefusedError
        found[cells[0]] = concepts
    if len(found) < len(true):
        raise RefusedError
    return found


def without_headers(rows: list[list[str]]) -> list[list[str]]:
    """Lines whose id has no "ID" in it; blank lines stay, to be refused."""
    return [cells for cells in rows if not cells or "ID" not in cells[0]]


def reference_2022(run: Path, truth: Path) -> Scores:
    """Truth with TAB and a first line that is dropped; submission with a bar, without header."""
    rows = table(run, "|")
    true = true_concepts(table(truth, "\t")[1:])
    return mean_f1(true, decided_concepts(rows, true)), None


def reference_2023(run: Path, truth: Path) -> Scores:
    """A bar in the first line makes it the separator, else TAB; headers are known by their ID."""
    rows = []
    for path in (truth, run):
        lines = re.split("\r\n|\r|\n", path.read_bytes().decode("utf-8", errors="replace"))
        rows.append(without_headers(table(path, "|" if "|" in lines[0] else "\t")))
    true = true_concepts(rows[0])
    return mean_f1(true, decided_concepts(rows[1], true)), None


def reference_2025(run: Path, truth: Path) -> Scores:
    """Commas and quotes; headers are known by their ID; a secondary score on 15 concepts.

    That has a truth of its own, in which every image is found; without a concept it stops.
    """
    true = true_concepts(without_headers(table(truth, ",")))
    second = true_concepts(without_headers(table(truth.with_name(MANUAL), ",")))
    found = decided_concepts(without_headers(table(run, ",")), true)
    if not found.keys() <= second.keys():
        raise RefusedError
    secondary = mean_f1(second, found, keep=SECONDARY_CONCEPTS)
    if secondary is None:
        raise RefusedError
    return mean_f1(true, found), secondary


def reference_2026(run: Path, truth: Path) -> Scores:
    """As 2025, once the form is right."""
    both = [*table(truth, ",")[1:], *table(truth.with_name(MANUAL), ",")[1:]]
    ids = list(dict.fromkeys(cells[0].strip() for cells in both if cells))
    rows = table(run, ",")  # which refuses what is not UTF-8
    lines = run.read_bytes().decode("utf-8").splitlines()
    if rows[:1] != [["ID", "CUIs"]] or not all(line.strip() for line in lines):
        raise RefusedError
    if any(len(cells) != 2 for cells in rows) or [cells[0] for cells in rows[1:]] != ids:
        raise RefusedError
    for _, cell in rows[1:]:
        concepts = split(cell) if cell.strip() else []
        if cell != cell.strip() or len(set(concepts)) < len(concepts):
            raise RefusedError
        if not all(re.fullmatch(r"C\d+", concept) for concept in concepts):
            raise RefusedError
    return reference_2025(run, truth)


REFERENCES: dict[tuple[int, bool], Callable[[Path, Path], Scores]] = {
    (2020, True): public_script_2020,
    (2020, False): reference_2020,
    (2022, False): reference_2022,
    (2023, False): reference_2023,
    (2025, False): reference_2025,
    (2026, False): reference_2026,
}

CONCEPTS = ["C0002978", "C0040405", "C1306645", "C1", "C2", "C3"]

STRANGE_CELLS = [
    *("C1;", ";C1", "C1;;", "C1;C1", "C1;c1", "c2", "C1; C2", " C1", "C1 ", " ", ";", "XYZ"),
    *('"C1"', '"C1;C2', "C1,C2", "C1|C2", "C\u0663", "\u00df;SS", "C1;\u2028\u2028C2"),
    *(";".join(f"C{i}" for i in range(n)) for n in (100, 101)),
]


def strange_line(rng: random.Random, line: str, separator: str) -> list[str]:
    """A line with a mistake, or none, or two."""
    image_id, _, cell = line.partition(separator)
    return rng.choice(
        [
            *([], ["", line], [line, "  "], [line, line], [line, f"{image_id}{separator}C3"]),
            *(
                [image_id],
                [f"{line}{separator}x"],
                [f"{line}{separator}"],
                [f" {line}"],
                [f"{line} "],
            ),
            *([f"\ufeff{line}"], [line, f"img9{separator}C1"], [line, "ID"], ["xIDx\t1|2,3", line]),
            *([f'"{image_id}"{separator}"{cell}"'], [image_id + rng.choice(",|\t ") + cell]),
            *([line + ";" + "C" * 140_000], [line.upper()], [f"ID{separator}CUIs", line]),
        ]
    )


def draw_files(rng: random.Random, year: int, run: Path, truth: Path) -> None:
    """A truth and a submission in the edition's form, with few or no mistakes."""
    separator = {2020: "\t", 2022: "|", 2023: rng.choice("|\t")}.get(year, ",")
    truth_separator = "\t" if year == 2022 else separator
    ids = [f"img{i}" if rng.random() < 0.95 else f"x_ID_{i}" for i in range(rng.randint(1, 3))]
    manual = [i for i in [*ids, "more"] if rng.random() < (0.04 if i == "more" else 0.98)]
    chosen = "".join(f"{i},{';'.join(rng.sample(CONCEPTS[:4], 2))}\n" for i in manual)
    truth.with_name(MANUAL).write_text(f"ID,CUIs\n{chosen}", encoding="utf-8")
    cells = {i: ";".join(rng.sample(CONCEPTS, rng.choice([0, 1, 1, 2, 4]))) for i in ids}
    found = {i: rng.choice([cell, ";".join(rng.sample(CONCEPTS, 2))]) for i, cell in cells.items()}
    if rng.random() < 0.3:
        found[rng.choice(ids)] = rng.choice(STRANGE_CELLS)
    order = rng.sample(ids, len(ids)) if rng.random() < (0.1 if year == 2026 else 0.5) else ids
    for path, mark, pairs, odds in (
        (truth, truth_separator, [(i, cells[i]) for i in ids], 0.06),
        (run, separator, [(i, found[i]) for i in order], 0.35),
    ):
        lines = [f"{i}{mark}{cell}" for i, cell in pairs]
        if rng.random() < odds:
            spot = rng.randrange(len(lines))
            lines[spot : spot + 1] = strange_line(rng, lines[spot], mark)
        wants_header = path == truth if year == 2022 else year in (2025, 2026)
        if wants_header or (year == 2023 and rng.random() < 0.5):
            lines.insert(0, f"ID{mark}CUIs")
        end = rng.choice(["\n", "\n", "\r\n", "\r"])
        data = (end.join(lines) + end * rng.choice([0, 1, 1])).encode()
        path.write_bytes(data + b"\xe9" * (rng.random() < 0.01))


def expected(year: int, run: Path, truth: Path, *, public_script: bool) -> Scores | None:
    """Scores of the reference, None if it refuses or has nothing to score."""
    try:
        scores = REFERENCES[year, public_script](run, truth)
    except RefusedError:
        return None
    return None if scores[0] is None else scores


def found(year: int, run: Path, truth: Path, *, public_script: bool) -> Scores | None:
    """Our scores, None if the files are refused."""
    try:
        ours = score_submission(
            run,
            truth=truth,
            edition=year,
            secondary_truth=truth.with_name(MANUAL) if year >= 2025 else None,
            public_script=public_script,
        )
    except (SubmissionError, CorpusError):
        return None
    return ours.f1, ours.secondary_f1


@pytest.mark.parametrize(("year", "public_script"), REFERENCES)
def test_scores_and_refusals_are_those_of_the_reference(
    year: int, public_script: bool, tmp_path: Path
) -> None:
    rng = random.Random(year)
    run, truth = tmp_path / "run.csv", tmp_path / "truth.csv"
    n_scored = 0
    for case in range(N_CASES):
        draw_files(rng, year, run, truth)
        score = found(year, run, truth, public_script=public_script)
        files = f"case {case}: {run.read_bytes()!r} against {truth.read_bytes()!r}"
        assert score == expected(year, run, truth, public_script=public_script), files
        n_scored += score is not None
    assert 0.3 * N_CASES < n_scored < 0.9 * N_CASES  # both fates were met often
