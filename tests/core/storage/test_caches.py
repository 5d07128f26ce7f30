"""Where caches go: told only where a library's own place cannot be written."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from core.errors import ConfigError
from core.storage import caches
from core.storage.caches import PLACES, is_writable, settle_caches

ROOT = Path(__file__).parents[3]

KERNEL = (
    "from core.storage.caches import machine_code, settle_caches\n"
    "{before}\n"
    "import ensembles.solvers.line_search, corpus.images.scale\n"
    "import numpy as np\n"
    "print(corpus.images.scale.scaled(np.full((4, 4), 7, np.uint8), 2).tolist())"
)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No home, and no place beside the code; temporary files go into a folder of the test's."""
    (tmp_path / "file").write_text("")
    for name in (*PLACES, "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, "")  # so that what is set in between is undone
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))  # root may write to a folder
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(caches, "_CODE", tmp_path / "file" / "__pycache__")
    monkeypatch.setattr(caches, "_MEMORY", tmp_path / "file")
    return tmp_path


def test_a_folder_is_writable_if_a_file_can_be_written_there_or_in_what_it_would_lie_in(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    assert is_writable(tmp_path)
    assert is_writable(tmp_path / "a" / "b")
    assert not is_writable(tmp_path / "file")
    assert not is_writable(tmp_path / "file" / "a")
    assert not is_writable(Path("~/.cache"))  # what is left of a home that is not known
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_with_a_home_that_can_be_written_nothing_is_told(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nowhere / "home").mkdir()
    monkeypatch.setenv("HOME", str(nowhere / "home"))
    assert settle_caches() is None
    assert not set(PLACES) & set(os.environ)
    assert list((nowhere / "home").iterdir()) == []


def test_without_a_home_all_go_to_a_folder_of_this_user_alone(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")  # torch finds its own place
    home = settle_caches()
    assert home == nowhere / f"radfuse-{os.getuid()}"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert os.environ["NUMBA_CACHE_DIR"] == str(home / "numba")
    assert os.environ["MPLCONFIGDIR"] == str(home / "matplotlib")
    assert os.environ["XDG_CACHE_HOME"] == str(home)
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    assert settle_caches() is None  # what was told is right


def test_a_variable_that_names_a_good_folder_is_kept_and_another_is_not(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(nowhere / "hub"))
    monkeypatch.setenv("MPLCONFIGDIR", str(nowhere / "file"))
    home = settle_caches()
    assert home is not None
    assert os.environ["HF_HOME"] == str(nowhere / "hub")
    assert os.environ["MPLCONFIGDIR"] == str(home / "matplotlib")


def test_a_folder_that_others_may_write_to_is_not_taken(nowhere: Path) -> None:
    """Machine code is run from it."""
    theirs = nowhere / f"radfuse-{os.getuid()}"
    theirs.mkdir()
    theirs.chmod(0o777)
    workspace = nowhere / "runs"
    assert settle_caches(workspace) == workspace / ".caches"
    assert settle_caches(workspace) is None


def test_the_workspace_is_the_last_resort_and_without_one_that_is_said(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", refuse)
    with pytest.raises(ConfigError, match=r"the workspace .*runs cannot be written, nor can any"):
        settle_caches(nowhere / "file" / "runs")
    assert not set(PLACES) & set(os.environ)
    memory = nowhere / "memory"
    monkeypatch.setattr(caches, "_MEMORY", memory)
    assert settle_caches(nowhere / "file" / "runs") == memory / f"radfuse-{os.getuid()}"
    for name in (*PLACES, "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    assert settle_caches(nowhere / "runs") == nowhere / "runs" / ".caches"
    assert os.environ["TMPDIR"] == str(nowhere / "runs" / ".caches")


@pytest.fixture
def locked_code(tmp_path: Path) -> Path:
    """The packages where no machine code can be put beside them: not even by root."""
    for name in ("core", "corpus", "ensembles"):
        shutil.copytree(
            ROOT / name, tmp_path / "code" / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for folder in [f for f in (tmp_path / "code").rglob("*") if f.is_dir()]:
        (folder / "__pycache__").write_text("")  # a file
    return tmp_path / "code"


@pytest.mark.parametrize("before", ["", "settle_caches()"])
def test_functions_are_compiled_where_there_is_neither_home_nor_a_place_beside_the_code(
    before: str, locked_code: Path, tmp_path: Path
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", KERNEL.format(before=before)],
        cwd=locked_code, capture_output=True, text=True, check=False,
        env={"TMPDIR": str(tmp_path), "HOME": "/dev/null", "LOGNAME": "somebody"},
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[[7, 7], [7, 7]]\n", "")
    kept = list(tmp_path.glob("radfuse-*/numba/*/*.nbi"))
    assert bool(kept) == bool(before)
