"""Metadata as input: worked values, what is missing, what is refused."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import ConfigError, CorpusError, PredictionsError
from core.images import ImageTable
from fusion.inputs.columns import Column
from fusion.inputs.metadata import Block, MetadataEncoder, with_missing

TRAIN = {
    "age": ("20.5", "40.5", "20.5", "40.5", "", ""),  # mean 30.5, deviation 10
    "sex": ("F", "M", "M", "F", "F", ""),
    "view": ("PA;AP", "AP", "PA", "AP;", "", " PA ; PA"),
}
VALID = {
    "age": ("45.5", "", "999"),
    "sex": ("M", "X", ""),
    "view": ("AP;PA", "oblique;AP", "oblique"),
}
COLUMNS = ("age", "sex", "view")


def table_of(split: str, **metadata: Sequence[str]) -> ImageTable:
    n_images = len(next(iter(metadata.values())))
    ids = tuple(f"{split}{number}" for number in range(n_images))
    return ImageTable(
        image_ids=ids,
        paths=ids,
        categories=("",) * n_images,
        splits=(split,) * n_images,
        folds=np.full(n_images, -1, dtype=np.int16),
        groups=ids,
        concepts=(None,) * n_images,
        metadata={name: tuple(values) for name, values in metadata.items()},
    )


def fitted(*columns: str, **train: Sequence[str]) -> MetadataEncoder:
    return MetadataEncoder.fitted(table_of("train", **train), columns)


def encoded(encoder: MetadataEncoder, **cells: Sequence[str]) -> list[list[float]]:
    rows: list[list[float]] = encoder.encode(table_of("valid", **cells)).values.tolist()
    return rows


@pytest.fixture
def encoder() -> MetadataEncoder:
    return fitted(*COLUMNS, **TRAIN)


def test_each_kind_is_recognised_and_gets_the_numbers_worked_by_hand(
    encoder: MetadataEncoder,
) -> None:
    said = encoder.encode(table_of("train", **TRAIN))
    assert said.values.dtype == np.float32
    assert said.values.tolist() == [
        # age, missing | F, M, missing | AP, PA, missing
        [-1, 0, 1, 0, 0, 1, 1, 0],
        [1, 0, 0, 1, 0, 1, 0, 0],
        [-1, 0, 0, 1, 0, 0, 1, 0],
        [1, 0, 1, 0, 0, 1, 0, 0],
        [0, 1, 1, 0, 0, 0, 0, 1],
        [0, 1, 0, 0, 1, 0, 1, 0],
    ]
    assert said.notes == ()
    assert encoder.notes == (
        "metadata: age: numeric (recognised), mean 30.5, deviation 10; missing on 2 of 6 in"
        " training",
        "metadata: sex: categorical (recognised), 2 values ['F', 'M']; missing on 1 of 6 in"
        " training",
        "metadata: view: multi (recognised), 2 values ['AP', 'PA']; missing on 1 of 6 in training",
    )


def test_what_training_does_not_know_is_missing_and_counted(encoder: MetadataEncoder) -> None:
    said = encoder.encode(table_of("valid", **VALID))
    assert said.values.tolist() == [
        [1.5, 0, 0, 1, 0, 1, 1, 0],
        [0, 1, 0, 0, 1, 1, 0, 0],  # of two views the one that is known
        [5, 0, 0, 0, 1, 0, 0, 1],  # 97 deviations, taken as 5
    ]
    too_few = "with a value that too few training images have, seen as missing:"
    assert said.notes == (
        "metadata: age: 1 of 3 images over 5 deviations from training's mean, taken as 5:"
        " ['valid2']",
        f"metadata: sex: 1 of 3 images {too_few} 'X' on 1 ['valid1']",
        f"metadata: view: 2 of 3 images {too_few} 'oblique' on 2 ['valid1', 'valid2']",
    )


def test_blocks_say_where_each_column_stands(encoder: MetadataEncoder) -> None:
    assert encoder.width == 8
    assert encoder.blocks == (Block("age", 0, 2), Block("sex", 2, 5), Block("view", 5, 8))
    assert [block.missing for block in encoder.blocks] == [1, 4, 7]


def test_without_columns_an_image_has_no_numbers() -> None:
    encoder = fitted(**TRAIN)
    assert (encoder.width, encoder.blocks, encoder.notes) == (0, (), ())
    values = encoder.encode(table_of("valid", **VALID)).values
    assert values.shape == (3, 0)
    dropped = torch.zeros((3, 0), dtype=torch.bool)
    assert with_missing(torch.from_numpy(values), (), dropped=dropped).shape == (3, 0)


def test_images_in_another_order_give_the_same_encoder_and_permuted_rows() -> None:
    rng = np.random.default_rng(0)
    ages = [f"{age:.3f}" for age in rng.normal(50, 20, 200)]
    train = table_of("train", age=ages, sex=[str(s) for s in rng.choice(["F", "M", ""], 200)])
    order = rng.permutation(200)
    encoder = MetadataEncoder.fitted(train, ("age", "sex"))
    assert MetadataEncoder.fitted(train.take(order), ("age", "sex")) == encoder
    rows = encoder.encode(train).values
    np.testing.assert_array_equal(encoder.encode(train.take(order)).values, rows[order])
    scores = rows[:, 0].astype(np.float64)
    assert abs(scores.mean()) < 1e-6
    assert scores.std() == pytest.approx(1, abs=1e-6)


def test_an_image_is_encoded_alike_alone_and_among_others(encoder: MetadataEncoder) -> None:
    valid = table_of("valid", **VALID)
    one_by_one = [encoder.encode(valid.take(np.array([row]))).values for row in range(3)]
    np.testing.assert_array_equal(np.concatenate(one_by_one), encoder.encode(valid).values)


def test_a_round_trip_is_equal_to_the_last_bit(tmp_path: Path) -> None:
    encoder = fitted("a", "b", a=("0.1", "0.7", "1e-7", "1e6"), b=("ä", "ä", '"', '"'))
    encoder.save(tmp_path / "metadata.json")
    loaded = MetadataEncoder.load(tmp_path / "metadata.json")
    assert loaded == encoder
    cells = {"a": ("0.3", "2e5"), "b": ("ä", "")}
    assert encoded(loaded, **cells) == encoded(encoder, **cells)


def test_few_whole_numbers_are_codes_and_more_are_a_quantity() -> None:
    ten, eleven = ([str(number) for number in range(n)] * 3 for n in (10, 11))
    assert fitted("x", x=ten).columns[0].kind == "categorical"
    assert fitted("x", x=eleven).columns[0].kind == "numeric"
    assert fitted("x", x=[*eleven, "n/a"]).columns[0].kind == "categorical"
    for text in ("nan", "inf", "1_0", "1e39"):
        assert fitted("x", x=["0.5", "0.5", text, text]).columns[0].kind == "categorical"


def test_a_kind_may_be_given_and_a_name_may_have_a_colon() -> None:
    encoder = fitted("n:numeric", "t:multi", "a:b", n=("0", "2"), t=("x", "x"), **{"a:b": "ii"})
    assert [(c.name, c.kind) for c in encoder.columns] == [
        ("n", "numeric"),
        ("t", "multi"),
        ("a:b", "categorical"),
    ]
    assert encoder.notes[0].startswith("metadata: n: numeric, mean 1, deviation 1; never missing")
    assert fitted("a:b:numeric", **{"a:b": "02"}).columns[0].deviation == 1
    whole = fitted("t:categorical", t=("x;y", "x;y", "x", "x"))
    assert whole.columns[0].values == ("x", "x;y")


def test_rare_values_are_missing_in_training_as_they_are_later() -> None:
    cells = ("A", "A", "B", "A", "B", "C")
    encoder = MetadataEncoder.fitted(table_of("train", x=cells), ["x"], min_images=3)
    assert encoder.columns[0].values == ("A",)
    assert encoder.notes[0] == (
        "metadata: x: categorical (recognised), 1 value ['A'], 2 on fewer than 3 images and seen"
        " as missing ['B', 'C']; never missing in training"
    )
    assert encoded(encoder, x=cells) == [[1, 0], [1, 0], [0, 1], [1, 0], [0, 1], [0, 1]]


def test_a_constant_tells_only_whether_it_is_missing() -> None:
    encoder = fitted("x", x=("0.1", "0.1", "0.1", ""))  # their mean is not 0.1
    assert encoder.columns[0] == Column(name="x", kind="numeric", mean=0.1)
    assert "always 0.1, so that only missing values tell something" in encoder.notes[0]
    assert encoded(encoder, x=("0.1", "7", "")) == [[0, 0], [0, 0], [0, 1]]


def test_a_column_that_is_missing_altogether_is_said(encoder: MetadataEncoder) -> None:
    said = encoder.encode(table_of("test", age=("", ""), sex=("F", "M"), view=("AP", "PA")))
    assert said.notes == ("metadata: age: missing on all 2 images",)
    empty = table_of("test", age=(), sex=(), view=())
    assert encoder.encode(empty).values.shape == (0, 8)
    assert encoder.encode(empty).notes == ()


def test_the_most_common_of_many_strange_values_are_told() -> None:
    encoder = fitted("x", x="aabb")
    said = encoder.encode(table_of("test", x="uvwyzkk"))
    assert "7 of 7 images" in said.notes[0]
    assert "'k' on 2 ['test5', 'test6'], 'u' on 1 ['test0'], 'v' on 1" in said.notes[0]
    assert said.notes[0].endswith(" and 1 more")


def test_dropped_columns_look_as_if_their_cells_were_empty(encoder: MetadataEncoder) -> None:
    dropped = np.array([[True, False, False], [False, True, True], [False, False, False]])
    cells = {
        name: ["" if gone else cell for gone, cell in zip(dropped[:, c], VALID[name], strict=True)]
        for c, name in enumerate(COLUMNS)
    }
    values = torch.from_numpy(encoder.encode(table_of("valid", **VALID)).values)
    before = values.clone()
    found = with_missing(values, encoder.blocks, dropped=torch.from_numpy(dropped))
    assert found.tolist() == encoded(encoder, **cells)
    assert found.dtype == torch.float32
    assert torch.equal(values, before)
    with pytest.raises(ValueError, match=r"\(3, 8\) values and \(3, 2\) dropped do not fit 3"):
        with_missing(values, encoder.blocks, dropped=torch.from_numpy(dropped[:, :2]))
    with pytest.raises(ValueError, match=r"\(3, 7\) values and \(3, 3\) dropped do not fit 3"):
        with_missing(values[:, :7], encoder.blocks, dropped=torch.from_numpy(dropped))


def test_the_encoder_is_fitted_on_training_images_alone() -> None:
    with pytest.raises(ValueError, match=r"training images only, found some of \['valid'\]"):
        MetadataEncoder.fitted(table_of("valid", **VALID), COLUMNS)


IDS = [f"p{number}" for number in range(6)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["agee"], r"no column 'agee' in the image table; did you mean 'age'\? known: age, id, "),
        (["zzz:numeric"], r"no column 'zzz' in the image table; known: age, id, none, sex, view$"),
        (["zzz:what"], r"no column 'zzz:what' in the image table"),
        (["age:number"], r"age:number: expected one of categorical, numeric, multi behind the"),
        (["age", "age:numeric"], r"'age' stands twice; name it once"),
        (["category"], r"'category' is input of every such network anyway; leave it out"),
        (["none"], r"none: missing on all training images; leave it out"),
        (["id"], r"id: 6 values on 6 training images name images .*:numeric .*\['p0', 'p1', 'p2'"),
        (["sex", "id:multi"], r"id: 6 values on 6 training images name images"),
        *(
            ([name], f"'{name}' says where an image stands, not what it shows; leave it out")
            for name in ("image_id", "path", "split", "fold", "group", "labelled", "concepts")
        ),
        (["valid_half"], "'valid_half' says where an image stands"),
        (["readable:categorical"], "'readable' says where an image stands"),
    ],
)
def test_columns_that_make_no_sense_are_refused(columns: list[str], message: str) -> None:
    train = {**TRAIN, "id": IDS, "none": [""] * 6, "readable": "1" * 6, "valid_half": [""] * 6}
    with pytest.raises(ConfigError, match=f"^metadata: {message}"):
        fitted(*columns, **train)


def test_a_corpus_without_metadata_is_told_so() -> None:
    with pytest.raises(ConfigError, match=r"no column 'age' .*; the corpus has none: see README"):
        fitted("age", readable="11")


def test_values_that_are_all_rare_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"x: no value on 4 or more training images; leave it"):
        MetadataEncoder.fitted(table_of("train", x="aabbcc"), ["x"], min_images=4)


def test_more_values_than_pooled_features_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"x: 1001 values on 2002 training images name images"):
        fitted("x", x=[f"v{number}" for number in range(1001)] * 2)


def test_text_in_a_numeric_column_is_named(encoder: MetadataEncoder) -> None:
    message = (
        r"metadata: age: expected a number, found 'old' for image '{}1' and text for 1 more;"
        r" empty such cells and run `prepare` again, or write age:categorical"
    )
    cells = {"age": ("3", "old", "", "x"), "sex": "FFFF", "view": ("AP",) * 4}
    with pytest.raises(CorpusError, match=message.format("valid")):
        encoder.encode(table_of("valid", **cells))
    with pytest.raises(CorpusError, match=message.format("train")):
        fitted("age:numeric", **cells)


def test_a_table_without_a_column_of_the_encoder_is_refused(encoder: MetadataEncoder) -> None:
    with pytest.raises(ConfigError, match=r"no column 'sex' in the image table; known: age"):
        encoder.encode(table_of("valid", age=("1",)))


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"columns": [], "note": []}', '{"columns": [{"name": "x", "values": []}]}'],
)
def test_a_file_that_holds_no_encoder_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "metadata.json"
    with pytest.raises(PredictionsError, match=r"metadata.json: no such file; make the run again"):
        MetadataEncoder.load(path)
    path.write_text(text)
    with pytest.raises(PredictionsError, match=r"metadata.json: not the metadata of a run \("):
        MetadataEncoder.load(path)


def test_a_kind_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"x: kind 'ordinal'; expected one of categorical, num"):
        Column(name="x", kind="ordinal")
