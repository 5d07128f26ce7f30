"""Near-duplicates: what a copy keeps, what is no copy, and what is written down of them."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from core.errors import CorpusError
from core.images import ImageTable
from core.labels import LabelSpace
from core.runs.decoding import Decoding
from core.runs.leakage import (
    Concerned,
    concerned_images,
    counted_duplicates,
    known_duplicates,
)
from core.runs.workspace import Corpus, Workspace
from corpus.duplicates.align import align, start_of
from corpus.duplicates.features import WHOLE, FeatureScale, coefficients
from corpus.duplicates.found import write_duplicates
from corpus.duplicates.search import find_copies, n_searched

N = 40
SIDE = 160

Change = Callable[[Image.Image], Image.Image]


def picture(seed: int) -> Image.Image:
    """Blots of all sizes, as no other seed gives them."""
    rng = np.random.default_rng(seed)
    blots = [gaussian_filter(rng.normal(size=(SIDE, SIDE)), s) * s for s in (2, 6, 20)]
    pixels = np.sum(blots, axis=0)
    pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min())
    return Image.fromarray((255 * pixels).astype(np.uint8))


def coded_anew(image: Image.Image) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=40)
    return Image.open(io.BytesIO(content.getvalue()))


def mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


CHANGES: dict[str, Change] = {
    "coded anew": coded_anew,
    "half the size": lambda image: image.resize((SIDE // 2, SIDE // 2)),
    "other sides": lambda image: image.resize((SIDE, SIDE // 2)),
    "brighter": lambda image: image.point(lambda value: 40 + value * 0.7),
    "cut by 5 %": lambda image: image.crop((8, 0, SIDE, SIDE - 8)),
    "cut by 5 % at each side": lambda image: image.crop((8, 8, SIDE - 8, SIDE - 8)),
    "mirrored": mirrored,
    "mirrored and cut": lambda image: mirrored(image).crop((0, 4, SIDE - 8, SIDE - 4)),
}


def thumbnail(image: Image.Image) -> npt.NDArray[np.uint8]:
    return np.asarray(image.convert("L").resize((64, 64), Image.Resampling.BILINEAR))


@pytest.fixture(scope="module")
def pictures() -> npt.NDArray[np.uint8]:
    return np.stack([thumbnail(picture(seed)) for seed in range(N)])


@pytest.mark.parametrize("name", CHANGES)
def test_a_copy_is_found_and_nothing_else(pictures: npt.NDArray[np.uint8], name: str) -> None:
    copy = thumbnail(CHANGES[name](picture(7)))
    others = np.stack([thumbnail(picture(seed)) for seed in range(100, 120)])
    both = np.concatenate([pictures, others, copy[None]])
    parts = np.array([0] * N + [1] * 21)
    found = find_copies(both, parts)
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(7, N + 20)]
    assert found.mirrored.tolist() == ["mirrored" in name]
    assert found.similarity[0] > 0.95


def test_either_split_may_have_the_copy_and_the_earlier_one_comes_first(
    pictures: npt.NDArray[np.uint8],
) -> None:
    copy = thumbnail(CHANGES["cut by 5 %"](picture(7)))[None]
    found = find_copies(np.concatenate([copy, pictures]), np.array([2] + [1] * N))
    assert (found.first.tolist(), found.second.tolist()) == ([8], [0])


def test_images_of_one_split_are_not_compared(pictures: npt.NDArray[np.uint8]) -> None:
    twice = np.concatenate([pictures, pictures])
    assert len(find_copies(twice, np.zeros(2 * N, dtype=int))) == 0
    assert len(find_copies(twice, np.array([0] * N + [-1] * N))) == 0
    assert len(find_copies(twice, np.array([0] * N + [2] * N))) == N
    # 10 against 4, 10 against 3, 4 against 3: the smaller ones are counted.
    assert n_searched(np.array([0] * 10 + [1] * 4 + [2] * 3 + [-1] * 5)) == 4 + 3 + 3


def test_blank_images_resemble_nothing(pictures: npt.NDArray[np.uint8]) -> None:
    blank = np.full((2, 64, 64), 7, dtype=np.uint8)
    found = find_copies(np.concatenate([pictures, blank]), np.array([0, 1] * (N // 2 + 1)))
    assert (len(found), found.n_flat) == (0, 2)


def test_a_thumbnail_alone_is_compared_with_nothing() -> None:
    none = np.zeros((0, 64, 64), dtype=np.uint8)
    assert len(find_copies(none, np.zeros(0, dtype=int))) == 0


def test_coefficients_are_those_of_the_cosine_transform(pictures: npt.NDArray[np.uint8]) -> None:
    from scipy.fft import dctn

    expected = dctn(pictures[0].astype(float), norm="ortho")[:8, :8].ravel()[1:]
    np.testing.assert_allclose(coefficients(pictures[:1], WHOLE)[0], expected, rtol=1e-3, atol=0.1)


def test_features_are_of_length_one_and_know_no_contrast(pictures: npt.NDArray[np.uint8]) -> None:
    scale = FeatureScale.of(pictures)
    features = scale.features(pictures)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    assert not features[:, -1].any()


def test_the_start_of_a_box_and_of_its_inverse() -> None:
    # A tenth off the left: nine tenths are left, their middle a twentieth right of the middle of
    # sides from -1 to 1.
    np.testing.assert_allclose(start_of((0.1, 0, 0, 0), inverse=False), [0.9, 0.1, 1, 0])
    # x = 0.9 u + 0.1 is u = x / 0.9 - 0.1 / 0.9.
    inverse = [1 / 0.9, -0.1 / 0.9, 1, 0]
    np.testing.assert_allclose(start_of((0.1, 0, 0, 0), inverse=True), inverse)


def test_an_image_is_laid_over_itself_and_not_over_another(
    pictures: npt.NDArray[np.uint8],
) -> None:
    starts = np.tile(start_of(WHOLE, inverse=False), (2, 1))
    found = align(pictures[[0, 0]], pictures[[0, 1]], starts=starts)
    assert found[0] > 0.999
    assert found[1] < 0.5


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Two of train; of test a copy of the first, another image of the second's group, a stranger
    and a file that is none."""
    images = {
        "a": picture(0),
        "b": picture(1),
        "copy": CHANGES["mirrored and cut"](picture(0)),
        "sibling": picture(2),
        "stranger": picture(3),
    }
    for name, image in images.items():
        image.save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    ids = (*images, "broken")
    table = ImageTable(
        image_ids=ids,
        paths=tuple(str(tmp_path / f"{name}.png") for name in ids),
        categories=("DRCT",) * 6,
        splits=("train", "train", "test", "test", "test", "test"),
        folds=np.full(6, -1, dtype=np.int16),
        groups=("p1", "p2", "p3", "p2", "p4", "p5"),
        concepts=(("C1",), ("C1",), None, None, None, None),
    )
    return Corpus(
        name="made",
        table=table,
        labels=LabelSpace(("C1",)),
        names={},
        edition=2025,
        fingerprint="0123abcd",
        notes=(),
    )


