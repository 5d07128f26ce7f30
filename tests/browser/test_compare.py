"""Two judgements side by side, by hand."""

import numpy as np

from browser.compare import Comparison
from browser.judgements import Judgement
from browser.library import Library
from tests.browser.conftest import judged


def test_what_was_gained_and_lost(library: Library, judgement: Judgement) -> None:
    # First: {1,2} {2} {2} {3} {1} {}; second: {1} {1} {2,3} {} {1} {2}; true {1,2} {1} {2,3} {}.
    second = judged(library, (("C1",), ("C1",), ("C2", "C3"), (), ("C1",), ("C2",)))
    found = Comparison(first=judgement, second=second)
    assert found.added.tolist() == [0, 1, 1, 0, 0, 1]
    assert found.dropped.tolist() == [1, 1, 0, 1, 0, 0]
    assert found.changed.tolist() == [True, True, True, True, False, True]
    # F1 1, 0, 2/3, 0 against 2/3, 1, 1, 1.
    np.testing.assert_allclose(found.gain, [-1 / 3, 1, 1 / 3, 1, np.nan, np.nan])
    assert found.interval is not None
    assert found.interval.n == 4
    assert found.mean_of(judgement) == np.mean([1, 0, 2 / 3, 0])
    assert found.images("worse").tolist() == [0]
    assert found.images("better").tolist() == [1, 3, 2]
    assert found.images("changed").tolist() == [1, 0, 2, 3, 5]
    assert {name: counts.tolist() for name, counts in found.by_concept.items()} == {
        "hits gained": [1, 0, 1],
        "hits lost": [0, 1, 0],
        "inventions added": [0, 0, 0],
        "inventions taken back": [0, 1, 1],
    }


def test_without_common_labels_only_changes_are_known(library: Library) -> None:
    first, second = judged(library), judged(library, ((),) * 6)
    first.known[:4] = False
    found = Comparison(first=first, second=second)
    assert found.interval is None
    assert found.images("worse").tolist() == []
    assert found.images("changed").tolist() == [4]
