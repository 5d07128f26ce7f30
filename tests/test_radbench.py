"""Real images of all seven categories, where they lie beside the project: facts, a short chain."""

import csv
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import cli
from core.categories import category_of_concepts
from core.images import SPLITS, ImageTable
from core.labels import LabelSpace
from core.runs.ensemble import read_scores
from core.runs.workspace import Workspace
from corpus.folds import assign_folds
from corpus.readers.layouts import read_corpus
from corpus.readers.reading import Reading

SOURCE = Path(__file__).parents[2] / "shared" / "radbench"

pytestmark = [
    pytest.mark.radbench,
    pytest.mark.skipif(not SOURCE.is_dir(), reason=f"{SOURCE} is not here"),
]

# The table of its README.
COUNTS = {
    "train": {
        "DRAN": 224, "DRCO": 77, "DRCT": 715, "DRMR": 795, "DRPE": 160, "DRUS": 545, "DRXR": 758
    },
    "valid": {
        "DRAN": 64, "DRCO": 30, "DRCT": 213, "DRMR": 269, "DRPE": 27, "DRUS": 172, "DRXR": 240
    },
    "test": {
        "DRAN": 72, "DRCO": 33, "DRCT": 254, "DRMR": 262, "DRPE": 74, "DRUS": 211, "DRXR": 259
    },
}  # fmt: skip

EVERY = 13
"""One image of so many goes into the short chain."""


@pytest.fixture(scope="module")
def reading() -> Reading:
    return read_corpus(SOURCE)


@pytest.fixture(scope="module")
def folded(reading: Reading) -> ImageTable:
    n_folds = {"train": 10, "valid": 5}
    return reading.table.with_folds(assign_folds(reading.table, n_folds=n_folds, seed=0))


def test_it_is_read_as_the_edition_of_2020(reading: Reading) -> None:
    assert reading.edition == 2020
    assert len(reading.table) == 5_454


@pytest.mark.parametrize("split", SPLITS)
def test_splits_and_categories_have_the_counts_of_the_readme(split: str, reading: Reading) -> None:
    part = reading.table.of(split=split)
    assert Counter(part.categories) == COUNTS[split]
    assert len(part) == {"train": 3_274, "valid": 1_015, "test": 1_165}[split]
    assert part.labelled.all() == (split != "test")


def test_modality_concepts_tell_the_category_that_is_named(reading: Reading) -> None:
    table = reading.table.take(reading.table.labelled)
    told = [category_of_concepts(concepts or ()) for concepts in table.concepts]
    assert told == list(table.categories)
    assert not any("tell another category" in note for note in reading.notes)


def test_train_has_252_concepts_of_which_an_image_has_five(reading: Reading) -> None:
    concepts = [c or () for c in reading.table.of(split="train").concepts]
    assert len(LabelSpace.of(concepts)) == 252
    assert np.mean([len(c) for c in concepts]) == pytest.approx(5.3, abs=0.05)
    assert all(cui in reading.names for cui in LabelSpace.of(concepts).cuis)


def test_no_group_crosses_the_splits(reading: Reading) -> None:
    splits_of: dict[str, set[str]] = defaultdict(set)
    for group, split in zip(reading.table.groups, reading.table.splits, strict=True):
        splits_of[group].add(split)
    assert max(map(len, splits_of.values())) == 1
    assert 100 < len(splits_of) < len(reading.table)


def test_no_group_crosses_the_folds(folded: ImageTable) -> None:
    fold_of: dict[tuple[str, str], set[int]] = defaultdict(set)
    for split, group, fold in zip(folded.splits, folded.groups, folded.folds, strict=True):
        fold_of[split, group].add(int(fold))
    assert max(map(len, fold_of.values())) == 1


@pytest.mark.parametrize(("split", "n_folds"), [("train", 10), ("valid", 5)])
def test_every_fold_has_its_share_of_images_and_every_category(
    split: str, n_folds: int, folded: ImageTable
) -> None:
    part = folded.of(split=split)
    sizes = np.bincount(part.folds, minlength=n_folds)
    assert len(sizes) == n_folds
    # Groups of up to 94 images cannot be dealt out evenly.
    assert sizes.min() > 0.85 * len(part) / n_folds
    assert sizes.max() < 1.25 * len(part) / n_folds
    for category in COUNTS[split]:
        assert set(part.of(category=category).folds) == set(range(n_folds))
    assert set(folded.of(split="test").folds) == {-1}


def test_its_statistics_are_those_of_plain_counting(reading: Reading, tmp_path: Path) -> None:
    out = run("stats", SOURCE, "-w", tmp_path / "runs")
    known = [c for c in reading.table.concepts if c is not None]
    n_pairs = sum(map(len, known))
    labels = LabelSpace.of(known)
    told = f"{n_pairs:,} assignments of {len(labels)} concepts to {len(known):,} images"
    assert f"{told}, {n_pairs / len(known):.2f} concepts an image" in out
    [folder] = (tmp_path / "runs" / "reports").glob("stats-radbench-*")
    with (folder / "images.csv").open(newline="") as file:
        rows = {row["split"]: row for row in csv.DictReader(file)}
    for split in SPLITS:
        assert {c: int(rows[split][c]) for c in COUNTS[split]} == COUNTS[split]


def write_subset(reading: Reading, folder: Path) -> int:
    """Links to one image of so many in each split and category; how many they are."""
    table = reading.table
    place = list(zip(table.splits, table.categories, strict=True))
    turn: Counter[tuple[str, str]] = Counter()
    chosen = []
    for row, where in enumerate(place):
        if turn[where] % EVERY == 0:
            chosen.append(row)
        turn[where] += 1
    for row in chosen:
        home = folder / table.splits[row] / table.categories[row]
        home.mkdir(parents=True, exist_ok=True)
        path = Path(table.paths[row])
        (home / path.name).symlink_to(path)
    for split, name in {"train": "Training", "valid": "Validation"}.items():
        lines = [
            f"{table.image_ids[row]}\t{';'.join(table.concepts[row] or ())}\n"
            for row in chosen
            if table.splits[row] == split
        ]
        (folder / f"{name}-Concepts.txt").write_text("".join(lines))
    with (folder / "groups.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", "group"])
        writer.writerows((table.image_ids[row], table.groups[row]) for row in chosen)
    return len(chosen)


def run(*arguments: str | Path) -> str:
    """The results of a command that must go well."""
    result = CliRunner().invoke(cli.app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_short_chain_beats_the_category_prior(reading: Reading, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    n_images = write_subset(reading, tmp_path / "source")
    assert 400 < n_images < 450
    workspace = tmp_path / "runs"
    few = ("--set", "epochs=12", "--set", "n_members=1")
    run("prepare", tmp_path / "source", "-w", workspace, "--set", "image_size=96")
    run(
        "train-backbone", "--category", "global", "-w", workspace, "--set", "image_sizes=96", *few
    )  # fmt: skip
    run("fuse", "-w", workspace, *few)
    submission = Path(run("ensemble", "--submit", "-w", workspace).splitlines()[-1])
    n_test = len(Workspace(workspace).open_corpus().table.of(split="test"))
    checked = run("check", submission, "--edition", "2020", "-w", workspace)
    assert f"would take it (all {n_test} images)" in checked
    [folder] = (workspace / "ensembles").iterdir()
    _, scores = read_scores(folder / "valid_f1.csv")
    assert scores["submission"].mean() > scores["prior"].mean() + 0.1
