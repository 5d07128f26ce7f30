"""Dealing an archive: shares, whole groups, and a manifest that reads back."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.errors import ConfigError, CorpusError
from core.images import ImageTable
from corpus.deal import (
    DealConfig,
    deal,
    deal_valid,
    dealt_lines,
    refuse_overwriting,
    write_manifest,
)
from corpus.folds import deal_shares
from corpus.readers.manifest import read_manifest
from corpus.readers.reading import Reading
from corpus.readers.unsplit import read_archive


def table_of(
    groups: Sequence[str], concepts: Sequence[tuple[str, ...] | None], *, split: str = "train"
) -> ImageTable:
    n = len(groups)
    return ImageTable(
        image_ids=tuple(f"i{row}" for row in range(n)),
        paths=tuple(f"/images/i{row}.png" for row in range(n)),
        categories=("DRCT",) * n,
        splits=(split,) * n,
        folds=np.full(n, -1, dtype=np.int16),
        groups=tuple(groups),
        concepts=tuple(concepts),
    )


def reading_of(table: ImageTable) -> Reading:
    notes = ("valid: no image", "kept")
    return Reading(layout="here", edition=2025, table=table, names={}, notes=notes)


def test_parts_have_their_shares_of_all_images_and_of_each_concept() -> None:
    # C1 on all hundred, C2 on every fifth: 80, 10 and 10 of C1, 16, 2 and 2 of C2.
    concepts = [("C1", "C2") if row % 5 == 0 else ("C1",) for row in range(100)]
    table = table_of([f"g{row}" for row in range(100)], concepts)
    parts = deal_shares(table, shares=(0.8, 0.1, 0.1), seed=0)
    assert np.bincount(parts).tolist() == [80, 10, 10]
    assert np.bincount(parts[::5]).tolist() == [16, 2, 2]
    assert (deal_shares(table, shares=(0.8, 0.1, 0.1), seed=0) == parts).all()
    assert (deal_shares(table, shares=(0.8, 0.1, 0.1), seed=1) != parts).any()


def test_groups_stay_whole_and_a_rare_concept_stays_in_train() -> None:
    groups = [f"g{row // 3}" for row in range(90)]
    concepts = [("C1", "RARE") if row == 7 else ("C1",) for row in range(90)]
    dealt = deal(reading_of(table_of(groups, concepts)), config=DealConfig())
    splits_of: dict[str, set[str]] = {}
    for group, split in zip(dealt.groups, dealt.splits, strict=True):
        splits_of.setdefault(group, set()).add(split)
    assert all(len(splits) == 1 for splits in splits_of.values())
    assert splits_of["g2"] == {"train"}
    assert [dealt.splits.count(split) for split in ("train", "valid", "test")] == [72, 9, 9]


def test_images_without_concepts_are_left_out_and_counted() -> None:
    concepts: list[tuple[str, ...] | None] = [("C1",)] * 40
    concepts[0] = None
    reading = reading_of(table_of([f"g{row}" for row in range(40)], concepts))
    config = DealConfig(valid=0.25, test=0, seed=3)
    dealt = deal(reading, config=config)
    assert "i0" not in dealt.image_ids
    lines = dealt_lines(reading, dealt, config=config)
    # 39 images: a quarter of them is 9.75.
    assert lines[0] == "39 images of 39 groups dealt, seed 3: train 29 (74.4%), valid 10 (25.6%)"
    assert lines[1] == "  DRCT: 39 images, train 29 (74.4%), valid 10 (25.6%)"
    assert "  groups in more than one split: 0" in lines
    assert lines[-2:] == ["  note: 1 image without concepts left out", "  note: kept"]


def test_too_few_groups_for_a_split_are_refused() -> None:
    table = table_of(["a", "a", "b"], [("C1",)] * 3)
    with pytest.raises(CorpusError, match=r"would get no image: there are 2 groups"):
        deal(reading_of(table), config=DealConfig())


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"valid: expected .*, found -0\.1"):
        DealConfig(valid=-0.1)
    with pytest.raises(ConfigError, match=r"leave some to train, found 0\.5 and 0\.5"):
        DealConfig(valid=0.5, test=0.5)
    with pytest.raises(ConfigError, match="seed: expected 0 to"):
        DealConfig(seed=-1)


def test_valid_is_not_dealt_from_groups_that_are_in_test() -> None:
    groups = [f"g{row}" for row in range(40)]
    train, test = table_of(groups, [("C1",)] * 40), table_of(groups[:20], [None] * 20, split="test")
    both = ImageTable(
        image_ids=(*train.image_ids, *(f"t{row}" for row in range(20))),
        paths=train.paths + test.paths,
        categories=train.categories + test.categories,
        splits=train.splits + test.splits,
        folds=np.full(60, -1, dtype=np.int16),
        groups=train.groups + test.groups,
        concepts=train.concepts + test.concepts,
    )
    dealt, notes = deal_valid(both, seed=0, at_least=2)
    assert set(dealt.of(split="valid").groups) <= set(groups[20:])
    assert dealt.splits.count("valid") == 2  # a tenth of the twenty that are free
    assert notes[0].startswith("valid: none given, so 2 images of 2 groups")
    assert deal_valid(dealt, seed=0, at_least=2) == (dealt, [])


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Thirty images of fifteen groups in a folder, with a list and groups beside them."""
    home = tmp_path / "archive"
    (home / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for row in range(30):
        pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(home / "images" / f"i{row}.png")
    lines = [f"i{row},C1;C{2 + row % 2}\n" for row in range(30)]
    (home / "list.csv").write_text("ID,CUIs\n" + "".join(lines), encoding="utf-8")
    groups = [f"i{row},p{row // 2}\n" for row in range(30)]
    (home / "groups.csv").write_text("image_id,group\n" + "".join(groups), encoding="utf-8")
    return home


def test_a_folder_with_one_list_is_dealt_and_reads_back(archive: Path, tmp_path: Path) -> None:
    dealt = deal(read_archive(archive), config=DealConfig(valid=0.2, test=0.2))
    assert [dealt.splits.count(split) for split in ("train", "valid", "test")] == [18, 6, 6]
    for path, first in ((archive / "dealt.csv", "images/i"), (tmp_path / "x" / "m.csv", "/")):
        write_manifest(dealt, path)
        assert path.read_text(encoding="utf-8").splitlines()[1].startswith(first)
        table = read_manifest(path).table
        assert (table.image_ids, table.splits, table.groups) == (
            (dealt.image_ids, dealt.splits, dealt.groups)
        )


def test_a_manifest_is_dealt_anew_whatever_its_split_says(archive: Path) -> None:
    lines = [f"images/i{row}.png,test,C1,p{row // 2},{row}" for row in range(30)]
    text = "\n".join(["path,split,concepts,group,age", *lines]) + "\n"
    (archive / "groups.csv").unlink()
    (archive / "all.csv").write_text(text, encoding="utf-8")
    dealt = deal(read_archive(archive / "all.csv"), config=DealConfig(valid=0.2, test=0.2))
    assert [dealt.splits.count(split) for split in ("train", "valid", "test")] == [18, 6, 6]
    assert set(dealt.metadata) == {"age"}
    assert dealt.concepts[-1] == ("C1",)  # those of test as well


def test_names_of_concepts_are_dealt_along(archive: Path) -> None:
    (archive / "concept_names.csv").write_text("C1,Chest; whole\nC2,Heart\n", encoding="utf-8")
    reading = read_archive(archive)
    write_manifest(
        deal(reading, config=DealConfig()), archive.parent / "m.csv", names=reading.names
    )
    assert read_manifest(archive.parent / "m.csv").names == {"C1": "Chest, whole", "C2": "Heart"}


def test_a_strict_deal_of_a_layout_refuses_what_is_lost_but_not_what_crosses(
    archive: Path,
) -> None:
    """Groups that cross are dealt anew; an entry of the list without its image is lost."""
    (archive / "images").rename(archive / "train")
    (archive / "test").mkdir()
    for row in range(20, 30):
        (archive / "train" / f"i{row}.png").rename(archive / "test" / f"i{row}.png")
    (archive / "list.csv").unlink()
    (archive / "groups.csv").write_text("image_id,group\ni0,p\ni20,p\n", encoding="utf-8")
    lines = "".join(f"i{row},C1\n" for row in range(20))
    (archive / "train_concepts.csv").write_text(f"ID,CUIs\n{lines}", encoding="utf-8")
    reading = read_archive(archive, strict=True)
    dealt = deal(reading, config=DealConfig(valid=0.2, test=0))
    assert any("1 group with images in more than one split" in note for note in reading.notes)
    told = dealt_lines(reading, dealt, config=DealConfig())
    assert not any("more than one split:" in n or "no image" in n for n in told if "note" in n)
    (archive / "train" / "i7.png").unlink()
    with pytest.raises(CorpusError, match=r"by a strict reading: train_concepts\.csv: 1 im"):
        read_archive(archive, strict=True)


def test_what_is_no_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such file or folder"):
        read_archive(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match="expected a manifest"):
        read_archive(archive / "images" / "i0.png")
    (archive / "other.csv").write_text("i0,C1\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"found \['list.csv', 'other.csv'\]; name it with"):
        read_archive(archive)
    assert len(read_archive(archive, concepts=archive / "list.csv").table) == 30


def test_a_manifest_is_not_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    refuse_overwriting(path, overwrite=False)
    path.write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="is there already; give another --out, or --overwrite"):
        refuse_overwriting(path, overwrite=False)
    refuse_overwriting(path, overwrite=True)
    with pytest.raises(ConfigError, match=r"ends in \.csv"):
        refuse_overwriting(tmp_path / "m.parquet", overwrite=False)
