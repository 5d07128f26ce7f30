"""The preset `auto`: quick on a processor, fine-tuning on a GPU, specialists from the global."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backbones.auto import (
    AUTO,
    Card,
    fine_tuning,
    installed_network,
    largest_size,
    presets_on,
    reached,
    train_by_presets,
)
from backbones.auto import train_by_preset as train_preset
from backbones.detectors.plan import detector_names
from backbones.networks.carriers import CARRIERS
from backbones.settings.config import BackboneConfig
from backbones.settings.presets import PRESETS
from core.config import overlay
from core.errors import ConfigError, MissingStageError
from core.runs.out_of_fold import load_folds
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from training.devices.compute import Compute

TINY = {
    "backbone": "test_efficientnet", "weights": "none", "image_sizes": 64, "hidden": "",
    "epochs": 1, "patience": 1, "batch_size": 16, "n_members": 1, "probe": "false",
}  # fmt: skip
GIB = 2**30
BIG = Card(name="Large Card", n_bytes=80 * GIB)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    """As if the processor were a GPU of 80 GiB."""
    monkeypatch.setattr(Card, "of", lambda device: BIG)
    return BIG


def train(
    corpus: Corpus, workspace: Workspace, category: str | None, **settings: Any
) -> list[Path]:
    return train_preset(
        corpus,
        workspace,
        names=detector_names(category),
        preset=AUTO,
        settle=partial(overlay, settings=TINY | settings),
        compute=Compute(),
    )


def weights_of(home: Path) -> str:
    weights: str = read_meta(home)["weights"]
    return weights


def test_on_a_processor_it_is_quick_and_meets_the_runs_of_quick(
    corpus: Corpus, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert presets_on("cpu")[AUTO] == PRESETS["quick"]
    (home,) = train(corpus, workspace, "DRCT")
    assert home.name.startswith("quick-")
    said = capsys.readouterr().err
    assert "preset auto: quick, heads on frozen features, because this machine has no CUDA" in said
    (again,) = train_preset(
        corpus, workspace, names=("DRCT",), preset="quick",
        settle=partial(overlay, settings=TINY), compute=Compute(),
    )  # fmt: skip
    assert again == home


def test_on_a_gpu_a_specialist_starts_from_the_global_detector_which_is_trained_first(
    corpus: Corpus, workspace: Workspace, card: Card, capsys: pytest.CaptureFixture[str]
) -> None:
    (home,) = train(corpus, workspace, "DRCT")
    (start,) = (workspace.backbones / "global").iterdir()
    assert home.parent.name == "DRCT"
    assert weights_of(home) == str(start)
    assert weights_of(start) == "none"
    assert {read_meta(h)["regime"] for h in (home, start)} == {"full"}
    assert home.name.startswith("auto-")
    line = next(x for x in capsys.readouterr().err.splitlines() if x.startswith("preset auto: "))
    assert "fine-tunes test_efficientnet at 64 px for 1 epochs" in line
    assert "because this machine has a Large Card with 86 GB" in line
    # 40 images of train for the global detector, 20 for the specialist, one epoch
    assert "2 detectors, the global one first and the specialists from it" in line
    assert "expected: 60 images to learn from" in line


def test_what_is_trained_is_kept_and_nothing_is_said_of_its_cost(
    corpus: Corpus, workspace: Workspace, card: Card, capsys: pytest.CaptureFixture[str]
) -> None:
    homes = train(corpus, workspace, None)
    assert [home.parent.name for home in homes] == ["global", "DRCT", "DRXR"]
    capsys.readouterr()
    assert train(corpus, workspace, None) == homes
    assert "expected" not in capsys.readouterr().err


def test_a_probe_tells_how_long_it_will_take(
    corpus: Corpus, workspace: Workspace, card: Card, capsys: pytest.CaptureFixture[str]
) -> None:
    train(corpus, workspace, "global", probe="true")
    said = capsys.readouterr().err
    assert "40 images to learn from, about 0 min at " in said


def test_networks_that_hold_out_parts_of_train_do_not_start_from_what_saw_them(
    corpus: Corpus, workspace: Workspace, card: Card
) -> None:
    (home,) = train(corpus, workspace, "DRCT", folds=2)
    assert weights_of(home) == "none"
    assert not (workspace.backbones / "global").exists()
    start = train(corpus, workspace, "global")[0]
    with pytest.raises(ConfigError, match="has learnt from images that the networks would hold"):
        train(corpus, workspace, "DRCT", folds=2, weights=str(start))


def test_what_is_told_to_start_elsewhere_does(
    corpus: Corpus, workspace: Workspace, card: Card
) -> None:
    (start,) = train(corpus, workspace, "global")
    (home,) = train(corpus, workspace, "DRCT", weights=str(start), seed=5)
    assert weights_of(home) == str(start)
    assert list((workspace.backbones / "global").iterdir()) == [start]


def test_a_category_without_images_is_refused_before_anything_is_trained(
    corpus: Corpus, workspace: Workspace, card: Card
) -> None:
    with pytest.raises(MissingStageError, match="category DRPE: nothing to train"):
        train(corpus, workspace, "DRPE")
    assert not workspace.backbones.exists()


@pytest.mark.parametrize(
    ("gib", "size"),
    # 64 images of 80 MB at 192 px: 5.1 GB; at 224 px 7.0, at 256 px 9.1, at 320 px 14.2 GB.
    [(80, 320), (27, 320), (24, 256), (16, 224), (12, 192), (4, 192)],
)
def test_the_size_is_what_half_of_the_memory_holds(gib: int, size: int) -> None:
    assert largest_size(Card(name="", n_bytes=gib * GIB)) == size


@pytest.mark.parametrize(("n", "epochs"), [(5_000, 16), (64_753, 10), (116_604, 6)])
def test_many_images_are_seen_in_fewer_epochs(n: int, epochs: int) -> None:
    config = fine_tuning(BIG, n_images=n)
    assert (config.epochs, config.patience) == (epochs, epochs)
    assert config.regime == "full"


def test_the_largest_network_whose_weights_are_installed_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert installed_network() == "tf_efficientnet_lite2"  # the tests' environment has all three

    def missing(self: object) -> Path:
        raise ConfigError("not installed")

    monkeypatch.setattr(type(CARRIERS["tf_efficientnet_lite2"]), "find", missing)
    assert installed_network() == "tf_efficientnet_lite0"  # whose package is then asked for


def test_other_presets_are_what_they_were(corpus: Corpus, workspace: Workspace) -> None:
    config = BackboneConfig(**presets_on("cpu")["finetune"].__dict__)
    assert config == PRESETS["finetune"]


def test_on_a_gpu_specialists_of_a_cross_fitted_corpus_start_from_the_global_detector(
    crossfitted: Corpus, workspace: Workspace, card: Card, capsys: pytest.CaptureFixture[str]
) -> None:
    homes = train(crossfitted, workspace, None)
    assert [home.parent.name for home in homes] == ["global", "DRCT", "DRXR"]
    assert [weights_of(home) for home in homes] == ["none", str(homes[0]), str(homes[0])]
    said = capsys.readouterr().err
    assert "preset auto: fine-tunes test_efficientnet at 64 px for 1 epochs" in said
    for home in homes[1:]:
        joined = load_folds(home / "predictions", "labelled")
        joined.require_out_of_sample()
        assert joined.fitted_on == set(crossfitted.labelled_images("labelled").image_ids)
    assert train(crossfitted, workspace, "DRCT") == homes[1:2]
    assert "expected" not in capsys.readouterr().err


def train_several(
    corpus: Corpus, workspace: Workspace, *presets: str, category: str = "DRCT", **settings: Any
) -> list[Path]:
    return train_by_presets(
        corpus,
        workspace,
        names=(category,),
        presets=presets,
        settle=partial(overlay, settings=TINY | settings),
        compute=Compute(),
    )


def test_several_presets_share_features_and_images_and_end_in_a_table(
    crossfitted: Corpus, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = train_several(crossfitted, workspace, "quick", "auto", "dinov2", "swin")
    assert [home.name.split("-")[0] for home in (first, second, third)] == [
        "quick",
        "dinov2",
        "swin",
    ]
    assert len(list(workspace.cache.iterdir())) == 1  # images of 64 px, of one scaling
    said = capsys.readouterr().err
    assert said.count("not trained") == 0
    table = said.splitlines()[-4:]
    assert table == reached([first, second, third])
    assert table[0].split() == ["detector", "preset", "F1", "of", "seconds"]
    f1 = read_meta(second)["out_of_fold_f1"]
    assert table[2].split()[:5] == ["DRCT", "dinov2-test_efficientnet", f"{f1:.4f}", "out", "of"]
    assert train_several(crossfitted, workspace, "quick", "swin") == [first, third]


def test_the_table_of_a_corpus_that_is_held_out_has_the_scores_that_stopped(
    corpus: Corpus, workspace: Workspace
) -> None:
    (home,) = train_several(corpus, workspace, "quick")
    (f1,) = read_meta(home)["stopping_f1"]
    seconds = f"{read_meta(home)['seconds']:.0f}"
    row = ["DRCT", "quick-test_efficientnet", f"{f1:.4f}", "stopping", "images", seconds]
    assert reached([home])[1].split() == row


def test_several_presets_are_refused_together_before_any_is_trained(
    corpus: Corpus, workspace: Workspace
) -> None:
    with pytest.raises(ConfigError, match="weights: no package carries test_efficientnet"):
        train_several(corpus, workspace, "quick", "finetune", weights="package")
    with pytest.raises(MissingStageError, match="category DRPE: nothing to train"):
        train_several(corpus, workspace, "quick", "finetune", category="DRPE")
    assert not workspace.backbones.exists()
    assert not workspace.embeddings.exists()


def test_auto_on_a_gpu_is_one_of_several_presets(
    corpus: Corpus, workspace: Workspace, card: Card
) -> None:
    homes = train_several(corpus, workspace, "quick", AUTO)
    assert [home.name.split("-")[0] for home in homes] == ["quick", AUTO]
    assert weights_of(homes[1]) != "none"  # from the global detector, which was trained first
