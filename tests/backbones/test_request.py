"""What is asked of `train-backbone`."""

from pathlib import Path
from typing import Any

import pytest

from backbones.auto import presets_on
from backbones.request import TrainingRequest, train_asked
from backbones.settings.config import BackboneConfig
from backbones.settings.presets import GROUPS, PRESETS
from core.errors import ConfigError
from core.runs.workspace import Corpus, Workspace
from training.devices.compute import World


def test_options_lie_over_settings_which_lie_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("epochs = 7\nseed = 5\nbatch_size = 9\n", "utf-8")
    request = TrainingRequest(
        presets=("quick",), file=tmp_path / "a.toml", given=("seed=6", "folds=3"),
        options={"folds": 2, "seeds": None, "weights": "none"},
    )  # fmt: skip
    config = request.over(BackboneConfig(epochs=1, seeds=4))
    assert (config.epochs, config.seed, config.batch_size) == (7, 6, 9)
    assert (config.folds, config.seeds, config.weights) == (2, 4, "none")


@pytest.mark.parametrize(
    ("options", "given", "expected"),
    [
        ({}, (), ((224, 320), "bilinear", "package")),
        ({"backbone": "tf_efficientnet_lite0"}, (), ((224, 320), "bilinear", "package")),
        ({"backbone": "test_vit"}, (), ((160,), "bicubic", "auto")),
        ({}, ("backbone=test_vit",), ((160,), "bicubic", "auto")),
        ({"backbone": "test_vit", "weights": "none"}, (), ((160,), "bicubic", "none")),
        ({"backbone": "test_vit"}, ("image_sizes=64,96",), ((64, 96), "bicubic", "auto")),
        ({"backbone": "test_vit"}, ("resample=bilinear",), ((160,), "bilinear", "auto")),
    ],
)
def test_another_encoder_takes_what_it_states_of_itself_unless_given(
    options: dict[str, str],
    given: tuple[str, ...],
    expected: tuple[tuple[int, ...], str, str],
) -> None:
    preset = BackboneConfig(weights="package")
    config = TrainingRequest(presets=("quick",), given=given, options=options).over(preset)
    assert (config.image_sizes, config.resample, config.weights) == expected


def test_a_file_of_settings_gives_sizes_as_well(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('backbone = "test_vit"\nimage_sizes = [96]\n', "utf-8")
    config = TrainingRequest(presets=("quick",), file=path).over(BackboneConfig())
    assert (config.image_sizes, config.resample) == ((96,), "bicubic")


def test_two_starts_and_a_category_that_there_is_not_are_refused() -> None:
    with pytest.raises(ConfigError, match="--weights, --start-from: either says what networks"):
        TrainingRequest(presets=("quick",), options={"weights": "none"}, start_from="global")
    with pytest.raises(ConfigError, match="--category DRCX: expected global, each or one of"):
        TrainingRequest(presets=("quick",), category="DRCX")


@pytest.mark.parametrize(
    ("preset", "given", "device", "expected"),
    [
        ("fast", (), "cpu", "--preset fast: expected one of auto, quick"),
        ("quick", ("epochs=0",), "cpu", "epochs: expected .*, found 0"),
        ("quick", (), "gpu", "--device gpu: expected cpu, cuda"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(
    preset: str, given: tuple[str, ...], device: str, expected: str, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path / "runs")
    with pytest.raises(ConfigError, match=expected):
        train_asked(TrainingRequest(presets=(preset,), given=given), workspace, device=device)
    assert not workspace.root.exists()


def test_a_group_is_its_presets_and_each_is_trained_once() -> None:
    request = TrainingRequest(presets=("quick", "aueb", "aueb-resnet50", "quick"))
    assert request.names == ("quick", *GROUPS["aueb"])
    assert len(GROUPS["aueb"]) == 6
    assert set(GROUPS["aueb"]) <= set(PRESETS)
    assert {PRESETS[name].pooling for name in GROUPS["aueb"]} == {"gem"}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"presets": ("quick", "fast")}, "--preset fast: expected one of auto, quick, .*, aueb$"),
        ({"given": ("epochs=0",)}, "epochs: expected 1 to 100,000"),
        (
            {"given": ("backbone=resnet18",)},
            r"--backbone: the presets are of several encoders \(quick is for"
            r" tf_efficientnet_lite0, convnext for convnext_tiny.fb_in22k\)",
        ),
        ({"options": {"weights": "a.pth"}}, "weights: a.pth is of one encoder, the presets of"),
        ({"start_from": "runs/a"}, "weights: runs/a is of one encoder, the presets of several"),
    ],
)
def test_what_cannot_be_asked_of_several_presets_is_refused(
    told: dict[str, Any], expected: str
) -> None:
    request = TrainingRequest(**({"presets": ("quick", "convnext")} | told))
    with pytest.raises(ConfigError, match=expected):
        request.check(presets_on("cpu"))


def test_presets_of_one_encoder_take_another_and_those_of_several_a_common_start() -> None:
    known = presets_on("cpu")
    TrainingRequest(presets=("quick", "finetune"), options={"backbone": "resnet18"}).check(known)
    TrainingRequest(presets=("quick", "finetune"), options={"weights": "a.pth"}).check(known)
    TrainingRequest(presets=("quick", "convnext"), options={"weights": "none"}).check(known)
    TrainingRequest(presets=("finetune", "convnext"), start_from="global").check(known)


def test_the_first_process_alone_gives_the_runs(
    corpus: Corpus, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = (
        *("backbone=test_efficientnet", "image_sizes=64", "hidden=", "epochs=1", "patience=1"),
        *("n_members=1", "probe=false"),
    )
    options = {"weights": "none"}
    request = TrainingRequest(category="DRCT", presets=("quick",), given=given, options=options)
    (home,) = train_asked(request, workspace, device="cpu")
    assert home.parent == workspace.backbones / "DRCT"
    assert train_asked(request, workspace, device="cpu") == [home]
    monkeypatch.setattr(World, "first", False)
    monkeypatch.setattr(World, "wait", lambda self: None)
    assert train_asked(request, workspace, device="cpu") == []
