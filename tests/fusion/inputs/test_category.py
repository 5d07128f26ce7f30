"""The category from features: calibrated, out of fold, whatever categories there are."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from core.categories import CATEGORIES, UNKNOWN
from core.embeddings import Embeddings
from core.errors import MissingStageError
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from fusion.inputs.category import fit_category_model, guess_categories, one_hot

Floats = npt.NDArray[np.float32]


def draw(
    n: int, *, seed: int = 0, apart: float = 2.0, kinds: int = 3
) -> tuple[Floats, list[str], npt.NDArray[np.int64]]:
    """Images of some categories, whose features lie around a corner of their own."""
    rng = np.random.default_rng(seed)
    column = rng.integers(kinds, size=n)
    features = rng.normal(size=(n, 10)).astype(np.float32)
    features[np.arange(n), column] += apart
    return features, [str(CATEGORIES[c]) for c in column], rng.integers(10, size=n)


def test_a_posterior_is_as_sure_as_it_is_right() -> None:
    features, names, folds = draw(3000)
    model, of_train = fit_category_model(features, names, folds=folds)
    others, true, _ = draw(3000, seed=1)
    for posterior, truth in ((of_train, names), (model.posterior(others), true)):
        np.testing.assert_allclose(posterior.sum(axis=1), 1, atol=1e-5)
        right = [CATEGORIES[c] == t for c, t in zip(posterior.argmax(axis=1), truth, strict=True)]
        assert np.mean(right) > 0.8
        assert np.mean(right) == pytest.approx(posterior.max(axis=1).mean(), abs=0.02)
    assert model.accuracy == pytest.approx(0.9, abs=0.06)
    assert model.n_of_category.sum() == 3000


def test_a_posterior_does_not_depend_on_the_images_asked_with_it() -> None:
    features, names, folds = draw(300)
    model, _ = fit_category_model(features, names, folds=folds)
    whole = model.posterior(features)
    alone = [model.posterior(features[[row]])[0] for row in range(300)]
    np.testing.assert_array_equal(alone, whole)


def test_no_training_image_is_guessed_by_a_model_that_learnt_from_it() -> None:
    features, names, folds = draw(300)
    _, before = fit_category_model(features, names, folds=folds)
    wrong = ["DRXR" if fold == 4 else name for fold, name in zip(folds, names, strict=True)]
    _, after = fit_category_model(features, wrong, folds=folds)
    # Folds 4 and 9 are one part: what is said of fold 4 does not change the heads that guess them,
    # but for the temperature, which all share.
    part = np.isin(folds, (4, 9))
    np.testing.assert_array_equal(before[part].argmax(axis=1), after[part].argmax(axis=1))
    assert (before[~part].argmax(axis=1) != after[~part].argmax(axis=1)).any()


def test_images_without_a_category_teach_nothing_and_are_guessed() -> None:
    features, names, folds = draw(400)
    some = [name if number % 4 else UNKNOWN for number, name in enumerate(names)]
    model, posterior = fit_category_model(features, some, folds=folds)
    guesses = [CATEGORIES[c] for c in posterior[::4].argmax(axis=1)]
    assert np.mean([g == n for g, n in zip(guesses, names[::4], strict=True)]) > 0.75
    assert model.n_of_category.sum() == 300


def test_two_categories_are_told_apart_and_the_others_never_guessed() -> None:
    features, names, folds = draw(400, kinds=2)
    model, _ = fit_category_model(features, names, folds=folds)
    posterior = model.posterior(features)
    assert (posterior[:, 2:] == 0).all()
    guesses = [CATEGORIES[c] for c in posterior.argmax(axis=1)]
    assert np.mean([g == n for g, n in zip(guesses, names, strict=True)]) > 0.85


def test_a_category_of_a_single_part_of_train_is_no_error() -> None:
    features, names, folds = draw(300)
    names[0], folds[0] = "DRPE", 0
    model, posterior = fit_category_model(features, names, folds=folds)
    assert np.isfinite(posterior).all()
    assert np.isfinite(model.temperature)


@pytest.mark.parametrize(("kinds", "one_fold"), [(1, False), (3, True)])
def test_nothing_to_tell_apart_is_said(kinds: int, one_fold: bool) -> None:
    features, names, folds = draw(50, kinds=kinds)
    with pytest.raises(MissingStageError, match="categories cannot be guessed: fewer than two"):
        fit_category_model(features, names, folds=0 * folds if one_fold else folds)


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
    guess = guess_categories(partly, workspace, embeddings=features_of(corpus), names=("made",))
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
    guess = guess_categories(wrong, workspace, embeddings=features_of(generated), names=("made",))
    assert guess is not None
    rows = listed(guess.folder / "doubted.csv")
    assert [(r["image_id"], r["given"], r["guess"]) for r in rows] == [(name, "DRXR", "DRCT")]
    said = capsys.readouterr().err
    assert "1 image looks like another category than its own" in said
    assert str(guess.folder / "doubted.csv") in said


def test_nothing_odd_is_no_line(
    corpus: Corpus, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        guess_categories(corpus, workspace, embeddings=features_of(corpus), names=("made",))
        is not None
    )
    assert capsys.readouterr().err == ""


def test_a_guess_is_made_once(corpus: Corpus, workspace: Workspace) -> None:
    first = guess_categories(corpus, workspace, embeddings=features_of(corpus), names=("made",))
    assert first is not None
    made = read_meta(first.folder)["made"]
    again = guess_categories(corpus, workspace, embeddings=features_of(corpus), names=("made",))
    assert again is not None
    assert read_meta(again.folder)["made"] == made
    np.testing.assert_array_equal(again.posterior, first.posterior)
    assert again.posterior.shape == (64, len(CATEGORIES))
    other = guess_categories(corpus, workspace, embeddings=features_of(corpus), names=("others",))
    assert other is not None
    assert other.folder != first.folder


def test_a_guess_is_no_fusion_run(corpus: Corpus, workspace: Workspace) -> None:
    guess_categories(corpus, workspace, embeddings=features_of(corpus), names=("made",))
    assert workspace.finished_runs(workspace.fusion) == []


def test_without_categories_in_train_there_is_no_guess(
    corpus: Corpus, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    none = with_categories(corpus, **dict.fromkeys(corpus.table.image_ids, ""))
    assert (
        guess_categories(none, workspace, embeddings=features_of(corpus), names=("made",)) is None
    )
    assert "categories cannot be guessed" in capsys.readouterr().err


def test_categories_that_labels_tell_teach_in_train_and_nowhere_else(
    corpus: Corpus, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    table = corpus.table
    true = tuple(
        c if k is not None else "" for c, k in zip(table.categories, table.concepts, strict=True)
    )
    wrong = tuple(
        ("DRXR" if c == "DRCT" else "DRCT") if split == "valid" else c
        for c, split in zip(true, table.splits, strict=True)
    )
    found = []
    for number, told in enumerate((true, wrong)):
        unnamed = replace(table, categories=("",) * len(table), taught_categories=told)
        taught = replace(corpus, table=unnamed, fingerprint=f"taught{number}")
        guess = guess_categories(taught, workspace, embeddings=features_of(corpus), names=("made",))
        assert guess is not None
        assert guess.n_images == 40
        found.append(guess.posterior)
        listed_ids = {row["image_id"] for row in listed(guess.folder / "guessed.csv")}
        assert listed_ids == set(table.image_ids[40:])
        assert not listed(guess.folder / "doubted.csv")
    np.testing.assert_array_equal(found[0], found[1])
    assert "24 images have no category: guessed" in capsys.readouterr().err
    guesses = [CATEGORIES[column] for column in found[0].argmax(axis=1)]
    assert guesses == list(table.categories)


def test_each_category_has_a_column_of_its_own() -> None:
    np.testing.assert_array_equal(one_hot(CATEGORIES), np.eye(7, dtype=np.float32))


def test_an_unknown_category_is_a_row_of_zeros() -> None:
    rows = one_hot(["DRXR", "", "DRAN"])
    assert rows.tolist() == [[0, 0, 0, 0, 0, 0, 1], [0] * 7, [1, 0, 0, 0, 0, 0, 0]]
    assert rows.dtype == np.float32
    assert one_hot([]).shape == (0, 7)
