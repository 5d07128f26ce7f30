"""An ensemble read again: every kind of member, what cannot be asked, and what its tables say."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from core.errors import ConfigError, MissingStageError
from core.predictions import Predictions
from core.runs.fused import find_fused_sources
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta, write_json
from fusion.fuse import fuse
from fusion.inputs.category import N_OF_CATEGORY
from inference.images import NewImage
from inference.loaded.ensemble import Decisions
from inference.loaded.runs import Runs
from inference.loaded.workspace import read_ensemble
from inference.stream import DecidedBlock, decide_images, decoded, new_block
from inference.tables import UnitTable, check_format, head_of
from tests.inference.conftest import FUSE, test_images


def all_decided(
    workspace: Workspace, images: list[NewImage], *, n_at_once: int = 128
) -> Iterator[Decisions]:
    for block in decide_images(read_ensemble(workspace), images, n_at_once=n_at_once):
        yield block.decisions


def test_every_member_says_of_test_what_it_said(whole: Workspace, crossfitted: Corpus) -> None:
    loaded, images = read_ensemble(whole), test_images(crossfitted)
    names = {member.name for member in loaded.members}
    assert names == {*FUSE.strategies, "blind", "retrieval-global", "global", "DRCT/tiny"}
    block = new_block(loaded, images, pixels=[decoded(loaded, image) for image in images])
    runs = {run.strategy: run.folder for run in find_fused_sources(whole, "made0001")}
    runs |= {"global": next((whole.backbones / "global").iterdir())}
    for member in loaded.members:
        if member.name not in runs or member.name == "prior":
            continue
        saved = Predictions.load(runs[member.name] / "predictions" / "test")
        said = block.ask(member.answer).rows(saved.image_ids)
        np.testing.assert_allclose(said.probs, saved.probs, rtol=0, atol=1e-5, err_msg=member.name)


def test_blocks_of_any_size_say_the_same(whole: Workspace, crossfitted: Corpus) -> None:
    images = test_images(crossfitted)
    (at_once,) = all_decided(whole, images)
    in_threes = list(all_decided(whole, images, n_at_once=3))
    assert [len(block) for block in in_threes] == [3, 3, 2]
    probs = np.concatenate([block.probs for block in in_threes])
    np.testing.assert_allclose(probs, at_once.probs, rtol=0, atol=1e-5)


def test_a_training_image_lies_on_itself(whole: Workspace, crossfitted: Corpus) -> None:
    table = crossfitted.table.of(split="train")
    image = NewImage(
        image_id="new", path=Path(table.paths[0]), category=table.categories[0], told_by="folder"
    )
    (decisions,) = all_decided(whole, [image])
    assert decisions.nearest[0] == pytest.approx(1, abs=1e-5)


def test_a_category_that_nothing_tells_is_guessed(whole: Workspace, crossfitted: Corpus) -> None:
    images = test_images(crossfitted)
    bare = [NewImage(image_id=image.image_id, path=image.path) for image in images]
    (decisions,) = all_decided(whole, bare)
    assert decisions.guessed.all()
    assert set(decisions.categories) <= {"DRCT", "DRXR"}
    right = sum(a == i.category for a, i in zip(decisions.categories, images, strict=True))
    assert right >= 6  # of 8: dark pictures with a border against bright ones


def test_a_guess_of_an_earlier_version_is_refused_only_where_it_is_needed(
    whole: Workspace, crossfitted: Corpus
) -> None:
    folders = list(whole.fusion.glob("category-*"))
    before = {folder: read_meta(folder) for folder in folders}
    image, *_ = test_images(crossfitted)
    try:
        for folder, meta in before.items():
            old = {name: value for name, value in meta.items() if name != N_OF_CATEGORY}
            write_json(folder / "meta.json", old)
        assert len(list(all_decided(whole, [image]))) == 1
        with pytest.raises(MissingStageError, match=r"run `.*fuse -w .*` again, or say it with"):
            list(all_decided(whole, [NewImage(image_id="new", path=image.path)]))
        fuse(crossfitted, whole, config=FUSE, preset="tiny", device="cpu")  # as the message says
        assert all(read_meta(f)[N_OF_CATEGORY] == m[N_OF_CATEGORY] for f, m in before.items())
    finally:
        for folder, meta in before.items():
            write_json(folder / "meta.json", meta)


def test_what_cannot_be_asked_is_named(whole: Workspace, crossfitted: Corpus) -> None:
    (folder,) = whole.fusion.glob("one-hot-*")
    meta = read_meta(folder)
    runs = Runs(corpus=crossfitted, workspace=whole, device="cpu")
    try:
        write_json(folder / "meta.json", {**meta, "made": "2020-01-01"})
        with pytest.raises(MissingStageError, match=r"member one-hot: .* was made again since"):
            read_ensemble(whole)
        write_json(folder / "meta.json", {**meta, "strategy": "late-svm"})
        with pytest.raises(MissingStageError, match="member late-svm: keeps no classifier"):
            runs.fused(folder)
    finally:
        write_json(folder / "meta.json", meta)
    (home,) = whole.ensembles.glob("stack-*")
    meta = read_meta(home)
    try:
        members = {**meta["members"], "else": "sha256 0123456789abcdef"}
        write_json(home / "meta.json", {**meta, "members": members})
        with pytest.raises(MissingStageError, match="member else: made elsewhere"):
            read_ensemble(whole)
    finally:
        write_json(home / "meta.json", meta)


@pytest.fixture(scope="module")
def block(whole: Workspace, crossfitted: Corpus) -> DecidedBlock:
    (found,) = decide_images(read_ensemble(whole), test_images(crossfitted))
    return found


def written(block: DecidedBlock, out: Path, *, form: str, top: int = 0) -> Path:
    table = UnitTable(form=form, top=top)
    table.take(block)
    out.write_bytes(head_of(form).encode() + table.end())
    return out


def test_csv_and_parquet_have_a_row_a_concept(block: DecidedBlock, tmp_path: Path) -> None:
    with written(block, tmp_path / "a.csv", form="csv", top=2).open(newline="") as file:
        rows = list(csv.DictReader(file))
    decided = block.decisions.decided
    assert sum(row["decided"] == "1" for row in rows) == decided.nnz
    n_others = np.minimum(2, decided.shape[1] - np.diff(decided.indptr)).sum()
    assert sum(row["decided"] == "0" for row in rows) == n_others
    assert all(bool(row["rule"]) == (row["decided"] == "1") for row in rows)
    assert {row["category_from"] for row in rows} == {"folder"}
    table = pq.read_table(written(block, tmp_path / "a.parquet", form="parquet", top=2))
    assert [row["CUI"] for row in table.to_pylist()] == [row["CUI"] for row in rows]


def test_json_lines_have_an_object_an_image(block: DecidedBlock, tmp_path: Path) -> None:
    text = written(block, tmp_path / "a.jsonl", form="jsonl").read_text()
    images = [json.loads(line) for line in text.splitlines()]
    sets = block.decisions.labels.decode(block.decisions.decided)
    assert [i["image"] for i in images] == list(block.decisions.image_ids)
    assert [{c["CUI"] for c in i["concepts"]} for i in images] == [set(s) for s in sets]
    for image in images:
        probs = [concept["probability"] for concept in image["concepts"]]
        assert probs == sorted(probs, reverse=True)


def test_a_format_that_is_not_known_or_needs_a_file_is_refused() -> None:
    for form, reason in {
        "xml": "expected one of csv, jsonl, parquet, submission",
        "parquet": "name the file with --out",
    }.items():
        with pytest.raises(ConfigError, match=reason):
            check_format(form, out=None, edition=2020)
    for form, options, reason in (
        ("csv", {"edition": 2020}, "--edition 2020: goes with --format submission only"),
        ("submission", {"edition": 1999}, "edition 1999: not known"),
        ("submission", {"edition": None, "top": 3}, "--top 3: there are no candidates"),
    ):
        with pytest.raises(ConfigError, match=reason):
            check_format(form, out=Path("decided.csv"), **options)
