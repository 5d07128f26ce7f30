from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from core.errors import CorpusError
from core.labels import Concepts
from corpus.readers.annotations import Annotations
from corpus.readers.concept_lists import ConceptList
from corpus.readers.files import FoundImage
from corpus.readers.layouts import read_corpus
from corpus.readers.notes import Note
from corpus.readers.reading import Reading, make_reading, regrouped

CATEGORIES = ("DRAN", "DRCO", "DRCT", "DRMR", "DRPE", "DRUS", "DRXR")


def image(image_id: str, split: str = "train", category: str = "") -> FoundImage:
    path = Path("/corpus") / split / category / f"{image_id}.jpg"
    return FoundImage(image_id=image_id, path=path, split=split, category=category)


def listed(name: str, concepts: Mapping[str, Concepts]) -> ConceptList:
    return ConceptList(path=Path("/corpus") / name, concepts=concepts)


def said(rows: Mapping[str, Mapping[str, str]], *columns: str) -> Annotations:
    return Annotations(path=Path("/corpus/groups.csv"), columns=columns, rows=rows)


def read(
    found: Sequence[FoundImage],
    train: Mapping[str, Concepts],
    valid: Mapping[str, Concepts] | None = None,
    *,
    annotations: Sequence[Annotations] = (),
    notes: Sequence[Note] = (),
    strict: bool = False,
) -> Reading:
    lists = {"train": listed("Training.txt", train)}
    if valid is not None:
        lists["valid"] = listed("Validation.txt", valid)
    return make_reading(
        found,
        lists,
        layout="here",
        edition=2020,
        names={},
        annotations=annotations,
        notes=notes,
        strict=strict,
    )


def test_rows_stand_by_split_and_then_by_the_numbers_in_their_ids() -> None:
    found = [image("i3", "test"), image("i10"), image("i2", "valid"), image("i9")]
    reading = read(found, {"i9": ("C1",), "i10": ("C1",)}, {"i2": ("C1",)})
    assert reading.table.image_ids == ("i9", "i10", "i2", "i3")
    assert reading.table.paths[0] == "/corpus/train/i9.jpg"
    assert reading.table.folds.tolist() == [-1, -1, -1, -1]
    shuffled = read(found[::-1], {"i10": ("C1",), "i9": ("C1",)}, {"i2": ("C1",)})
    assert shuffled.table.image_ids == reading.table.image_ids


def test_concepts_are_known_for_listed_images_and_unknown_for_all_others() -> None:
    found = [image("a"), image("b"), image("c"), image("t", "test")]
    reading = read(found, {"a": ("C2", "C1"), "b": ()})
    assert reading.table.concepts == (("C2", "C1"), (), None, None)
    assert reading.notes == (
        "train: 1 of 3 images without an entry in Training.txt, unlabelled: ['c']",
        "train: 1 image known to have no concept, kept: ['b']",
        "valid: no image",
    )


@pytest.mark.parametrize(
    ("twin", "message"),
    [
        (image("a", "train", "DRMR"), "train/a.jpg and /corpus/train/DRMR/a.jpg; keep one"),
        (image("a", "valid"), "train/a.jpg and /corpus/valid/a.jpg; keep one"),
    ],
)
def test_an_id_with_two_files_is_refused_with_both(twin: FoundImage, message: str) -> None:
    with pytest.raises(CorpusError, match=f"image 'a' stands twice: /corpus/{message}"):
        read([image("a"), twin], {"a": ("C1",)})


def test_an_id_in_two_lists_is_refused_with_both() -> None:
    with pytest.raises(
        CorpusError, match=r"image 'a' stands in Training.txt and in Validation.txt; keep one"
    ):
        read([image("a"), image("v", "valid")], {"a": ("C1",)}, {"v": (), "a": ()})


def test_an_id_in_the_list_of_another_split_is_refused() -> None:
    with pytest.raises(CorpusError) as refused:
        read([image("a"), image("v", "valid")], {"a": ("C1",), "v": ("C1",)})
    assert str(refused.value) == (
        "/corpus/Training.txt: 1 image of it in the folder of valid, expected in that of train:"
        " ['v']"
    )


