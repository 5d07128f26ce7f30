import csv
import json
from collections import defaultdict
from pathlib import Path

import pytest
from PIL import Image

from core.errors import ConfigError, CorpusError
from corpus.phantom.concepts import CONCEPTS
from corpus.phantom.write import draw_corpus

N = 60


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_corpus(tmp_path_factory.mktemp("phantom") / "drawn", n_images=N, seed=3)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "groups.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def concepts_of(folder: Path, name: str) -> dict[str, list[str]]:
    lines = (folder / name).read_text(encoding="utf-8").splitlines()
    return {image_id: cuis.split(";") for image_id, cuis in (line.split("\t") for line in lines)}


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_lists_name_exactly_the_images_that_are_there(corpus: Path) -> None:
    rows = rows_of(corpus)
    assert [row["image_id"] for row in rows] == [f"PHAN_{k:05d}" for k in range(1, N + 1)]
    listed = {f"{row['split']}/{row['category']}/{row['image_id']}.jpg" for row in rows}
    assert listed == {path.relative_to(corpus).as_posix() for path in corpus.rglob("*.jpg")}
    for split, name in (("train", "Training"), ("valid", "Validation"), ("test", "Test")):
        ids = [row["image_id"] for row in rows if row["split"] == split]
        assert list(concepts_of(corpus, f"{name}-Concepts.txt")) == ids


def test_every_listed_concept_has_a_name(corpus: Path) -> None:
    lines = (corpus / "string_concepts.csv").read_text(encoding="utf-8").splitlines()
    names = dict(line.split("\t") for line in lines)
    assert len(names) == len(CONCEPTS)
    for name in ("Training", "Validation", "Test"):
        for concepts in concepts_of(corpus, f"{name}-Concepts.txt").values():
            assert len(set(concepts)) == len(concepts)
            assert set(concepts) <= set(names)


def test_groups_never_cross_splits_and_have_one_to_four_images(corpus: Path) -> None:
    members = defaultdict(list)
    for row in rows_of(corpus):
        members[row["group"]].append((row["split"], row["category"]))
    assert all(len(set(images)) == 1 for images in members.values())
    assert {len(images) for images in members.values()} == {1, 2, 3, 4}


def test_images_are_grey_and_rgb_and_of_several_sizes(corpus: Path) -> None:
    modes, sizes = set(), set()
    for path in corpus.rglob("*.jpg"):
        with Image.open(path) as image:
            image.load()
            modes.add(image.mode)
            sizes.add(image.size)
    assert modes == {"L", "RGB"}
    assert {200 <= max(size) <= 320 for size in sizes} == {True}
    assert len(sizes) > N // 2


def test_the_same_settings_give_the_same_bytes(tmp_path: Path) -> None:
    first = draw_corpus(tmp_path / "first", n_images=20, seed=7)
    second = draw_corpus(tmp_path / "second", n_images=20, seed=7)
    assert contents(first) == contents(second)
    other = draw_corpus(tmp_path / "other", n_images=20, seed=8)
    assert contents(first) != contents(other)


def test_a_larger_corpus_begins_with_the_smaller_one(corpus: Path, tmp_path: Path) -> None:
    few = draw_corpus(tmp_path / "few", n_images=15, seed=3)
    many = contents(corpus)
    images = {path: data for path, data in contents(few).items() if path.endswith(".jpg")}
    assert len(images) == 15
    assert all(many[path] == data for path, data in images.items())
    lines = (few / "Training-Concepts.txt").read_text(encoding="utf-8")
    assert (corpus / "Training-Concepts.txt").read_text(encoding="utf-8").startswith(lines)


def test_the_manifest_says_what_was_drawn(corpus: Path) -> None:
    manifest = json.loads((corpus / "phantom.json").read_text(encoding="utf-8"))
    assert manifest == {"n_images": N, "seed": 3, "version": 1}


def test_a_finished_corpus_is_not_drawn_again(tmp_path: Path) -> None:
    drawn: list[int] = []
    folder = draw_corpus(tmp_path / "c", n_images=3, advance=drawn.append)
    assert drawn == [1, 1, 1]
    assert draw_corpus(folder, n_images=3, advance=drawn.append) == folder
    assert drawn == [1, 1, 1]


def test_other_settings_replace_the_corpus(tmp_path: Path) -> None:
    folder = draw_corpus(tmp_path / "c", n_images=4)
    draw_corpus(folder, n_images=2)
    assert len(rows_of(folder)) == len(list(folder.rglob("*.jpg"))) == 2


@pytest.mark.parametrize("manifest", [None, "{", '{"n_images": 3, "seed": 0, "version": 0}'])
def test_an_unfinished_or_older_corpus_is_replaced(tmp_path: Path, manifest: str | None) -> None:
    folder = draw_corpus(tmp_path / "c", n_images=3)
    whole = contents(folder)
    (folder / "groups.csv").unlink()
    if manifest is None:
        (folder / "phantom.json").unlink()
    else:
        (folder / "phantom.json").write_text(manifest, encoding="utf-8")
    assert contents(draw_corpus(folder, n_images=3)) == whole


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    assert len(rows_of(draw_corpus(tmp_path / "c", n_images=1))) == 1


def test_an_interrupted_drawing_leaves_the_old_corpus_and_no_draft(tmp_path: Path) -> None:
    folder = draw_corpus(tmp_path / "c", n_images=2)
    before = contents(tmp_path)

    drawn: list[int] = []

    def interrupt(n_more: int) -> None:
        drawn.append(n_more)
        if len(drawn) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_corpus(folder, n_images=5, advance=interrupt)
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize(
    "name", ["notes.txt", "train/DRCT/PHAN_1.png", "train/DRCT/MINE_00001.jpg"]
)
def test_a_folder_with_foreign_files_is_refused(tmp_path: Path, name: str) -> None:
    folder = draw_corpus(tmp_path / "c", n_images=2)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(CorpusError, match=rf"not of a phantom corpus: \['{name}'\]"):
        draw_corpus(folder, n_images=3)
    assert path.read_text(encoding="utf-8") == "mine"


def test_lists_without_drawn_images_may_be_of_a_real_corpus_and_are_refused(tmp_path: Path) -> None:
    (tmp_path / "Training-Concepts.txt").write_text("A\tC0000001\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"Training-Concepts\.txt"):
        draw_corpus(tmp_path, n_images=3)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("", encoding="utf-8")
    with pytest.raises(CorpusError, match="is a file"):
        draw_corpus(tmp_path / "c", n_images=3)


@pytest.mark.parametrize(("n_images", "seed"), [(0, 0), (3, -1)])
def test_settings_out_of_range_are_refused(tmp_path: Path, n_images: int, seed: int) -> None:
    with pytest.raises(ConfigError, match=f"found {n_images} and {seed}"):
        draw_corpus(tmp_path / "c", n_images=n_images, seed=seed)
