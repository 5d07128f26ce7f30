"""A bundle: the same bits as its workspace, from anywhere, and nothing in it but what is asked."""

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

import cli
from core.errors import ConfigError
from core.runs.workspace import Corpus, Workspace
from inference.bundle import bundle as body
from inference.bundle.bundle import bundle_identity, read_bundle, write_bundle
from inference.images import NewImage
from inference.loaded.ensemble import Decisions, LoadedEnsemble
from inference.loaded.networks import FoundSpeed
from inference.loaded.workspace import read_ensemble
from inference.place import EnsemblePlace
from inference.stream import decide_images
from tests.inference.conftest import test_images
from training.devices.speed import PLAIN, Speed


@pytest.fixture(scope="module")
def zipped(whole: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(whole, tmp_path_factory.mktemp("bundles") / "whole.zip")


def decided(ensemble: LoadedEnsemble, images: list[NewImage]) -> Decisions:
    (block,) = decide_images(ensemble, images)
    return block.decisions


def assert_same(one: Decisions, other: Decisions) -> None:
    assert one.image_ids == other.image_ids
    assert one.categories == other.categories
    for name in (
        *("guessed", "probs", "calibrated", "expected_f1", "distance", "review", "nearest"),
    ):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    np.testing.assert_array_equal(one.decided.toarray(), other.decided.toarray())
    assert one.because == other.because
    rows = range(len(one))
    assert [[*one.concepts(r, top=9)] for r in rows] == [[*other.concepts(r, top=9)] for r in rows]


def test_folder_and_zip_say_what_the_workspace_says(
    whole: Workspace, bundled: Path, zipped: Path, crossfitted: Corpus
) -> None:
    images = test_images(crossfitted)
    bare = [replace(i, image_id=f"bare-{i.image_id}", category="", told_by="") for i in images]
    found = read_ensemble(whole)
    said = decided(found, images + bare)
    drafts = {*Path(tempfile.gettempdir()).glob(".radfuse-bundle.*")}
    for place in (bundled, zipped):
        again = EnsemblePlace(bundle=place).read()
        assert [m.name for m in again.members] == [m.name for m in found.members]
        assert {*Path(tempfile.gettempdir()).glob(".radfuse-bundle.*")} <= drafts
        assert_same(said, decided(again, images + bare))
        assert {*decided(again, images).nearest_image} == {""}
    assert bundle_identity(bundled) == bundle_identity(zipped)


def test_parts_are_shared_as_they_were(whole: Workspace, bundled: Path) -> None:
    def number_of(ensemble: LoadedEnsemble) -> int:
        parts = {id(member.answer) for member in ensemble.members}
        votes = [getattr(m.answer, "votes", None) for m in ensemble.members]
        return len(parts | {id(vote) for vote in votes if vote is not None})

    assert number_of(read_bundle(bundled)) == number_of(read_ensemble(whole))
    assert len([*(bundled / "networks").iterdir()]) == 1  # the same weights at both sizes


def test_a_bundle_is_written_the_same_every_time(
    whole: Workspace, bundled: Path, zipped: Path, tmp_path: Path
) -> None:
    again = write_bundle(whole, tmp_path / "again.zip")
    assert again.read_bytes() == zipped.read_bytes()
    lines = (bundled / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == len([p for p in bundled.rglob("*") if p.is_file()]) - 1
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((bundled / name).read_bytes()).hexdigest() == digest


def test_no_image_and_no_id_is_in_it_unless_asked(
    whole: Workspace, bundled: Path, crossfitted: Corpus, tmp_path: Path
) -> None:
    for path in bundled.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"train_0" not in data, path
            assert b"valid_0" not in data, path
            assert str(whole.root).encode() not in data, path
    out = write_bundle(whole, tmp_path / "told", training_ids=True)
    table = crossfitted.training_images()
    image = NewImage(image_id="new", path=Path(table.paths[3]), category=table.categories[3])
    for ensemble in (read_bundle(out), read_ensemble(whole)):
        assert decided(ensemble, [image]).nearest_image == (table.image_ids[3],)


def test_the_card_is_one_of_a_model(bundled: Path) -> None:
    card = ModelCard.load(bundled / "README.md")
    assert card.data.library_name == "radfuse"
    assert card.data.eval_results[0].metric_type == "f1"
    assert card.data.license_name == "see-licences-below"  # its networks started from nothing
    for words in (
        "sample F1, out of fold",
        "no medical",
        "Categories hardly seen",
        "started from random",
    ):
        assert words in card.text, words


def test_another_folder_or_file_is_not_replaced(whole: Workspace, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    (tmp_path / "mine.zip").write_text("years")
    for name in ("mine", "mine.zip", "mine/thesis.txt"):
        with pytest.raises(ConfigError, match="is there and no bundle; name another place"):
            write_bundle(whole, tmp_path / name)


def test_what_is_interrupted_leaves_nothing(
    whole: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(body, "write_sums", stop)
    for name in ("half", "half.zip"):
        with pytest.raises(KeyboardInterrupt):
            write_bundle(whole, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_way_to_run_is_kept_for_devices_of_its_kind() -> None:
    found = FoundSpeed(words="bf16, channels-last", device="cuda:1")
    assert found.on("cuda") == Speed(precision="bf16", channels_last=True)
    assert found.on("cpu") == PLAIN
    assert FoundSpeed(words="", device="cpu").on("cpu") == PLAIN


def test_an_ensemble_lies_in_one_place(bundled: Path, tmp_path: Path) -> None:
    for places in ({}, {"bundle": bundled, "workspace": tmp_path}):
        with pytest.raises(ConfigError, match="name one of them"):
            EnsemblePlace(**places)


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["cli.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), *capsys.readouterr()

    return call


def test_predict_takes_a_bundle_and_no_workspace(
    whole: Workspace,
    bundled: Path,
    crossfitted: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., tuple[int, str, str]],
) -> None:
    images = [image.path for image in test_images(crossfitted)]
    _, from_workspace, _ = run("predict", *images, "--top", "50", "-w", whole.root)
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("predict", *images, "--top", "50", "--bundle", bundled)
    assert (code, [line.rpartition(",")[0] for line in out.splitlines()[1:]]) == (
        0,
        [line.rpartition(",")[0] for line in from_workspace.splitlines()[1:]],
    )
    assert all(line.endswith(",") for line in out.splitlines()[1:])  # no training image is named
    assert list(tmp_path.iterdir()) == []
    code, _, err = run("predict", *images, "--bundle", bundled, "-w", whole.root)
    assert code == 2
    assert "an ensemble lies in one of them; name one" in err
    code, out, _ = run("bundle", tmp_path / "new", "--training-ids", "-w", whole.root)
    assert (code, out) == (0, f"{tmp_path / 'new'}\n")
    code, out, _ = run("predict", *images, "--top", "50", "--bundle", tmp_path / "new")
    assert (code, out) == (0, from_workspace)