def test_duplicates_are_counted_listed_and_shown(corpus: Corpus, workspace: Workspace) -> None:
    assert known_duplicates(corpus, workspace) is None
    lines = write_duplicates(corpus, workspace.duplicates, cache=workspace.cache)
    assert lines[0] == (
        "near-duplicates across splits, 5 images compared (1 not readable left out): train and"
        " test: 1 pair (1 and 1 images)"
    )
    assert lines[1] == "  2 groups concerned; 1 pairs mirrored"
    with (workspace.duplicates / "duplicates.csv").open(encoding="utf-8", newline="") as file:
        header, row = csv.reader(file)
    assert header == [
        *["image_id", "split", "other_id", "other_split", "similarity", "mirrored", "same_group"]
    ]
    assert row[:4] == ["a", "train", "copy", "test"]
    assert (float(row[4]) > 0.95, row[5:]) == (True, ["1", "0"])
    with Image.open(workspace.duplicates / "duplicates.png") as sheet:
        assert sheet.size == (4 * 332, 206)
    (pair,) = known_duplicates(corpus, workspace) or ()
    assert (pair.image_id, pair.other_id, pair.mirrored, pair.same_group) == (
        *["a", "copy", True, False],
    )
    within = replace(pair, same_group=True)
    assert counted_duplicates([within]) == "train and test, within one group: 1"
    assert counted_duplicates([]) == "none"
    other = replace(corpus, fingerprint="ffffffff")
    assert known_duplicates(other, workspace) is None


def test_pairs_are_shown_as_the_corpus_is_read(corpus: Corpus, workspace: Workspace) -> None:
    clear = picture(0).convert("LA")
    clear.paste((0, 0), (0, 0, 12, 12))
    for name in ("a", "copy"):
        clear.save(corpus.table.paths[corpus.table.image_ids.index(name)])
    white = replace(corpus, decoding=Decoding(background="white"))
    write_duplicates(white, workspace.duplicates, cache=workspace.cache)
    with Image.open(workspace.duplicates / "duplicates.png") as sheet:
        assert sheet.getpixel((4 + 2, 4 + 2)) == (255, 255, 255)
    write_duplicates(corpus, workspace.duplicates, cache=workspace.cache)
    with Image.open(workspace.duplicates / "duplicates.png") as sheet:
        assert sheet.getpixel((4 + 2, 4 + 2)) == (0, 0, 0)


def test_images_concerned_are_those_of_a_labelled_group_or_alike(
    corpus: Corpus, workspace: Workspace
) -> None:
    def concerned(of: Corpus) -> Concerned:
        return concerned_images(of, workspace, split="test", learnt_from=("train", "valid"))

    before = concerned(corpus)
    assert (before.by_group, before.by_likeness) == (frozenset({"sibling"}), None)
    assert before.image_ids == {"sibling"}
    write_duplicates(corpus, workspace.duplicates, cache=workspace.cache)
    after = concerned(corpus)
    assert after.by_likeness == frozenset({"copy"})
    assert after.image_ids == {"sibling", "copy"}
    unlabelled = replace(corpus.table, concepts=(None,) * 6)
    assert concerned(replace(corpus, table=unlabelled)).image_ids == frozenset()


def test_what_cannot_be_compared_is_refused(corpus: Corpus, workspace: Workspace) -> None:
    bare = replace(corpus, table=replace(corpus.table, paths=("",) * 6))
    with pytest.raises(CorpusError, match="a list alone, without images to compare"):
        write_duplicates(bare, workspace.duplicates, cache=workspace.cache)
    one = replace(corpus, table=corpus.table.of(split="train"))
    with pytest.raises(CorpusError, match="images of one split only"):
        write_duplicates(one, workspace.duplicates, cache=workspace.cache)
