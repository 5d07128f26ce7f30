import numba
import numpy as np
import pytest

from core.errors import PredictionsError
from core.labels import LabelSpace
from ensembles.pairs import Floats
from ensembles.stacking.candidates import (
    SHARED_FEATURES,
    Candidates,
    fill_log_ranks,
    fill_mass_and_support,
    fill_prior,
    fill_summaries,
    make_candidates,
)
from ensembles.stacking.label_statistics import LabelStatistics
from ensembles.stacking.sources import Source
from tests.ensembles.stacking.test_label_statistics import shares_of

LABELS = LabelSpace(("C1", "C2", "C3"))
BACKGROUND = LabelStatistics.of(
    LABELS.encode([("C1", "C2"), ("C1",), ("C2",), ()]), ["DRCT", "DRCT", "DRXR", ""]
)
ROWS = np.arange(2, dtype=np.int32)
GLOBAL = Source(
    name="global",
    probs=np.array([[0.5, 0.9, 0.5], [0.0, 0.2, 0.0]], dtype=np.float32),
    rows=ROWS,
    columns=np.arange(3, dtype=np.int32),
)
SPECIALIST = Source(
    name="DRCT",
    probs=np.array([[0.5, 0.1]], dtype=np.float32),
    rows=np.array([0, -1], dtype=np.int32),
    columns=np.array([-1, 0, 1], dtype=np.int32),
)


def make(sources: list[Source], categories: tuple[str, ...] = ("DRCT", "")) -> Candidates:
    return make_candidates(
        sources,
        label_statistics=BACKGROUND,
        category_weights=BACKGROUND.category_weights(categories),
        floor=0.1,
        top=1,
    )


CANDIDATES = make([GLOBAL, SPECIALIST])
LOG9 = float(np.log(9))


def test_pairs_above_the_floor_become_candidates_in_order() -> None:
    assert CANDIDATES.rows.tolist() == [0, 0, 0, 1]
    assert CANDIDATES.columns.tolist() == [0, 1, 2, 1]
    assert CANDIDATES.feature_names == (
        "logit global",
        "logit DRCT",
        "rank global",
        "rank DRCT",
        *SHARED_FEATURES,
    )
    assert np.asarray(CANDIDATES.features).dtype == np.float32
    assert len(CANDIDATES) == 4


def test_log_odds_and_ranks_are_missing_where_a_source_does_not_cover() -> None:
    nan = np.nan
    for name, expected in {
        "logit global": [0.0, LOG9, 0.0, -np.log(4)],
        "logit DRCT": [nan, 0.0, -LOG9, nan],
        # one concept is higher than C1 and C3, none than C2
        "rank global": [np.log(2), 0.0, np.log(2), 0.0],
        "rank DRCT": [nan, 0.0, np.log(2), nan],
    }.items():
        np.testing.assert_allclose(CANDIDATES.feature(name), expected, rtol=1e-5, atol=1e-6)


def test_summaries_are_over_the_sources_that_cover_the_pair() -> None:
    summaries: dict[str, list[float]] = {
        "mean logit": [0.0, LOG9 / 2, -LOG9 / 2, -np.log(4)],
        "max logit": [0.0, LOG9, 0.0, -np.log(4)],
        "min logit": [0.0, 0.0, -LOG9, -np.log(4)],
        "deviation": [0.0, LOG9 / 2, LOG9 / 2, 0.0],
        "sources": [1.0, 2.0, 2.0, 1.0],
        "log frequency": [np.log(3), np.log(3), 0.0, np.log(3)],
        # mean log odds 0, log 3 and -log 3 are 1/2, 3/4 and 1/4; the other image has 1/5
        "mass": [1.5, 1.5, 1.5, 0.2],
    }
    for name, expected in summaries.items():
        np.testing.assert_allclose(CANDIDATES.feature(name), expected, rtol=1e-5, atol=1e-6)


def test_the_prior_is_that_of_the_category_or_the_mixture_where_it_is_unknown() -> None:
    odds = np.exp(CANDIDATES.feature("prior logit"))
    np.testing.assert_allclose(odds[:3], [0.7 / 0.3, 1.0, 0.06 / 0.94], rtol=1e-4)
    # C2: .5 in CT (share .3), .625 in X-ray (.2), .5 elsewhere (.5)
    mixed = 0.3 * 0.5 + 0.2 * 0.625 + 0.5 * 0.5
    assert odds[3] == pytest.approx(mixed / (1 - mixed), rel=1e-4)


