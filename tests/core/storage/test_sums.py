"""Lists of files in `meta.json`: damage is noticed, named with its cure, and made anew."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import DamageError, typed
from core.storage.folders import (
    add_to_meta,
    finish,
    is_complete,
    is_whole,
    new_folder,
    note_product,
    read_meta,
    read_whole,
    tell_if_altered,
)
from core.storage.sums import file_sha256
from tests.core.storage.unlisted import forget_files


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A fused run in a workspace, with predictions that have a list of their own."""
    folder = tmp_path / "runs" / "fusion" / "prior-0a1b2c3d"
    with (
        typed(["fuse", "--set", "k=1 2", "-w", "elsewhere", "--workspace=x", "-wy"]),
        new_folder(folder, {"n": 1}) as draft,
    ):
        (draft / "config.json").write_text("{}", encoding="utf-8")
        (draft / "inner").mkdir()
        (draft / "inner" / "a.txt").write_text("abc", encoding="utf-8")
        with new_folder(draft / "predictions" / "test", {}) as inside:
            (inside / "probs.npy").write_bytes(b"0123456789")
    return folder


def test_every_file_is_listed_and_a_finished_folder_by_its_meta(run: Path) -> None:
    held = read_whole(run)["holds"]
    assert [*held] == ["config.json", "inner/a.txt", "predictions/test/meta.json"]
    assert held["inner/a.txt"] == f"3 {file_sha256(run / 'inner/a.txt')}"


def test_the_command_is_noted_without_the_workspace(run: Path) -> None:
    assert read_meta(run)["command"] == "fuse --set 'k=1 2'"


CURE = r"; to make it anew: `python cli\.py fuse --set 'k=1 2' -w .*/runs`$"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "a.txt: missing"),
        (b"", "a.txt: 0 bytes, 3 were written"),
        (b"abd", "a.txt: was changed since it was written"),
    ],
)
def test_damage_is_named_with_the_command(run: Path, content: bytes | None, message: str) -> None:
    path = run / "inner" / "a.txt"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DamageError, match=message + CURE):
        read_whole(run)
    assert read_whole(run, only=["config.json"])["n"] == 1


def test_a_folder_or_a_loop_in_place_of_a_file_is_damage(run: Path) -> None:
    path = run / "config.json"
    path.unlink()
    path.mkdir()
    with pytest.raises(DamageError, match=r"config\.json: no file any more" + CURE):
        read_whole(run)
    path.rmdir()
    path.symlink_to(path.name)
    with pytest.raises(DamageError, match=r"config\.json: cannot be read \(.*\)" + CURE):
        read_whole(run)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "expected an object, found list"),
        ('{"holds": {}}', "was changed since it was written"),
    ],
)
def test_a_meta_that_is_damaged_names_a_command_that_others_know(
    run: Path, content: str, message: str
) -> None:
    (run / "meta.json").write_text(content, encoding="utf-8")
    with pytest.raises(DamageError, match=f"meta.json: {message}.*{CURE}"):
        read_meta(run)


def test_a_meta_that_is_a_folder_cannot_be_read(run: Path) -> None:
    (run / "meta.json").unlink()
    (run / "meta.json").mkdir()
    assert is_complete(run)
    with pytest.raises(DamageError, match=r"meta\.json: cannot be read \(.*\)" + CURE):
        read_meta(run)


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_of_a_meta_changes_nothing_or_is_noticed(
    run: Path, place: int, bit: int
) -> None:
    path, before = run / "meta.json", read_meta(run)
    whole = path.read_bytes()
    content = bytearray(whole)
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    try:
        assert read_meta(run) == before
    except DamageError:
        pass
    finally:
        path.write_bytes(whole)


def test_who_makes_it_looks_into_all_of_it_and_puts_it_aside(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert is_whole(run)
    probs = run / "predictions" / "test" / "probs.npy"
    probs.write_bytes(b"0123456780")
    assert read_whole(run)["n"] == 1  # its predictions are held against their own list
    assert not is_whole(run)
    aside = run.with_name(f".{run.name}.damaged")
    assert not run.exists()
    assert (aside / "predictions" / "test" / "probs.npy").is_file()
    assert capsys.readouterr().err == (
        f"damaged, made anew: {probs}: was changed since it was written (put aside: {aside})\n"
    )


def test_what_is_soon_made_again_is_not_kept(run: Path) -> None:
    (run / "config.json").unlink()
    assert not is_whole(run, keep=False)
    assert [path.name for path in run.parent.iterdir()] == []


def test_a_folder_of_an_earlier_version_is_read_and_whole(run: Path) -> None:
    forget_files(run)
    (run / "config.json").write_text("[]", encoding="utf-8")
    assert read_whole(run)["n"] == 1
    assert is_whole(run)


def test_what_does_not_belong_to_it_may_go(tmp_path: Path) -> None:
    for name in ("a.npy", "spare.npy", ".lock"):
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / "members").mkdir()
    (tmp_path / "members" / "b").write_bytes(b"1")
    finish(tmp_path, {}, but=("spare.npy", "members"))
    assert [*read_whole(tmp_path)["holds"]] == ["a.npy"]


