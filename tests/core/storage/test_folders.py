"""Run folders: written whole or not at all."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from core.errors import PredictionsError
from core.storage import folders
from core.storage.claims import is_claimed
from core.storage.folders import (
    LOCK,
    add_to_meta,
    asked,
    is_complete,
    locked,
    locked_run,
    mark_used,
    metas_below,
    new_folder,
    next_turn,
    provenance,
    read_meta,
    write_json,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def given_meta(folder: Path) -> dict[str, Any]:
    """What meta.json says beside the provenance."""
    return {name: value for name, value in read_meta(folder).items() if name not in provenance()}


def test_a_folder_takes_its_name_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "run"
    with new_folder(target, {"n": 1}) as draft:
        (draft / "a.txt").write_text("a", encoding="utf-8")
        assert not target.exists()
    assert names(target) == ["a.txt", "meta.json"]
    assert given_meta(target) == {"n": 1}
    assert names(target.parent) == ["run"]


def test_entries_added_within_the_block_are_kept(tmp_path: Path) -> None:
    meta: dict[str, Any] = {"n": 1}
    with new_folder(tmp_path / "run", meta):
        meta["score"] = 0.5
    assert given_meta(tmp_path / "run") == {"n": 1, "score": 0.5}


def test_a_folder_says_when_and_with_what_it_was_made(tmp_path: Path) -> None:
    with new_folder(tmp_path / "run", {"n": 1}):
        pass
    assert read_meta(tmp_path / "run").keys() == {"n", *provenance()}


def fail_within(target: Path, meta: dict[str, Any]) -> None:
    with new_folder(target, meta) as draft:
        (draft / "a.txt").write_text("a", encoding="utf-8")
        raise RuntimeError("power")


def test_a_failed_block_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power"):
        fail_within(tmp_path / "run", {})
    assert names(tmp_path) == []


def test_a_failed_block_leaves_the_older_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "run", {"n": 1}):
        pass
    with pytest.raises(RuntimeError, match="power"):
        fail_within(tmp_path / "run", {"n": 2})
    assert given_meta(tmp_path / "run") == {"n": 1}
    assert names(tmp_path) == ["run"]


def test_a_newer_folder_replaces_the_older_whole(tmp_path: Path) -> None:
    with new_folder(tmp_path / "run", {"n": 1}) as draft:
        (draft / "old.txt").write_text("a", encoding="utf-8")
    with new_folder(tmp_path / "run", {"n": 2}) as draft:
        (draft / "new.txt").write_text("b", encoding="utf-8")
    assert names(tmp_path / "run") == ["meta.json", "new.txt"]
    assert given_meta(tmp_path / "run") == {"n": 2}
    assert names(tmp_path) == ["run"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with new_folder(tmp_path / "run", {"n": 1}):
        pass
    assert given_meta(tmp_path / "run") == {"n": 1}


def test_two_that_make_the_same_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    with new_folder(tmp_path / "run", {"n": 1}) as first:
        with new_folder(tmp_path / "run", {"n": 2}) as second:
            (second / "second.txt").write_text("2", encoding="utf-8")
        (first / "first.txt").write_text("1", encoding="utf-8")
    assert names(tmp_path / "run") == ["first.txt", "meta.json"]


def test_json_is_readable_and_ends_with_a_line(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "Zürich", "n": [1, 2]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "Zürich" in text
    assert text.endswith("}\n")
    assert json.loads(text) == {"name": "Zürich", "n": [1, 2]}
    assert names(tmp_path) == ["a.json"]


def test_a_folder_without_meta_is_not_complete(tmp_path: Path) -> None:
    assert not is_complete(tmp_path)
    write_json(tmp_path / "meta.json", {})
    assert is_complete(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"{", "not JSON"), (b"\xe9", "not JSON"), (b"[1]", "expected an object, found list")],
)
def test_a_broken_meta_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_bytes(content)
    with pytest.raises(PredictionsError, match=rf"meta\.json: {reason}"):
        read_meta(tmp_path)


def test_a_missing_or_unfinished_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match="run: no such folder"):
        read_meta(tmp_path / "run")
    with pytest.raises(PredictionsError, match="not finished"):
        read_meta(tmp_path)


def test_a_meta_of_another_version_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "meta.json", {"corpus": "c", "made": "now"})
    assert read_meta(tmp_path, "corpus", "made") == {"corpus": "c", "made": "now"}
    with pytest.raises(PredictionsError, match=r"no 'preset' in it, so another version made it"):
        read_meta(tmp_path, "corpus", "preset", "category")


def test_provenance_says_when_where_and_with_what() -> None:
    made = provenance()
    assert set(made) == {"made", "python", "machine", "packages"}
    assert "numpy" in made["packages"]
    assert json.loads(json.dumps(made)) == made


def test_a_run_that_is_asked_for_again_is_the_newest_and_otherwise_as_it_was(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    with new_folder(folder, {"preset": "quick"}):
        pass
    before = read_meta(folder)
    assert asked(before) == (0, before["made"])
    mark_used(folder, among=tmp_path)
    after = read_meta(folder)
    assert asked(after) == (1, after["asked"])
    assert after["asked"] > before["made"]
    assert {key: after[key] for key in before} == before
    assert names(folder) == ["meta.json"]


def test_a_clock_that_is_set_back_does_not_make_the_newer_run_the_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of two that are made, nor of two that are asked for again."""
    for number, year in enumerate((2026, 2025, 2024), start=1):
        monkeypatch.setattr(folders, "now", lambda year=year: f"{year}-01-01T00:00:00+00:00")
        turn = next_turn(tmp_path)
        assert turn == number
        with new_folder(tmp_path / "kind" / str(number), {"turn": turn}):
            pass
    runs = [tmp_path / "kind" / str(number) for number in (1, 2, 3)]
    assert max(runs, key=lambda run: asked(read_meta(run))) == runs[2]
    mark_used(runs[0], among=tmp_path)
    assert max(runs, key=lambda run: asked(read_meta(run))) == runs[0]


