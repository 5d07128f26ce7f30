"""Two judgements side by side, by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from browser.compare import Comparison, ConceptChange
from browser.judgements import Judgement
from browser.library import Library
from core.runs.ensemble import EnsembleRecord, EnsembleRun
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


def test_what_changed_on_an_image_by_concept_and_by_category(
    library: Library, judgement: Judgement
) -> None:
    # As above: CT has the images 0, 1 and 4, X-ray 2, 3 and 5; of 4 and 5 no labels are known.
    second = judged(library, (("C1",), ("C1",), ("C2", "C3"), (), ("C1",), ("C2",)))
    found = Comparison(first=judgement, second=second)
    assert found.changes(1) == [
        ConceptChange("C1", is_added=True, is_good=True),  # a hit gained
        ConceptChange("C2", is_added=False, is_good=True),  # an invention taken back
    ]
    assert found.changes(0) == [ConceptChange("C2", is_added=False, is_good=False)]  # a hit lost
    assert found.changes(5) == [ConceptChange("C2", is_added=True, is_good=None)]
    assert found.changes(4) == []
    assert np.flatnonzero(found.with_change_of(1)).tolist() == [0, 1, 5]
    ct, xray = found.by_category
    assert (ct.name, ct.n_better, ct.n_worse, ct.n_changed, ct.n_both) == ("DRCT", 1, 1, 2, 3)
    np.testing.assert_allclose(ct.means, [1 / 2, 5 / 6])
    assert (xray.name, xray.n_better, xray.n_worse, xray.n_changed, xray.n_both) == (
        *("DRXR", 2, 0, 3, 3),
    )
    assert ct.interval is not None
    assert xray.interval is not None
    assert (ct.interval.n, xray.interval.n) == (2, 2)
    # Each category's gain, weighted by its images, gives the whole.
    assert found.interval is not None
    np.testing.assert_allclose(ct.interval.value, (1 - 1 / 3) / 2)
    np.testing.assert_allclose((ct.interval.value + xray.interval.value) / 2, found.interval.value)


def test_a_category_without_labels_is_counted_but_not_scored(library: Library) -> None:
    first, second = judged(library), judged(library, ((),) * 6)
    first.known[:4] = False
    ct, xray = Comparison(first=first, second=second).by_category
    assert ct.interval is None
    assert np.isnan(ct.means).all()
    assert (ct.n_changed, ct.n_both, xray.n_changed, xray.n_both) == (1, 1, 0, 1)


def test_settings_of_two_ensembles_are_held_side_by_side(
    library: Library, judgement: Judgement, tmp_path: Path
) -> None:
    def ran(name: str, config: str, **meta: object) -> Judgement:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(config)
        run = EnsembleRun(
            corpus=library.corpus, folder=folder, meta=meta, scored=library.corpus.table, rungs=(),
            record=EnsembleRecord(image_ids=(), scores={}),
        )  # fmt: skip
        return replace(judgement, name=name, run=run)

    one = ran(
        "a", '{"stackers": ["mean", "logistic"], "nomissing": true, "top": 30}',
        stacker="mean", decision="one threshold", members={"prior": "", "global": "quick-1 today"},
    )  # fmt: skip
    other = ran(
        "b", '{"stackers": ["mean"], "nomissing": false, "top": 30}',
        stacker="mean", decision="own thresholds", members={"prior": ""},
    )  # fmt: skip
    assert Comparison(first=one, second=other).settings == [
        ("decided by", "one threshold", "own thresholds"),
        ("stackers", "mean, logistic", "mean"),
        ("nomissing", "true", "false"),
        ("member global", "quick-1", "–"),
    ]
    assert Comparison(first=one, second=one).settings == []
    assert Comparison(first=one, second=judgement).settings == []  # of a submission none are known


def test_without_common_labels_only_changes_are_known(library: Library) -> None:
    first, second = judged(library), judged(library, ((),) * 6)
    first.known[:4] = False
    found = Comparison(first=first, second=second)
    assert found.interval is None
    assert found.images("worse").tolist() == []
    assert found.images("changed").tolist() == [4]
