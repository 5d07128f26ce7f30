"""The nearest training images, against plain sums."""

from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from browser import nearest
from browser.library import Library
from browser.nearest import NearestTraining
from core.runs.workspace import Workspace


@pytest.fixture
def features(whole: Workspace) -> NearestTraining:
    found = NearestTraining.open(Library.open(whole))
    assert found is not None
    return found


def plain(found: NearestTraining, row: int) -> list[tuple[int, float]]:
    """Every labelled image of another group with its cosine, the nearest first."""
    table = found.library.corpus.table
    values = {int(r): v for r, v in zip(found.rows, np.asarray(found.values), strict=True)}
    own = values[row]
    cosines = [
        (other, float(own @ v / np.linalg.norm(own) / np.linalg.norm(v)))
        for other, v in values.items()
        if table.splits[other] != "test" and table.groups[other] != table.groups[row]
    ]
    return sorted(cosines, key=lambda pair: -pair[1])


@pytest.mark.parametrize("row", [0, 41, 60])
def test_nearest_images_are_labelled_and_of_other_groups(
    features: NearestTraining, row: int
) -> None:
    found, expected = features.of_image(row, most=5), plain(features, row)[:5]
    assert [other for other, _ in found] == [other for other, _ in expected]
    np.testing.assert_allclose([c for _, c in found], [c for _, c in expected], atol=1e-6)


def test_distances_of_all_images_are_those_of_each_and_are_kept(
    features: NearestTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = replace(features.library, workspace=Workspace(tmp_path))
    features = replace(features, library=library)
    monkeypatch.setattr(nearest, "_BLOCK", 7)
    monkeypatch.setattr(nearest, "_AT_ONCE", 11)
    shares: list[float] = []
    found = features.similarities(stop=Event(), told=shares.append)
    assert found is not None
    n = len(features.library)
    expected = [plain(features, row)[0][1] for row in range(n)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert shares[-1] == 1.0
    again = features.similarities(stop=Event(), told=lambda _: pytest.fail("computed again"))
    np.testing.assert_array_equal(found, again)


def test_a_stopped_computation_leaves_nothing(whole: Workspace, tmp_path: Path) -> None:
    library = Library.open(whole)
    found = NearestTraining.open(library)
    assert found is not None
    found = replace(found, library=replace(library, workspace=Workspace(tmp_path)))
    stop = Event()
    stop.set()
    assert found.similarities(stop=stop, told=lambda _: None) is None
    assert not list(tmp_path.iterdir())


def test_without_features_nothing_is_near(library: Library) -> None:
    assert NearestTraining.open(library) is None
