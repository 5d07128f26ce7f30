"""Sources that are left out: votes against a loop, and no source has a say in its own images."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from core.labels import Targets
from core.metrics import image_f1
from ensembles.calibration.temperature import Calibration, fit_calibration
from ensembles.decisions.expected_f1 import maximise
from ensembles.distance.known import LEAST_KNOWN, KnownImages, group_weights
from ensembles.distance.left_out import (
    LEAST,
    LabelledPoints,
    LeftOut,
    leave_out,
    sources_of,
)
from ensembles.distance.separation import separation
from ensembles.pairs import CalibratedPairs, to_csr
from tests.ensembles.distance.made_points import labelled

# Three sources of CT that lie apart, X-rays of two, and a few more images of the third.
PARTS = (
    ("DRCT", 0, 0, 40), ("DRCT", 1, 1, 36), ("DRCT", 2, 2, 30),
    ("DRXR", 0, 3, 32), ("DRXR", 1, 4, 28), ("DRXR", 2, 5, LEAST - 4),
)  # fmt: skip


@pytest.fixture(scope="module")
def images() -> LabelledPoints:
    return labelled(PARTS)


@pytest.fixture(scope="module")
def left_out(images: LabelledPoints) -> LeftOut:
    found = leave_out(images, empty_truth="left out")
    assert found is not None
    return found


def slow_votes(images: LabelledPoints, parts: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """(N, L) votes of the 25 nearest images of other parts, image by image."""
    truth = images.targets.matrix.toarray()
    votes = np.zeros(truth.shape, dtype=np.float32)
    for row, category in enumerate(images.categories):
        others = [i for i in range(len(truth)) if parts[i] != parts[row]]
        among = [i for i in others if images.categories[i] == category]
        among = among if len(among) >= LEAST_KNOWN else others
        cosines = {i: float(images.points[i] @ images.points[row]) for i in among}
        nearest = sorted(among, key=lambda i: -cosines[i])[:25]
        weights = [np.exp(cosines[i] / 0.05) for i in nearest]
        for weight, i in zip(weights, nearest, strict=True):
            votes[row] += weight / sum(weights) * truth[i]
    votes[votes < 0.01] = 0.0
    return votes


def slow_calibration(images: LabelledPoints) -> Calibration:
    votes, truth = slow_votes(images, images.folds), images.targets.matrix.toarray()
    pairs = sorted((v, t) for v, t in zip(votes[votes > 0], truth[votes > 0], strict=True))
    probs = np.array([min(v, 0.995) for v, _ in pairs], dtype=np.float32)
    return fit_calibration(probs, np.array([t for _, t in pairs]))


def test_votes_calibration_and_decisions_are_those_of_a_loop(
    images: LabelledPoints, left_out: LeftOut
) -> None:
    votes, calibration = slow_votes(images, images.sources), slow_calibration(images)
    rows, columns = np.nonzero(votes)
    decided = maximise(
        CalibratedPairs(
            rows=rows.astype(np.int32),
            columns=columns.astype(np.int32),
            probs=calibration.apply(np.minimum(votes[rows, columns], 0.995).astype(np.float32)),
            shape=votes.shape,
        ),
        limit=100,
        empty_truth="left out",
    )
    truth = image_f1(images.targets, decided.decided, empty_truth="left out")
    cells = [(own, source) for own, source, _, n in PARTS if n >= LEAST]
    kept = [
        row
        for row, cell in enumerate(zip(images.categories, images.sources.tolist(), strict=True))
        if cell in cells and not np.isnan(truth[row])
    ]
    assert len(kept) == len(left_out.truth) < len(images.points)
    np.testing.assert_allclose(left_out.expected, decided.f1[kept], atol=1e-4)
    np.testing.assert_allclose(left_out.truth, truth[kept], atol=1e-6)
    names = [left_out.names[cell] for cell in left_out.cells]
    assert names == [f"site {images.sources[row]}, {images.categories[row]}" for row in kept]
    of_cell = [f"site {source}" for source in left_out.sources]
    assert of_cell == [name.partition(",")[0] for name in left_out.names]
    assert sorted(left_out.names) == sorted(f"site {s}, {c}" for c, s in cells)

    known = KnownImages.of(images.points, images.categories)
    near, far = (
        known.nearest(images.points, images.categories, k=25, parts=(own, own))
        for own in (images.folds, images.sources)
    )
    known = known.with_usual(near, images.categories, weights=group_weights(images.groups))
    distances = known.distances(far, images.categories)[kept]
    np.testing.assert_allclose(left_out.distances, distances, atol=1e-6)
    assert left_out.distances.mean() > 0.3  # the sources lie apart


def test_each_cell_has_the_strength_by_which_it_is_told_from_the_others(
    images: LabelledPoints, left_out: LeftOut
) -> None:
    kinds, groups = np.array(images.categories), np.array(images.groups)
    for cell, name in enumerate(left_out.names):
        source, category = int(left_out.sources[cell]), name.rpartition(" ")[2]
        own = (kinds == category) & (images.sources == source)
        others = (kinds == category) & ~own
        found = separation(
            images.points[others],
            images.points[own],
            groups=groups[others].tolist(),
            new_groups=groups[own].tolist(),
        )
        assert found is not None
        strengths = left_out.separations[left_out.cells == cell]
        assert strengths.tolist() == [found.strength] * len(strengths)
        assert found.strength > 0.8


def exchanged(images: LabelledPoints, rows: npt.NDArray[np.bool_]) -> LabelledPoints:
    """The same with the first three concepts for the last three, and these for those, on some."""
    dense = images.targets.matrix.toarray()
    dense[rows] = np.roll(dense[rows], 3, axis=1)
    places = np.nonzero(dense)
    matrix = to_csr(*(p.astype(np.int32) for p in places), shape=dense.shape)
    return replace(images, targets=Targets(matrix=matrix, n_outside=images.targets.n_outside))


def test_labels_of_a_source_have_no_say_in_what_is_expected_of_its_own_images() -> None:
    # Sources lie so far apart that the neighbours of other folds are of the source itself: with
    # concepts exchanged in one of them, its votes are exchanged as the truth is, and nothing
    # changes in the calibration. Its votes for itself would follow the exchange; others' do not.
    images = labelled((("DRCT", 0, 0, 60), ("DRCT", 1, 1, 60), ("DRCT", 2, 2, 60)), seed=3)
    before = leave_out(images, empty_truth="counted")
    own = images.sources == 0
    after = leave_out(exchanged(images, own), empty_truth="counted")
    assert before is not None
    assert after is not None
    mine = before.sources[before.cells] == 0
    assert mine.sum() == 60
    np.testing.assert_allclose(after.expected[mine], before.expected[mine], atol=1e-4)
    np.testing.assert_array_equal(after.distances, before.distances)
    others = slow_votes(images, images.sources)
    np.testing.assert_array_equal(
        slow_votes(exchanged(images, own), images.sources)[own], others[own]
    )
    assert np.abs(after.truth[mine] - before.truth[mine]).mean() > 0.1


@pytest.mark.parametrize(
    "parts",
    [
        (("DRCT", 0, 0, 60),),  # one source: nothing is left to learn from without it
        (("DRCT", 0, 0, 60), ("DRCT", 1, 1, LEAST - 1)),
        (("DRCT", 0, 0, 12), ("DRCT", 1, 1, 12)),
    ],
)
def test_with_fewer_than_two_sources_of_enough_images_nothing_is_learnt(
    parts: tuple[tuple[str, int, int, int], ...],
) -> None:
    assert leave_out(labelled(parts), empty_truth="left out") is None


def test_sources_whose_images_are_all_left_out_of_the_mean_do_not_count() -> None:
    images = labelled((("DRCT", 0, 0, 40), ("DRCT", 1, 1, 40), ("DRCT", 2, 2, 40)))

    def without(*sources: int) -> LeftOut | None:
        dense = images.targets.matrix.toarray()
        dense[np.isin(images.sources, sources)] = False
        matrix = to_csr(*(p.astype(np.int32) for p in np.nonzero(dense)), shape=dense.shape)
        targets = Targets(matrix=matrix, n_outside=images.targets.n_outside)
        return leave_out(replace(images, targets=targets), empty_truth="left out")

    found = without(0)
    assert found is not None
    assert {found.names[cell] for cell in found.cells} == {"site 1, DRCT", "site 2, DRCT"}
    assert without(0, 1) is None


def test_a_column_that_names_sources_is_taken_before_clusters() -> None:
    images = labelled(PARTS)
    given = {"categories": images.categories, "groups": images.groups}
    named = [f"hospital {number}" if number else "" for number in images.sources]
    numbers, names = sources_of(
        images.points, metadata={"hospital": named, "source": ["one"] * len(named)}, **given
    )
    assert [names[number] for number in numbers] == [name or "not named" for name in named]


def test_without_such_a_column_clusters_of_a_category_keep_groups_whole() -> None:
    images = labelled((*PARTS, ("DRUS", 0, 6, 8)))
    numbers, names = sources_of(
        images.points, categories=images.categories, groups=images.groups, metadata={}
    )
    told = [names[number] for number in numbers]
    assert [name.partition(",")[0] for name in told] == list(images.categories)
    for group in set(images.groups):
        assert len({told[i] for i, own in enumerate(images.groups) if own == group}) == 1
    # 106 images of CT make two clusters of 40 at least, the 76 X-rays and 8 others one each.
    assert len({name for name in told if name.startswith("DRCT")}) == 2
    assert sum(name.startswith(("DRXR", "DRUS")) for name in names) == 2
    for source in range(3):  # which lie far from each other
        assert len({told[i] for i in range(106) if images.sources[i] == source}) == 1
