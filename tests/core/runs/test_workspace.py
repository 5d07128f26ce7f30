"""Workspaces and the corpus in them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import MissingStageError
from core.images import ImageTable
from core.labels import LabelSpace
from core.runs.workspace import Corpus, Workspace, is_run
from core.storage.folders import new_folder, write_json
from tests.core.storage.unlisted import forget_files

META: dict[str, Any] = {
    "name": "2020",
    "edition": 2020,
    "fingerprint": "0123abcd",
    "notes": ["1 image without a file"],
}


def prepare(workspace: Workspace, meta: dict[str, Any]) -> None:
    with new_folder(workspace.corpus, meta) as draft:
        LabelSpace(("C1", "C2")).save(draft / "labels.txt")
        (draft / "names.csv").write_text('C1,"Aorta, thoracic"\n', encoding="utf-8")
        ImageTable(
            image_ids=("a",),
            paths=("a.png",),
            categories=("DRCT",),
            splits=("train",),
            folds=np.array([0], dtype=np.int16),
            groups=("a",),
            concepts=(("C1",),),
        ).save(draft / "images.csv")


def test_a_prepared_corpus_is_opened(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert not workspace.has_corpus()
    prepare(workspace, META)
    corpus = workspace.open_corpus()
    assert workspace.has_corpus()
    assert (corpus.name, corpus.edition, corpus.fingerprint) == ("2020", 2020, "0123abcd")
    assert corpus.names == {"C1": "Aorta, thoracic"}
    assert corpus.labels.cuis == ("C1", "C2")
    assert corpus.table.image_ids == ("a",)
    assert corpus.notes == ("1 image without a file",)


def test_without_a_corpus_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        MissingStageError,
        match=r"holds no prepared corpus; .* make it: `python cli\.py prepare SOURCE -w",
    ):
        Workspace(tmp_path).open_corpus()


def test_a_corpus_of_another_version_is_to_be_prepared_again(tmp_path: Path) -> None:
    prepare(Workspace(tmp_path), {"name": "2020"})
    with pytest.raises(MissingStageError, match=r"another version \('edition'\); run .* again"):
        Workspace(tmp_path).open_corpus()


def test_a_corpus_without_its_names_is_to_be_prepared_again(tmp_path: Path) -> None:
    prepare(Workspace(tmp_path), META)
    forget_files(tmp_path / "corpus")
    (tmp_path / "corpus/names.csv").unlink()
    with pytest.raises(MissingStageError, match=r"not whole.*names\.csv"):
        Workspace(tmp_path).open_corpus()


def test_a_corpus_that_is_lost_is_named_with_what_it_was_prepared_from(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "runs")
    assert (workspace.prepared_from, workspace.had_corpus) == ("", False)
    workspace.root.mkdir()
    workspace.note_source("/data/my images")
    assert (workspace.prepared_from, workspace.had_corpus) == ("/data/my images", True)
    with pytest.raises(
        MissingStageError,
        match=r"corpus: not there any more.* `python cli\.py prepare '/data/my images' -w .*again",
    ):
        workspace.open_corpus()
    workspace.note_source("")
    assert not workspace.had_corpus


@pytest.mark.parametrize("junk", ["", "[]", '{"a": 1}'])
def test_of_an_earlier_version_a_cache_shows_that_there_was_a_corpus(
    junk: str, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path)
    (tmp_path / "prepared.json").write_text(junk)
    seen = [workspace.had_corpus]
    for folder in (workspace.cache, workspace.phantom):
        folder.mkdir()
        seen.append(workspace.had_corpus)
    assert seen == [False, True, False]


def test_a_corpus_that_another_process_replaces_meanwhile_is_read_from_one_of_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    prepare(workspace, META)
    load = LabelSpace.load
    left = [lambda: prepare(workspace, {**META, "fingerprint": "new00000"})]

    def load_late(path: Path) -> LabelSpace:
        while left:
            left.pop()()
        return load(path)

    monkeypatch.setattr(LabelSpace, "load", load_late)
    assert workspace.open_corpus().fingerprint == "new00000"
    (workspace.corpus / "names.csv").unlink()
    left.append(lambda: prepare(workspace, {**META, "fingerprint": "last0000"}))
    read = Workspace._read_corpus

    def read_late(self: Workspace, meta: Any) -> Corpus:
        try:
            return read(self, meta)
        finally:
            while left:
                left.pop()()

    monkeypatch.setattr(Workspace, "_read_corpus", read_late)
    assert workspace.open_corpus().fingerprint == "last0000"


def test_every_stage_has_a_folder_of_its_own(tmp_path: Path) -> None:
    w = Workspace(tmp_path)
    folders = [
        *(w.corpus, w.phantom, w.cache, w.embeddings),
        *(w.backbones, w.fusion, w.ensembles, w.reports),
    ]
    assert len(set(folders)) == len(folders)
    assert all(folder.parent == tmp_path for folder in folders)


def test_finished_runs_are_those_with_config_and_meta(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for name in ("DRXR/default-1", "DRCT/default-1", "DRCT/half"):
        (workspace.backbones / name).mkdir(parents=True)
        write_json(workspace.backbones / name / "config.json", {})
    (workspace.backbones / "DRCT/half/members").mkdir()
    for name in ("DRXR/default-1", "DRCT/default-1", "DRCT/default-1/predictions/valid"):
        (workspace.backbones / name).mkdir(parents=True, exist_ok=True)
        write_json(workspace.backbones / name / "meta.json", {})
    found = workspace.finished_runs(workspace.backbones)
    assert [f"{f.parent.name}/{f.name}" for f in found] == ["DRCT/default-1", "DRXR/default-1"]
    assert not is_run(workspace.backbones / "DRCT/default-1/predictions/valid")


def test_a_draft_that_was_left_behind_is_no_run(tmp_path: Path) -> None:
    draft = Workspace(tmp_path).backbones / ".default-1.77-ab.tmp"
    draft.mkdir(parents=True)
    write_json(draft / "config.json", {})
    write_json(draft / "meta.json", {})
    assert Workspace(tmp_path).finished_runs(tmp_path / "backbones") == []


def test_a_stage_that_never_ran_has_no_runs(tmp_path: Path) -> None:
    assert Workspace(tmp_path).finished_runs(tmp_path / "fusion") == []


def corpus_of(**metadata: tuple[str, ...]) -> Corpus:
    table = ImageTable(
        image_ids=("a", "b", "c", "d"),
        paths=("",) * 4,
        categories=("DRCT", "DRCT", "DRUS", "DRCT"),
        splits=("train", "train", "train", "test"),
        folds=np.zeros(4, dtype=np.int16),
        groups=("",) * 4,
        concepts=((),) * 4,
        metadata=metadata,
    )
    return Corpus(
        name="made",
        table=table,
        labels=LabelSpace(()),
        names={},
        edition=2020,
        fingerprint="0123abcd",
        notes=(),
    )


def test_images_that_cannot_be_decoded_are_left_out() -> None:
    corpus = corpus_of(readable=("1", "0", "1", "1"))
    assert corpus.readable_ids == ("a", "c", "d")
    assert corpus.images("train").image_ids == ("a", "c")
    assert corpus.images("train", category="DRCT").image_ids == ("a",)
    assert corpus.images("valid").image_ids == ()
    assert corpus.table.image_ids == ("a", "b", "c", "d")  # the table has all of them


def test_images_without_a_mark_are_taken_for_readable() -> None:
    assert corpus_of().readable_ids == ("a", "b", "c", "d")
    assert corpus_of().images("test").image_ids == ("d",)


def test_a_command_takes_a_folder_with_spaces_as_one_word(tmp_path: Path) -> None:
    home = tmp_path / "my runs"
    with pytest.raises(MissingStageError, match=f"`python cli.py demo -w '{home}'`"):
        Workspace(home).open_corpus()


def test_runs_that_cannot_be_listed_are_not_taken_for_none(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert workspace.finished_runs(workspace.fusion) == []
    workspace.fusion.symlink_to(workspace.fusion)
    with pytest.raises(OSError, match="symbolic links"):
        workspace.finished_runs(workspace.fusion)
    workspace.ensembles.write_text("", encoding="utf-8")
    with pytest.raises(NotADirectoryError):
        workspace.finished_runs(workspace.ensembles)
    if os.geteuid():  # root may read all
        workspace.backbones.mkdir(mode=0)
        with pytest.raises(PermissionError):
            workspace.finished_runs(workspace.backbones)
