"""`fuse` on a corpus whose train and valid were dealt into folds together."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import fusion.networks.end_to_end
from backbones.settings.config import BackboneConfig
from backbones.settings.presets import PRESETS
from backbones.train import train_backbones
from core.config import overlay
from core.embeddings import Embeddings
from core.errors import LeakageError
from core.metrics import bootstrap, cross_fitted_f1
from core.predictions import Predictions
from core.runs.detectors import find_detectors
from core.runs.fused import find_fused_sources
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from core.storage.tables import write_lines
from fusion.config import FuseConfig
from fusion.fuse import FusionRun, fuse
from fusion.inputs.gather import FusionInputs, gather_inputs
from fusion.inputs.tensors import Training
from fusion.networks.heads import NoMetadata
from fusion.result import Earlier, FusedResult, Strategy
from fusion.strategies import COMBINING, END_TO_END, NEEDS, STRATEGIES, in_order
from fusion.views import fit_in_views
from tests.conftest import relabelled
from tests.core.storage.unlisted import forget_files
from training.checkpoint import Checkpoint
from training.config import FitConfig
from training.devices.compute import Compute

TUNED = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(64,), probe=False, regime="full",
    hidden=(16,), epochs=2, patience=40, batch_size=16, n_members=1, learning_rate=3e-3,
)  # fmt: skip

TINY = FuseConfig(
    hidden=(16,), epochs=3, patience=1, batch_size=16, k=(3, 5), temperature=(0.05, 0.5),
    support=(0, 5), end_to_end="tiny", n_members=4,
)  # fmt: skip

ON_ANY_FEATURES = in_order(("all",))
FITTED = [name for name in ON_ANY_FEATURES if name not in COMBINING]


@pytest.fixture(autouse=True)
def tiny_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny", TUNED)


@pytest.fixture(scope="module")
def detectors_once(crossfitted: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Detectors of the cross-fitted corpus; to be read only."""
    config = overlay(TUNED, {"regime": "frozen"})
    workspace = Workspace(tmp_path_factory.mktemp("crossfitted"))
    names = ("global", "DRCT", "DRXR")
    train_backbones(
        crossfitted, workspace, names=names, config=config, preset="tiny", compute=Compute()
    )
    return workspace


@pytest.fixture
def detected(detectors_once: Workspace, tmp_path: Path) -> Workspace:
    """A workspace with the global detector and the specialists of CT and X-ray."""
    return Workspace(Path(shutil.copytree(detectors_once.root, tmp_path / "detected")))


def run(corpus: Corpus, workspace: Workspace, *names: str) -> list[FusionRun]:
    config = replace(TINY, strategies=names)
    return fuse(corpus, workspace, config=config, preset="tiny", device="cpu")


def test_every_strategy_predicts_every_labelled_image_out_of_fold(
    crossfitted: Corpus, detected: Workspace
) -> None:
    names = (*ON_ANY_FEATURES, "one-hot-e2e")
    made = run(crossfitted, detected, *names)
    assert [fused.strategy for fused in made] == list(names)
    sources = {s.strategy: s for s in find_fused_sources(detected, crossfitted.fingerprint)}
    assert set(sources) == set(names)
    table = crossfitted.labelled_images("labelled")
    groups = dict(zip(table.image_ids, table.groups, strict=True))
    for fused in made:
        folders = {path.name for path in (fused.folder / "predictions").iterdir()}
        expected = {f"labelled-{k}of3" for k in (1, 2, 3)} | {"test"}
        assert {name for name in folders if not name.endswith("-withheld")} == expected
        withheld = {name for name in folders if name.endswith("-withheld")}
        assert withheld in (set(), {f"{name}-withheld" for name in expected})
        found = sources[fused.strategy].predictions("labelled")
        assert set(found.image_ids) == set(table.image_ids)
        assert len(found.parts) == 3
        for part in found.parts:
            folds = {int(f) for f in table.folds[table.row_numbers(sorted(part.image_ids))]}
            assert len(folds) == 1
            assert part.fitted_on == set(table.take(~np.isin(table.folds, [*folds])).image_ids)
        found.require_out_of_sample()
        found.require_groups_apart(groups)
        test = sources[fused.strategy].predictions("test")
        assert test.image_ids == crossfitted.images("test").image_ids
        assert test.fitted_on == set(table.image_ids)
        scores = cross_fitted_f1(
            found.rows(table.image_ids).probs, table.targets(crossfitted.labels), folds=table.folds,
            empty_truth="left out",
        )  # fmt: skip
        assert fused.labelled_f1 == bootstrap(scores, groups=table.groups)
        assert fused.valid_f1 is not None
        assert (fused.valid_f1.n, fused.labelled_f1.n) == (16, 56)
    run_of = {fused.strategy: fused.folder for fused in made}
    weights = load_file(run_of["one-hot"] / "model.safetensors")
    assert {name.partition(".")[0] for name in weights} == {"0", "1", "2"}  # a network a view
    encoders = {path.name for path in run_of["one-hot"].glob("metadata*")}
    assert encoders == {f"metadata-{k}of3.json" for k in (1, 2, 3)}
    assert len(read_meta(run_of["retrieval"])["chosen"]["k"]) == 3


