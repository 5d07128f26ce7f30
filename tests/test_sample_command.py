"""`sample` and `train-backbone --sample` as a user meets them."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cli
from core.runs.workspace import Corpus, Workspace
from tests.conftest import save_prepared

TINY = (
    *("--set", "backbone=test_efficientnet", "--set", "weights=none", "--set", "image_sizes=64"),
    *("--set", "hidden=8", "--set", "epochs=2", "--set", "probe=false"),
)

Run = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; exit code, lines on stdout, stderr."""

    def call(*arguments: str | Path) -> tuple[int, list[str], str]:
        monkeypatch.setattr(sys, "argv", ["cli.py", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out.splitlines(), err

    return call


@pytest.fixture
def home(crossfitted: Corpus, tmp_path: Path) -> Workspace:
    return save_prepared(crossfitted, tmp_path / "runs")


def test_what_a_strategy_would_keep_is_shown_and_written_down(run: Run, home: Workspace) -> None:
    asked = ("--strategy", "k-centre", "--keep", "0.5", "--sheet", "-w", home.root, *TINY)
    code, lines, _ = run("sample", *asked)
    assert code == 0
    assert lines[0].startswith("global, k-centre: 28 of 56 images kept, ")
    folder = Path(lines[-1])
    assert folder.parent == home.reports
    with (folder / "images.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["state"] == "kept" for row in rows) == 28
    with (folder / "concepts.csv").open(encoding="utf-8", newline="") as file:
        concepts = {row["CUI"]: row for row in csv.DictReader(file)}
    assert concepts["C6"]["images"] == concepts["C6"]["kept"] == "1"
    assert concepts["C3"]["name"] == "stripes"
    assert {p.name for p in folder.iterdir()} >= {"categories.csv", "frequencies.csv", "meta.json"}
    pixels = np.asarray(Image.open(folder / "sheet.png"))
    assert pixels.std() > 20  # images are on it
    assert run("sample", *asked)[1] == lines


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "expected a --strategy and a share to --keep"),
        (("--keep", "0.5"), "keep 0.5: by which strategy? expected one of random, "),
        (("--strategy", "loss"), "loss: how many images? give --keep a share below 1"),
        (("--strategy", "k-center", "--keep", "0.5"), "--strategy: expected one of all, random, "),
        (("--strategy", "random", "--keep", "1.5"), "--keep: expected above 0, at most 1"),
        (("--strategy", "random", "--keep", "0.5", "--category", "each"), "expected global or one"),
        (("--strategy", "random", "--keep", "0.5", "--category", "DRPE"), "no training image of"),
        (("--strategy", "random", "--strategy", "loss", "--keep", "0.5"), "go with --curve"),
        (("--strategy", "random", "--keep", "0.5", "--same-steps"), "go with --curve"),
        (("--curve", "--category", "DRCT"), "do not go with --curve"),
        (("--curve", "--sheet"), "do not go with --curve"),
        (("--curve", "--keep", "1"), "--keep: a curve holds shares below 1 against all images"),
        (("--curve", "--strategy", "none"), "--strategy none: expected one of random, "),
        (("--curve", "--set", "regime=full", "--set", "image_sizes=64"), "frozen features"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Run, home: Workspace, arguments: tuple[str, ...], reason: str
) -> None:
    code, lines, err = run("sample", "-w", home.root, *arguments)
    assert (code, lines) == (2, [])
    assert reason in err
    assert len(err.splitlines()) == 1


def test_a_share_alone_trains_nothing(run: Run, home: Workspace) -> None:
    code, _, err = run("train-backbone", "--keep", "0.5", "-w", home.root, *TINY)
    assert code == 2
    assert "keep 0.5: by which strategy? expected one of random, " in err
    assert not home.backbones.exists()


def test_a_detector_on_chosen_images_stands_beside_that_on_all(run: Run, home: Workspace) -> None:
    same = ("train-backbone", "--category", "global", "--preset", "quick", "-w", home.root, *TINY)
    _, (plain,), _ = run(*same)
    code, (chosen,), err = run(*same, "--sample", "distinct", "--keep", "0.5")
    assert code == 0
    assert "images kept by distinct" in err
    assert Path(chosen).name.startswith("quick-distinct-0.5-test_efficientnet-")
    assert (Path(chosen) / "sample.csv").is_file()
    assert not (Path(plain) / "sample.csv").exists()


def test_a_curve_compares_strategies_and_goes_on_where_it_stopped(
    run: Run, home: Workspace
) -> None:
    asked = ("sample", "--curve", "--strategy", "k-centre", "-w", home.root, *TINY)
    code, (page, figure), err = run(*asked)
    assert code == 0
    assert "network 3 of 3, 3 ways to choose 50%, 25%, 10%, 75% of the images" in err
    text = Path(page).read_text(encoding="utf-8")
    assert "## Gain over random draws of as many images" in text
    assert "| random, rare kept |" in text
    assert np.asarray(Image.open(figure)).std() > 10
    with Path(page).with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["strategy"] for row in rows} == {"all", "random", "random, rare kept", "k-centre"}
    assert {row["networks"] for row in rows} == {"3"}
    trials = sorted(home.root.glob("sampling/*/*/*/meta.json"))
    assert len(trials) == 3 * (1 + 3 * 4)
    times = [path.stat().st_mtime_ns for path in trials[1:]]
    gone = trials[0].parent
    for path in gone.iterdir():
        path.unlink()
    gone.rmdir()
    assert run(*asked)[0] == 0
    assert [path.stat().st_mtime_ns for path in trials[1:]] == times
    assert trials[0].is_file()
