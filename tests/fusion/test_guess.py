"""Guessed and doubted categories, on disk and in words."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.categories import CATEGORIES
from core.embeddings import Embeddings
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from fusion.guess import guess_categories


def features_of(corpus: Corpus) -> Embeddings:
    """Features that show the category of an image, but for a little noise."""
    rng = np.random.default_rng(0)
    shown = [[3.0 * (category == "DRCT")] for category in corpus.table.categories]
    values = np.array(shown) + rng.normal(0, 0.3, (len(shown), 6))
    return Embeddings(
        source="made", image_ids=corpus.table.image_ids, values=values.astype(np.float32)
    )


def with_categories(corpus: Corpus, **changed: str) -> Corpus:
    """The corpus with other categories for some images."""
    table = corpus.table
    given = zip(table.image_ids, table.categories, strict=True)
    return replace(
        corpus,
        fingerprint=f"{corpus.fingerprint}{sorted(changed.items())}",
        table=replace(table, categories=tuple(changed.get(i, c) for i, c in given)),
    )


def listed(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_images_without_a_category_are_guessed_counted_and_listed(
    corpus: Corpus, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    partly = with_categories(corpus, valid_00="", test_05="")
    guess = guess_categories(partly, workspace, features_of(corpus), ("made",))
    assert guess is not None
    rows = listed(guess.folder / "guessed.csv")
    assert {(r["image_id"], r["split"], r["given"], r["guess"]) for r in rows} == {
        ("valid_00", "valid", "", "DRCT"), ("test_05", "test", "", "DRXR")
    }  # fmt: skip
    assert all(float(row[row["guess"]]) > 0.9 for row in rows)
    line = "2 images have no category: guessed from their features (right for 100.0% of train,"
    assert line in capsys.readouterr().err


def test_a_folder_that_is_wrong_is_doubted_and_kept(
    generated: Corpus, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    row = generated.table.categories.index("DRCT", 120)  # of valid
    name = generated.table.image_ids[row]
    wrong = with_categories(generated, **{name: "DRXR"})
    guess = guess_categories(wrong, workspace, features_of(generated), ("made",))
    assert guess is not None
    rows = listed(guess.folder / "doubted.csv")
    assert [(r["image_id"], r["given"], r["guess"]) for r in rows] == [(name, "DRXR", "DRCT")]
    said = capsys.readouterr().err
    assert "1 image looks like another category than the given one" in said
    assert str(guess.folder / "doubted.csv") in said


def test_nothing_odd_is_no_line(
    corpus: Corpus, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guess_categories(corpus, workspace, features_of(corpus), ("made",)) is not None
    assert capsys.readouterr().err == ""


def test_a_guess_is_made_once(corpus: Corpus, workspace: Workspace) -> None:
    first = guess_categories(corpus, workspace, features_of(corpus), ("made",))
    assert first is not None
    made = read_meta(first.folder)["made"]
    again = guess_categories(corpus, workspace, features_of(corpus), ("made",))
    assert again is not None
    assert read_meta(again.folder)["made"] == made
    np.testing.assert_array_equal(again.posterior, first.posterior)
    assert again.posterior.shape == (64, len(CATEGORIES))
    other = guess_categories(corpus, workspace, features_of(corpus), ("others",))
    assert other is not None
    assert other.folder != first.folder


def test_a_guess_is_no_fusion_run(corpus: Corpus, workspace: Workspace) -> None:
    guess_categories(corpus, workspace, features_of(corpus), ("made",))
    assert workspace.finished_runs(workspace.fusion) == []


def test_without_categories_in_train_there_is_no_guess(
    corpus: Corpus, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    none = with_categories(corpus, **dict.fromkeys(corpus.table.image_ids, ""))
    assert guess_categories(none, workspace, features_of(corpus), ("made",)) is None
    assert "categories cannot be guessed" in capsys.readouterr().err