def test_entries_are_changed_and_the_list_stays(run: Path) -> None:
    add_to_meta(run, {"n": 2})
    assert read_whole(run)["n"] == 2


def test_outside_a_workspace_it_is_said_how_to_keep_a_change(tmp_path: Path) -> None:
    with new_folder(tmp_path / "far", {}) as draft:
        (draft / "a").write_bytes(b"1")
    (tmp_path / "far" / "a").write_bytes(b"2")
    with pytest.raises(DamageError, match=r"make it again, or, if that was meant, take 'holds'"):
        read_whole(tmp_path / "far")


def test_a_folder_of_another_kind_has_no_list_to_change(tmp_path: Path) -> None:
    with pytest.raises(DamageError, match=r"no such folder; make it again, or name another folder"):
        read_whole(tmp_path / "far")
    (tmp_path / "far").mkdir()
    with pytest.raises(DamageError, match=r"missing\); make it again, or name another folder$"):
        read_whole(tmp_path / "far")


def test_a_product_that_was_changed_is_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "submission.txt"
    path.write_text("a", encoding="utf-8")
    tell_if_altered(path)
    note_product(run, path, n=3)
    tell_if_altered(path)
    assert capsys.readouterr().err == ""
    path.write_text("b", encoding="utf-8")
    tell_if_altered(path)
    assert f"note: {path} was changed since it was written" in capsys.readouterr().err
    assert read_whole(run)["n"] == 3


@pytest.mark.parametrize(
    ("place", "command"),
    [
        ("corpus", "prepare SOURCE"),
        ("backbones/DRCT/quick-0a1b2c3d", "train-backbone --category DRCT --preset quick"),
        ("ensembles/stack-0a1b2c3d", "ensemble --submit"),
        ("embeddings/b0-224px-0a1b2c3d", "train-backbone"),
    ],
)
def test_without_any_note_the_usual_command_is_named(
    tmp_path: Path, place: str, command: str
) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text("", encoding="utf-8")
    with pytest.raises(DamageError, match=f"`python cli.py {command} -w {tmp_path}`$"):
        read_meta(folder)


@pytest.mark.parametrize(
    "words",
    [
        "fuse; touch evil", "fuse | sh", "fuse $(touch evil)", "fuse `touch evil`", "fuse > evil",
        "fuse && evil", "fuse\ntouch evil", "fuse \x1b[2K", "fuse 'a", "../evil", "", 5, ["fuse"],
    ],
    ids=ascii,
)  # fmt: skip
def test_a_note_that_a_shell_would_take_for_more_than_a_command_is_not_shown(
    run: Path, words: object
) -> None:
    meta = json.loads((run / "meta.json").read_text(encoding="utf-8"))
    (run / "meta.json").write_text(json.dumps(meta | {"command": words}), encoding="utf-8")
    with pytest.raises(DamageError, match=f"was changed.*{CURE}"):  # as another folder notes
        read_meta(run)


def test_a_corpus_has_its_command_from_its_cache(tmp_path: Path) -> None:
    with typed(["prepare", "my images"]), new_folder(tmp_path / "cache" / "224px", {}):
        pass
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "meta.json").write_text(json.dumps([]), encoding="utf-8")
    with pytest.raises(DamageError, match=r"`python cli\.py prepare 'my images' -w"):
        read_meta(tmp_path / "corpus")


def test_sums_are_known_while_a_file_stays_as_it_is(run: Path) -> None:
    path = run / "config.json"
    read_whole(run)
    there = path.stat()
    path.write_text("[]", encoding="utf-8")
    os.utime(path, ns=(there.st_atime_ns, there.st_mtime_ns))
    with pytest.raises(DamageError, match=r"config\.json: was changed"):
        read_whole(run)
