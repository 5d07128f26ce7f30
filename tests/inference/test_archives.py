"""Archives: decided in units, killed and resumed, shared by processes, joined to the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from core.errors import ConfigError, CorpusError
from core.runs.workspace import Corpus, Workspace
from core.storage.claims import claim
from inference.place import EnsemblePlace
from inference.predict import predict_places
from inference.units import UnitSizes

SMALL = UnitSizes(unit=4, part=3)

N = 50

Predict = Callable[..., bool]


@pytest.fixture(scope="session")
def scans(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 images in folders called by their category; the tenth and the last are broken."""
    home = tmp_path_factory.mktemp("scans")
    paths = [Path(path) for path in corpus.table.paths]
    for number in range(N):
        path = home / corpus.table.categories[number] / f"scan_{number:02d}.jpg"
        path.parent.mkdir(exist_ok=True)
        if number in (9, N - 1):
            path.write_bytes(b"no image")
        else:
            path.symlink_to(paths[number])
    return home


@pytest.fixture(scope="session")
def predict(whole: Workspace, scans: Path) -> Predict:
    """`predict` on the images."""

    def run(out: Path | None, **options: object) -> bool:
        asked = {"form": "csv", "top": 2, "edition": None, "category": None, "device": "cpu"}
        torch.set_num_threads(1)
        place = EnsemblePlace(workspace=whole.root)
        return predict_places([str(scans)], place, out=out, sizes=SMALL, **{**asked, **options})

    return run


@pytest.fixture(scope="session")
def undisturbed(predict: Predict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process writes that nobody disturbs."""
    out = tmp_path_factory.mktemp("undisturbed") / "decided.csv"
    assert predict(out)
    return out


SCRIPT = """
import sys, torch
from pathlib import Path
from inference.place import EnsemblePlace
from inference.predict import predict_places
from inference.units import UnitSizes
torch.set_num_threads(1)
workspace, scans, out, form = sys.argv[1:5]
sys.exit(predict_places(
    [scans], EnsemblePlace(workspace=Path(workspace)), category=None, out=Path(out), form=form,
    top=2, edition=None, device="cpu", sizes=UnitSizes(unit=4, part=3),
))
"""


@pytest.fixture
def process(whole: Workspace, scans: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """The same call in a process of its own."""

    def start(out: Path, *, form: str = "csv", **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(whole.root), str(scans), str(out), form],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def folder_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.parts")


def n_units(out: Path) -> int:
    return sum(1 for _ in folder_of(out).glob("0*.json"))


def once(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def skipped_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.skipped.csv")


def test_units_are_joined_and_nothing_else_stays(
    undisturbed: Path, scans: Path, predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    assert names_in(undisturbed.parent) == {"decided.csv", "decided.csv.skipped.csv"}
    broken = skipped_of(undisturbed).read_text().splitlines()
    assert broken[0] == "image,reason"
    assert [line.split(",")[0] for line in broken[1:]] == sorted(
        str(path) for path in scans.rglob("*.jpg") if not path.is_symlink()
    )
    assert predict(None)
    said = capsys.readouterr()
    assert said.out == undisturbed.read_text()
    assert f"found: {N} images\n" in said.err
    assert f"not read: 2 of {N} images\n" in said.err


def test_killed_at_any_moment_the_same_call_goes_on_to_the_same_bytes(
    undisturbed: Path, process: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    out = tmp_path / "decided.csv"
    rng = random.Random(0)
    n_killed = 0
    while True:
        before = n_units(out)
        running = process(out)
        once(lambda: n_units(out) > before or running.poll() is not None)
        time.sleep(rng.random() / 20)
        running.kill()
        _, said = running.communicate()
        if before:
            assert f"{min(4 * before, N)} of {N} images were there already; going on" in said
        if running.returncode != -signal.SIGKILL:
            break
        n_killed += 1
        assert not out.exists()
    assert n_killed >= 3
    assert out.read_bytes() == undisturbed.read_bytes()
    assert skipped_of(out).read_bytes() == skipped_of(undisturbed).read_bytes()
    assert not folder_of(out).exists()


def test_processes_share_the_work(
    undisturbed: Path, process: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    out = tmp_path / "decided.csv"
    told = {"WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    two = [process(out, RANK=rank, **told) for rank in "01"]
    said = [running.communicate(timeout=60)[1] for running in two]
    assert [running.returncode for running in two] == [1, 1]
    assert out.read_bytes() == undisturbed.read_bytes()
    assert names_in(tmp_path) == {"decided.csv", "decided.csv.skipped.csv"}
    assert sum(f"not read: 2 of {N} images" in text for text in said) == 1
