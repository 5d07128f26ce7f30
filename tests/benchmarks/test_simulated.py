"""Simulated detectors: calibrated where nothing bends them, and bent as a setting says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logit

from benchmarks.quality.simulated import (
    SETTINGS,
    LabelSets,
    Setting,
    Simulated,
    _noise,
    read_label_sets,
    simulate,
)
from core.labels import LabelSpace

PLAIN = Setting(name="plain")


@pytest.fixture(scope="module")
def sets() -> LabelSets:
    """4,000 images; C0 in a half of them, C1 in a tenth, C2 with C1; two kinds of images."""
    rng = np.random.default_rng(0)
    labels = LabelSpace(("C0", "C1", "C2", "C3"))
    drawn = rng.random((4000, 3)) < (0.5, 0.1, 0.002)
    concepts = [
        [cui for cui, there in zip(labels.cuis, (c0, c1, c1, c3), strict=True) if there]
        for c0, c1, c3 in drawn
    ]
    return LabelSets(
        image_ids=tuple(map(str, range(4000))),
        labels=labels,
        targets=labels.encode(concepts),
        kinds=(drawn[:, 0]).astype(np.int64),
        clusters=np.array([0, 1, 1, 0]),
    )


def drawn(sets: LabelSets, setting: Setting) -> Simulated:
    return simulate(sets, setting, strength=2.0, seed=1)


def test_a_detector_that_nothing_bends_is_calibrated_and_says_what_can_be_known(
    sets: LabelSets,
) -> None:
    found = drawn(sets, PLAIN)
    np.testing.assert_allclose(found.reported, found.known, rtol=1e-5)
    true = sets.targets.matrix.toarray()[:, :3]
    reported = found.reported[:, :3]
    for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 0.7), (0.7, 1.0)):
        here = (reported >= low) & (reported < high)
        error = 4 * np.sqrt(0.25 / here.sum())  # four standard errors at the most
        assert reported[here].mean() == pytest.approx(true[here].mean(), abs=error)


def test_valid_and_test_share_no_image_and_every_fold_has_images(sets: LabelSets) -> None:
    found = drawn(sets, PLAIN)
    assert not (found.valid & found.test).any()
    assert found.valid.sum() == found.test.sum() == 2000
    assert np.bincount(found.folds[found.valid]).min() > 300


def test_valid_takes_a_share_of_its_images_and_test_keeps_its_own(sets: LabelSets) -> None:
    found = drawn(sets, replace(PLAIN, valid_share=0.1))
    assert 120 < found.valid.sum() < 280
    assert found.test.sum() == 2000


def test_valid_and_test_can_be_of_other_categories(sets: LabelSets) -> None:
    found = drawn(sets, replace(PLAIN, valid_kinds=True))
    assert set(sets.kinds[found.valid]).isdisjoint(sets.kinds[found.test])


def test_sharpness_and_bias_bend_the_log_odds(sets: LabelSets) -> None:
    plain, bent = drawn(sets, PLAIN), drawn(sets, replace(PLAIN, sharpness=1.5, bias=0.5))
    wanted = 1.5 * logit(plain.reported.astype(np.float64)) + 0.5
    middle = np.abs(wanted) < 8  # beyond, float32 keeps too few digits
    np.testing.assert_allclose(logit(bent.reported[middle]), wanted[middle], atol=5e-3)
    np.testing.assert_array_equal(bent.known, plain.known)


def test_the_scale_of_valid_alone_leaves_test_alone(sets: LabelSets) -> None:
    plain, bent = drawn(sets, PLAIN), drawn(sets, replace(PLAIN, valid_bias=1.0))
    np.testing.assert_array_equal(bent.reported[bent.test], plain.reported[plain.test])
    assert (bent.reported[bent.valid] > plain.reported[plain.valid]).mean() > 0.99


def test_inverted_images_give_concepts_that_are_there_the_lower_scores(sets: LabelSets) -> None:
    found = drawn(sets, replace(PLAIN, inverted=1.0))
    there = sets.targets.matrix.toarray()[:, 0]
    assert found.reported[there, 0].mean() < found.reported[~there, 0].mean() - 0.3
    assert found.known[there, 0].mean() > found.known[~there, 0].mean() + 0.3


def test_folded_concepts_are_never_reported_above_a_half(sets: LabelSets) -> None:
    found = drawn(sets, replace(PLAIN, folded=1.0))
    assert found.reported.max() <= 0.5
    # What is reported alike is known alike, and as often true as what is known says.
    there = sets.targets.matrix.toarray()[:, 1]
    reported, known = found.reported[:, 1], found.known[:, 1]
    order = np.argsort(reported)
    assert np.abs(np.diff(known[order]))[np.diff(reported[order]) < 1e-6].max() < 1e-3
    for here in np.array_split(order, 4):
        error = 4 * float(np.sqrt(known[here].mean() / len(here)))
        assert there[here].mean() == pytest.approx(known[here].mean(), abs=error)


def test_shared_noise_keeps_its_variance_and_its_correlations(sets: LabelSets) -> None:
    setting = replace(PLAIN, image_noise=0.2, cluster_noise=0.3)
    noise = _noise(sets, setting, np.random.default_rng(0))
    # of one cluster: 0.2 + 0.3; of two clusters: 0.2
    wanted = np.full((4, 4), 0.2)
    wanted[0, 3] = wanted[3, 0] = wanted[1, 2] = wanted[2, 1] = 0.5
    np.fill_diagonal(wanted, 1.0)
    np.testing.assert_allclose(np.cov(noise.T), wanted, atol=0.08)


def test_the_same_seed_gives_the_same_detector_and_another_one_another(sets: LabelSets) -> None:
    one, two = drawn(sets, SETTINGS[1]), drawn(sets, SETTINGS[1])
    np.testing.assert_array_equal(one.reported, two.reported)
    other = simulate(sets, SETTINGS[1], strength=2.0, seed=2)
    assert not np.array_equal(one.reported, other.reported)


def test_images_without_concepts_are_no_part_of_the_sets(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["NONE\t\t\n"]
    for i in range(60):
        cuis = [f"C{j:07d}" for j in rng.choice(40, size=5, replace=False)]
        lines.append(f"ROCO_{i:05d}\t\t" + "\t".join(cuis) + "\n")
    path = tmp_path / "cuis.txt"
    path.write_text("".join(lines), encoding="utf-8")
    found = read_label_sets(path)
    assert len(found.image_ids) == len(found.categories) == 60
    assert found.targets.n_true.tolist() == [5] * 60
    assert len(found.clusters) == len(found.labels) == 40
    assert len(read_label_sets(path, n_images=50).image_ids) == 50
