"""What somebody meets who brings a table of images for the first time."""

import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cli

ROOT = Path(__file__).parents[1]

Run = Callable[..., tuple[int, str, str]]

SMALL = ("--set", "image_size=32", "--set", "folds=3")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process: exit code, stdout, stderr."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cli.py", *map(str, arguments)])
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return call


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Grey squares: eight in train, four in valid, three in test, all with concepts."""
    rng = np.random.default_rng(0)
    lines = ["path,split,category,concepts,group"]
    for split, n_images in (("train", 8), ("valid", 4), ("test", 3)):
        for k in range(n_images):
            pixels = rng.integers(0, 255, (40, 40), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{split}{k}.png")
            lines.append(f"{split}{k}.png,{split},CT,C1{';C2' if k % 2 else ''},{split}{k // 2}")
    path = tmp_path / "my.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    "command", ["stats", "train-backbone", "reproduce 1 --scale tiny", "fuse", "ensemble", "report"]
)
def test_a_workspace_that_is_named_and_holds_no_corpus_is_refused(
    command: str, run: Run, tmp_path: Path
) -> None:
    code, out, err = run(*command.split(), "-w", tmp_path / "new")
    assert (code, out) == (2, "")
    assert err.startswith(f"MissingStageError: {tmp_path / 'new'}: no such folder; name the folder")
    assert f"`python cli.py prepare SOURCE -w {tmp_path / 'new'}` reads your images" in err
    assert f"`python cli.py demo -w {tmp_path / 'new'}`" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "new").exists()
    _, _, err = run(*command.split(), "-w", tmp_path)
    assert err.startswith(f"MissingStageError: {tmp_path}: holds no prepared corpus")


def test_a_bare_command_falls_back_to_the_drawn_corpus(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, _ = run("prepare", *SMALL, "--set", "phantom_images=60")
    assert code == 0
    code, out, _ = run("stats")
    assert code == 0
    assert "phantom corpus" in out


def test_more_folds_than_groups_name_the_setting(run: Run, manifest: Path, tmp_path: Path) -> None:
    prepare = ("prepare", manifest, "-w", tmp_path / "runs", "--set", "image_size=32")
    code, _, err = run(*prepare, "--set", "folds=7")
    assert code == 2
    assert "train and valid: 6 groups of labelled images (['train0', " in err
    assert "cannot fill 7 folds; ask for fewer: `prepare --set folds=6`" in err


def test_a_submission_is_scored_on_the_test_labels_of_the_manifest(
    run: Run, manifest: Path, tmp_path: Path
) -> None:
    assert run("prepare", manifest, "-w", tmp_path / "runs", *SMALL)[0] == 0
    path = tmp_path / "run.csv"
    path.write_text("ID,CUIs\ntest0,C1\ntest1,C1\ntest2,C2\n")
    f1 = (1.0 + 2 / 3 + 0.0) / 3  # C1 of C1; C1 of C1 and C2; C2 of C1
    said = f"F1 {f1!r} over 3 test images of {manifest}\n"
    assert run("score", path, "--truth", manifest) == (0, said, "")
    apart = (
        f"F1 {f1!r} over the 3 images that share no group with train or valid"
        " (0 by group left out; `stats --duplicates` looks for copies too)\n"
    )
    told = run("score", path, "--truth", "manifest", "-w", tmp_path / "runs")
    assert told == (0, said + apart, "")
    code, _, err = run("score", path, "--truth", manifest, "--public-script")
    assert code == 2
    assert "--secondary-truth, --public-script: only with an evaluator's truth" in err
    as_json = run("score", path, "--truth", manifest, "--json")
    assert as_json == (0, f'{{"f1": {f1!r}, "n_images": 3}}\n', "")
    checked = run("check", path, "-w", tmp_path / "runs")
    assert checked == (0, f"{path}: the 2025 evaluator would take it (all 3 images)\n", "")


def test_what_a_truth_is_must_be_clear(run: Run, manifest: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.txt"
    truth.write_text("test0\tC1\n")
    code, _, err = run("score", truth, "--truth", truth)
    assert code == 2
    assert err.startswith(f"ConfigError: --edition: name the year in whose format {truth} is")
    code, _, err = run("score", truth, "--truth", tmp_path / "none.csv")
    assert (code, err) == (2, f"CorpusError: {tmp_path / 'none.csv'}: no such file\n")
    code, _, err = run("check", truth)
    assert (code, err) == (2, "ConfigError: --edition: name the year, or the corpus with -w\n")
    assert run("prepare", manifest, "-w", tmp_path / "runs", *SMALL)[0] == 0
    manifest.rename(tmp_path / "moved.csv")
    code, _, err = run("score", truth, "--truth", "manifest", "-w", tmp_path / "runs")
    assert (code, err) == (
        2, f"CorpusError: {manifest}: not there any more; give its new place with --truth\n"
    )  # fmt: skip


def test_what_a_library_warns_of_is_one_line_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warns() -> None:
        for _ in range(2):
            warnings.warn_explicit(
                "odd\nvery", RuntimeWarning, "/lib/site-packages/sklearn/base.py", 3, registry={}
            )
        warnings.warn_explicit("ours", UserWarning, "/code/core/labels.py", 3, registry={})

    monkeypatch.setattr(cli, "app", warns)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        cli.main()
    assert capsys.readouterr().err == ("note: sklearn warns: odd\nnote: radfuse warns: ours\n")


def test_commands_run_without_a_home_and_with_code_that_cannot_be_written(
    manifest: Path, tmp_path: Path
) -> None:
    """As a service's user meets it; a file in place of `__pycache__` keeps even root out."""
    code, places = tmp_path / "code", tmp_path / "temporary"
    places.mkdir()
    for name in ("commands", "core", "corpus", "reports"):
        unmade = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, code / name, ignore=unmade)
    shutil.copy(ROOT / "cli.py", code)
    for folder in [code, *(path for path in code.rglob("*") if path.is_dir())]:
        (folder / "__pycache__").write_text("")
    for command in (["prepare", str(manifest), *SMALL], ["stats"]):
        ended = subprocess.run(
            [sys.executable, "cli.py", *command, "-w", str(tmp_path / "runs")],
            cwd=code, env={"HOME": "/dev/null", "TMPDIR": str(places)}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "runs" / "reports" / "stats" / "stats.md").is_file()
    assert list(places.glob("radfuse-*/numba/*/*.nbi"))
    assert list(places.glob("radfuse-*/matplotlib/fontlist*"))
