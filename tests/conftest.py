"""A small made corpus that many tests share: drawn squares and stripes with known concepts."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.images import ImageTable
from core.labels import LabelSpace
from core.workspace import Corpus, Workspace

N_IMAGES = {"train": 40, "valid": 16, "test": 8}
N_FOLDS = {"train": 4, "valid": 4, "test": 0}
PIXELS = 40


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """One thread, so that sums are added in one order; tests without torch do not wait for it."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)


def draw(category: str, concepts: tuple[str, ...], rng: np.random.Generator) -> Image.Image:
    """Dark CT with a bright border, bright X-ray without; what the concepts say, then noise."""
    pixels = np.full((PIXELS, PIXELS), 60 if category == "DRCT" else 150, dtype=np.int16)
    if category == "DRCT":
        pixels[:4] = pixels[-4:] = 200
    if "C3" in concepts:  # stripes
        pixels[:, ::4] += 60
    if "C4" in concepts:  # a square
        pixels[12:28, 12:28] = 255
    if "C5" in concepts:  # a dark half
        pixels[PIXELS // 2 :] //= 3
    noisy = np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)
    return Image.fromarray(noisy)


def draw_corpus(folder: Path) -> Corpus:
    """Two images a patient; C1 on every CT, C2 on every X-ray, C3 to C5 drawn where listed.

    Test images are not labelled, C6 stands on one training image, and C9 on one of valid only.
    """
    rng = np.random.default_rng(0)
    columns: dict[str, list[str]] = {name: [] for name in ("id", "path", "category", "split")}
    concepts: list[tuple[str, ...] | None] = []
    folds: list[int] = []
    for split, n_images in N_IMAGES.items():
        for number in range(n_images):
            category = "DRCT" if number % 8 < 4 else "DRXR"
            seen = tuple(cui for cui in ("C3", "C4", "C5") if rng.random() < 0.5)
            rare = {("train", 0): ("C6",), ("valid", 0): ("C9",)}.get((split, number), ())
            own = ("C1" if category == "DRCT" else "C2", *seen, *rare)
            path = folder / f"{split}_{number:02d}.jpg"
            image = draw(category, own, rng)
            (image.convert("RGB") if number % 3 == 0 else image).save(path, quality=95)
            for name, value in zip(columns, (path.stem, str(path), category, split), strict=True):
                columns[name].append(value)
            concepts.append(None if split == "test" else own)
            folds.append(number // 2 % N_FOLDS[split] if N_FOLDS[split] else -1)
    table = ImageTable(
        image_ids=tuple(columns["id"]),
        paths=tuple(columns["path"]),
        categories=tuple(columns["category"]),
        splits=tuple(columns["split"]),
        folds=np.array(folds, dtype=np.int16),
        groups=tuple(f"{i[:-2]}{int(i[-2:]) // 2}" for i in columns["id"]),
        concepts=tuple(concepts),
        metadata={"readable": ("1",) * len(folds)},
    )
    return Corpus(
        name="made",
        table=table,
        labels=LabelSpace.of(table.of(split="train").concepts[row] or () for row in range(40)),
        names={"C3": "stripes"},
        edition=2020,
        fingerprint="made0000",
        notes=(),
    )


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The made corpus: 40 images to train on, 16 to validate, 8 to test; to be read only."""
    return draw_corpus(tmp_path_factory.mktemp("made"))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace."""
    return Workspace(tmp_path / "runs")
