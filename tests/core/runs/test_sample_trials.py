"""Trials of heads on chosen images: what is kept of a network, and scores put together from it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.labels import FREQUENCIES
from core.metrics import THRESHOLDS, best_threshold, decided_at, recall_by_frequency
from core.runs.learning import (
    BUCKETS,
    SampleTrial,
    bucket_of_concepts,
    judged,
    read_trials,
    scores_of,
)
from core.runs.workspace import Corpus


def trial_of(corpus: Corpus, number: int, *, fold: int | None, seed: int) -> SampleTrial:
    """A network that says anything of the valid images of a fold, or of all."""
    table = corpus.labelled_images("valid")
    table = table if fold is None else table.take(table.folds == fold)
    rng = np.random.default_rng(seed)
    truth = table.targets(corpus.labels).matrix.toarray()
    probs = np.clip(0.5 * truth + rng.random(truth.shape) * 0.6, 0, 1).astype(np.float32)
    buckets = bucket_of_concepts(corpus)
    f1, hits = judged(probs, table, labels=corpus.labels, buckets=buckets)
    return SampleTrial(
        name="k-centre", share=0.5, number=number, n_kept=60 + number, seconds=0.25,
        image_ids=table.image_ids, f1=f1, hits=hits,
    )  # fmt: skip


def test_what_is_kept_of_a_network_gives_its_recall_at_every_threshold(generated: Corpus) -> None:
    table = generated.labelled_images("valid")
    rng = np.random.default_rng(0)
    probs = rng.random((len(table), len(generated.labels))).astype(np.float32)
    buckets = bucket_of_concepts(generated)
    _, hits = judged(probs, table, labels=generated.labels, buckets=buckets)
    targets = table.targets(generated.labels)
    n_train = np.asarray(
        generated.training_images().targets(generated.labels).matrix.sum(axis=0)
    ).ravel()
    for place in (0, 17, len(THRESHOLDS) - 1):
        decided = decided_at(probs, float(THRESHOLDS[place]))
        expected = recall_by_frequency(targets, decided, n_train=n_train, edges=FREQUENCIES)
        for bucket, name in enumerate(BUCKETS):
            recall, n_pairs = expected[name]
            found = int(hits[place, :, bucket].sum())
            assert found == (round(recall * n_pairs) if n_pairs else 0)


def test_a_trial_is_read_as_it_was_written(generated: Corpus, tmp_path: Path) -> None:
    trial = trial_of(generated, 3, fold=None, seed=1)
    trial.save(tmp_path / "k-centre" / "003-abc")
    ((key, (again,)),) = read_trials(tmp_path).items()
    assert key == ("k-centre", 0.5)
    assert (again.number, again.n_kept, again.image_ids) == (3, 63, trial.image_ids)
    assert np.array_equal(again.f1, trial.f1, equal_nan=True)
    assert np.array_equal(again.hits, trial.hits)


def test_each_image_is_scored_at_the_threshold_of_the_other_folds(generated: Corpus) -> None:
    table = generated.labelled_images("valid")
    trial = trial_of(generated, 0, fold=None, seed=2)
    found = scores_of([trial], table, n_parts=1)
    for fold in range(4):
        own = table.folds == fold
        best = best_threshold(trial.f1[:, ~own].astype(float))
        assert found.f1[own] == pytest.approx(trial.f1[best][own], nan_ok=True)
        assert found.hits[own].tolist() == trial.hits[best][own].tolist()


def test_parts_are_joined_and_rounds_averaged_but_no_unfinished_one(generated: Corpus) -> None:
    table = generated.labelled_images("valid")
    first = [trial_of(generated, k, fold=k, seed=k) for k in range(4)]
    second = [trial_of(generated, 4 + k, fold=k, seed=9 + k) for k in range(4)]
    one, other = (
        scores_of([replace(t, number=t.number % 4) for t in own], table, n_parts=4)
        for own in (first, second)
    )
    both = scores_of([*second, *first], table, n_parts=4)
    assert both.n_networks == 8
    assert both.n_kept == pytest.approx(63.5)
    assert both.f1 == pytest.approx((one.f1 + other.f1) / 2, nan_ok=True)
    assert both.hits == pytest.approx((one.hits + other.hits) / 2)
    unfinished = scores_of([*first, *second[:3]], table, n_parts=4)
    assert unfinished.f1 == pytest.approx(one.f1, nan_ok=True)
    with pytest.raises(ValueError, match="no network for every part"):
        scores_of(first[1:], table, n_parts=4)