def test_a_listed_id_without_a_file_is_counted_and_left_out() -> None:
    train: dict[str, Concepts] = {"a": ("C1",), "x": ("C9",), "y": ()}
    reading = read([image("a")], train)
    assert reading.table.image_ids == ("a",)
    assert (
        reading.notes[0] == "Training.txt: 2 images of train without a file, left out: ['x', 'y']"
    )
    with pytest.raises(CorpusError, match=r"strict.*2 images of train without a file"):
        read([image("a")], train, strict=True)


def test_a_list_without_any_file_is_refused() -> None:
    with pytest.raises(
        CorpusError,
        match=r"no image file for any of its 2 ids, first 'x'; check the folder of train",
    ):
        read([image("a")], {"x": ("C1",), "y": ("C1",)})


def test_an_image_without_an_entry_is_refused_by_a_strict_reading() -> None:
    with pytest.raises(CorpusError, match=r"strict.*1 of 2 images without an entry in Training"):
        read([image("a"), image("b")], {"a": ("C1",)}, strict=True)


@pytest.mark.parametrize("found", [[], [image("v", "valid")]])
def test_a_corpus_without_labelled_training_images_is_refused(found: list[FoundImage]) -> None:
    with pytest.raises(CorpusError, match=r"none of 0 training images has concepts"):
        read(found, {})


def test_gaps_in_the_categories_are_named_for_each_split() -> None:
    train = [image(c.lower(), "train", c) for c in CATEGORIES if c != "DRPE"]
    valid = [image(f"v{c}", "valid", c) for c in CATEGORIES if c not in ("DRCO", "DRPE")]
    test = [image(f"t{c}", "test", c) for c in CATEGORIES]
    reading = read(
        [*train, *valid, *test],
        {i.image_id: ("C1",) for i in train},
        {i.image_id: ("C1",) for i in valid},
    )
    assert reading.notes == ("train: no image of DRPE", "valid: no image of DRCO, DRPE")


def test_a_corpus_without_categories_has_no_gaps_in_them() -> None:
    found = [image("a"), image("v", "valid"), image("t", "test")]
    assert read(found, {"a": ("C1",)}, {"v": ("C1",)}).notes == ()


def test_concepts_of_valid_that_train_lacks_are_counted() -> None:
    found = [image("a"), image("v", "valid"), image("w", "valid"), image("t", "test")]
    reading = read(found, {"a": ("C1",)}, {"v": ("C1", "C2", "C3"), "w": ("C2",)})
    # C2 twice and C3 once
    assert reading.notes == (
        "2 concepts of 3 assignments in valid never in train: learnt under the protocol"
        " crossfit; under holdout always missed and counted so",
    )


def test_an_image_without_a_group_is_its_own_and_tables_give_groups_and_metadata() -> None:
    rows = {"a": {"group": "p1", "source": "x"}, "b": {"group": "", "source": ""}}
    reading = read(
        [image("a"), image("b"), image("c")],
        dict.fromkeys("abc", ("C1",)),
        annotations=[said(rows, "source")],
    )
    assert reading.table.groups == ("p1", "b", "c")
    assert reading.table.metadata == {"source": ("x", "", "")}


def test_the_first_table_with_a_value_counts() -> None:
    first = said({"a": {"group": "p1"}, "b": {"group": ""}})
    second = said({"a": {"group": "q1"}, "b": {"group": "q2"}})
    reading = read(
        [image("a"), image("b")], dict.fromkeys("ab", ("C1",)), annotations=[first, second]
    )
    assert reading.table.groups == ("p1", "q2")


def test_a_table_fills_in_the_category_that_no_folder_names() -> None:
    reading = read(
        [image("a"), image("b")],
        dict.fromkeys("ab", ("C1",)),
        annotations=[said({"a": {"category": "DRUS"}})],
    )
    assert reading.table.categories == ("DRUS", "")


CROSSING = {
    "a": {"group": "p2"},
    "v": {"group": "p2"},
    "t": {"group": "p3"},
    "b": {"group": "p3"},
}


def read_crossing(*, strict: bool) -> Reading:
    found = [image("a"), image("b"), image("v", "valid"), image("t", "test")]
    train: dict[str, Concepts] = {"a": ("C1",), "b": ("C1",)}
    return read(found, train, {"v": ("C1",)}, annotations=[said(CROSSING)], strict=strict)


