"""A run with features keeps distances, and tells by them what test will score."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.embeddings import Embeddings
from core.runs.decided import Decided
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from ensembles.config import EnsembleConfig
from ensembles.distance.corpus_points import points_of
from ensembles.distance.model import FILES, DistanceModel
from ensembles.ensemble import Ensemble, ensemble
from tests.core.storage.unlisted import forget_files

SaveRun = Callable[..., Path]

QUICK = EnsembleConfig(stackers=("mean",), leave_one_out=False)
FEATURES = ("made-32px", "made-64px")


def run(corpus: Corpus, workspace: Workspace) -> Ensemble:
    return ensemble(corpus, workspace, config=QUICK, submit=True)


def save_features(
    corpus: Corpus, workspace: Workspace, *, moved: str = "", without: tuple[str, ...] = ()
) -> None:
    """Features of two networks around a centre of the category; test of one category elsewhere."""
    table, rng = corpus.table, np.random.default_rng(0)
    centres = {name: rng.standard_normal(48) for name in sorted(set(table.categories))}
    elsewhere = rng.standard_normal(48)
    rows = [row for row, i in enumerate(table.image_ids) if i not in without]
    for name in FEATURES:
        values = [
            (elsewhere if (table.splits[r], table.categories[r]) == ("test", moved) else 0.0)
            + centres[table.categories[r]]
            + 0.5 * rng.standard_normal(48)
            for r in rows
        ]
        Embeddings(
            source=name,
            image_ids=tuple(table.image_ids[r] for r in rows),
            values=np.array(values, dtype=np.float32),
        ).save(workspace.embeddings / name)


@pytest.fixture
def members(detector: SaveRun, fused: SaveRun) -> None:
    """A detector that learns from images, then a fused source that learns from features."""
    detector("global", noise=1.0)
    fused("one-hot", noise=1.0, embeddings=FEATURES)


def decided_of(made: Ensemble, corpus: Corpus) -> Decided:
    return Decided.load(made.folder / "decided-test.csv", labels=corpus.labels)


@pytest.mark.usefixtures("members")
def test_distances_are_kept_and_nothing_else_is_decided(
    generated: Corpus, workspace: Workspace
) -> None:
    bare = run(generated, workspace)
    assert bare.submission is not None
    assert not (bare.folder / "distance").exists()
    assert read_meta(bare.folder)["forecast"]["reach"] is None
    submitted, before = bare.submission.read_bytes(), decided_of(bare, generated)
    kept = {
        name: (bare.folder / name).read_bytes()
        for name in ("decision.json", "belief.json", "valid_f1.csv", "predictions/test/values.npy")
    }
    shutil.rmtree(bare.folder)

    save_features(generated, workspace)
    made = run(generated, workspace)
    assert made.submission is not None
    assert {path.name for path in (made.folder / "distance").iterdir()} == set(FILES)
    assert made.submission.read_bytes() == submitted
    assert {name: (made.folder / name).read_bytes() for name in kept} == kept
    after = decided_of(made, generated)
    assert (after.expected_f1 <= before.expected_f1).all()
    model = DistanceModel.load(made.folder / "distance")
    assert model.features == FEATURES
    assert len(model.known.points) == 120  # of train, whose folds the generated corpus has
    assert model.reliance.n_sources == 3  # one cluster of each category that has 20 images
    # Nearest images of train are no nearer to valid than to test: both are new to them.
    test = generated.table.of(split="test")
    points, there = points_of(FEATURES, test.image_ids, workspace=workspace)
    assert there.all()
    distances = model.distances(points, test.categories)
    assert abs(np.median(distances)) < 0.2
    with (made.folder / "review.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    told = {row["image"]: float(row["distance"]) for row in rows}
    np.testing.assert_allclose([told[i] for i in test.image_ids], distances, atol=6e-4)
    f1 = [float(row["expected_f1"]) for row in rows]
    assert f1 == sorted(f1)


@pytest.mark.usefixtures("members")
def test_less_is_forecast_where_a_category_of_test_lies_elsewhere(
    generated: Corpus, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    save_features(generated, workspace)
    near = run(generated, workspace)
    found = read_meta(near.folder)["forecast"]
    assert found["far"] == []
    shutil.rmtree(near.folder)
    for name in FEATURES:
        shutil.rmtree(workspace.embeddings / name)
    save_features(generated, workspace, moved="DRCT")
    capsys.readouterr()
    far = run(generated, workspace)
    told = read_meta(far.folder)["forecast"]
    assert told["reach"] > 0.3  # half of the images are CT
    (own,) = told["far"]
    assert own["category"] == "DRCT"
    assert own["n_far"] > 0.8 * own["n"]
    assert told["value"] < found["value"]
    assert told["high"] - told["low"] > found["high"] - found["low"]
    assert f"DRCT: {own['n_far']} of {own['n']} images unlike" in capsys.readouterr().err


@pytest.mark.usefixtures("members")
def test_images_without_features_have_no_distance(generated: Corpus, workspace: Workspace) -> None:
    save_features(generated, workspace, without=("test_003", "train_005"))
    made = run(generated, workspace)
    assert len(DistanceModel.load(made.folder / "distance").known.points) == 119
    with (made.folder / "review.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert [name for name, row in rows.items() if not row["distance"]] == ["test_003"]
    assert rows["test_003"]["expected_f1"]


@pytest.mark.usefixtures("members")
def test_a_run_of_an_earlier_version_is_submitted_as_it_was(
    generated: Corpus, workspace: Workspace
) -> None:
    bare = run(generated, workspace)
    before, forecast = decided_of(bare, generated), read_meta(bare.folder)["forecast"]
    shutil.rmtree(bare.folder)
    save_features(generated, workspace)
    made = run(generated, workspace)
    forget_files(made.folder)
    shutil.rmtree(made.folder / "distance")
    again = run(generated, workspace)
    assert again.folder == made.folder
    assert not (made.folder / "distance").exists()
    np.testing.assert_array_equal(decided_of(again, generated).expected_f1, before.expected_f1)
    assert read_meta(made.folder)["forecast"] == forecast
