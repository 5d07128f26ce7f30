import csv
import json
from collections import defaultdict
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from core.categories import CATEGORIES
from core.errors import ConfigError, CorpusError
from core.labels import LabelSpace
from corpus.phantom.concepts import CONCEPTS
from corpus.phantom.patients import scenes
from corpus.phantom.scenes import Anatomy, Finding, Look, Scene
from corpus.phantom.views import VIEWS
from corpus.phantom.write import draw, draw_corpus

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


ANATOMY = Anatomy(wide=0.5, tall=0.5, fat=0.4, age=0.5, seed=11)
LOOK = Look(
    shape=(200, 200),
    tilt=0.0,
    dx=0.0,
    dy=0.0,
    zoom=1.0,
    level=0.0,
    window=0.5,
    grain=0.3,
    colour=False,
    seed=5,
)
PAIRS = [(name, kind) for name, view in VIEWS.items() for kind in view.findings]


def bare(view: str, *, window: float = 0.5) -> Scene:
    """A healthy person, seen in the middle of the view's aspects."""
    width = round(200 * sum(VIEWS[view].aspect) / 2)
    look = replace(LOOK, shape=(200, width), window=window)
    return Scene(
        view=view,
        anatomy=ANATOMY,
        look=look,
        findings={},
        concepts=frozenset(VIEWS[view].lists),
    )


def with_finding(scene: Scene, kind: str) -> Scene:
    finding = Finding(kind=kind, side=1, size=0.5, u=0.5, v=0.5)
    return replace(scene, findings={kind: finding})


@pytest.mark.parametrize(("view", "kind"), PAIRS)
def test_a_finding_changes_what_is_seen(view: str, kind: str) -> None:
    # Soft tissue first, then lung: a finding may hide in one of the windows.
    # 0.2 % of 200 x 200 pixels are 80: a spot of 10 pixels across.
    assert any(changed(view, kind, window=window) > 0.002 for window in (0.2, 0.7))


def changed(view: str, kind: str, *, window: float) -> float:
    """The part of the pixels that a finding makes clearly brighter, darker or of other colour."""
    healthy = bare(view, window=window)
    before = draw(healthy).pixels.astype(np.int16)
    after = draw(with_finding(healthy, kind)).pixels.astype(np.int16)
    if after.ndim > before.ndim:
        before = np.repeat(before[..., None], 3, axis=2)
    return float((np.abs(after - before) > 20).mean())


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_neither_black_nor_white_and_is_as_large_as_asked(view: str) -> None:
    scene = bare(view)
    pixels = draw(scene).pixels
    assert pixels.dtype == np.uint8
    height, width = scene.look.shape
    # Panels of equal width may leave a pixel over.
    assert pixels.shape[0] == height
    assert abs(pixels.shape[1] - width) <= 1
    assert 10 < pixels.mean() < 245
    assert pixels.std() > 20


def test_colour_is_kept_and_grey_may_be_stored_as_rgb() -> None:
    grey = bare("ct head")
    assert draw(grey).pixels.ndim == 2
    stored = draw(replace(grey, look=replace(grey.look, colour=True))).pixels
    assert stored.shape[2] == 3
    assert np.array_equal(stored[..., 0], stored[..., 2])
    pet = draw(bare("pet on ct")).pixels
    assert not np.array_equal(pet[..., 0], pet[..., 2])


def test_a_picture_lists_the_concepts_of_its_scene_as_sorted_identifiers() -> None:
    # Brain, magnetic resonance imaging, head and axial.
    assert draw(bare("mr brain")).concepts == ("C0006104", "C0018670", "C0024485", "C0205131")


def thumbnails(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Brightness on a grid of 24 x 24, less its mean, and the spread of colour."""
    rgb = Image.fromarray(pixels).convert("RGB")
    small = np.asarray(rgb.resize((24, 24), Image.Resampling.BOX), dtype=np.float64) / 255
    grey = small.mean(axis=2)
    return np.concatenate([(grey - grey.mean()).ravel(), [10 * small.std(axis=2).mean()]])


def test_concepts_can_be_learned_from_the_pixels_beyond_the_category() -> None:
    drawn = [(person, draw(image)) for person, image in islice(scenes(0), 300)]
    train = np.array([person.split == "train" for person, _ in drawn])
    categories = np.array([CATEGORIES.index(person.category) for person, _ in drawn])
    labels = LabelSpace.of(picture.concepts for _, picture in drawn)
    truth = labels.encode([picture.concepts for _, picture in drawn]).matrix.toarray()
    features = np.stack([thumbnails(picture.pixels) for _, picture in drawn])
    onehot = np.eye(len(CATEGORIES))[categories]
    probe = Ridge(alpha=30.0).fit(np.hstack([features, onehot])[train], truth[train])
    scores = probe.predict(np.hstack([features, onehot]))
    # Within a category, its prior is constant: an area under the curve of exactly 0.5.
    areas = []
    for column in np.flatnonzero(truth[train].sum(axis=0) >= 8):
        for category in range(len(CATEGORIES)):
            here = ~train & (categories == category)
            n_true = int(truth[here, column].sum())
            if 2 <= n_true <= here.sum() - 2:
                areas.append(roc_auc_score(truth[here, column], scores[here, column]))
    assert len(areas) > 40
    assert np.mean(areas) > 0.70
