"""`fuse` from detectors to predictions on disk."""

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import core.storage.folders
from core.config import overlay
from core.errors import ConfigError, MissingStageError
from core.metrics import bootstrap, cross_fitted_f1
from core.predictions import Predictions
from core.progress import say
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from fusion.config import PRESETS, FuseConfig
from fusion.fuse import FusionRun, fuse
from fusion.inputs.gather import FusionInputs
from fusion.inputs.metadata import MetadataEncoder
from fusion.result import Earlier, FusedResult
from fusion.strategies import STRATEGIES, settings_of

TINY = FuseConfig(
    strategies=("one-hot", "retrieval", "routed", "prior"), hidden=(16,), epochs=20, patience=20,
    batch_size=16, n_members=1, k=(5,), temperature=(0.05,), support=(0,),
)  # fmt: skip


def run(corpus: Corpus, workspace: Workspace, config: FuseConfig = TINY) -> list[FusionRun]:
    return fuse(corpus, workspace, config=config, preset="tiny", device="cpu")


def test_every_strategy_is_made_scored_and_written(corpus: Corpus, trained: Workspace) -> None:
    made = run(corpus, trained)
    assert [fused.strategy for fused in made] == ["one-hot", "retrieval", "routed", "prior"]
    assert trained.finished_runs(trained.fusion) == sorted(fused.folder for fused in made)
    valid = corpus.images("valid")
    for fused in made:
        meta = read_meta(fused.folder)
        assert (meta["strategy"], meta["corpus"], meta["preset"]) == (
            fused.strategy, "made0000", "tiny"
        )  # fmt: skip
        predictions = Predictions.load(fused.folder / "predictions" / "valid")
        scores = cross_fitted_f1(
            predictions.probs,
            valid.targets(corpus.labels),
            folds=valid.folds,
            empty_truth="left out",
        )
        assert fused.valid_f1 == bootstrap(scores, groups=valid.groups)
        assert fused.valid_f1.n == 16
    contained = read_meta(made[2].folder)["contains"]
    assert [name.split("/")[0] for name in contained] == ["DRCT", "DRXR"]


def test_the_image_is_worth_more_than_its_category(corpus: Corpus, trained: Workspace) -> None:
    f1 = {fused.strategy: fused.valid_f1 for fused in run(corpus, trained)}
    head, prior = f1["one-hot"], f1["prior"]
    assert head is not None
    assert prior is not None
    assert head.value > prior.value