def in_views(corpus: Corpus, workspace: Workspace) -> dict[str, FusedResult]:
    """What every strategy that is fitted makes of the views."""
    whole = gather_inputs(corpus, workspace, embeddings=(), device="cpu")
    views = [whole.of_view(number, ()) for number in range(len(corpus.views))]
    made: dict[str, FusedResult] = {}
    for name in [*FITTED, "film-e2e"]:
        config = replace(TINY, strategies=(name,))
        strategy = (STRATEGIES | END_TO_END)[name]
        made[name] = fit_in_views(strategy, views, corpus=corpus, config=config, earlier=made)
    made["routed"] = STRATEGIES["routed"](whole, TINY, earlier={})
    shutil.rmtree(workspace.fusion)
    return made


def test_labels_of_a_fold_do_not_reach_what_predicts_it(
    crossfitted: Corpus, detected: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Support vector machines side by side share one random state.
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    before = in_views(crossfitted, detected)
    after = in_views(relabelled(crossfitted, 1), detected)
    fold = crossfitted.images("labelled").folds
    for name in before:
        sets: list[Mapping[str, Predictions]] = []
        for made in (before, after):
            sets += [made[name].predictions, made[name].without_category]
        for one, other in ((sets[0], sets[2]), (sets[1], sets[3])):
            if not one:
                continue
            probs = [p["labelled"].rows(crossfitted.images("labelled").image_ids).probs
                     for p in (one, other)]  # fmt: skip
            np.testing.assert_array_equal(probs[0][fold == 1], probs[1][fold == 1], err_msg=name)
            if name != "routed":  # of detectors that were trained before
                assert not np.array_equal(probs[0][fold != 1], probs[1][fold != 1]), name


def test_equal_settings_meet_and_what_is_made_later_is_the_same(
    crossfitted: Corpus, detected: Workspace, tmp_path: Path
) -> None:
    other = Workspace(Path(shutil.copytree(detected.root, tmp_path / "other")))
    names = ("constrained", "voted", "prior")
    together = run(crossfitted, detected, *names)
    for name in (*NEEDS["voted"], "one-hot"):
        run(crossfitted, other, name)
    apart = run(crossfitted, other, *names)  # of those made before, as they lie on disk
    assert [a.folder.name for a in apart] == [t.folder.name for t in together]
    for one, two in zip(together, apart, strict=True):
        assert (one.valid_f1, one.labelled_f1) == (two.valid_f1, two.labelled_f1)
        for split in ("labelled-2of3", "test"):
            a, b = (Predictions.load(f.folder / "predictions" / split) for f in (one, two))
            np.testing.assert_array_equal(a.probs, b.probs)
    assert run(crossfitted, detected, *names) == together


def test_a_training_cut_in_the_second_view_goes_on_to_the_same_end(
    crossfitted: Corpus, detected: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Workspace(Path(shutil.copytree(detected.root, tmp_path / "other")))
    (whole,) = run(crossfitted, detected, "film-e2e")
    monkeypatch.setattr(fusion.networks.end_to_end, "_CHECKPOINT_S", 0.0)
    saved, kills = Checkpoint.save, iter([False] * 10 + [True])

    def save_and_die(self: Checkpoint, state: dict[str, object]) -> None:
        saved(self, state)
        if next(kills, False):
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run(crossfitted, other, "film-e2e")
    assert len(list((other.fusion / "unfinished").glob("film-e2e-from-*"))) == 2
    (resumed,) = run(crossfitted, other, "film-e2e")
    assert not (other.fusion / "unfinished").exists()
    for split in ("labelled-1of3", "labelled-2of3", "labelled-3of3", "test"):
        a, b = (Predictions.load(f.folder / "predictions" / split) for f in (whole, resumed))
        np.testing.assert_array_equal(a.probs, b.probs)


def test_a_detector_that_met_a_fold_it_predicts_is_refused(
    crossfitted: Corpus, detected: Workspace
) -> None:
    (home,) = (detected.backbones / "global").iterdir()
    folder = home / "predictions" / "labelled-2of3"
    part = Predictions.load(folder)
    forget_files(folder)
    write_lines(folder / "fitted_on.txt", sorted({*part.fitted_on, part.image_ids[0]}))
    with pytest.raises(LeakageError, match="global: 1 of 20 images were used to fit it"):
        run(crossfitted, detected, "routed")


@pytest.mark.parametrize("name", ["prior", "one-hot", "retrieval", "routed", "voted"])
def test_a_group_that_folds_tear_apart_is_refused(
    crossfitted: Corpus, detected: Workspace, name: str
) -> None:
    table = crossfitted.table
    torn = tuple("train_0" if i == "valid_02" else g for i, g in zip(
        table.image_ids, table.groups, strict=True))  # fmt: skip
    corpus = replace(crossfitted, table=replace(table, groups=torn))
    with pytest.raises(LeakageError, match="images share a group with images it was fitted on"):
        run(corpus, detected, name)


def test_a_strategy_that_was_fitted_on_another_view_is_refused(
    crossfitted: Corpus, detected: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(
        fusion_inputs: FusionInputs, config: FuseConfig, *, earlier: Earlier
    ) -> FusedResult:
        fused = STRATEGIES["retrieval"](fusion_inputs, config, earlier=earlier)
        met = fused.predictions["valid"].image_ids[:1]
        leaks = {
            s: replace(p, fitted_on=p.fitted_on | {*met}) for s, p in fused.predictions.items()
        }
        return replace(fused, predictions=leaks)

    leaking: Strategy = careless
    monkeypatch.setitem(STRATEGIES, "prior", leaking)
    with pytest.raises(LeakageError, match="1 of 20 images were used to fit it"):
        run(crossfitted, detected, "prior")


def test_heads_train_their_full_length_on_all_of_a_view(
    crossfitted: Corpus, detected: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_learnt = []

    class Counted(NoMetadata):
        def __init__(self, train: Training, config: FitConfig) -> None:
            n_learnt.append(len(train.targets))
            super().__init__(train, config)

    monkeypatch.setitem(fusion.networks.train.HEADS, "blind", Counted)
    run(crossfitted, detected, "blind")
    assert n_learnt == [36, 36, 40]


def test_a_view_learns_from_features_by_a_network_that_left_its_fold_out(
    crossfitted: Corpus, detected: Workspace
) -> None:
    (frozen,) = find_detectors(detected, crossfitted.fingerprint)[0].embeddings
    given = Embeddings.load(detected.embeddings / frozen)
    names = [frozen, *(f"global-finetune-{k}of3" for k in (1, 2, 3))]
    for k, name in enumerate(names[1:]):
        values = np.full((len(given), 2), k, dtype=np.float32)
        replace(given, source=name, values=values).save(detected.embeddings / name)
    whole = gather_inputs(crossfitted, detected, embeddings=names, device="cpu")
    assert whole.names == tuple(names)
    for k in range(3):
        view = whole.of_view(k, ())
        assert view.names == (frozen, names[k + 1])
        features = view.network_inputs.features.numpy()
        np.testing.assert_array_equal(features[:, :-2], given.values)
        assert (features[:, -2:] == k).all()


def test_what_is_odd_is_said_of_one_view_alone(
    crossfitted: Corpus, detected: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = ("", *crossfitted.table.categories[1:])
    corpus = replace(crossfitted, table=replace(crossfitted.table, categories=kinds))
    run(corpus, detected, "prior")
    said = capsys.readouterr().err
    assert said.count("1 image has no category: guessed from their features") == 1
