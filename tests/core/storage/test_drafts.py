"""Drafts: whole or not at all, left alone while somebody writes them, and a name given back."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from core.storage import drafts
from core.storage.claims import kernel
from core.storage.drafts import draft_file, draft_folder, naming, new_files, replace_folder, restore
from core.storage.folders import is_complete, new_folder, read_meta, write_json

ROOT = Path(__file__).parents[3]
OTHER = "0123abcd"
"""Another kernel."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def draft_of(target: Path, *, kernel: str = OTHER, ending: str = ".tmp", n: int = 1) -> Path:
    """A draft of a target with a file in it, that nobody has locked."""
    folder = target.with_name(f".{target.name}.{kernel}-{n:08x}{ending}")
    folder.mkdir()
    write_json(folder / "meta.json", {"n": n, "made": "then"})
    return folder


def aged(folder: Path, seconds: float) -> Path:
    for path in (*folder.rglob("*"), folder):
        os.utime(path, times=(time.time() - seconds,) * 2)
    return folder


WRITER = """
import sys, time
from pathlib import Path
from core.storage.drafts import draft_folder
with draft_folder(Path(sys.argv[1])) as draft:
    (draft / "a.txt").write_text("a")
    print(draft.name, flush=True)
    time.sleep(60)
"""


@contextmanager
def another_writes(target: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A process with a draft of the target, and the draft's name."""
    command = [sys.executable, "-c", WRITER, str(target)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_draft_that_another_process_writes_is_left_alone_and_goes_when_it_was_killed(
    tmp_path: Path,
) -> None:
    with another_writes(tmp_path / "run") as (process, theirs):
        with draft_folder(tmp_path / "run"):
            pass
        assert names(tmp_path) == [theirs]
        process.send_signal(signal.SIGKILL)
        process.wait()
        with draft_folder(tmp_path / "run"):
            pass
        assert names(tmp_path) == []


def test_a_draft_of_another_kernel_is_left_alone_until_it_is_a_day_old(tmp_path: Path) -> None:
    theirs = aged(draft_of(tmp_path / "run"), 23 * 3600)
    with draft_folder(tmp_path / "run"):
        pass
    assert theirs.is_dir()
    aged(theirs, 25 * 3600)
    (theirs / "still.txt").touch()
    with draft_folder(tmp_path / "run"):
        pass
    assert theirs.is_dir()
    aged(theirs, 25 * 3600)
    with draft_folder(tmp_path / "run"):
        pass
    assert not theirs.exists()


def test_a_draft_of_an_earlier_version_goes_by_its_age_whatever_process_has_its_number(
    tmp_path: Path,
) -> None:
    theirs = tmp_path / f".run.{os.getpid()}-00000001.tmp"
    theirs.mkdir()
    with draft_folder(tmp_path / "run"):
        pass
    assert theirs.is_dir()
    aged(theirs, 25 * 3600)
    with draft_folder(tmp_path / "run"):
        pass
    assert not theirs.exists()


def test_an_empty_draft_may_be_about_to_be_locked(tmp_path: Path) -> None:
    theirs = tmp_path / f".run.{kernel()}-00000001.tmp"
    theirs.mkdir()
    with draft_folder(tmp_path / "run"):
        pass
    assert theirs.is_dir()
    aged(theirs, 120)
    with draft_folder(tmp_path / "run"):
        pass
    assert not theirs.exists()


def test_drafts_of_other_names_stay(tmp_path: Path) -> None:
    longer, odd = draft_of(tmp_path / "run.b", kernel=kernel()), tmp_path / ".run.tmp"
    odd.mkdir()
    with draft_folder(tmp_path / "run"), draft_folder(tmp_path / "[r]un"):
        pass
    assert longer.is_dir()
    assert odd.is_dir()


def test_without_locks_drafts_go_by_their_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "lock", lambda *args, **kwargs: None)
    theirs = draft_of(tmp_path / "run", kernel=kernel())
    with draft_folder(tmp_path / "run"):
        pass
    assert theirs.is_dir()
    aged(theirs, 25 * 3600)
    with draft_folder(tmp_path / "run"):
        pass
    assert not theirs.exists()


BY = ("exchange", "names")


@pytest.fixture
def by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a folder takes the place of another: in one step, or where none is to be had in two."""
    if request.param == "names":
        monkeypatch.setattr(drafts, "_exchange", lambda one, other: None)
    return str(request.param)


@pytest.mark.parametrize("by", BY, indirect=True)
def test_a_folder_takes_the_place_of_another_or_of_none(by: str, tmp_path: Path) -> None:
    target = tmp_path / "run"
    for number in range(3):
        with new_folder(target, {"n": number}) as draft:
            (draft / f"{number}.txt").touch()
        assert names(target) == [f"{number}.txt", "meta.json"]
    assert names(tmp_path) == ["run"]


@pytest.mark.parametrize("by", BY, indirect=True)
def test_of_many_that_replace_a_folder_at_once_one_is_there_whole(by: str, tmp_path: Path) -> None:
    target = tmp_path / "run"
    missed: list[Exception] = []

    def replace(number: int) -> None:
        try:
            for _ in range(10):
                with draft_folder(target) as draft:
                    for name in ("a.txt", "b.txt"):
                        (draft / name).write_text(str(number))
                    replace_folder(target, draft)
        except Exception as error:  # noqa: BLE001 - of a thread
            missed.append(error)

    threads = [threading.Thread(target=replace, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missed == []
    assert names(tmp_path) == ["run"]
    assert (target / "a.txt").read_text() == (target / "b.txt").read_text()


def test_where_names_are_exchanged_the_folder_is_there_at_every_moment(tmp_path: Path) -> None:
    target, done, missing = tmp_path / "run", threading.Event(), 0
    with new_folder(target, {}):
        pass

    def watch() -> None:
        nonlocal missing
        while not done.is_set():
            missing += not (target / "meta.json").is_file()

    thread = threading.Thread(target=watch)
    thread.start()
    for _ in range(8):
        with new_folder(target, {}):
            pass
    done.set()
    thread.join()
    if drafts._exchanging() is None:
        pytest.skip("this system exchanges no names")
    assert missing == 0


@pytest.mark.parametrize("by", BY, indirect=True)
def test_a_link_is_replaced_and_what_it_points_to_stays(by: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "own.txt").touch()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with new_folder(tmp_path / "run", {}):
        pass
    assert names(tmp_path) == ["elsewhere", "run"]
    assert names(tmp_path / "elsewhere") == ["own.txt"]
    assert names(tmp_path / "run") == ["meta.json"]


@pytest.mark.parametrize("by", BY, indirect=True)
def test_a_folder_within_a_draft_takes_the_place_too(by: str, tmp_path: Path) -> None:
    for number in range(2):
        with draft_folder(tmp_path / "v1.2") as draft:
            (draft / "v1.2").mkdir()
            (draft / "v1.2" / f"{number}.txt").touch()
            replace_folder(tmp_path / "v1.2", draft / "v1.2")
    assert names(tmp_path) == ["v1.2"]
    assert names(tmp_path / "v1.2") == ["1.txt"]


def test_a_folder_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_folder(tmp_path / "run", {"n": 1}):
        pass
    monkeypatch.setattr(drafts, "_exchange", lambda one, other: None)
    rename = Path.rename

    def refuse(self: Path, to: Path) -> Path:
        if self.suffix == ".tmp":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError, match=r"run'$"), new_folder(tmp_path / "run", {"n": 2}):
        pass
    assert read_meta(tmp_path / "run")["n"] == 1
    assert names(tmp_path) == ["run"]


def test_a_folder_that_others_take_all_the_time_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "draft").mkdir()
    monkeypatch.setattr(drafts, "_exchange", lambda one, other: False)
    with pytest.raises(OSError, match="others put theirs in its place all the time"):
        replace_folder(tmp_path / "run", tmp_path / "draft")


KILLED = """
import os, signal, sys
from pathlib import Path
from core.storage import drafts
from core.storage.folders import new_folder
drafts._exchange = lambda one, other: None
rename = Path.rename
def die(self, to):
    if self.suffix == ".tmp" and sys.argv[2] == "between":
        os.kill(os.getpid(), signal.SIGKILL)
    done = rename(self, to)
    if self.suffix == ".tmp":
        os.kill(os.getpid(), signal.SIGKILL)
    return done
Path.rename = die
with new_folder(Path(sys.argv[1]), {"n": 2}):
    pass
"""


@pytest.mark.parametrize(("moment", "left"), [("between", 1), ("after", 2)])
def test_what_a_process_left_that_was_killed_between_the_two_steps_is_given_back(
    moment: str, left: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "corpus"
    with new_folder(target, {"n": 1}):
        pass
    subprocess.run([sys.executable, "-c", KILLED, str(target), moment], cwd=ROOT)
    assert target.exists() == (moment == "after")
    assert is_complete(target)
    assert read_meta(target)["n"] == left
    said = "what was there before is back" in capsys.readouterr().err
    assert said == (moment == "between")
    with draft_folder(target):
        pass
    assert names(tmp_path) == ["corpus"]
    assert read_meta(target)["n"] == left


def test_a_backup_of_an_earlier_version_is_given_back_the_newest_of_several(
    tmp_path: Path,
) -> None:
    target = tmp_path / "corpus"
    aged(draft_of(target, kernel="4711", ending=".old", n=1), 100)
    draft_of(target, kernel="4712", ending=".old", n=2)
    aged(draft_of(target, kernel="4711", ending=".tmp", n=1), 25 * 3600)
    with draft_folder(target):
        assert read_meta(target)["n"] == 2
    assert "corpus" in names(tmp_path)


def test_a_backup_stays_while_its_folder_is_not_there(tmp_path: Path) -> None:
    target = tmp_path / "run"
    backup = draft_of(target, kernel=kernel(), ending=".old")
    drafts._sweep(tmp_path, now=time.time() + 10**6, name="run")
    drafts._sweep(tmp_path, now=time.time() + 10**6)
    assert backup.is_dir()
    target.mkdir()
    restore(target)  # an empty folder is no obstacle
    assert names(tmp_path) == ["run"]
    assert read_meta(target)["n"] == 1


def test_a_process_that_is_between_the_two_steps_is_waited_for(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with draft_folder(target) as draft:
        (draft / "new.txt").touch()
        backup = draft.with_suffix(".old")
        backup.mkdir()
        (backup / "old.txt").touch()
        waiting = threading.Thread(target=restore, args=(target,))
        waiting.start()
        time.sleep(0.1)
        draft.rename(target)
        waiting.join()
    assert names(target) == ["new.txt"]
    assert backup.is_dir()


@pytest.mark.parametrize("kind", ["folder", "file", "files"])
def test_an_error_that_names_no_file_gets_the_name(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "run"
    kinds: dict[str, Callable[[Path], AbstractContextManager[Path]]] = {
        "folder": draft_folder,
        "file": draft_file,
        "files": new_files,
    }
    made = kinds[kind]
    with pytest.raises(OSError, match=r"No space left on device: '.*/run'"), made(target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OSError, match=r"denied: '.*/run/a\.csv'"), made(target) as draft:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(draft / "a.csv"))
    with pytest.raises(OSError, match=r"denied: '/elsewhere'"), made(target):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/elsewhere")
    assert names(tmp_path) == []


def test_an_error_without_a_number_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"^odd$"), naming(tmp_path):
        raise OSError("odd")


def test_a_file_takes_its_place_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for text in ("one", "two"):
        with draft_file(path) as draft:
            draft.write_text(text)
        assert path.read_text() == text
    with draft_file(path, replaces=False) as draft:
        draft.write_text("three")
    assert path.read_text() == "two"
    with pytest.raises(RuntimeError, match="power"), draft_file(path) as draft:
        raise RuntimeError("power")
    assert names(tmp_path) == ["a.txt"]


def test_a_new_file_takes_a_free_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, can_link in enumerate((True, False)):
        if not can_link:
            monkeypatch.setattr(os, "link", lambda *args: (tmp_path / "none").stat())
        with draft_file(tmp_path / f"{number}.txt", replaces=False) as draft:
            draft.write_text("one")
    assert names(tmp_path) == ["0.txt", "1.txt"]


def test_files_that_killed_processes_left_go(tmp_path: Path) -> None:
    left = tmp_path / f".big.npy.{kernel()}-00000001.tmp"
    left.write_bytes(b"big")
    other = tmp_path / f".big.npy.{OTHER}-00000002.tmp"
    other.write_bytes(b"big")
    with draft_file(tmp_path / "a.txt"):
        pass
    assert names(tmp_path) == [other.name, "a.txt"]


def test_new_files_replace_those_of_their_names_alone(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "other.md").write_text("other")
    (tmp_path / "reports" / "report.md").write_text("old")
    with new_files(tmp_path / "reports") as folder:
        (folder / "a.svg").write_text("a")
        (folder / "report.md").write_text("new")
    assert names(tmp_path) == ["reports"]
    assert names(tmp_path / "reports") == ["a.svg", "other.md", "report.md"]
    assert (tmp_path / "reports" / "report.md").read_text() == "new"


def test_two_that_write_the_same_files_end_well(tmp_path: Path) -> None:
    with new_files(tmp_path / "reports") as one:
        (one / "a.svg").write_text("a")
        with new_files(tmp_path / "reports") as other:
            (other / "a.svg").write_text("a")
    assert names(tmp_path / "reports") == ["a.svg"]
    shutil.rmtree(tmp_path / "reports")