def test_support_averages_over_the_other_candidates_by_their_probability() -> None:
    given = shares_of(BACKGROUND)
    support = CANDIDATES.feature("support")
    # C1 beside C2 (.75) and C3 (.25)
    assert support[0] == pytest.approx(0.75 * given[1, 0] + 0.25 * given[2, 0], rel=2e-3)
    # C2 beside C1 (.5) and C3 (.25)
    assert support[1] == pytest.approx((0.5 * given[0, 1] + 0.25 * given[2, 1]) / 0.75, rel=2e-3)
    # alone in its image: the concept's rate
    assert support[3] == pytest.approx(0.5)


def test_the_truth_of_pairs_is_looked_up_in_the_targets() -> None:
    targets = LABELS.encode([("C2",), ("C2", "C3")])
    assert CANDIDATES.are_true(targets).tolist() == [False, True, False, True]


def test_values_of_pairs_become_a_matrix_with_zeros_elsewhere() -> None:
    dense = CANDIDATES.to_sparse(np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32)).toarray()
    assert dense.dtype == np.float32
    np.testing.assert_allclose(dense, [[0.1, 0.2, 0.3], [0.0, 0.4, 0.0]], rtol=1e-6)


def test_sources_disagree_by_the_spread_of_their_probabilities_on_likely_concepts() -> None:
    # C1 has one source: no spread. C2 has 0.9 and 0.5, C3 0.5 and 0.1: 0.2 each. Of the second
    # image, C2 has one source.
    probs = np.array([0.05, 0.6, 0.3, 0.2], dtype=np.float32)
    np.testing.assert_allclose(CANDIDATES.disagreement(probs), [0.2, 0.0], atol=1e-6)
    certain = np.array([0.7, 0.6, 0.05, 0.05], dtype=np.float32)
    np.testing.assert_allclose(CANDIDATES.disagreement(certain), [0.1, 0.0], atol=1e-6)


def test_some_pairs_keep_their_image_and_concept() -> None:
    some = CANDIDATES.take(CANDIDATES.columns == 1)
    assert some.rows.tolist() == [0, 1]
    assert (some.n_images, some.n_concepts) == (2, 3)
    np.testing.assert_array_equal(some.features, CANDIDATES.features[[1, 3]])


def test_permuted_images_permute_the_candidates() -> None:
    rng = np.random.default_rng(0)
    probs: Floats = rng.random((20, 3)).astype(np.float32)
    order = rng.permutation(20)

    def candidates_of(numbers: Floats) -> Candidates:
        rows = np.arange(20, dtype=np.int32)
        source = Source(name="s", probs=numbers, rows=rows, columns=np.arange(3, dtype=np.int32))
        return make([source], ("DRCT",) * 20)

    straight, permuted = candidates_of(probs), candidates_of(probs[order])
    for m in range(straight.features.shape[1]):
        np.testing.assert_allclose(
            permuted.to_sparse(permuted.features[:, m]).toarray(),
            straight.to_sparse(straight.features[:, m]).toarray()[order],
            rtol=1e-5,
            atol=1e-6,
        )


def test_sources_must_have_names_of_their_own() -> None:
    with pytest.raises(PredictionsError, match=r"distinct names; found \['global', 'global'\]"):
        make([GLOBAL, GLOBAL])
    with pytest.raises(PredictionsError, match=r"distinct names; found \[\]"):
        make([])


RNG = np.random.default_rng(0)
STARTS = np.array([0, 3, 3, 10, 40])
N = 40
LOGITS = np.round(RNG.normal(-2, 2, (N, 5)), 1).astype(np.float32)  # with ties
LOGITS[RNG.random((N, 5)) < 0.3] = np.nan
LOGITS[:, 0] = RNG.normal(-2, 2, N)  # one covers all
COLUMNS = np.concatenate(
    [np.sort(RNG.choice(50, n, replace=False)) for n in np.diff(STARTS)]
).astype(np.int32)
ROW_OF_PAIR = np.repeat(np.arange(4), np.diff(STARTS))


