"""One member alone, in the form of a stacker."""

from pathlib import Path

import numpy as np

from core.labels import LabelSpace, Targets
from core.predictions import Predictions
from ensembles.stacking.candidates import Candidates, make_candidates
from ensembles.stacking.label_statistics import LabelStatistics
from ensembles.stacking.linear import MemberStacker
from ensembles.stacking.sources import Source

LABELS = LabelSpace(("C1", "C2"))


def candidates() -> Candidates:
    """A general source of two images, and a specialist that covers the first and C1 only."""
    ids = ("a", "b")
    general = Predictions(
        source="global",
        image_ids=ids,
        labels=LABELS,
        probs=np.array([[0.2, 0.6], [0.3, 0.9]], dtype=np.float32),
        fitted_on=frozenset(),
    )
    special = Predictions(
        source="DRCT",
        image_ids=("a",),
        labels=LabelSpace(("C1",)),
        probs=np.array([[0.8]], dtype=np.float32),
        fitted_on=frozenset(),
    )
    train: Targets = LABELS.encode([("C1",), ("C2",), ()])
    label_statistics = LabelStatistics.of(train, ["DRCT", "DRUS", "DRUS"])
    return make_candidates(
        [Source.of(p, image_ids=ids, labels=LABELS) for p in (general, special)],
        label_statistics=label_statistics,
        category_weights=label_statistics.category_weights(["DRCT", "DRUS"]),
        floor=0.01,
        top=2,
    )


TRUE = np.array([True, False, False, True])


def test_a_member_that_covers_everything_says_what_it_said() -> None:
    found = candidates()
    probs = found.to_sparse(MemberStacker("global").fit(found, TRUE).predict(found)).toarray()
    np.testing.assert_allclose(probs, [[0.2, 0.6], [0.3, 0.9]], atol=1e-6)


def test_where_a_member_covers_nothing_the_others_speak() -> None:
    found = candidates()
    probs = found.to_sparse(MemberStacker("DRCT").fit(found, TRUE).predict(found)).toarray()
    np.testing.assert_allclose(probs, [[0.8, 0.6], [0.3, 0.9]], atol=1e-6)


def test_a_saved_member_is_the_same_member(tmp_path: Path) -> None:
    MemberStacker("DRCT").save(tmp_path)
    again = MemberStacker.load(tmp_path)
    found = candidates()
    np.testing.assert_array_equal(again.predict(found), MemberStacker("DRCT").predict(found))
