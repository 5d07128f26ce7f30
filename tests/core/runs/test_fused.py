"""Fusion runs as later stages find them."""

import numpy as np

from core.predictions import Predictions
from core.runs.fused import find_fused_sources
from core.runs.workspace import Workspace
from core.storage.folders import mark_used
from tests.conftest import SaveRun


def found(workspace: Workspace, *, comparable: bool = False) -> list[str]:
    runs = find_fused_sources(workspace, "gen00000", comparable=comparable)
    return [run.folder.name for run in runs]


def test_the_newest_run_of_each_strategy_on_this_corpus_is_found(
    workspace: Workspace, fused: SaveRun
) -> None:
    assert found(workspace) == []
    fused("retrieval", name="retrieval-1", made="2026-11-03")
    fused("blind", name="blind-3", made="2026-11-01")
    first = fused("blind", name="blind-1", made="2026-11-02", contains=("DRCT/quick-1",))
    fused("blind", name="blind-2", made="2026-11-09", corpus="other000")
    assert found(workspace) == ["blind-1", "retrieval-1"]
    (blind, _) = find_fused_sources(workspace, "gen00000")
    assert (blind.folder, blind.strategy, blind.asked) == (first, "blind", (0, "2026-11-02"))
    assert blind.contains == ("DRCT/quick-1",)


def test_a_run_that_was_asked_for_again_is_the_newest_and_keeps_the_place(
    workspace: Workspace, fused: SaveRun
) -> None:
    # by paths: blind-e2e-1, blind-f; the strategy blind stays where its first folder stands
    fused("blind-e2e", name="blind-e2e-1", made="2026-11-01")
    fused("blind", name="blind-f", made="2026-11-01")
    fused("blind", name="blind-g", made="2026-11-02")
    assert found(workspace) == ["blind-e2e-1", "blind-g"]
    mark_used(workspace.fusion / "blind-f", among=workspace.fusion)
    assert found(workspace) == ["blind-e2e-1", "blind-f"]
    fused("blind", name="blind-0", made="2026-11-01")
    assert found(workspace) == ["blind-f", "blind-e2e-1"]


def test_runs_on_the_features_of_the_newest_can_be_compared(
    workspace: Workspace, fused: SaveRun
) -> None:
    fused("blind", name="blind-1", made="2026-11-01", embeddings=("lite0",))
    fused("blind", name="blind-2", made="2026-11-02", embeddings=("swin",))
    fused("film", name="film-1", made="2026-11-01", embeddings=("swin",))
    fused("one-hot", name="one-hot-1", made="2026-11-03", embeddings=("lite0",))
    assert found(workspace) == ["blind-2", "film-1", "one-hot-1"]
    assert found(workspace, comparable=True) == ["blind-1", "one-hot-1"]


def test_a_run_gives_its_predictions_and_those_that_do_without_the_category(
    workspace: Workspace, fused: SaveRun
) -> None:
    home = fused("one-hot")
    (run,) = find_fused_sources(workspace, "gen00000")
    valid = run.predictions("valid")
    assert valid.source == "one-hot"
    assert run.without_category("valid") is None
    valid.rows(valid.image_ids[::-1]).save(home / "predictions" / "valid-withheld")
    assert (home / "predictions" / "valid-withheld").is_dir()
    without_category = run.without_category("valid")
    assert isinstance(without_category, Predictions)
    np.testing.assert_array_equal(without_category.probs[::-1], valid.probs)
