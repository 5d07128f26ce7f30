"""Far categories among new images, and a model's files."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import PredictionsError
from ensembles.distance.features import Floats
from ensembles.distance.left_out import LabelledPoints
from ensembles.distance.model import FILES, DistanceModel, FarCategory, NearPoints
from ensembles.distance.reliance import USUAL_SHARE
from ensembles.forecast.interval import Lie
from tests.ensembles.distance.made_points import around, labelled

PARTS = (
    ("DRCT", 0, 0, 60), ("DRCT", 1, 1, 60), ("DRXR", 0, 3, 50), ("DRXR", 1, 4, 50),
)  # fmt: skip


def fitted(images: LabelledPoints, near: NearPoints) -> DistanceModel | None:
    return DistanceModel.fit(images, near, features=("b0-224px", "b1"), empty_truth="left out")


def out_of_fold(images: LabelledPoints) -> NearPoints:
    return NearPoints(
        points=images.points,
        categories=images.categories,
        groups=images.groups,
        folds=images.folds,
    )


@pytest.fixture(scope="module")
def model() -> DistanceModel:
    images = labelled(PARTS)
    found = fitted(images, out_of_fold(images))
    assert found is not None
    return found


def usual(n: int, *, centres: tuple[int, int], seed: int) -> Floats:
    """New images of the two sources of a category."""
    return np.concatenate([around(n // 2, centre=c, seed=seed + c) for c in centres])


def compared(model: DistanceModel, **parts: Floats) -> dict[str, FarCategory]:
    points = np.concatenate([*parts.values()])
    categories = [name.strip("_") for name, own in parts.items() for _ in own]
    distances = model.distances(points, categories)
    groups = [""] * len(points)
    found = model.compare(points, distances, categories=categories, groups=groups)
    assert [own.category for own in found] == sorted(set(categories))
    assert [own.n for own in found] == [categories.count(own.category) for own in found]
    return {own.category: own for own in found}


def test_images_like_the_known_ones_are_near(model: DistanceModel) -> None:
    points = {
        "DRCT": usual(60, centres=(0, 1), seed=500),
        "DRXR": usual(40, centres=(3, 4), seed=600),
    }
    found = compared(model, **points)
    assert {(own.share, own.separation, own.differs) for own in found.values()} == {(0, 0, False)}
    distances = model.distances(points["DRCT"], ["DRCT"] * 60)
    assert abs(np.median(distances)) < 0.1


def test_a_far_category_is_found_beside_a_near_one(model: DistanceModel) -> None:
    far = around(40, centre=9, seed=1)
    found = compared(model, DRCT=usual(60, centres=(0, 1), seed=500), DRXR=far)
    assert not found["DRCT"].differs
    assert found["DRXR"].differs
    assert found["DRXR"].share > 0.9
    assert found["DRXR"].separation > 0.9


def test_a_category_that_was_never_seen_is_all_far(model: DistanceModel) -> None:
    found = compared(model, DRUS=around(3, centre=0, seed=8), _=usual(20, centres=(0, 1), seed=5))
    assert found["DRUS"] == FarCategory(category="DRUS", n=3, share=1.0, separation=1.0)
    assert not found[""].differs  # without a category images are compared with all


def test_too_few_images_are_not_told_apart(model: DistanceModel) -> None:
    found = compared(model, DRCT=usual(8, centres=(0, 1), seed=700))
    assert found["DRCT"] == FarCategory(category="DRCT", n=8, share=0.0, separation=0.0)


def test_an_image_alone_counts_as_seldom_far(model: DistanceModel) -> None:
    expected, z = np.array([0.9, 0.9, np.nan]), np.array([-0.1, 2.0, 2.0])
    np.testing.assert_array_equal(
        model.alone(expected, z), model.reliance.expected(expected, z, share=USUAL_SHARE)
    )
    assert model.alone(expected, z)[1] < model.alone(expected, z)[0] <= 0.9


def test_near_images_of_a_split_of_their_own_are_compared_with_all(model: DistanceModel) -> None:
    images = labelled(PARTS)
    points = usual(80, centres=(0, 1), seed=900)
    near = NearPoints(points=points, categories=["DRCT"] * 80, groups=[""] * 80, folds=None)
    found = fitted(images, near)
    assert found is not None
    assert np.median(found.distances(points, ["DRCT"] * 80)) == pytest.approx(0.0, abs=0.02)
    assert set(found.known.usual) == {"all", "DRCT"}


def test_what_cannot_be_left_out_gives_no_model() -> None:
    images = labelled((("DRCT", 0, 0, 60),))
    assert fitted(images, out_of_fold(images)) is None


def test_how_images_lie_is_told_of_those_with_points_alone(model: DistanceModel) -> None:
    points = np.concatenate([usual(40, centres=(0, 1), seed=500), around(20, centre=9, seed=1)])
    categories = ["DRCT"] * 40 + ["DRXR"] * 20
    there = np.ones(60, dtype=np.bool_)
    there[[3, 59]] = False
    points[~there] = 0.0
    lie = Lie.of(model, points, there=there, categories=categories, groups=[""] * 60)
    np.testing.assert_array_equal(np.isnan(lie.distances), ~there)
    share = {own.category: own.share for own in lie.categories}
    assert share["DRCT"] == 0.0
    assert share["DRXR"] > 0.9
    assert lie.shares.tolist() == [share[name] for name in categories]
    assert [own.n for own in lie.categories] == [39, 19]
    f1 = np.linspace(0.3, 0.9, 60)
    np.testing.assert_array_equal(lie.expected(f1)[:40], f1[:40])
    assert (lie.expected(f1)[40:59] < f1[40:59]).all()
    assert lie.expected(f1)[59] == lie.of_each(f1)[59] == f1[59]
    assert (lie.of_each(f1) <= f1).all()
    assert (lie.of_each(f1)[:40] < f1[:40]).any()  # a few are far all the same
    np.testing.assert_array_equal(lie.of_each(f1)[40:], lie.expected(f1)[40:])
    others = lie.others(0.4)
    assert (others.reach, others.spread) == (0.4, model.reliance.spread)
    assert others.n_sources == model.reliance.n_sources == 2

    nobody = Lie.of(
        model, points, there=np.zeros(60, np.bool_), categories=categories, groups=[""] * 60
    )
    assert np.isnan(nobody.distances).all()
    assert (nobody.categories, nobody.expected(f1).tolist()) == ((), f1.tolist())


def test_places_are_shares_of_scored_images_of_which_less_is_expected(
    model: DistanceModel,
) -> None:
    assert np.isnan(model.places(np.array([0.5]))).all()
    scored = np.concatenate([np.random.default_rng(0).random(400), [np.nan]])
    ordered = model.with_usual_f1(scored)
    asked = np.array([0.1, 0.5, 0.93, np.nan, -1.0, 2.0])
    slow = [float((scored[:400] < value).mean()) for value in asked]
    found = ordered.places(asked)
    np.testing.assert_allclose(found[:3], slow[:3], atol=0.01)
    assert np.isnan(found[3])
    assert found[4:].tolist() == [0.0, 1.0]


@pytest.fixture
def saved(model: DistanceModel, tmp_path: Path) -> Path:
    model.with_usual_f1(np.linspace(0.2, 1.0, 60)).save(tmp_path)
    return tmp_path


def test_a_model_is_read_as_it_was_written(model: DistanceModel, saved: Path) -> None:
    assert {path.name for path in saved.iterdir()} == set(FILES)
    again = DistanceModel.load(saved)
    assert again.features == ("b0-224px", "b1")
    assert again.reliance == model.reliance
    np.testing.assert_array_equal(again.groups, model.groups)
    assert again.usual_f1 == model.with_usual_f1(np.linspace(0.2, 1.0, 60)).usual_f1
    points = usual(40, centres=(3, 4), seed=600)
    np.testing.assert_allclose(
        again.distances(points, ["DRXR"] * 40), model.distances(points, ["DRXR"] * 40), atol=5e-3
    )


def told(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def without(path: Path, name: str) -> None:
    values = json.loads(path.read_text())
    del values[name]
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("groups.npy", lambda p: np.save(p, np.load(p)[:-1])),
        ("groups.npy", lambda p: np.save(p, np.load(p).astype(np.int64))),
        ("groups.npy", lambda p: p.unlink()),
        ("reliance.json", lambda p: p.unlink()),
        ("reliance.json", lambda p: p.write_text("[]")),
        ("reliance.json", lambda p: without(p, "features")),
        ("reliance.json", lambda p: without(p, "spread")),
        ("reliance.json", lambda p: without(p, "usual_f1")),
        ("reliance.json", lambda p: told(p, features=7)),
        ("reliance.json", lambda p: told(p, features=[7])),
        ("reliance.json", lambda p: told(p, usual_f1=7)),
        ("reliance.json", lambda p: told(p, usual_f1=[0.5])),
        ("reliance.json", lambda p: told(p, usual_f1=[0.5, None])),
        ("reliance.json", lambda p: told(p, usual_f1=[0.5, 0.4])),
        ("reliance.json", lambda p: told(p, usual_f1=[0.5, 1.1])),
        ("reliance.json", lambda p: told(p, usual_f1=[float("nan"), 1.0])),
        ("reliance.json", lambda p: told(p, n_sources=float("inf"))),
        ("reliance.json", lambda p: told(p, evidence=[float("nan"), 1.0])),
        ("points.npy", lambda p: np.save(p, np.load(p)[:, :9])),
    ],
)
def test_a_damaged_model_is_refused_in_one_line(
    saved: Path, name: str, damage: Callable[[Path], object]
) -> None:
    damage(saved / name)
    with pytest.raises(PredictionsError, match=name) as refusal:
        DistanceModel.load(saved)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_model_without_places_is_read_as_one(model: DistanceModel, tmp_path: Path) -> None:
    replace(model, usual_f1=()).save(tmp_path)
    assert DistanceModel.load(tmp_path).usual_f1 == ()
