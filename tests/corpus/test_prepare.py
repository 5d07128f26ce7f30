"""A prepared corpus: what is in it, what is counted, and when it is another one."""

import json
import os
import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.config import overlay
from core.errors import ConfigError, CorpusError, ImageError, MissingStageError
from core.runs.decoding import Decoding
from core.runs.workspace import Corpus, Workspace
from core.storage.claims import claim
from corpus.images.cache import build_cache
from corpus.prepare import (
    PrepareConfig,
    _prepare,
    corpus_or_phantom,
    overview,
    prepare,
    refuse_other_corpus,
)
from corpus.readers.layouts import read_corpus
from tests.core.storage.unlisted import forget_files

CONFIG = PrepareConfig(protocol="holdout", train_folds=2, valid_folds=2, image_size=32)

ROWS = {
    "train": ["C1;C2", "C1", "C1;C3", "C2", "", "C1"],
    "valid": ["C1", "C2;C9", "C1", "C3"],
    "test": ["", ""],
}

Prepare = Callable[..., Corpus]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Twelve grey images, those with an even number CT, the others X-ray."""
    rng = np.random.default_rng(0)
    lines = ["path,split,category,concepts,age"]
    for split, concepts in ROWS.items():
        for number, text in enumerate(concepts):
            name = f"{split}{number}.png"
            pixels = rng.integers(0, 255, (40, 40), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name)
            lines.append(f"{name},{split},{('DRCT', 'DRXR')[number % 2]},{text},{30 + number}")
    path = tmp_path / "small.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def made(manifest: Path, workspace: Workspace) -> Prepare:
    def call(*, config: PrepareConfig = CONFIG, strict: bool = False) -> Corpus:
        return prepare(manifest, workspace, config=config, strict=strict)

    return call


def test_concepts_of_train_are_the_label_space(made: Prepare) -> None:
    corpus = made()
    assert corpus.name == "small (manifest)"
    assert corpus.labels.cuis == ("C1", "C2", "C3")  # C9 is in valid only
    assert [len(corpus.table.of(split=split)) for split in ROWS] == [6, 4, 2]
    assert corpus.table.metadata["age"][:2] == ("30", "31")


def test_what_is_prepared_is_what_is_opened_later(made: Prepare, workspace: Workspace) -> None:
    corpus, opened = made(), workspace.open_corpus()
    assert opened.labels == corpus.labels
    assert opened.fingerprint == corpus.fingerprint
    assert opened.notes == corpus.notes
    assert opened.table.concepts == corpus.table.concepts
    assert opened.table.folds.tolist() == corpus.table.folds.tolist()
    assert opened.table.metadata == corpus.table.metadata
    assert list(opened.table.metadata) == ["age", "valid_half", "readable"]


def test_valid_has_two_halves_of_whole_groups(made: Prepare, manifest: Path) -> None:
    text = manifest.read_text(encoding="utf-8").splitlines()
    groups = ["group", *["g1", "g2", "g3", "g4", "g5", "g6"], *["v1", "v1", "v2", "v3"], "t1", "t2"]
    lines = [f"{line},{group}" for line, group in zip(text, groups, strict=True)]
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    corpus = made()
    val1, val2 = corpus.valid_half("val1"), corpus.valid_half("val2")
    assert sorted(val1.image_ids + val2.image_ids) == ["valid0", "valid1", "valid2", "valid3"]
    assert not set(val1.groups) & set(val2.groups)
    assert {len(val1), len(val2)} == {2}
    assert corpus.valid_half("valid").image_ids == corpus.images("valid").image_ids
    assert len(corpus.valid_half("val1", category="DRCT")) == 1
    assert set(corpus.table.of(split="train").metadata["valid_half"]) == {""}


def test_labelled_images_of_train_and_valid_have_folds(made: Prepare) -> None:
    table = made().table
    assert set(table.of(split="train").folds) == {0, 1}
    assert set(table.of(split="valid").folds) == {0, 1}
    assert set(table.of(split="test").folds) == {-1}


def test_the_overview_counts_splits_categories_and_concepts(made: Prepare) -> None:
    lines = overview(made())
    assert lines[:4] == [
        "small (manifest): 12 images, 3 concepts in train",
        # 2 + 1 + 2 + 1 + 0 + 1 concepts on 6 images, 1 + 2 + 1 + 1 on 4
        "  train: 6 images (DRCT 3, DRXR 3), 1.17 concepts an image",
        "  valid: 4 images (DRCT 2, DRXR 2), 1.25 concepts an image",
        "  test: 2 images (DRCT 1, DRXR 1)",
    ]
    assert all(line.startswith("  note: ") for line in lines[4:])
    assert any("1 concept of 1 assignment in valid never in train" in line for line in lines)
    assert any("1 image known to have no concept" in line for line in lines)


def test_categories_that_only_labels_tell_are_kept_apart(made: Prepare, manifest: Path) -> None:
    plain = made().fingerprint
    text = manifest.read_text(encoding="utf-8").replace("DRCT", "").replace("DRXR", "")
    manifest.write_text(text, encoding="utf-8")
    unnamed = made()
    assert overview(unnamed)[1].startswith("  train: 6 images (no category 6), ")
    manifest.write_text(text.replace("C1;C2", "C1;C0040405"), encoding="utf-8")
    corpus = made()
    assert overview(corpus)[1].startswith("  train: 6 images (no category 6, to learn by: DRCT 1)")
    assert set(corpus.table.categories) == {""}
    assert corpus.training_categories == ("DRCT",)
    assert len({plain, unnamed.fingerprint, corpus.fingerprint}) == 3


def test_an_unreadable_image_is_counted_and_stays_in_the_table(
    made: Prepare, manifest: Path
) -> None:
    whole = made()
    path = manifest.with_name("test1.png")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ImageError, match=r"test1\.png: cannot be decoded"):
        made(strict=True)
    corpus = made()
    assert len(corpus.table) == 12
    assert len(corpus.readable_ids) == 11
    assert len(corpus.images("test")) == 1
    assert "1 images cannot be decoded" in corpus.notes[-1]
    assert "test1.png" in corpus.notes[-1]
    assert corpus.fingerprint != whole.fingerprint


def test_the_list_of_unreadable_images_lies_in_a_file(
    made: Prepare, manifest: Path, workspace: Workspace
) -> None:
    made()
    assert not (workspace.corpus / "unreadable.csv").exists()
    for number in range(4):
        manifest.with_name(f"train{number}.png").write_text("no image")
    corpus = made()
    listed = (workspace.corpus / "unreadable.csv").read_text(encoding="utf-8").splitlines()
    path = manifest.with_name("train3.png")
    assert len(listed) == 4
    assert listed[3] == f"train3,{path}: not an image"
    assert corpus.notes[-1].endswith(f"all are listed in {workspace.corpus / 'unreadable.csv'}")


def test_of_unreadable_images_an_example_of_each_reason_is_shown(
    made: Prepare, manifest: Path
) -> None:
    made()
    for number in range(3):
        manifest.with_name(f"train{number}.png").write_text("no image")
    whole = manifest.with_name("train3.png").read_bytes()
    manifest.with_name("train3.png").write_bytes(whole[:45])
    [note] = [note for note in made().notes if "cannot be decoded" in note]
    assert note.count("not an image") == 1
    assert f"{manifest.with_name('train0.png')}: not an image" in note
    assert f"{manifest.with_name('train3.png')}: cannot be decoded" in note


def test_what_was_done_to_show_images_is_counted(
    made: Prepare, manifest: Path, workspace: Workspace
) -> None:
    plain = made()
    for name in ("train0", "train1", "test0"):
        path = manifest.with_name(f"{name}.png")
        Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16) * 257).save(path)
    Image.new("L", (1, 1)).save(manifest.with_name("valid1.png"))
    corpus = made()
    assert corpus.notes[-2:] == (
        "3 images: 16-bit values that are an 8-bit image's: ['train0', 'train1', 'test0']",
        "1 image: a single pixel: ['valid1']",
    )
    assert workspace.open_corpus().notes == corpus.notes
    assert corpus.fingerprint != plain.fingerprint


def test_how_files_are_read_is_kept_with_the_corpus(
    made: Prepare, manifest: Path, workspace: Workspace
) -> None:
    path = manifest.with_name("train2.png")
    half = np.repeat([0, 255], 800).astype(np.uint8).reshape(40, 40)
    Image.merge("LA", [Image.open(path), Image.fromarray(half)]).save(path)
    usual = made()
    assert usual.decoding == workspace.open_corpus().decoding == Decoding()
    assert "decoding" not in json.loads((workspace.corpus / "meta.json").read_text())
    corpus = made(config=replace(CONFIG, background="white", frames="2"))
    expected = Decoding(background="white", frame=2)
    assert corpus.decoding == workspace.open_corpus().decoding == expected
    assert corpus.fingerprint != usual.fingerprint
    assert "1 image: transparent pixels put on white: ['train2']" in corpus.notes
    assert corpus.views[0].decoding == corpus.as_holdout().decoding == expected


def test_pages_and_backgrounds_that_do_not_exist_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="frames: expected usual, first, middle, last or a number"
    ):
        PrepareConfig(frames="0")
    with pytest.raises(ConfigError, match="background: expected black or white, found 'grey'"):
        PrepareConfig(background="grey")  # type: ignore[arg-type]


def test_the_same_files_are_the_same_corpus(made: Prepare, manifest: Path) -> None:
    first = made().fingerprint
    os.utime(manifest.with_name("train0.png"))
    assert made().fingerprint == first


@pytest.mark.parametrize("change", ["concepts", "category", "folds", "picture"])
def test_a_change_makes_another_corpus(change: str, made: Prepare, manifest: Path) -> None:
    first = made().fingerprint
    text = manifest.read_text(encoding="utf-8")
    if change == "concepts":
        manifest.write_text(text.replace("C1;C3", "C1;C2;C3"), encoding="utf-8")
    elif change == "category":
        manifest.write_text(text.replace("train0.png,train,DRCT", "train0.png,train,DRMR"))
    elif change == "picture":
        Image.new("L", (40, 40)).save(manifest.with_name("train0.png"))
    config = replace(CONFIG, train_folds=3 if change == "folds" else 2)
    assert made(config=config).fingerprint != first


def test_a_changed_age_is_no_other_corpus_to_detectors_that_never_see_it(
    made: Prepare, manifest: Path
) -> None:
    first = made()
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace("C1;C2,30", "C1;C2,"), encoding="utf-8")
    second = made()
    assert second.table.metadata["age"] != first.table.metadata["age"]
    assert second.fingerprint == first.fingerprint


def test_the_size_of_the_cache_is_no_part_of_the_corpus(made: Prepare) -> None:
    larger = replace(CONFIG, image_size=48)
    assert made(config=larger).fingerprint == made().fingerprint


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"train_folds": 1}, "train_folds: expected .*, found 1"),
        ({"valid_folds": 0}, "valid_folds: expected .*, found 0"),
        ({"image_size": 31}, "image_size: expected 32 to 4,096, found 31"),
        ({"image_size": 5000}, "image_size: expected 32 to 4,096, found 5000"),
        ({"seed": -1}, "seed: expected .*, found -1"),
        ({"phantom_images": 0}, "phantom_images: expected .*, found 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, int], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        overlay(PrepareConfig(), settings)


def test_train_without_any_concept_is_refused(made: Prepare, manifest: Path) -> None:
    lines = [
        ",".join([*line.split(",")[:3], "", "1"]) if ",train," in line else line
        for line in manifest.read_text(encoding="utf-8").splitlines()
    ]
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="no image of the training split has concepts"):
        made()


def test_more_folds_than_groups_are_refused(made: Prepare) -> None:
    with pytest.raises(
        CorpusError,
        match=r"^valid: 4 groups .*; ask for fewer: `prepare --set valid_folds=4`$",
    ):
        made(config=replace(CONFIG, valid_folds=5))


def test_names_that_a_line_cannot_hold_are_refused(made: Prepare, manifest: Path) -> None:
    manifest.with_name("train0.png").rename(manifest.with_name("a\x07b.png"))
    text = manifest.read_text(encoding="utf-8").replace("train0.png", "a\x07b.png")
    manifest.write_text(text, encoding="utf-8")
    with pytest.raises(CorpusError, match=r"1 image whose id or path is not UTF-8 or has control"):
        made()


def test_a_folder_with_other_files_is_not_replaced(made: Prepare, workspace: Workspace) -> None:
    workspace.corpus.mkdir(parents=True)
    (workspace.corpus / "scan.jpg").write_bytes(b"x")
    with pytest.raises(CorpusError, match=r"would be replaced, .*\['scan\.jpg'\]; name another"):
        made()
    assert [path.name for path in workspace.corpus.iterdir()] == ["scan.jpg"]
    (workspace.corpus / "scan.jpg").unlink()
    assert len(made().table) == 12


def test_a_prepared_corpus_is_taken_without_a_word(
    made: Prepare, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    fingerprint = made().fingerprint
    assert corpus_or_phantom(workspace).fingerprint == fingerprint
    assert capsys.readouterr() == ("", "")


def test_without_one_the_phantom_corpus_is_drawn_and_named(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = corpus_or_phantom(workspace)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("no corpus is prepared: using the built-in phantom corpus")
    assert err.count("\n") == 1
    assert corpus.name == "phantom corpus"
    assert len(corpus.table) == PrepareConfig().phantom_images
    assert (workspace.phantom / "Test-Concepts.txt").is_file()


def test_the_drawn_corpus_never_takes_the_place_of_one_that_is_lost(
    made: Prepare, manifest: Path, workspace: Workspace
) -> None:
    made()
    shutil.rmtree(workspace.corpus)
    with pytest.raises(MissingStageError, match=rf"prepared from {manifest}: run `.*` again"):
        corpus_or_phantom(workspace)
    with pytest.raises(ConfigError, match=rf"was prepared from {manifest}; give the demo"):
        refuse_other_corpus(workspace)
    assert not workspace.phantom.exists()
    (workspace.root / "prepared.json").unlink()  # as an earlier version left it
    with pytest.raises(MissingStageError, match="holds no prepared corpus"):
        corpus_or_phantom(workspace)


def test_a_backup_that_a_killed_prepare_left_is_back_for_the_next_command(
    made: Prepare, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    fingerprint = made().fingerprint
    workspace.corpus.rename(workspace.root / ".corpus.4711-00000001.old")
    assert corpus_or_phantom(workspace).fingerprint == fingerprint
    assert "what was there before is back" in capsys.readouterr().err


def test_who_finds_another_process_preparing_takes_what_it_prepares(
    manifest: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.root.mkdir()
    held = claim(workspace.root / ".prepare.lock")
    assert held is not None
    found = []
    thread = threading.Thread(target=lambda: found.append(corpus_or_phantom(workspace)))
    thread.start()
    while "another process prepares a corpus here; waiting" not in capsys.readouterr().err:
        time.sleep(0.01)
    prepared = _prepare(read_corpus(manifest), workspace, source=manifest, config=CONFIG)
    held.release()
    thread.join()
    assert found[0].fingerprint == prepared.fingerprint


def test_the_demo_does_not_replace_a_corpus_of_the_user(
    made: Prepare, workspace: Workspace
) -> None:
    refuse_other_corpus(workspace)  # nothing is prepared yet
    made()
    with pytest.raises(ConfigError, match=r"holds the corpus small \(manifest\); give the demo"):
        refuse_other_corpus(workspace)


CROSSFIT = PrepareConfig(protocol="crossfit", folds=3, image_size=32)


def test_crossfit_deals_train_and_valid_together(made: Prepare, workspace: Workspace) -> None:
    corpus = made(config=CROSSFIT)
    assert corpus.labels.cuis == ("C1", "C2", "C3", "C9")  # C9 is in valid only
    said = "1 concept of 1 assignment in valid never in train: learnt under the protocol crossfit"
    assert sum("in valid" in note for note in corpus.notes) == 1
    assert any(note.startswith(said) for note in corpus.notes)
    labelled = corpus.images(corpus.scored)
    assert len(labelled) == 10
    assert sorted((labelled.folds == fold).sum() for fold in (0, 1, 2)) == [3, 3, 4]
    assert set(corpus.table.of(split="test").folds) == {-1}
    assert set(corpus.table.splits) == {"train", "valid", "test"}
    assert corpus.prior.n_images[""] == 10
    opened = workspace.open_corpus()
    assert (opened.protocol, opened.n_folds) == ("crossfit", 3)
    assert [view.fingerprint for view in opened.views] == [
        f"{corpus.fingerprint}-{k}" for k in (1, 2, 3)
    ]
    assert overview(corpus)[0] == (
        "small (manifest): 12 images, 4 concepts in train and valid, 3 folds of both"
    )


def test_each_view_holds_out_a_fold(made: Prepare) -> None:
    corpus = made(config=CROSSFIT)
    labelled = corpus.labelled_images("labelled")
    for fold, view in enumerate(corpus.views):
        assert view.labels is corpus.labels
        assert view.views == (view,)
        assert view.images("valid").image_ids == labelled.take(labelled.folds == fold).image_ids
        assert view.images("train").image_ids == labelled.take(labelled.folds != fold).image_ids
        assert view.images("test").image_ids == corpus.images("test").image_ids
        assert view.prior.fitted_on.isdisjoint(view.images("valid").image_ids)


def test_what_is_not_labelled_is_learnt_from_in_no_view(made: Prepare) -> None:
    corpus = made(config=CROSSFIT)
    unknown = replace(corpus.table, concepts=(None, *corpus.table.concepts[1:]))
    other = replace(corpus, table=unknown)
    for view in other.views:
        assert view.table.splits[0] == "valid"
        assert other.table.image_ids[0] not in view.labelled_images("valid").image_ids
    assert len(other.labelled_images("labelled")) == 9


def test_a_holdout_corpus_keeps_its_fingerprint_and_its_one_view(
    made: Prepare, workspace: Workspace
) -> None:
    corpus = made()
    assert corpus.views == (corpus,)
    assert (corpus.learnt_from, corpus.scored, corpus.n_folds) == ("train", "valid", 2)
    forget_files(workspace.corpus)
    meta = json.loads((workspace.corpus / "meta.json").read_text(encoding="utf-8"))
    assert meta.pop("protocol") == "holdout"
    (workspace.corpus / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    assert workspace.open_corpus().protocol == "holdout"  # prepared before there were two
    assert made(config=CROSSFIT).fingerprint != corpus.fingerprint


def with_groups(manifest: Path, groups: str) -> None:
    """Give the twelve images these groups, a letter each."""
    lines = manifest.read_text(encoding="utf-8").splitlines()
    cells = ["group", *groups]
    text = "\n".join(f"{line},{cell}" for line, cell in zip(lines, cells, strict=True))
    manifest.write_text(text + "\n", encoding="utf-8")


def test_a_group_may_cross_train_and_valid_only_where_they_are_dealt_together(
    made: Prepare, manifest: Path
) -> None:
    with_groups(manifest, "abcdef" + "aghi" + "jk")
    with pytest.raises(CorpusError, match=r"1 group .* in valid: \['a'\].*--protocol crossfit"):
        made()
    table = made(config=CROSSFIT).table
    folds = dict(zip(table.image_ids, table.folds, strict=True))
    first, second = (i for i, g in zip(table.image_ids, table.groups, strict=True) if g == "a")
    assert folds[first] == folds[second]


@pytest.mark.parametrize("config", [CONFIG, CROSSFIT], ids=["holdout", "crossfit"])
def test_a_group_may_cross_into_test_and_is_listed(
    made: Prepare, manifest: Path, workspace: Workspace, config: PrepareConfig
) -> None:
    with_groups(manifest, "abcdef" + "lghi" + "ba")
    corpus = made(config=config)
    assert "train and test: 2 groups (2 and 2 images)" in "".join(corpus.notes)
    listed = (workspace.corpus / "crossing_groups.csv").read_text(encoding="utf-8").splitlines()
    assert listed == [
        *["group,split,image_ids", "a,train,train0", "a,test,test1"],
        *["b,train,train1", "b,test,test0"],
    ]
    made(config=config)  # the file is its own: it may be prepared again
    with pytest.raises(CorpusError, match=r"refused by a strict reading: 2 groups.*`deal`"):
        made(config=config, strict=True)


def test_without_crossing_groups_nothing_is_listed(made: Prepare, workspace: Workspace) -> None:
    made()
    assert not (workspace.corpus / "crossing_groups.csv").exists()


def without_valid(manifest: Path, *, times: int) -> None:
    """Leave valid out, and take every image of train so often."""
    header, *lines = manifest.read_text(encoding="utf-8").splitlines()
    made = [f"image_id,{header}"]
    for line in lines:
        if ",valid," not in line:
            name = line.partition(".")[0]
            n = times if ",train," in line else 1
            made += [f"{name}_{number},{line}" for number in range(n)]
    manifest.write_text("\n".join(made) + "\n", encoding="utf-8")


def test_a_corpus_without_valid_gets_a_tenth_of_train(made: Prepare, manifest: Path) -> None:
    without_valid(manifest, times=10)
    corpus = made()
    splits = [corpus.table.splits.count(split) for split in ("train", "valid", "test")]
    assert splits == [54, 6, 2]
    assert set(corpus.table.of(split="valid").groups).isdisjoint(
        corpus.table.of(split="train").groups
    )
    assert any(
        "none given, so 6 images of 6 groups are dealt from train" in n for n in corpus.notes
    )
    assert "valid: no image" not in corpus.notes
    assert made().fingerprint == corpus.fingerprint


def test_where_valid_would_be_too_small_nothing_is_dealt(made: Prepare, manifest: Path) -> None:
    without_valid(manifest, times=1)
    corpus = made()
    assert "valid" not in corpus.table.splits
    assert "valid: no image" in corpus.notes


def test_a_corpus_without_a_readable_training_image_is_refused(
    manifest: Path, workspace: Workspace
) -> None:
    for number in range(6):
        (manifest.parent / f"train{number}.png").write_bytes(b"no image")
    with pytest.raises(
        CorpusError,
        match=r"^none of 6 training images can be decoded, .*for example .*train0\.png: not an im",
    ):
        prepare(manifest, workspace, config=CONFIG)
    assert not workspace.has_corpus()


def test_a_column_makes_the_groups_where_it_is_asked_for(
    manifest: Path, workspace: Workspace
) -> None:
    lines = manifest.read_text(encoding="utf-8").splitlines()
    articles = ["PMCID", "PMC1", "PMC1", "PMC2", "PMC2", "", "PMC3", *"abcd", "x", "y"]
    pairs = zip(lines, articles, strict=True)
    manifest.write_text("".join(f"{line},{article}\n" for line, article in pairs), "utf-8")
    plain = prepare(manifest, workspace, config=CONFIG)
    assert plain.table.groups == plain.table.image_ids
    corpus = prepare(manifest, workspace, config=overlay(CONFIG, {"group_by": "pmcid"}))
    assert corpus.table.groups[:6] == ("PMC1", "PMC1", "PMC2", "PMC2", "train4", "PMC3")
    folds = corpus.table.of(split="train").folds
    assert folds[0] == folds[1]
    assert folds[2] == folds[3]
    assert "groups by PMCID: 9 groups" in corpus.notes
    assert (
        "groups by PMCID: 1 image without a value, each a group of its own: ['train4']"
        in corpus.notes
    )


def test_the_same_images_zipped_are_the_same_corpus(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    packed.mkdir()
    for split in ROWS:
        (plain / f"{split}_images").mkdir(parents=True)
        with zipfile.ZipFile(packed / f"{split}_images.zip", "w") as archive:
            for number in range(4):
                path = plain / f"{split}_images" / f"{split}{number}.png"
                Image.fromarray(rng.integers(0, 255, (40, 40), dtype=np.uint8)).save(path)
                archive.write(path, f"{split}/{path.name}")
        listed = "".join(f"{split}{n},C{n // 2}\n" for n in range(4))
        for folder in (plain, packed):
            (folder / f"{split}_concepts.csv").write_text(f"ID,CUIs\n{listed}", encoding="utf-8")
    made, pixels = [], []
    for folder in (plain, packed):
        home = Workspace(folder / "runs")
        made.append(prepare(folder, home, config=CONFIG))
        cache = build_cache(made[-1].table, home.cache, size=32)
        pixels.append(cache.planes.pixels(np.arange(12)))
    assert made[0].fingerprint == made[1].fingerprint
    assert made[1].table.paths[0] == str(packed / "train_images.zip/train/train0.png")
    assert made[1].table.metadata["readable"] == ("1",) * 12
    assert np.array_equal(pixels[0], pixels[1])


def test_valid_images_without_labels_are_prepared(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        (tmp_path / split).mkdir()
        for number in range(6):
            name = tmp_path / split / f"{split}{number}.png"
            Image.fromarray(np.full((9, 9), number, np.uint8)).save(name)
    rows = "".join(f"train{n},C{n % 2}\n" for n in range(6))
    (tmp_path / "train_concepts.csv").write_text(f"ID,CUIs\n{rows}", encoding="utf-8")
    for protocol in ("crossfit", "holdout"):
        config = overlay(CONFIG, {"protocol": protocol, "folds": 3})
        corpus = prepare(tmp_path, Workspace(tmp_path / protocol), config=config)
        assert corpus.table.splits == ("train",) * 6 + ("valid",) * 6
        assert corpus.table.concepts[6:] == (None,) * 6
