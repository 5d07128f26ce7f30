"""Nearest known images and distances against loops; files that were changed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from core.errors import PredictionsError
from ensembles.distance.features import N_DIRECTIONS, Floats
from ensembles.distance.known import (
    FILES,
    LEAST_KNOWN,
    NEIGHBOURS,
    KnownImages,
    group_weights,
)
from tests.ensembles.distance.made_points import around

SIZES = {"DRCT": 60, "DRXR": 24, "DRUS": 8, "": 30}
CATEGORIES = [name for name, n in SIZES.items() for _ in range(n)]


@pytest.fixture(scope="module")
def points() -> Floats:
    parts = [around(n, centre=i, seed=i, noise=1.5) for i, n in enumerate(SIZES.values())]
    return np.concatenate(parts)


def slow_nearest(
    known: Floats, own: list[str], point: Floats, category: str, *, apart: npt.NDArray[np.bool_]
) -> tuple[list[int], bool]:
    """Known images from the nearest on, and whether they are of the category alone."""
    among = [i for i in range(len(known)) if apart[i] and own[i] == category]
    alone = category != "" and len(among) >= LEAST_KNOWN
    if not alone:
        among = [i for i in range(len(known)) if apart[i]]
    return sorted(among, key=lambda i: -float(known[i] @ point)), alone


@pytest.mark.parametrize("at_once", [7, 512])
def test_the_nearest_are_those_of_a_loop_with_own_parts_passed_over(
    points: Floats, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ensembles.distance.known._AT_ONCE", at_once)
    known = KnownImages.of(points, CATEGORIES)
    parts = np.arange(len(points)) % 4  # three quarters of 24 are less than 20
    for k, apart in ((5, None), (25, parts), (200, parts)):
        given = None if apart is None else (apart, apart)
        found = known.nearest(points, CATEGORIES, k=k, parts=given)
        for row, category in enumerate(CATEGORIES):
            there = np.ones(len(points), np.bool_) if apart is None else parts != parts[row]
            nearest, alone = slow_nearest(points, CATEGORIES, points[row], category, apart=there)
            n = min(k, len(nearest))
            assert found.own[row] == alone
            assert set(found.rows[row, :n].tolist()) == set(nearest[:k])
            assert found.rows[row, :NEIGHBOURS].tolist() == nearest[:NEIGHBOURS]
            assert (found.rows[row, n:] == -1).all()
            assert np.isnan(found.cosines[row, n:]).all()
            np.testing.assert_allclose(
                found.cosines[row, :n], points[found.rows[row, :n]] @ points[row], atol=1e-6
            )
    assert {c for c, own in zip(CATEGORIES, found.own, strict=True) if own} == {"DRCT"}


def test_distances_are_logarithms_of_means_less_the_usual_one(points: Floats) -> None:
    known = KnownImages.of(points, CATEGORIES)
    groups = [f"g{min(i, 20)}" for i in range(len(points))]  # one large group, and 20 of one
    parts = np.arange(len(points)) % 4
    nearest = known.nearest(points, CATEGORIES, k=9, parts=(parts, parts))
    slow, own = [], []
    for row, category in enumerate(CATEGORIES):
        order, alone = slow_nearest(
            points, CATEGORIES, points[row], category, apart=parts != parts[row]
        )
        slow.append(np.log(np.mean([1 - float(points[i] @ points[row]) for i in order[:5]])))
        own.append(alone)
    np.testing.assert_allclose(known.distances(nearest, CATEGORIES), slow, atol=1e-5)

    weights = group_weights(groups)
    assert weights.tolist() == [1.0] * 20 + [pytest.approx(1 / 102)] * 102

    def median(rows: list[int]) -> float:
        left = sum(weights[row] for row in rows) / 2
        for row in sorted(rows, key=lambda row: slow[row]):
            left -= weights[row]
            if left <= 1e-12:
                return float(slow[row])
        raise AssertionError

    fitted = known.with_usual(nearest, CATEGORIES, weights=weights)
    usual = {"all": median([*range(len(points))])}
    for name in sorted({c for c, alone in zip(CATEGORIES, own, strict=True) if alone}):
        rows = [i for i, c in enumerate(CATEGORIES) if c == name and own[i]]
        usual[name] = median(rows)
    assert fitted.usual == pytest.approx(usual, abs=1e-5)
    less = [usual[c] if alone else usual["all"] for c, alone in zip(CATEGORIES, own, strict=True)]
    np.testing.assert_allclose(
        fitted.distances(nearest, CATEGORIES), np.array(slow) - less, atol=1e-5
    )


def test_a_known_category_that_no_image_was_compared_in_takes_the_usual_distance_of_all(
    points: Floats,
) -> None:
    known = KnownImages.of(points, CATEGORIES)
    rows = [i for i, name in enumerate(CATEGORIES) if name == "DRCT"]
    nearest = known.nearest(points[rows], ["DRCT"] * len(rows), k=5)
    fitted = known.with_usual(nearest, ["DRCT"] * len(rows), weights=np.ones(len(rows)))
    assert set(fitted.usual) == {"all", "DRCT"}
    new = around(4, centre=1, seed=9, noise=1.5)
    asked = known.nearest(new, ["DRXR"] * 4, k=5)
    assert asked.own.all()
    np.testing.assert_allclose(
        fitted.distances(asked, ["DRXR"] * 4),
        known.distances(asked, ["DRXR"] * 4) - fitted.usual["all"],
    )


def test_of_a_category_with_very_many_images_so_many_are_drawn(
    points: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert KnownImages.of(points, CATEGORIES).rows.tolist() == list(range(len(points)))
    monkeypatch.setattr("ensembles.distance.known.MOST_KNOWN", 25)
    known = KnownImages.of(points, CATEGORIES)
    kept = [CATEGORIES[row] for row in known.rows]
    assert {name: kept.count(name) for name in SIZES} == {"DRCT": 25, "DRXR": 24, "DRUS": 8, "": 25}
    assert (np.diff(known.rows) > 0).all()
    np.testing.assert_array_equal(known.points, points[known.rows])
    assert KnownImages.of(points, CATEGORIES).rows.tolist() == known.rows.tolist()


def test_what_nothing_is_known_of_lies_as_far_as_can_be(points: Floats) -> None:
    known = KnownImages.of(points, CATEGORIES)
    one = np.zeros(len(points), dtype=np.intp)
    found = known.nearest(points[:2], ["DRCT"] * 2, k=5, parts=(one[:2], one))
    assert (found.rows == -1).all()
    np.testing.assert_allclose(known.distances(found, ["DRCT"] * 2), np.log(2.0))
    assert np.isfinite(known.distances(known.nearest(points, CATEGORIES, k=5), CATEGORIES)).all()


@pytest.fixture
def saved(points: Floats, tmp_path: Path) -> tuple[KnownImages, Path]:
    known = KnownImages.of(points, CATEGORIES)
    nearest = known.nearest(points, CATEGORIES, k=5)
    known = known.with_usual(nearest, CATEGORIES, weights=np.ones(len(points)))
    known.save(tmp_path)
    return known, tmp_path


def test_known_images_are_read_as_they_were_written_in_two_bytes_a_number(
    saved: tuple[KnownImages, Path],
) -> None:
    known, folder = saved
    assert {path.name for path in folder.iterdir()} == set(FILES)
    size = (folder / "points.npy").stat().st_size
    assert size == pytest.approx(2 * N_DIRECTIONS * len(CATEGORIES), abs=128)
    again = KnownImages.load(folder)
    np.testing.assert_array_equal(again.points, known.points.astype(np.float16))
    assert again.points.dtype == np.float32
    np.testing.assert_array_equal(again.categories, known.categories)
    assert again.usual == known.usual
    nearest = again.nearest(known.points, CATEGORIES, k=5)
    np.testing.assert_allclose(
        again.distances(nearest, CATEGORIES)[: SIZES["DRCT"]],
        known.distances(known.nearest(known.points, CATEGORIES, k=5), CATEGORIES)[: SIZES["DRCT"]],
        atol=2e-3,
    )


def array(path: Path, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> None:
    np.save(path, change(np.load(path)))


def told(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def spoilt(points: npt.NDArray[Any], value: float) -> npt.NDArray[Any]:
    points[3, 5] = value
    return points


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("points.npy", lambda p: array(p, lambda a: a[:-1])),
        ("points.npy", lambda p: array(p, lambda a: a[:, :-1])),
        ("points.npy", lambda p: array(p, lambda a: a.astype(np.float32))),
        ("points.npy", lambda p: array(p, lambda a: spoilt(a, np.nan))),
        ("points.npy", lambda p: array(p, lambda a: spoilt(a, np.inf))),
        ("points.npy", lambda p: array(p, lambda a: spoilt(a, 6e4))),
        ("points.npy", lambda p: p.write_bytes(p.read_bytes()[:-1])),
        ("points.npy", lambda p: p.unlink()),
        ("categories.npy", lambda p: array(p, lambda a: a.astype(np.int64))),
        ("categories.npy", lambda p: array(p, lambda a: a + np.uint8(9))),
        ("categories.npy", lambda p: array(p, lambda a: a[:0])),
        ("categories.npy", lambda p: array(p, lambda a: a[0])),
        ("categories.npy", lambda p: array(p, lambda a: a[:, None])),
        ("usual.json", lambda p: p.write_text("[]")),
        ("usual.json", lambda p: p.write_text("{}")),
        ("usual.json", lambda p: p.write_text('{"all": NaN}')),
        ("usual.json", lambda p: told(p, DRCT="far")),
        ("usual.json", lambda p: told(p, DRCT=1e308)),
        ("usual.json", lambda p: told(p, DRCT=10**299)),
        ("usual.json", lambda p: told(p, EYE=0.0)),
        ("usual.json", lambda p: p.write_text("{")),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(
    saved: tuple[KnownImages, Path], name: str, damage: Callable[[Path], object]
) -> None:
    folder = saved[1]
    damage(folder / name)
    with pytest.raises(PredictionsError, match=name) as refusal:
        KnownImages.load(folder)
    assert len(str(refusal.value).splitlines()) == 1