def test_groups_that_cross_keep_their_split_and_are_counted() -> None:
    reading = read_crossing(strict=False)
    assert reading.table.splits == ("train", "train", "valid", "test")
    note = next(note for note in reading.notes if "more than one split" in note)
    assert note.startswith("2 groups with images in more than one split: ['p2', 'p3'];")
    assert "train and valid: 1 group (1 and 1 images), train and test: 1 group" in note
    assert "corpus/crossing_groups.csv" in note


def test_a_strict_reading_refuses_groups_that_cross_and_names_the_remedies() -> None:
    with pytest.raises(CorpusError, match=r"2 groups with .*'p3'.*`deal`.*leave --strict away"):
        read_crossing(strict=True)


def test_notes_of_the_files_come_before_those_of_the_table() -> None:
    reading = read([image("a")], {"a": ()}, notes=[Note("first")])
    assert reading.notes[0] == "first"
    assert reading.notes[1].startswith("train: 1 image known to have no concept")


def test_a_column_becomes_the_groups() -> None:
    found = [image("a"), image("b"), image("c", "valid"), image("d", "test")]
    rows = {"a": {"PMCID": "P1"}, "b": {"PMCID": "P1"}, "c": {"PMCID": ""}, "d": {"PMCID": "P2"}}
    reading = read(
        found, {"a": ("C1",), "b": ("C1",)}, {"c": ("C1",)}, annotations=[said(rows, "PMCID")]
    )
    assert reading.table.groups == ("a", "b", "c", "d")
    grouped = regrouped(reading, "pmcid", strict=True)
    assert grouped.table.groups == ("P1", "P1", "c", "P2")
    assert grouped.notes[len(reading.notes) :] == (
        "groups by PMCID: 2 groups",
        "groups by PMCID: 1 image without a value, each a group of its own: ['c']",
    )
    with pytest.raises(CorpusError, match=r"--group-by study: no such column; .* \['PMCID'\]"):
        regrouped(reading, "study", strict=False)


def test_groups_by_a_column_that_cross_the_splits_are_counted() -> None:
    found = [image("a"), image("b", "test")]
    rows = {"a": {"PMCID": "P1"}, "b": {"PMCID": "P1"}}
    reading = read(found, {"a": ("C1",)}, annotations=[said(rows, "PMCID")])
    assert (
        "1 group with images in more than one split"
        in regrouped(reading, "PMCID", strict=False).notes[-1]
    )
    with pytest.raises(CorpusError, match="refused by a strict reading: 1 group with images in"):
        regrouped(reading, "PMCID", strict=True)


def test_a_column_without_a_value_makes_no_groups() -> None:
    reading = read([image("a")], {"a": ("C1",)}, annotations=[said({"a": {"x": ""}}, "x")])
    with pytest.raises(CorpusError, match="--group-by x: no image has a value in that column"):
        regrouped(reading, "x", strict=False)


def test_groups_that_are_given_do_not_stop_a_strict_reading_by_others(tmp_path: Path) -> None:
    rows = "image_id,path,split,concepts,group,pid\na,a.png,train,C1,G,1\nb,b.png,valid,C1,G,2\n"
    (tmp_path / "manifest.csv").write_text(rows)
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"x")
    with pytest.raises(CorpusError, match="1 group with images in more than one split"):
        read_corpus(tmp_path, strict=True)
    found = read_corpus(tmp_path, strict=True, group_by="pid")
    assert found.table.groups == ("1", "2")
    assert not any("more than one split" in note for note in found.notes)
    with pytest.raises(CorpusError, match="1 group with images in more than one split"):
        read_corpus(tmp_path, strict=True, group_by="group")
    assert read_corpus(tmp_path, group_by="Group").table.groups == ("G", "G")


def test_what_is_lost_stops_a_strict_reading_by_other_groups_too(tmp_path: Path) -> None:
    rows = "path,split,concepts,pid\na.png,train,C1,1\nb.png,train,C1,2\n"
    (tmp_path / "manifest.csv").write_text(rows)
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(CorpusError, match="1 image without a file"):
        read_corpus(tmp_path, strict=True, group_by="pid")
