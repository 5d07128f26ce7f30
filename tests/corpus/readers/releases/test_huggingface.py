import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import CorpusError
from core.storage.packed import read_bytes
from corpus.readers.releases.huggingface import is_huggingface, read_huggingface


def shard(path: Path, **columns: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def image(content: bytes, path: str | None = None) -> dict[str, Any]:
    return {"bytes": content, "path": path}


def lay(
    home: Path, *, name: str = "{s}-{k:05d}-of-00002.parquet", word: str = "validation"
) -> None:
    for k, ids in enumerate((["t1"], ["t2", "t3"])):
        shard(
            home / name.format(s="train", k=k),
            image=[image(i.encode()) for i in ids],
            image_id=ids,
            caption=["a text"] * len(ids),
            cui=[["C1", "C2"]] * len(ids),
        )
    for split, image_id in ((word, "v1"), ("test", "x1")):
        shard(
            home / name.format(s=split, k=0),
            image=[image(image_id.encode())],
            image_id=[image_id],
            caption=["a text"],
            cui=[["C1"]],
        )


@pytest.mark.parametrize(
    ("home", "name", "word"),
    [
        ("data", "{s}-{k:05d}-of-00002.parquet", "validation"),
        (".", "{s}-{k:05d}-of-00002.parquet", "valid"),
        (".", "{s}_{k}.parquet", "val"),
        ("default", "{s}/{k:04d}.parquet", "validation"),
    ],
)
def test_shards_are_read_wherever_they_lie(tmp_path: Path, home: str, name: str, word: str) -> None:
    lay(tmp_path / home, name=name, word=word)
    assert is_huggingface(tmp_path)
    reading = read_huggingface(tmp_path, strict=True)
    table = reading.table
    assert (reading.layout, reading.edition) == ("Hugging Face parquet", 2025)
    assert table.image_ids == ("t1", "t2", "t3", "v1", "x1")
    assert table.splits == ("train", "train", "train", "valid", "test")
    assert table.concepts == (("C1", "C2"),) * 3 + (("C1",), None)
    assert table.metadata == {}
    assert table.taught_captions == ("a text",) * 4 + ("",)
    assert [read_bytes(Path(path)) for path in table.paths] == [b"t1", b"t2", b"t3", b"v1", b"x1"]
    assert len(reading.notes) == 1
    assert reading.notes[0].endswith("column cui not read, the test images stay unlabelled")


def test_a_folder_with_other_tables_is_no_such_corpus(tmp_path: Path) -> None:
    shard(tmp_path / "manifest.parquet", image_id=["a"], split=["train"])
    shard(tmp_path / "trainings.parquet", image=[b"x"])
    assert not is_huggingface(tmp_path)
    assert not is_huggingface(tmp_path / "manifest.parquet")


CELLS: list[tuple[Any, tuple[str, ...] | None]] = [
    (["C1", "C2"], ("C1", "C2")),
    (["C1", None], ("C1",)),
    ([None], ()),
    (["nan"], ()),
    (["None"], ()),
    ([], ()),
    ("C1;C2", ("C1", "C2")),
    ("C1, C2", ("C1", "C2")),
    ("C1 C2", ("C1", "C2")),
    ("['C1', 'C2']", ("C1", "C2")),
    ('["C1", null]', ("C1",)),
    ("[]", ()),
    ("", ()),
    ("nan", ()),
    (None, None),
]


@pytest.mark.parametrize(("cell", "concepts"), CELLS, ids=[str(cell) for cell, _ in CELLS])
@pytest.mark.parametrize("column", ["cui", "CUIs", "concepts"])
def test_concepts_are_a_list_or_a_text(
    tmp_path: Path, cell: Any, concepts: tuple[str, ...] | None, column: str
) -> None:
    kind = pa.list_(pa.string()) if isinstance(cell, list) else pa.string()
    known = ["C9"] if isinstance(cell, list) else "C9"
    shard(
        tmp_path / "train.parquet",
        image=[image(b"a"), image(b"b")],
        image_id=["a", "b"],
        **{column: pa.array([cell, known], kind)},
    )
    assert read_huggingface(tmp_path).table.concepts == (concepts, ("C9",))


def test_a_word_for_none_is_counted(tmp_path: Path) -> None:
    shard(tmp_path / "train.parquet", image=[b"a", b"b"], cui=[["nan"], ["C1"]], id=["a", "b"])
    text = "1 image with a word for nothing as the only concept, read as no concept: 'nan' (1)"
    assert f"concepts: {text}" in read_huggingface(tmp_path).notes


def test_what_is_no_list_of_concepts_is_refused(tmp_path: Path) -> None:
    shard(tmp_path / "train.parquet", image=[b"a"], image_id=["a"], cui=["C1 of chest"])
    with pytest.raises(CorpusError, match=r"train\.parquet: row 0: expected a list of CUIs, found"):
        read_huggingface(tmp_path)


def test_tags_with_blanks_are_concepts(tmp_path: Path) -> None:
    shard(tmp_path / "train.parquet", image=[b"a"], image_id=["a"], cui=[["chest tube", "edema"]])
    reading = read_huggingface(tmp_path)
    assert reading.table.concepts == (("CHEST_TUBE", "EDEMA"),)


def test_ids_are_those_beside_the_bytes_or_the_rows(tmp_path: Path) -> None:
    cells = [image(b"1", "train/a.b.jpg"), image(b"2", "c.png"), image(b"3")]
    shard(tmp_path / "train-0.parquet", image=cells, cui=[["C1"]] * 3)
    assert read_huggingface(tmp_path).table.image_ids == ("a.b", "c", "train-0-2")
    shard(tmp_path / "train-0.parquet", image=cells, image_id=["x.jpg", "y", ""], cui=[["C1"]] * 3)
    assert read_huggingface(tmp_path).table.image_ids == ("train-0-2", "x", "y")


def test_rows_without_an_image_are_left_out_or_read_beside(tmp_path: Path) -> None:
    (tmp_path / "far.jpg").write_bytes(b"far")
    shard(
        tmp_path / "train.parquet",
        image=[image(b"1"), {"bytes": None, "path": "far.jpg"}, None],
        image_id=["a", "b", "c"],
        cui=[["C1"]] * 3,
    )
    reading = read_huggingface(tmp_path)
    assert reading.table.image_ids == ("a", "b")
    assert [read_bytes(Path(path)) for path in reading.table.paths] == [b"1", b"far"]
    assert reading.notes[0] == "1 row without an image, left out: ['c']"
    with pytest.raises(CorpusError, match="refused by a strict reading: 1 row without an image"):
        read_huggingface(tmp_path, strict=True)


def test_further_columns_are_metadata_and_some_have_a_meaning(tmp_path: Path) -> None:
    shard(
        tmp_path / "train.parquet",
        image=[b"1", b"2"],
        image_id=["a", "b"],
        cui=[["C1"]] * 2,
        age=[40.0, None],
        group=["p", "p"],
        category=["CT", None],
    )
    table = read_huggingface(tmp_path).table
    assert table.metadata == {"age": ("40", "")}
    assert table.groups == ("p", "p")
    assert table.categories == ("DRCT", "")


def test_a_shard_without_images_is_refused(tmp_path: Path) -> None:
    shard(tmp_path / "train.parquet", image_id=["a"], cui=[["C1"]])
    with pytest.raises(CorpusError, match=r"train\.parquet: no column holds images or names files"):
        read_huggingface(tmp_path)


def test_images_may_be_files_that_the_shards_name(tmp_path: Path) -> None:
    for name in ("t.jpg", "v.jpg"):
        (tmp_path / name).write_bytes(b"x")
    cells = {"train": {"bytes": None, "path": "t.jpg"}, "valid": "v.jpg"}
    for split, cell in cells.items():
        shard(tmp_path / "data" / f"{split}-0.parquet", image=[cell], cui=[["C1"]])
    table = read_huggingface(tmp_path).table
    assert table.image_ids == ("t", "v")
    assert table.paths == (str(tmp_path / "t.jpg"), str(tmp_path / "v.jpg"))


@pytest.mark.parametrize("wrapped", [False, True])
def test_classes_that_are_numbers_have_the_names_that_the_shard_tells(
    tmp_path: Path, wrapped: bool
) -> None:
    feature: Any = {"names": ["normal", "pleural effusion"], "_type": "ClassLabel"}
    cells: list[Any] = [1, 0, -1]
    if wrapped:
        feature, cells = {"feature": feature, "_type": "Sequence"}, [[1, 0], [0], []]
    table = pa.table({"image": [image(b"x")] * 3, "label": cells})
    told = json.dumps({"info": {"features": {"label": feature}}})
    pq.write_table(table.replace_schema_metadata({"huggingface": told}), tmp_path / "train.parquet")
    reading = read_huggingface(tmp_path)
    several = ("PLEURAL_EFFUSION", "NORMAL") if wrapped else ("PLEURAL_EFFUSION",)
    assert reading.table.concepts == (several, ("NORMAL",), ())
    assert reading.names == {"PLEURAL_EFFUSION": "pleural effusion"}


def test_a_missing_column_of_concepts_and_an_id_twice_are_named(tmp_path: Path) -> None:
    shard(tmp_path / "train.parquet", image=[image(b"x")], findings=["x"])
    with pytest.raises(CorpusError, match=r"no column of concepts; looked for cui, .*findings"):
        read_huggingface(tmp_path)
    shard(tmp_path / "train.parquet", image=[image(b"x")] * 2, id=["a", "a"], cui=["C1", "C1"])
    with pytest.raises(CorpusError, match=r"row 1: image 'a' stands twice, first in .*row 0; keep"):
        read_huggingface(tmp_path)
