"""An ensemble whose log odds are adjusted by the prior decides new images as it decided test."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.runs.decided import DECIDED_TEST, Decided
from core.runs.ensemble import DECISION, FORECAST_RULE
from core.runs.workspace import Corpus, Workspace
from ensembles.decisions.rule import BY_THRESHOLDS, DecisionRule
from ensembles.decisions.thresholds import Thresholds
from ensembles.ensemble import ensemble
from inference.bundle.bundle import read_bundle, write_bundle
from inference.loaded.ensemble import Decisions, LoadedEnsemble
from inference.loaded.workspace import read_ensemble
from inference.stream import decide_images
from tests.conftest import save_prepared
from tests.core.storage.unlisted import forget_files
from tests.inference.conftest import QUICK, test_images

ADJUSTED = replace(QUICK, prior_adjustment=2.0)


def decided(loaded: LoadedEnsemble, corpus: Corpus) -> Decisions:
    (block,) = decide_images(loaded, test_images(corpus))
    return block.decisions


def submitted(home: Path, corpus: Corpus) -> dict[str, tuple[str, ...]]:
    found = Decided.load(home / DECIDED_TEST, labels=corpus.labels)
    return dict(zip(found.image_ids, corpus.labels.decode(found.sets), strict=True))


@pytest.fixture
def workspace_of(
    whole: Workspace, trained: Workspace, corpus: Corpus, crossfitted: Corpus, tmp_path: Path
) -> dict[str, tuple[Corpus, Workspace]]:
    """By protocol, a corpus and a workspace with everything but an adjusted ensemble."""
    copy = Workspace(Path(shutil.copytree(whole.root, tmp_path / "copy")))
    save_prepared(corpus, trained.root)
    return {"crossfit": (crossfitted, copy), "holdout": (corpus, trained)}


@pytest.mark.parametrize("kind", [BY_THRESHOLDS, "expected-f1"])
@pytest.mark.parametrize("protocol", ["crossfit", "holdout"])
def test_predict_gives_the_sets_of_the_submission_again(
    workspace_of: dict[str, tuple[Corpus, Workspace]], tmp_path: Path, protocol: str, kind: str
) -> None:
    corpus, workspace = workspace_of[protocol]
    made = ensemble(corpus, workspace, config=ADJUSTED, submit=True)
    rule = DecisionRule.load(made.folder / FORECAST_RULE)
    assert rule.kind == "expected-f1"
    assert rule.adjustment is not None
    # As if it had been the best on these few images, of which the members are sure.
    shift = 0.0 if kind == BY_THRESHOLDS else -9.0
    rule = replace(
        rule,
        kind=kind,
        thresholds=Thresholds(global_=0.05),
        floor=1e-6,
        adjustment=replace(rule.adjustment, shift=shift),
    )
    forget_files(made.folder)
    rule.save(made.folder / DECISION)
    again = ensemble(corpus, workspace, config=ADJUSTED, submit=True)
    wanted = submitted(again.folder, corpus)
    assert any(wanted.values())
    loaded = read_ensemble(workspace)
    bundled = read_bundle(write_bundle(workspace, tmp_path / "bundle"))
    for own in (loaded, bundled):
        assert own.rule.kind == kind
        assert own.rule.adjustment == rule.adjustment
        told = decided(own, corpus)
        sets = corpus.labels.decode(told.decided)
        assert dict(zip(told.image_ids, sets, strict=True)) == wanted
        plain = decided(replace(own, rule=replace(own.rule, adjustment=None)), corpus)
        assert (plain.decided.toarray() != told.decided.toarray()).any()
        # Probabilities are told as they are without adjustment.
        np.testing.assert_array_equal(plain.calibrated, told.calibrated)
        words = " ".join(told.because.values())
        if kind == BY_THRESHOLDS:
            for (row, column), text in told.because.items():
                if text.startswith("threshold"):
                    assert float(text.split()[1]) <= told.calibrated[row, column] + 6e-4
        else:
            assert "expected F1, adjusted by the prior" in words


def test_a_bundle_without_an_adjustment_has_no_entry_of_it(bundled: Path) -> None:
    assert "adjustment" not in json.loads((bundled / "decision.json").read_text())
    assert read_bundle(bundled).rule.adjustment is None
