"""What is asked of `train-backbone`."""

from pathlib import Path

import pytest

from backbones.request import TrainingRequest, train_asked
from backbones.settings.config import BackboneConfig
from core.errors import ConfigError
from core.runs.workspace import Corpus, Workspace
from training.devices.compute import World


def test_options_lie_over_settings_which_lie_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("epochs = 7\nseed = 5\nbatch_size = 9\n", "utf-8")
    request = TrainingRequest(
        preset="quick", file=tmp_path / "a.toml", given=("seed=6", "folds=3"),
        options={"folds": 2, "seeds": None, "weights": "none"},
    )  # fmt: skip
    config = request.over(BackboneConfig(epochs=1, seeds=4))
    assert (config.epochs, config.seed, config.batch_size) == (7, 6, 9)
    assert (config.folds, config.seeds, config.weights) == (2, 4, "none")


def test_two_starts_and_a_category_that_there_is_not_are_refused() -> None:
    with pytest.raises(ConfigError, match="--weights, --start-from: either says what networks"):
        TrainingRequest(preset="quick", options={"weights": "none"}, start_from="global")
    with pytest.raises(ConfigError, match="--category DRCX: expected global, each or one of"):
        TrainingRequest(preset="quick", category="DRCX")


@pytest.mark.parametrize(
    ("preset", "given", "device", "expected"),
    [
        ("fast", (), "cpu", "--preset fast: expected one of auto, quick"),
        ("quick", ("epochs=0",), "cpu", "epochs: expected at least 1, found 0"),
        ("quick", (), "gpu", "--device gpu: expected cpu, cuda"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(
    preset: str, given: tuple[str, ...], device: str, expected: str, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path / "runs")
    with pytest.raises(ConfigError, match=expected):
        train_asked(TrainingRequest(preset=preset, given=given), workspace, device=device)
    assert not workspace.root.exists()


def test_the_first_process_alone_gives_the_runs(
    corpus: Corpus, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = (
        *("backbone=test_efficientnet", "image_sizes=64", "hidden=", "epochs=1", "patience=1"),
        *("n_members=1", "probe=false"),
    )
    options = {"weights": "none"}
    request = TrainingRequest(category="DRCT", preset="quick", given=given, options=options)
    (home,) = train_asked(request, workspace, device="cpu")
    assert home.parent == workspace.backbones / "DRCT"
    assert train_asked(request, workspace, device="cpu") == [home]
    monkeypatch.setattr(World, "first", False)
    monkeypatch.setattr(World, "wait", lambda self: None)
    assert train_asked(request, workspace, device="cpu") == []