def test_what_was_made_before_is_kept(
    corpus: Corpus, trained: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(corpus, trained)
    times = [(fused.folder / "config.json").stat().st_mtime_ns for fused in first]
    capsys.readouterr()
    assert run(corpus, trained) == first
    assert [(fused.folder / "config.json").stat().st_mtime_ns for fused in first] == times
    assert f"one-hot: already fused, {first[0].folder}" in capsys.readouterr().err


def test_two_at_once_make_a_strategy_once(
    corpus: Corpus,
    trained: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begun, waits = threading.Event(), threading.Event()
    retrieval = STRATEGIES["retrieval"]
    times = []

    def slow(fusion_inputs: FusionInputs, config: FuseConfig, earlier: Earlier) -> FusedResult:
        times.append(config)
        begun.set()
        assert waits.wait(60)
        return retrieval(fusion_inputs, config, earlier=earlier)

    def heard(line: str) -> None:
        say(line)
        waits.set()

    monkeypatch.setitem(STRATEGIES, "retrieval", slow)
    monkeypatch.setattr(core.storage.folders, "say", heard)
    config = overlay(TINY, {"strategies": "retrieval"})
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run, corpus, trained, config)
        assert begun.wait(60)
        second = pool.submit(run, corpus, trained, config)
        assert first.result(60) == second.result(60)
    assert len(times) == 1
    said = capsys.readouterr().err
    assert "retrieval: another process is working on it; waiting" in said
    assert f"retrieval: already fused, {first.result()[0].folder}" in said
    assert not (trained.fusion / "unfinished").exists()


def test_other_settings_have_a_run_of_their_own(corpus: Corpus, trained: Workspace) -> None:
    prior = overlay(TINY, {"strategies": "retrieval"})
    folders = {run(corpus, trained, overlay(prior, {"k": k}))[0].folder for k in (3, 4)}
    assert len(folders) == 2


def test_a_moved_workspace_still_knows_what_was_made(corpus: Corpus, trained: Workspace) -> None:
    before = [fused.folder.name for fused in run(corpus, trained)]
    moved = Workspace(trained.root.rename(trained.root.with_name("moved")))
    assert [fused.folder.name for fused in run(corpus, moved)] == before
    assert len(moved.finished_runs(moved.fusion)) == 4


def test_other_specialists_are_routed_anew(corpus: Corpus, trained: Workspace) -> None:
    config = overlay(TINY, {"strategies": "routed"})
    (both,) = run(corpus, trained, config)
    shutil.rmtree(trained.backbones / "DRXR")
    (one,) = run(corpus, trained, config)
    assert one.folder != both.folder
    assert [len(read_meta(made.folder)["contains"]) for made in (both, one)] == [2, 1]


def test_strategies_are_made_in_the_order_in_which_they_need_each_other(
    corpus: Corpus, trained: Workspace
) -> None:
    shutil.rmtree(trained.backbones / "global")
    with pytest.raises(ConfigError, match="`one-hot` named before it"):
        run(corpus, trained, overlay(TINY, {"strategies": "routed"}))
    made = run(corpus, trained, overlay(TINY, {"strategies": "routed,one-hot", "epochs": 1}))
    assert [fused.strategy for fused in made] == ["one-hot", "routed"]
    made = run(corpus, trained, overlay(TINY, {"strategies": "constrained", "epochs": 1}))
    assert [fused.strategy for fused in made] == ["one-hot", "constrained"]


def test_a_run_is_the_same_whatever_is_made_beside_it(corpus: Corpus, trained: Workspace) -> None:
    (alone,) = run(corpus, trained, overlay(TINY, {"strategies": "retrieval"}))
    _, beside, _, _ = run(corpus, trained)
    assert beside.folder == alone.folder


def test_what_a_network_needs_to_be_used_again_lies_beside_its_predictions(
    corpus: Corpus, trained: Workspace
) -> None:
    aged = with_column(corpus, "age", lambda number: str(20 + number))
    config = overlay(TINY, {"strategies": "one-hot,retrieval", "metadata": "age"})
    head, neighbours = run(aged, trained, config)
    tensors = load_file(head.folder / "model.safetensors")
    assert tensors["0.layers.1.weight"].shape == (16, 256 + 7 + 2)  # features, category, age
    encoder = MetadataEncoder.load(head.folder / "metadata.json")
    assert [column.name for column in encoder.columns] == ["age"]
    assert not (neighbours.folder / "model.safetensors").exists()
    assert read_meta(neighbours.folder)["chosen"] == {
        "k": 5, "temperature": 0.05, "reference_bits": 16,
    }  # fmt: skip


def test_further_columns_make_only_those_again_that_see_them(
    corpus: Corpus, trained: Workspace
) -> None:
    aged = with_column(corpus, "age", lambda number: str(20 + number))
    everything = overlay(TINY, {"strategies": "one-hot,prior-offset,voted,routed,prior"})
    plain = {fused.strategy: fused.folder for fused in run(aged, trained, everything)}
    with_age = overlay(everything, {"metadata": "age", "metadata_dropout": 0.5})
    again = {fused.strategy: fused.folder for fused in run(aged, trained, with_age)}
    assert {name for name in plain if plain[name] != again[name]} == {"one-hot"}


@pytest.mark.parametrize("name", ["blind", "prior-offset"])
def test_what_does_not_see_metadata_is_the_same_with_it(
    name: str, corpus: Corpus, trained: Workspace, tmp_path: Path
) -> None:
    aged = with_column(corpus, "age", lambda number: str(20 + number))
    probs, encoders = [], []
    for metadata in ("", "age"):
        config = overlay(TINY, {"strategies": name, "metadata": metadata, "epochs": 2})
        (fused,) = run(aged, trained, config)
        probs.append(Predictions.load(fused.folder / "predictions" / "valid").probs)
        encoders.append((fused.folder / "metadata.json").read_bytes())
        fused.folder.rename(tmp_path / f"{name}-{metadata}")  # so that it is made again
    np.testing.assert_array_equal(probs[0], probs[1])
    assert encoders[0] == encoders[1]


def test_settings_that_a_strategy_never_sees_are_no_part_of_its_name() -> None:
    quick = PRESETS["quick"]
    assert settings_of("retrieval", quick) == replace(quick, strategies=("retrieval",))
    other = overlay(quick, {"epochs": 3, "support": "1", "constant_from": 7, "metadata": "age"})
    for name in ("retrieval", "retrieval-global", "prior"):
        assert settings_of(name, other) == settings_of(name, quick)
    assert settings_of("routed", other).support == (1,)
    assert settings_of("routed", other).epochs == quick.epochs
    assert settings_of("routed", other, alone=True).epochs == 3  # by the one-hot head
    assert settings_of("voted", other).metadata == ()
    assert settings_of("constrained", other).metadata == ("age",)
    assert settings_of("late-trees", other).metadata == ("age",)
    assert settings_of("prior-offset-e2e", other).metadata == ()
    assert settings_of("one-hot-e2e", overlay(other, {"end_to_end_epochs": 2})) == replace(
        quick, strategies=("one-hot-e2e",), epochs=3, metadata=("age",), end_to_end_epochs=2
    )


def test_another_age_is_another_run(corpus: Corpus, trained: Workspace) -> None:
    config = overlay(TINY, {"strategies": "one-hot", "metadata": "age", "epochs": 1})
    aged = with_column(corpus, "age", lambda number: str(20 + number))
    older = with_column(corpus, "age", lambda number: str(40 + number))
    (first,), (second,) = run(aged, trained, config), run(older, trained, config)
    assert first.folder != second.folder


def test_values_that_train_does_not_know_are_said(
    corpus: Corpus, trained: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = with_column(corpus, "view", lambda n: "odd" if n == 41 else ("ap", "pa")[n % 2])
    run(odd, trained, overlay(TINY, {"strategies": "one-hot", "metadata": "view", "epochs": 1}))
    said = capsys.readouterr().err
    assert "view" in said
    assert "odd" in said


def test_images_without_a_category_are_guessed_by_every_strategy(
    corpus: Corpus, trained: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    table = corpus.table
    names = tuple(
        "" if split != "train" else category
        for split, category in zip(table.splits, table.categories, strict=True)
    )
    partly = replace(corpus, table=replace(table, categories=names))
    made = run(partly, trained, overlay(TINY, {"strategies": "one-hot,retrieval,prior"}))
    assert "24 images have no category: guessed" in capsys.readouterr().err
    is_ct = np.array(corpus.images("valid").categories) == "DRCT"
    for fused in made:
        probs = Predictions.load(fused.folder / "predictions" / "valid").probs
        assert ((probs[:, 0] > probs[:, 1]) == is_ct).mean() > 0.6  # random, frozen features


def with_column(corpus: Corpus, name: str, value: Callable[[int], str]) -> Corpus:
    """The corpus with a further column."""
    values = tuple(value(number) for number in range(len(corpus.table)))
    metadata = {**corpus.table.metadata, name: values}
    return replace(corpus, table=replace(corpus.table, metadata=metadata))


def test_detectors_that_could_still_be_trained_are_named(
    corpus: Corpus, trained: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(trained.backbones / "DRCT")
    run(corpus, trained, overlay(TINY, {"strategies": "prior"}))
    assert (
        "not trained yet: DRCT alone; to train: python cli.py train-backbone --category DRCT"
        in (capsys.readouterr().err)
    )


def test_unreadable_images_are_left_to_the_prior(corpus: Corpus, trained: Workspace) -> None:
    marks = tuple("0" if i == "valid_03" else "1" for i in corpus.table.image_ids)
    partly = replace(corpus, table=replace(corpus.table, metadata={"readable": marks}))
    made = run(partly, trained, overlay(TINY, {"strategies": "retrieval,prior"}))
    has = ["valid_03" in Predictions.load(m.folder / "predictions/valid").image_ids for m in made]
    assert has == [False, True]
    assert [fused.valid_f1.n for fused in made if fused.valid_f1] == [15, 15]


def test_without_labels_in_valid_there_is_no_score(corpus: Corpus, trained: Workspace) -> None:
    concepts = tuple(
        None if split == "valid" else known
        for split, known in zip(corpus.table.splits, corpus.table.concepts, strict=True)
    )
    blind = replace(corpus, table=replace(corpus.table, concepts=concepts))
    (fused,) = run(blind, trained, overlay(TINY, {"strategies": "retrieval"}))
    assert fused.valid_f1 is None
    assert np.isfinite(Predictions.load(fused.folder / "predictions/valid").probs).all()


def test_an_unknown_strategy_is_named_with_the_known_ones(
    corpus: Corpus, trained: Workspace
) -> None:
    with pytest.raises(ConfigError, match="unknown 'flim'; did you mean 'film'"):
        run(corpus, trained, overlay(TINY, {"strategies": "prior,flim"}))


def test_without_pooled_features_the_command_is_named(corpus: Corpus, workspace: Workspace) -> None:
    with pytest.raises(MissingStageError, match=r"`python cli\.py train-backbone -w .*` first"):
        run(corpus, workspace)