def test_ranks_count_the_higher_values_of_the_image() -> None:
    values = LOGITS[:, 1]
    out = np.empty(N, dtype=np.float32)
    logs = np.log1p(np.arange(31)).astype(np.float32)
    fill_log_ranks(STARTS, np.ascontiguousarray(values), logs, out)
    expected = [
        np.nan
        if np.isnan(values[k])
        else np.log1p((values[ROW_OF_PAIR[k] == ROW_OF_PAIR] > values[k]).sum())
        for k in range(N)
    ]
    np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_summaries_are_numpy_s_without_the_missing() -> None:
    out = np.empty((N, 6), dtype=np.float32)
    fill_summaries(LOGITS, out)
    z = LOGITS.astype(np.float64)
    expected = [
        np.nanmean(z, axis=1),
        np.nanmax(z, axis=1),
        np.nanmin(z, axis=1),
        np.nanstd(z, axis=1),
        (~np.isnan(z)).sum(axis=1),
    ]
    np.testing.assert_allclose(out[:, :5], np.column_stack(expected), rtol=1e-5, atol=1e-6)


def test_the_prior_is_the_mixture_of_the_categories() -> None:
    weights = RNG.dirichlet(np.ones(3), 4).astype(np.float32)
    prior = RNG.random((3, 50)).astype(np.float32)
    out = np.empty(N, dtype=np.float32)
    fill_prior(STARTS, COLUMNS, weights, prior, out)
    np.testing.assert_allclose(out, (weights @ prior)[ROW_OF_PAIR, COLUMNS], rtol=1e-5)


def test_support_is_the_weighted_mean_over_the_other_pairs_of_the_image() -> None:
    probs = RNG.random(N).astype(np.float32)
    labels = LabelSpace(tuple(f"C{c:02d}" for c in range(50)))
    sets = [[labels.cuis[c] for c in RNG.choice(50, 5, replace=False)] for _ in range(200)]
    statistics = LabelStatistics.of(labels.encode(sets), [""] * 200)
    given, rate = shares_of(statistics), statistics.rate
    out = np.empty((N, 2), dtype=np.float32)
    fill_mass_and_support(STARTS, COLUMNS, probs, statistics.lookup, rate, out)
    for k in range(N):
        others = (ROW_OF_PAIR[k] == ROW_OF_PAIR) & (np.arange(N) != k)
        total = 1e-3 * rate[COLUMNS[k]] + probs[others] @ given[COLUMNS[others], COLUMNS[k]]
        assert out[k, 0] == pytest.approx(probs[ROW_OF_PAIR[k] == ROW_OF_PAIR].sum(), rel=1e-5)
        assert out[k, 1] == pytest.approx(total / (1e-3 + probs[others].sum()), rel=1e-5)


def test_two_threads_make_the_candidates_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = LabelSpace(tuple(f"C{c}" for c in range(8)))
    truth = labels.encode([[f"C{i % 8}"] for i in range(600)])
    label_statistics = LabelStatistics.of(truth, ["DRCT"] * 600)
    numbers = np.arange(600, dtype=np.int32)
    sources = [
        Source(name=n, probs=RNG.random((600, 8), np.float32), rows=numbers, columns=numbers[:8])
        for n in "ab"
    ]
    made = []
    for n_threads in (1, 2):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", n_threads)
        weights = label_statistics.category_weights(["DRCT"] * 600)
        made.append(
            make_candidates(
                sources,
                label_statistics=label_statistics,
                category_weights=weights,
                floor=0.5,
                top=2,
            )
        )
    np.testing.assert_array_equal(made[0].rows, made[1].rows)
    np.testing.assert_array_equal(made[0].columns, made[1].columns)
    np.testing.assert_array_equal(np.asarray(made[0].features), np.asarray(made[1].features))


def test_images_go_by_the_label_statistics_of_their_mask() -> None:
    other = LabelStatistics.of(LABELS.encode([("C3",), ("C1", "C3"), ()]), ["DRCT", "DRXR", ""])
    first = np.array([True, False])
    weights = BACKGROUND.category_weights(["DRCT", ""])
    sources = [GLOBAL, SPECIALIST]
    mixed = make_candidates(
        sources,
        label_statistics=[(first, BACKGROUND), (~first, other)],
        category_weights=weights,
        floor=0.1,
        top=1,
    )
    by_other = make_candidates(
        sources, label_statistics=other, category_weights=weights, floor=0.1, top=1
    )
    own = CANDIDATES.rows == 0
    np.testing.assert_array_equal(np.array(mixed.features)[own], np.array(CANDIDATES.features)[own])
    np.testing.assert_array_equal(np.array(mixed.features)[~own], np.array(by_other.features)[~own])
    assert not np.array_equal(np.array(mixed.features)[~own], np.array(CANDIDATES.features)[~own])