@pytest.mark.parametrize("junk", ["{", "[1]", '{"turn": "9"}', "{}"])
def test_what_is_no_turn_counts_as_none(junk: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "meta.json").write_text(junk)
    (tmp_path / ".draft.tmp").mkdir()
    (tmp_path / ".draft.tmp" / "meta.json").write_text('{"turn": 7}')
    assert metas_below(tmp_path) == [tmp_path / "run" / "meta.json"]
    assert next_turn(tmp_path) == 1


def test_entries_added_by_several_at_once_are_all_kept(tmp_path: Path) -> None:
    with new_folder(tmp_path / "run", {}):
        pass
    adding = [
        threading.Thread(target=add_to_meta, args=(tmp_path / "run", {str(n): n})) for n in range(6)
    ]
    for thread in adding:
        thread.start()
    for thread in adding:
        thread.join()
    assert {str(n) for n in range(6)} <= read_meta(tmp_path / "run").keys()
    with pytest.raises(PredictionsError, match="none: no such folder"):
        add_to_meta(tmp_path / "none", {})
    assert names(tmp_path) == ["run"]


def test_a_run_is_made_by_one_process_at_a_time_and_its_lock_goes(tmp_path: Path) -> None:
    with locked_run(tmp_path / "run-1", what="run"):
        assert is_claimed(tmp_path / "unfinished" / "run-1" / LOCK)
        (tmp_path / "unfinished" / "run-2").mkdir()
    assert names(tmp_path / "unfinished") == ["run-2"]
    with locked_run(tmp_path / "run-2", what="run"):
        pass
    assert names(tmp_path) == []


ROOT = Path(__file__).parents[3]

HOLDER = """
import sys, time
from pathlib import Path
from core.storage.folders import locked
with locked(Path(sys.argv[1]), what="work"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(folder: Path, seconds: float) -> "subprocess.Popen[str]":
    """A process that holds the lock."""
    command = [sys.executable, "-c", HOLDER, str(folder), str(seconds)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_whoever_is_alone_goes_on_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with locked(tmp_path / "new" / "run", what="work"):
        assert (tmp_path / "new" / "run").is_dir()
    assert capsys.readouterr().err == ""


def test_the_second_waits_for_the_first_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with holder(tmp_path, 0.5):
        started = time.monotonic()
        with locked(tmp_path, what="DRCT"):
            assert time.monotonic() - started > 0.2
    assert capsys.readouterr().err == "DRCT: another process is working on it; waiting\n"


def test_nobody_waits_for_the_dead(tmp_path: Path) -> None:
    with holder(tmp_path, 60) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with locked(tmp_path, what="work"):
            pass


def test_a_folder_that_the_first_removes_at_its_end_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, endings = Path.open, iter([True])

    def removed_before(self: Path, *given: Any, **named: Any) -> Any:
        if next(endings, False):
            self.parent.rmdir()
        return opened(self, *given, **named)

    monkeypatch.setattr(Path, "open", removed_before)
    with locked(tmp_path / "run", what="work"):
        assert (tmp_path / "run" / ".lock").is_file()


def test_the_lock_goes_with_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError, match="gone"), locked(tmp_path, what="work"):
        raise KeyError("gone")
    with locked(tmp_path, what="work"):
        assert capsys.readouterr().err == ""
