"""Choices of images: the budget, rare concepts, seeds, and who has a say."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from core.errors import ConfigError
from core.metrics import column_sums
from corpus.sampling.candidates import CandidateImages
from corpus.sampling.choose import STRATEGIES, choose
from corpus.sampling.config import STRATEGY_NAMES, SampleConfig
from corpus.sampling.counts import by_category, by_frequency, choice_rows, counted_lines
from corpus.sampling.quick_head import cross_entropy, out_of_fold, uncertainty


def drawn(n: int = 120, *, seed: int = 0) -> CandidateImages:
    """Images in clusters; a concept a cluster, some by chance, two that stand on two images."""
    rng = np.random.default_rng(seed)
    cluster = rng.choice(4, size=n, p=[0.5, 0.3, 0.15, 0.05])
    matrix = np.zeros((n, 8), dtype=np.bool_)
    matrix[np.arange(n), cluster] = True
    matrix[:, 4:6] = rng.random((n, 2)) < 0.3
    matrix[:2, 6] = matrix[n // 2 : n // 2 + 2, 7] = True
    centres = np.random.default_rng(9).normal(size=(4, 12)) * 3
    return CandidateImages(
        image_ids=tuple(f"i{k}" for k in range(n)),
        categories=tuple(np.where(cluster < 2, "DRCT", "DRMR").tolist()),
        targets=csr_array(matrix),
        folds=rng.integers(0, 4, size=n),
        features=(centres[cluster] + rng.normal(size=(n, 12)) + 5).astype(np.float32),
    )


every_strategy = pytest.mark.parametrize("strategy", STRATEGY_NAMES)


def test_every_strategy_of_the_settings_is_there() -> None:
    assert {*STRATEGIES, "distinct"} == {*STRATEGY_NAMES}


@every_strategy
@pytest.mark.parametrize("within", ["dominant", "category", "all"])
def test_the_budget_is_kept_and_rare_concepts_are_never_thinned(strategy: str, within: str) -> None:
    candidates = drawn()
    config = SampleConfig(strategy=strategy, keep=0.3, rare=2, within=within)  # type: ignore[arg-type]
    choice = choose(candidates, config, seed=1)
    assert choice.kept.sum() == 36 or (strategy == "distinct" and choice.kept.sum() > 36)
    n_all, n_kept = candidates.n_images, column_sums(candidates.targets[choice.kept.nonzero()[0]])
    assert (n_kept[n_all <= 2] == n_all[n_all <= 2]).all()
    assert choice.protected.sum() == 4
    ranked = choice.rank[choice.rank > 0]
    assert sorted(ranked.tolist()) == list(range(1, len(ranked) + 1))


@every_strategy
def test_a_choice_follows_from_its_seed(strategy: str) -> None:
    config = SampleConfig(strategy=strategy, keep=0.4)  # type: ignore[arg-type]
    first, again = (choose(drawn(), config, seed=3) for _ in range(2))
    assert first.kept.tolist() == again.kept.tolist()
    assert first.rank.tolist() == again.rank.tolist()


@pytest.mark.parametrize("strategy", ["random", "stratified", "k-centre", "loss"])
def test_another_seed_draws_others(strategy: str) -> None:
    config = SampleConfig(strategy=strategy, keep=0.4)  # type: ignore[arg-type]
    one, other = (choose(drawn(), config, seed=seed).kept for seed in (3, 4))
    assert one.tolist() != other.tolist()


def test_more_rare_images_than_the_budget_are_all_kept() -> None:
    config = SampleConfig(strategy="k-centre", keep=0.05, rare=40)
    choice = choose(drawn(), config, seed=0)
    assert choice.kept.tolist() == choice.protected.tolist()
    assert choice.kept.sum() > 6


def test_all_is_all() -> None:
    choice = choose(drawn(), SampleConfig(), seed=0)
    assert choice.kept.all()
    assert not choice.protected.any()


@settings(max_examples=30, deadline=None)
@given(
    strategy=st.sampled_from(STRATEGY_NAMES),
    n=st.integers(1, 40),
    keep=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
)
def test_any_share_of_any_number_of_images_can_be_kept(
    strategy: str, n: int, keep: float, seed: int
) -> None:
    whole = drawn(120, seed=seed)
    rows = np.arange(n)
    candidates = CandidateImages(
        image_ids=whole.image_ids[:n],
        categories=whole.categories[:n],
        targets=whole.targets[rows],
        folds=whole.folds[:n],
        features=None if whole.features is None else whole.features[:n],
    )
    config = SampleConfig(strategy=strategy, keep=keep, rare=1)  # type: ignore[arg-type]
    choice = choose(candidates, config, seed=seed)
    assert choice.kept.sum() >= max(1, keep * n - 1e-6)
    assert (choice.protected <= choice.kept).all()


def test_strata_are_thinned_alike_or_to_equal_numbers() -> None:
    candidates = drawn(400)
    alike = SampleConfig(strategy="stratified", keep=0.25, rare=0, within="category")
    counts = by_category(candidates, choose(candidates, alike, seed=0).kept)
    assert all(abs(kept - 0.25 * n) <= 1 for n, kept in counts.values())
    even = replace(alike, power=0.0)
    counts = by_category(candidates, choose(candidates, even, seed=0).kept)
    assert {kept for _, kept in counts.values()} == {50}


def test_a_share_needs_a_strategy_and_a_strategy_a_share() -> None:
    with pytest.raises(ConfigError, match=r"keep 0\.5: by which strategy\?"):
        SampleConfig(keep=0.5)
    with pytest.raises(ConfigError, match="k-centre: how many images"):
        SampleConfig(strategy="k-centre")
    with pytest.raises(ConfigError, match="keep: expected above 0, at most 1"):
        SampleConfig(strategy="random", keep=0.0)


def test_features_are_needed_by_those_that_say_so() -> None:
    without = replace(drawn(), features=None)
    for strategy in STRATEGY_NAMES:
        config = SampleConfig(strategy=strategy, keep=0.5)
        if config.needs_features:
            with pytest.raises(ValueError, match="no features"):
                choose(without, config, seed=0)
        else:
            assert choose(without, config, seed=0).kept.sum() == 60


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="columns have"):
        replace(drawn(), categories=("DRCT",))


def test_a_quick_head_knows_what_features_tell_and_has_not_met_the_image() -> None:
    candidates = drawn(400)
    probs = out_of_fold(candidates)
    truth = candidates.targets.toarray()
    assert probs[:, :4][truth[:, :4]].mean() > 0.7 > 0.3 > probs[:, :4][~truth[:, :4]].mean()
    # The label of an image changes nothing in what is said of its own fold.
    changed = candidates.targets.toarray()
    changed[0, :4] = ~changed[0, :4]
    again = out_of_fold(replace(candidates, targets=csr_array(changed)))
    own = candidates.folds == candidates.folds[0]
    assert (again[own] == probs[own]).all()
    assert (again[~own] != probs[~own]).any()


def test_a_quick_head_is_the_ridge_regression_of_its_definition() -> None:
    candidates = drawn(60)  # fewer images of other folds than is usual, more than features
    units, folds = candidates.units().astype(np.float64), candidates.folds
    others = folds != 0
    x, y = units[others], candidates.targets.toarray()[others].astype(float)
    centred = x - x.mean(axis=0)
    gram = centred.T @ centred
    penalty = np.trace(gram) / gram.shape[0]
    weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), centred.T @ (y - y.mean(axis=0)))
    expected = (units[~others] - x.mean(axis=0)) @ weights + y.mean(axis=0)
    found = out_of_fold(candidates)[~others]
    assert found == pytest.approx(np.clip(expected, 0.005, 0.995), abs=1e-4)


def test_uncertainty_and_loss_are_those_worked_by_hand() -> None:
    probs = np.array([[0.5, 0.5], [0.9, 0.2]], dtype=np.float32)
    assert uncertainty(probs)[0] == pytest.approx(2 * np.log(2))
    targets = csr_array(np.array([[True, False], [True, True]]))
    expected = [2 * np.log(2), -np.log(0.9) - np.log(0.2)]
    assert cross_entropy(probs, targets) == pytest.approx(expected, rel=1e-6)


def test_counts_say_what_is_left_of_each_frequency() -> None:
    candidates = drawn()
    choice = choose(candidates, SampleConfig(strategy="random", keep=0.5), seed=0)
    buckets = {b.name: b for b in by_frequency(candidates, choice.kept)}
    assert buckets["1-5"].n_pairs == buckets["1-5"].n_kept == 4
    assert buckets["1-5"].fewest == 1.0
    assert sum(b.n_pairs for b in buckets.values()) == candidates.targets.nnz
    first, *_ = counted_lines(candidates, choice)
    assert first == "60 of 120 images kept, 4 of them for rare concepts"
    header, *rows = choice_rows(candidates, choice)
    assert header == ["image_id", "category", "state", "reason", "rank"]
    assert [row[2] for row in rows].count("kept") == 60
    assert [row[3] for row in rows].count("rare concept") == 4
