"""Archives: decided in units, killed and resumed, shared by processes, joined to the same bytes."""

import errno
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch

from core.errors import ConfigError, CorpusError, MissingStageError
from core.runs.workspace import Workspace
from core.storage.claims import is_claimed
from inference.archive.engine import Here
from inference.archive.units import UnitSizes
from inference.images import find_images
from inference.place import EnsemblePlace
from inference.predict import predict_places
from tests.inference.conftest import SMALL, N, Predict

LIMITED = os.name == "posix"

HALVES = UnitSizes(unit=25)
"""Quicker than small units."""


class Running:
    """The same call in a process of its own, forked from one in which all is imported."""

    def __init__(self, log: Path, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["inference.predict", "inference.loaded.workspace"])
        self.log = log
        self.process = context.Process(target=call, args=(str(log), arguments, environment))
        self.process.start()

    def end(self) -> int:
        """Its exit code."""
        self.process.join(60)
        assert self.process.exitcode is not None
        return self.process.exitcode

    def kill(self) -> int:
        self.process.kill()
        return self.end()

    @property
    def said(self) -> str:
        return self.log.read_text()


def call(log: str, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    """What a process does."""
    workspace, scans, out, form = arguments
    os.environ.update(environment)
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with open(log, "w", encoding="utf-8", buffering=1) as sys.stderr:  # noqa: PTH123
        sys.exit(
            predict_places(
                [scans], EnsemblePlace(workspace=Path(workspace)), category=None, out=Path(out),
                form=form, top=2, edition=None, device="cpu", sizes=SMALL,
            )
        )  # fmt: skip


Start = Callable[..., Running]


@pytest.fixture
def start(whole: Workspace, scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Start a process that writes a file."""
    logs = tmp_path_factory.mktemp("logs")

    def begin(out: Path, *, form: str = "csv", **environment: str) -> Running:
        log = logs / f"{len(list(logs.iterdir()))}.log"
        log.touch()
        return Running(log, (str(whole.root), str(scans), str(out), form), environment)

    return begin


def folder_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.parts")


def units_in(out: Path) -> list[Path]:
    """Reports of finished units."""
    return list(folder_of(out).glob("0*.json"))


def n_units(out: Path) -> int:
    return len(units_in(out))


def more_units(out: Path, than: int) -> bool:
    return n_units(out) > than


def once(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def ids_of(table: Path) -> list[str]:
    return list(dict.fromkeys(r.partition(",")[0] for r in table.read_text().splitlines()[1:]))


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


@pytest.mark.parametrize(("form", "n"), [
    ("csv", 1),
    pytest.param("jsonl", 10, marks=pytest.mark.slow),
    pytest.param("parquet", 10, marks=pytest.mark.slow),
])  # fmt: skip
def test_killed_at_any_moment_the_same_call_goes_on_to_the_same_bytes(
    form: str, n: int, predict: Predict, start: Start, tmp_path: Path
) -> None:
    calm, out = tmp_path / f"calm.{form}", tmp_path / f"decided.{form}"
    predict(calm, form=form)
    rng = random.Random(0)
    for n_kills in range(n + 1):
        before = n_units(out)
        running = start(out, form=form)
        if n_kills == n:
            assert running.end() == 1
            break
        once(partial(more_units, out, before))
        time.sleep(rng.random() / 50)
        assert running.kill() == -signal.SIGKILL
        assert not out.exists()
    assert f"{min(4 * before, N)} of {N} images were there already; going on" in running.said
    assert out.read_bytes() == calm.read_bytes()
    assert skipped_of(out).read_bytes() == skipped_of(calm).read_bytes()
    assert not folder_of(out).exists()


def test_processes_share_the_work(undisturbed: Path, start: Start, tmp_path: Path) -> None:
    out = tmp_path / "decided.csv"
    two = [start(out, RANK=rank, WORLD_SIZE="2") for rank in "01"]
    assert [running.end() for running in two] == [1, 1]
    assert out.read_bytes() == undisturbed.read_bytes()
    assert names_in(tmp_path) == {"decided.csv", "decided.csv.skipped.csv"}
    said = [running.said for running in two]
    assert sum(f"not read: 2 of {N} images\n" in text for text in said) == 1
    assert all("images done here, " in text for text in said)


def test_a_unit_whose_process_dies_is_done_by_another(
    undisturbed: Path, start: Start, tmp_path: Path
) -> None:
    out = tmp_path / "decided.csv"
    stopped = start(out)
    once(lambda: n_units(out) > 0)
    os.kill(stopped.process.pid or 0, signal.SIGSTOP)  # holds claims and does nothing
    other = start(out)
    once(lambda: "all that is left is being done by other processes; waiting" in other.said)
    assert not out.exists()
    assert stopped.kill() == -signal.SIGKILL
    assert other.end() == 1
    assert out.read_bytes() == undisturbed.read_bytes()


def test_another_request_waits_for_the_first_and_begins_anew_once_that_is_dead(
    undisturbed: Path, predict: Predict, start: Start, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "decided.csv"
    running = start(out, form="jsonl")
    once(lambda: n_units(out) > 0)
    os.kill(running.process.pid or 0, signal.SIGSTOP)
    with pytest.raises(ConfigError, match="another process is writing it, with other --format;"):
        predict(out)
    running.kill()
    n_done = n_units(out)
    predict(out)
    text = f"begins anew; {n_done} units that were done with other --format are dropped"
    assert text in capsys.readouterr().err
    assert out.read_bytes() == undisturbed.read_bytes()


def test_sigterm_leaves_what_is_finished(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "decided.csv"
    running = start(out)
    once(lambda: n_units(out) > 0)
    running.process.terminate()
    assert running.end() == 128 + signal.SIGTERM
    assert n_units(out) > 0
    assert not any(map(is_claimed, folder_of(out).glob("*.lock")))


def test_a_folder_gets_a_parquet_file_for_every_few_units(
    undisturbed: Path, predict: Predict, tmp_path: Path
) -> None:
    out = tmp_path / "parts"
    predict(out, form="parquet")
    parts = sorted(out.glob("part-*.parquet"))
    assert names_in(out) == {*(p.name for p in parts), "_SUCCESS", "_skipped.csv"}
    read = [pq.read_table(path)["image"].unique() for path in parts]
    assert [len(ids) for ids in read] == [12, 12, 11, 12, 1]
    whole = ds.dataset(out, format="parquet").to_table()
    predict(tmp_path / "one.parquet", form="parquet")
    assert whole.equals(pq.read_table(tmp_path / "one.parquet"))
    assert len(whole) == len(undisturbed.read_text().splitlines()) - 1
    with pytest.raises(ConfigError, match="holds a table already, "):
        predict(out, form="parquet")


def test_parts_are_there_as_soon_as_they_are_whole_and_go_with_another_request(
    predict: Predict, start: Start, tmp_path: Path
) -> None:
    out = tmp_path / "parts"
    running = start(out, form="parquet")
    once(lambda: (out / "part-00000.parquet").exists())
    running.kill()
    assert not (out / "_SUCCESS").exists()
    predict(out, form="parquet", top=0)
    predict(tmp_path / "calm", form="parquet", top=0)
    for path in (tmp_path / "calm").iterdir():
        assert path.read_bytes() == (out / path.name).read_bytes()


def test_a_submission_is_joined_of_units(
    undisturbed: Path, predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "submission.csv"
    predict(out, form="submission", edition=2020, top=0)
    assert f"{out}: lacks the images that were not read; " in capsys.readouterr().err
    ids = [line.partition("\t")[0] for line in out.read_text().splitlines()]
    assert ids == ids_of(undisturbed)


def test_an_archive_without_a_readable_image_leaves_nothing_behind(
    whole: Workspace, tmp_path: Path
) -> None:
    broken, out = tmp_path / "broken.png", tmp_path / "out" / "decided.csv"
    broken.write_bytes(b"no image")
    with pytest.raises(CorpusError, match="none of 1 images could be read, first"):
        predict_places(
            [str(broken)], EnsemblePlace(workspace=whole.root), category="CT", out=out, form="csv",
            top=0, edition=None, device="cpu",
        )  # fmt: skip
    assert names_in(out.parent) == set()


@pytest.mark.skipif(not LIMITED, reason="no limit on the size of files here")
def test_a_full_disk_is_said_and_the_same_call_goes_on(
    undisturbed: Path, predict: Predict, tmp_path: Path
) -> None:
    import resource

    out = tmp_path / "decided.csv"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = int(0.8 * len(undisturbed.read_bytes()))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(ConfigError, match=r"decided.csv: file too large; what is finished"):
            predict(out, sizes=HALVES)  # the units fit, the whole does not
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert n_units(out) == 2
    assert names_in(tmp_path) == {folder_of(out).name, skipped_of(out).name}
    predict(out, sizes=HALVES)
    assert ids_of(out) == ids_of(undisturbed)


def test_a_link_stays_and_what_it_points_to_is_written(
    undisturbed: Path, predict: Predict, tmp_path: Path
) -> None:
    out, there = tmp_path / "latest.csv", tmp_path / "there" / "decided.csv"
    out.symlink_to(there)
    predict(out, sizes=HALVES)
    assert out.is_symlink()
    assert ids_of(there) == ids_of(undisturbed)
    assert names_in(there.parent) == {"decided.csv"}


def test_broken_images_of_any_name_are_listed(
    whole: Workspace, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, out = tmp_path / "DRCT", tmp_path / "decided.csv"
    home.mkdir()
    for name in (b"no\nimage.jpg", b"no\xffimage.jpg"):
        Path(os.fsdecode(os.path.join(os.fsencode(home), name))).touch()  # noqa: PTH118 - bytes
    (home / "a.jpg").symlink_to(next(iter(sorted(scans.rglob("*.jpg")))))
    assert predict_places(
        [str(home)], EnsemblePlace(workspace=whole.root), category=None, out=out, form="csv",
        top=0, edition=None, device="cpu",
    )  # fmt: skip
    said = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("not read: ") and r"no\nimage.jpg: " in line for line in said) == 1
    assert r"no\udcffimage.jpg" in skipped_of(out).read_text()


def test_a_disk_without_locks_is_said(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fcntl = pytest.importorskip("fcntl", reason="no file locks here")

    def flock(number: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    predict(tmp_path / "decided.csv", sizes=HALVES)
    assert f"no locks of files in {tmp_path}; start no second process" in capsys.readouterr().err
    assert names_in(tmp_path) == {"decided.csv", "decided.csv.skipped.csv"}


def test_units_of_two_ensembles_are_not_joined(whole: Workspace, scans: Path) -> None:
    here = Here(place=EnsemblePlace(workspace=whole.root), device="cpu")
    here.identity = "another"
    with pytest.raises(MissingStageError, match="was made again since this command began"):
        here.read(find_images([str(scans)]).images)


def test_torchrun_needs_a_file(predict: Predict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="several processes cannot share stdout"):
        predict(None)
