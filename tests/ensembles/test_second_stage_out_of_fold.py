"""Cross-fitted on all labelled images, the second stage meets no label of the fold it judges."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from core.errors import LeakageError
from core.predictions import Predictions, SparsePredictions
from core.runs.ensemble import EnsembleRecord
from core.runs.out_of_fold import join_folds, prior_out_of_fold, save_folds
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import new_folder, write_json
from ensembles.config import EnsembleConfig
from ensembles.ensemble import ensemble
from ensembles.members import Member, constant_concepts, gather_members
from ensembles.second_stage import candidates_of
from tests.conftest import relabelled

QUICK = EnsembleConfig(stackers=("mean", "logistic"), min_true=1, constant_from=5)


def prior_alone(corpus: Corpus) -> list[Member]:
    return [
        Member(
            name="prior",
            folder=None,
            origin="",
            scored=prior_out_of_fold(corpus),
            test=corpus.prior.predict(corpus.table.of(split="test")),
        )
    ]


def test_features_of_a_fold_do_not_know_its_labels(crossfitted: Corpus) -> None:
    found = []
    for corpus in (crossfitted, relabelled(crossfitted, 1)):
        table = corpus.table.of(split="labelled")
        found.append(
            candidates_of(corpus, prior_alone(corpus), table=table, split="labelled", config=QUICK)
        )
    before, after = found
    folds = crossfitted.table.of(split="labelled").folds
    own = [np.flatnonzero(folds[pairs.rows] == 1) for pairs in found]
    assert len(own[0])
    np.testing.assert_array_equal(before.rows[own[0]], after.rows[own[1]])
    np.testing.assert_array_equal(before.columns[own[0]], after.columns[own[1]])
    np.testing.assert_array_equal(
        np.array(before.features)[own[0]], np.array(after.features)[own[1]]
    )
    assert len(before) != len(after) or not np.array_equal(before.features, after.features)


def test_constant_concepts_of_a_fold_are_counted_without_it(crossfitted: Corpus) -> None:
    changed = relabelled(crossfitted, 1)
    for view, other in zip(crossfitted.views, changed.views, strict=True):
        same = constant_concepts(view, at_least=2) == constant_concepts(other, at_least=2)
        assert same or view.fingerprint[-1] != "2"


@pytest.fixture
def sources(crossfitted: Corpus, workspace: Workspace) -> Workspace:
    """A global detector and a fused source, a network a fold each, that see with noise."""
    detector = {"category": "global", "preset": "made", "embeddings": []}
    fused = {"strategy": "one-hot", "contains": [], "embeddings": []}
    for number, (home, meta) in enumerate(
        {
            workspace.backbones / "global" / "made-1": detector,
            workspace.fusion / "one-hot-1": fused,
        }.items()
    ):
        with new_folder(home, {**meta, "corpus": crossfitted.fingerprint}) as draft:
            write_json(draft / "config.json", {})
            parts = [seen(view, "valid", seed=number) for view in crossfitted.views]
            save_folds(join_folds(parts), draft / "predictions", name="labelled")
            seen(crossfitted, "test", seed=number).save(draft / "predictions" / "test")
    return workspace


def seen(corpus: Corpus, split: str, *, seed: int) -> Predictions:
    """Log odds of 2 for what is true and -3 for what is not, under noise; of test 0."""
    table = corpus.table.of(split=split)
    targets = corpus.labels.encode([concepts or () for concepts in table.concepts])
    noise = np.random.default_rng(seed).normal(0, 1, targets.matrix.shape)
    logits = np.where(targets.matrix.toarray(), 2.0, -3.0) + noise
    learnt = corpus.table.of(split=corpus.learnt_from)
    return Predictions(
        source="made",
        image_ids=table.image_ids,
        labels=corpus.labels,
        probs=(1 / (1 + np.exp(-logits))).astype(np.float32),
        fitted_on=frozenset(learnt.image_ids),
    )


def test_a_cross_fitted_corpus_is_scored_on_all_labelled_images_and_on_valid(
    crossfitted: Corpus, sources: Workspace
) -> None:
    members = gather_members(crossfitted, sources)
    assert {member.name for member in members} == {"prior", "one-hot", "global"}
    made = ensemble(crossfitted, sources, config=QUICK, submit=True)
    assert list(made.ladders) == ["labelled", "valid"]
    assert made.ladders["labelled"][0].f1.n == 56
    assert made.ladders["valid"][0].f1.n == 16
    record = EnsembleRecord.load(made.folder)
    assert set(record.image_ids) == set(crossfitted.table.of(split="labelled").image_ids)
    assert made.submission is not None
    test = SparsePredictions.load(made.folder / "predictions" / "test")
    assert test.fitted_on == set(record.image_ids)


def test_a_part_that_met_its_fold_is_refused(crossfitted: Corpus, sources: Workspace) -> None:
    folder = sources.backbones / "global" / "made-1" / "predictions" / "labelled-2of3"
    part = Predictions.load(folder)
    shutil.rmtree(folder)
    replace(part, fitted_on=part.fitted_on | {*part.image_ids[:1]}).save(folder)
    with pytest.raises(LeakageError, match="1 of 20 images were used to fit it"):
        gather_members(crossfitted, sources)


def test_a_member_that_met_a_group_of_its_fold_is_refused(
    crossfitted: Corpus, sources: Workspace
) -> None:
    table = crossfitted.table
    torn = tuple("valid_00" if s != "test" else g for g, s in zip(
        table.groups, table.splits, strict=True))  # fmt: skip
    corpus = replace(crossfitted, table=replace(table, groups=torn))
    with pytest.raises(LeakageError, match="images share a group with images it was fitted on"):
        gather_members(corpus, sources)
