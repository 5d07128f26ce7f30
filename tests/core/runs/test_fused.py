"""Fusion runs as later stages find them."""

from dataclasses import replace

import numpy as np

from core.predictions import Predictions
from core.runs.fused import Doubt, find_doubts, find_fused_sources
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import mark_used, new_folder
from core.storage.tables import write_rows
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


def test_doubts_are_those_of_the_newest_guess_under_the_ids_of_the_corpus(
    workspace: Workspace, generated: Corpus
) -> None:
    ids = ("=1+1", *generated.table.image_ids[1:])
    corpus = replace(generated, table=replace(generated.table, image_ids=ids))
    assert find_doubts(workspace, corpus) is None
    header = ["image_id", "split", "given", "guess", "DRCT", "DRXR"]
    for turn, image_id in ((2, "=1+1"), (1, ids[1])):
        meta = {"corpus": corpus.fingerprint, "turn": turn}
        with new_folder(workspace.fusion / f"category-0000000{turn}", meta) as draft:
            rows = [header, [image_id, "train", "DRXR", "DRCT", "0.9990", "0.0010"]]
            write_rows(draft / "doubted.csv", rows, for_people=True)
    assert find_doubts(workspace, corpus) == {
        "=1+1": Doubt(given="DRXR", guess="DRCT", certainty=0.999)
    }
