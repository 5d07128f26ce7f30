"""Real concept lists of ROCO, where they lie beside the project: statistics and files at true size.

8,180 images with 3,266 concepts, 8.6 an image; there are no images and no scores to reach.
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from core.categories import UNKNOWN, category_of_concepts
from core.images import ImageTable
from core.labels import Concepts, LabelSpace
from core.metrics import sample_f1
from corpus.folds import assign_folds
from corpus.readers.concept_lists import ROCO_LIST, ConceptList, read_concept_list
from corpus.readers.unprepared import read_unprepared
from ensembles.submission.check import check_submission
from ensembles.submission.score import score_submission
from ensembles.submission.write import write_submission
from reports.statistics.page import write_stats

REAL_LIST = Path(__file__).parents[2] / "shared" / "roco" / "validation_cuis.txt"

pytestmark = [
    pytest.mark.radbench,
    pytest.mark.skipif(not REAL_LIST.is_file(), reason=f"{REAL_LIST} is not here"),
]

YEARS = (2020, 2022, 2023, 2025, 2026)

TRUTH = {2020: ("\t", ""), 2022: ("\t", "ID\tCUIs\n"), 2023: ("|", ""), 2025: (",", "ID,CUIs\n")}
"""Separator and header of a truth file; 2026 has those of 2025."""


@pytest.fixture(scope="module")
def real() -> ConceptList:
    return read_concept_list(REAL_LIST, ROCO_LIST)


@pytest.fixture(scope="module")
def concepts(real: ConceptList) -> Mapping[str, Concepts]:
    """Concepts by image; none has more than the 100 that every edition allows."""
    assert max(map(len, real.concepts.values())) <= 100
    return real.concepts


def test_there_are_8180_images_with_3266_concepts(real: ConceptList) -> None:
    assert len(real.concepts) == 8_180
    assert len(LabelSpace.of(real.concepts.values())) == 3_266
    assert np.mean([len(c) for c in real.concepts.values()]) == pytest.approx(8.6, abs=0.05)
    assert all(re.fullmatch(r"C\d{7}", cui) for c in real.concepts.values() for cui in c)


def test_less_than_a_third_of_the_images_has_a_modality_concept(real: ConceptList) -> None:
    told = Counter(category_of_concepts(concepts) for concepts in real.concepts.values())
    assert told == {
        "": 5_656, "DRXR": 887, "DRCT": 797, "DRUS": 523, "DRAN": 289, "DRPE": 21, "DRMR": 4,
        "DRCO": 3,
    }  # fmt: skip


def test_the_list_is_read_as_ten_plain_lines_would(real: ConceptList) -> None:
    plain = {}
    for line in REAL_LIST.read_text(encoding="utf-8").splitlines():
        image_id, *cuis = [cell.strip() for cell in line.split("\t")]
        plain[image_id] = tuple(dict.fromkeys(cui for cui in cuis if cui))
    assert real.concepts == plain


def test_encoding_and_decoding_give_the_same_sets(real: ConceptList) -> None:
    labels = LabelSpace.of(real.concepts.values())
    targets = labels.encode(list(real.concepts.values()))
    assert not targets.n_outside.any()
    decoded = labels.decode(targets.matrix)
    assert decoded == [tuple(sorted(c)) for c in real.concepts.values()]
    assert sample_f1(targets, targets.matrix, empty_truth="left out") == 1.0


def test_ten_folds_hold_a_tenth_of_the_images_and_of_every_frequent_concept(
    real: ConceptList,
) -> None:
    ids = tuple(real.concepts)
    table = ImageTable(
        image_ids=ids,
        paths=ids,
        categories=(UNKNOWN,) * len(ids),
        splits=("train",) * len(ids),
        folds=np.full(len(ids), -1, dtype=np.int16),
        groups=ids,
        concepts=tuple(real.concepts.values()),
    )
    folds = assign_folds(table, n_folds={"train": 10}, seed=0)
    sizes = np.bincount(folds)
    assert sizes.min() > 0.95 * 818
    assert sizes.max() < 1.05 * 818
    matrix = table.targets(LabelSpace.of(real.concepts.values())).matrix
    by_fold = np.array([matrix[folds == fold].sum(axis=0) for fold in range(10)])
    frequent = by_fold.sum(axis=0) >= 100
    assert frequent.sum() > 50
    share = by_fold[:, frequent] / by_fold[:, frequent].sum(axis=0)
    assert share.min() > 0.05
    assert share.max() < 0.15


def test_its_statistics_are_counted_without_images_or_categories(
    real: ConceptList, tmp_path: Path
) -> None:
    lines = write_stats(read_unprepared(REAL_LIST), tmp_path / "stats")
    n_pairs = sum(map(len, real.concepts.values()))
    told = f"  valid: {n_pairs:,} assignments of 3,266 concepts to 8,180 images"
    # LC = n / 8,180; LD = LC / 3,266
    lc = n_pairs / 8_180
    said = f"{lc:.2f} concepts an image (label cardinality), {lc / 3_266:.4f} of all concepts"
    assert f"{told}, {said} (label density)" in lines
    assert not (tmp_path / "stats" / "categories.csv").exists()
    assert (tmp_path / "stats" / "co-occurrence.png").is_file()


def write_truth(path: Path, year: int, concepts: Mapping[str, Concepts]) -> Path:
    separator, header = TRUTH[min(year, 2025)]
    lines = [f"{image_id}{separator}{';'.join(c)}\n" for image_id, c in concepts.items()]
    path.write_text(header + "".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("year", YEARS)
def test_the_truth_submitted_is_taken_and_scores_one(
    year: int, concepts: Mapping[str, Concepts], tmp_path: Path
) -> None:
    ids = tuple(concepts)
    submission = write_submission(
        tmp_path / "run.csv", image_ids=ids, concept_sets=list(concepts.values()), edition=year
    )
    faults = check_submission(submission, edition=year, expected_ids=ids)
    assert [fault for fault in faults if fault.severity == "rejected"] == []
    truth = write_truth(tmp_path / "truth.csv", year, concepts)
    result = score_submission(submission, truth=truth, edition=year)
    n_without = sum(not c for c in concepts.values())
    assert n_without > 0
    assert (result.f1, result.n_images) == (1.0, 8_180 - (n_without if year == 2020 else 0))


@pytest.mark.parametrize("year", YEARS)
def test_a_half_of_every_set_scores_as_counted_by_hand(
    year: int, concepts: Mapping[str, Concepts], tmp_path: Path
) -> None:
    halves = [c[: (len(c) + 1) // 2] for c in concepts.values()]
    submission = write_submission(
        tmp_path / "run.csv", image_ids=tuple(concepts), concept_sets=halves, edition=year
    )
    truth = write_truth(tmp_path / "truth.csv", year, concepts)
    total, n_images = 0.0, 0
    for whole, half in zip(concepts.values(), halves, strict=True):
        if whole:
            total += 2.0 * len(half) / (len(whole) + len(half))  # all of the half is right
        elif year > 2020:
            total += 1.0  # nothing was to be found and nothing was claimed
        n_images += bool(whole) or year > 2020
    result = score_submission(submission, truth=truth, edition=year)
    assert (result.f1, result.n_images) == (total / n_images, n_images)
