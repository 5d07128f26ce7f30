import numpy as np
import pytest
from scipy.sparse import csr_array

from core.errors import LabelSpaceError, PredictionsError
from core.labels import LabelSpace
from core.predictions import Predictions
from ensembles.pairs import Floats
from ensembles.stacking.sources import Source, find_candidates

FULL = LabelSpace(("C1", "C2", "C3", "C4"))
IMAGES = ("a", "b", "c")


def predictions(
    name: str, images: tuple[str, ...], cuis: tuple[str, ...], probs: list[list[float]]
) -> Predictions:
    return Predictions(
        source=name,
        image_ids=images,
        labels=LabelSpace(cuis),
        probs=np.array(probs, dtype=np.float32),
        fitted_on=frozenset(),
    )


GLOBAL = Source.of(
    predictions(
        "global",
        IMAGES,
        FULL.cuis,
        [[0.9, 0.1, 0.0, 0.0], [0.2, 0.0, 0.3, 0.0], [0.0, 0.0, 0.0, 0.0]],
    ),
    image_ids=IMAGES,
    labels=FULL,
)
# covers b and a (in that order) and the concepts C4 and C2 (in that order)
SPECIALIST = Source.of(
    predictions("DRCT", ("b", "x", "a"), ("C4", "C2"), [[0.5, 0.6], [1.0, 1.0], [0.7, 0.3]]),
    image_ids=IMAGES,
    labels=FULL,
)


def dense(source: Source) -> Floats:
    """(N, L) probabilities, NaN where the source covers nothing."""
    rows, columns = np.indices((3, 4), dtype=np.int32)
    return source.at(rows.ravel(), columns.ravel()).reshape(3, 4)


def find(*sources: Source, floor: float, top: int) -> list[tuple[int, int]]:
    rows, columns = find_candidates(sources, n_images=3, n_concepts=4, floor=floor, top=top)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def test_a_specialist_knows_its_own_images_and_concepts_only() -> None:
    nan = np.nan
    np.testing.assert_array_equal(
        dense(SPECIALIST),
        np.array(
            [[nan, 0.3, nan, 0.7], [nan, 0.6, nan, 0.5], [nan, nan, nan, nan]], dtype=np.float32
        ),
    )
    assert not SPECIALIST.covers_all
    assert GLOBAL.covers_all
    np.testing.assert_array_equal(dense(GLOBAL), GLOBAL.probs)


def test_pairs_at_the_floor_of_any_source_are_found() -> None:
    assert find(GLOBAL, floor=float(np.float32(0.2)), top=0) == [(0, 0), (1, 0), (1, 2)]
    both = [(0, 0), (0, 3), (1, 1), (1, 3)]
    assert find(GLOBAL, SPECIALIST, floor=0.5, top=0) == both


def test_the_top_of_each_image_goes_by_the_mean_over_covering_sources() -> None:
    # Means. a: .9, (.1 + .3)/2 = .2, 0, .35; b: .2, .3, .3, .25; c: zeros, which are no candidates.
    # The second places of b share .3 with the first.
    assert find(GLOBAL, SPECIALIST, floor=2.0, top=1) == [(0, 0), (1, 1), (1, 2)]
    assert find(GLOBAL, SPECIALIST, floor=2.0, top=2) == [(0, 0), (0, 3), (1, 1), (1, 2)]


def test_a_top_of_all_concepts_takes_every_pair_above_zero() -> None:
    assert find(GLOBAL, floor=2.0, top=4) == [(0, 0), (0, 1), (1, 0), (1, 2)]


def test_images_are_found_block_by_block() -> None:
    rng = np.random.default_rng(0)
    probs = rng.random((1100, 3)).astype(np.float32)  # three blocks
    rows = np.arange(1100, dtype=np.int32)
    straight = Source(name="s", probs=probs, rows=rows, columns=np.arange(3, dtype=np.int32))
    order = rng.permutation(1100)
    back = np.argsort(order).astype(np.int32)
    shuffled = Source(name="s", probs=probs[order], rows=back, columns=np.arange(3, dtype=np.int32))
    expected = np.nonzero(probs >= 0.5)
    for source in (straight, shuffled):
        found = find_candidates([source], n_images=1100, n_concepts=3, floor=0.5, top=0)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


def test_a_source_of_other_images_is_refused() -> None:
    other = predictions("DRCT", ("x", "y"), ("C1",), [[0.1], [0.2]])
    with pytest.raises(PredictionsError, match="DRCT: covers none of the 3 images"):
        Source.of(other, image_ids=IMAGES, labels=FULL)


def test_a_source_with_a_foreign_concept_is_refused() -> None:
    foreign = predictions("DRCT", ("a",), ("C9",), [[0.1]])
    with pytest.raises(LabelSpaceError, match=r"\['C9'\]"):
        Source.of(foreign, image_ids=IMAGES, labels=FULL)


def test_of_a_crowded_image_the_highest_by_the_mean_stay() -> None:
    numbers = np.arange(6, dtype=np.int32)
    sources = [
        Source(name=name, probs=np.array(probs, np.float32), rows=numbers[:2], columns=numbers)
        for name, probs in (
            ("a", [[0.9, 0.1, 0.3, 0.3, 0.0, 0.2], [0.1, 0.9, 0.0, 0.0, 0.0, 0.0]]),
            ("b", [[0.0, 0.2, 0.3, 0.3, 0.1, 0.0], [0.2, 0.0, 0.0, 0.0, 0.0, 0.0]]),
        )
    ]
    rows, columns = find_candidates(sources, n_images=2, n_concepts=6, floor=0.1, top=1, most=2)
    # means .45, .15, .3, .3, .05, .1: two share the second place, and stay; the other has two
    assert rows.tolist() == [0, 0, 0, 1, 1]
    assert columns.tolist() == [0, 2, 3, 0, 1]


def test_what_is_stored_sparsely_is_looked_up_as_in_the_array() -> None:
    rng = np.random.default_rng(0)
    probs = np.where(rng.random((20, 30)) < 0.2, rng.random((20, 30)), 0).astype(np.float32)
    own_rows = rng.permutation(25).astype(np.int32) - 5  # the first five are not covered
    own_columns = rng.permutation(33).astype(np.int32) - 3
    own_rows[own_rows < 0] = own_columns[own_columns < 0] = -1
    rows, columns = rng.integers(0, 25, 400).astype(np.int32), rng.integers(0, 33, 400)
    whole, stored = (
        Source(name="s", probs=form, rows=own_rows, columns=own_columns).at(
            rows, columns.astype(np.int32)
        )
        for form in (probs, csr_array(probs))
    )
    i, j = own_rows[rows], own_columns[columns]
    expected = np.where((i >= 0) & (j >= 0), probs[i, j], np.nan)
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(stored, expected)
