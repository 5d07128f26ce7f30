"""Corpora that many tests share: one of small drawn images, one of predictions without images."""

import csv
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.categories import CATEGORIES
from core.images import ImageTable
from core.labels import Concepts, LabelSpace
from core.predictions import Predictions
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import new_folder, write_json

SaveRun = Callable[..., Path]

N_IMAGES = {"train": 40, "valid": 16, "test": 8}
N_FOLDS = {"train": 4, "valid": 4, "test": 0}
PIXELS = 40

SIZES = {"train": 120, "valid": 80, "test": 40}


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> None:
    """As in a terminal: a shell has what it runs in the background ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
        metadata={
            "readable": ("1",) * len(folds),
            "valid_half": tuple(
                f"val{fold % 2 + 1}" if split == "valid" else ""
                for fold, split in zip(folds, columns["split"], strict=True)
            ),
        },
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


@pytest.fixture(scope="session")
def crossfitted(corpus: Corpus) -> Corpus:
    """The made corpus under the protocol crossfit, in three folds of 20, 20 and 16 images."""
    table = corpus.table
    folds = [
        -1 if split == "test" else int(image_id[-2:]) // 2 % 3
        for image_id, split in zip(table.image_ids, table.splits, strict=True)
    ]
    return replace(
        corpus,
        table=table.with_folds(np.array(folds, dtype=np.int16)),
        labels=LabelSpace.of(concepts or () for concepts in table.concepts),
        fingerprint="made0001",
        protocol="crossfit",
    )


def relabelled(corpus: Corpus, fold: int) -> Corpus:
    """The corpus with other labels on a fold's images; C6 and C9 stay, so no concept is lost."""
    table = corpus.table
    concepts = tuple(
        own if own is None or mine != fold else tuple(sorted({*own} ^ {"C3", "C4", "C5"}))
        for own, mine in zip(table.concepts, table.folds, strict=True)
    )
    return replace(corpus, table=replace(table, concepts=concepts))


def save_prepared(corpus: Corpus, root: Path) -> Workspace:
    """A workspace that holds the made corpus as `prepare` would have written it."""
    workspace = Workspace(root)
    meta = {
        "name": corpus.name, "edition": 2020, "fingerprint": corpus.fingerprint, "notes": [],
        "protocol": corpus.protocol,
    }  # fmt: skip
    with new_folder(workspace.corpus, meta) as draft:
        corpus.table.save(draft / "images.csv")
        corpus.labels.save(draft / "labels.txt")
        with (draft / "names.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(corpus.names.items())
    return workspace


@pytest.fixture
def prepared(corpus: Corpus, tmp_path: Path) -> Callable[[str], Workspace]:
    """Workspaces of a name that hold the made corpus."""
    return lambda name: save_prepared(corpus, tmp_path / name)


@pytest.fixture(scope="module")
def prepared_once(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace that holds the made corpus, for all tests of a module."""
    return save_prepared(corpus, tmp_path_factory.mktemp("prepared") / "runs")


@pytest.fixture(scope="session")
def trained_once(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Detectors of the made corpus; to be read only."""
    from backbones.settings.config import BackboneConfig
    from backbones.train import train_backbones
    from training.devices.compute import Compute

    config = BackboneConfig(
        backbone="test_efficientnet", weights="none", image_sizes=(64,), probe=False,
        hidden=(16,), epochs=4, patience=4, batch_size=16, n_members=1,
    )  # fmt: skip
    workspace = Workspace(tmp_path_factory.mktemp("trained"))
    names = ("global", "DRCT", "DRXR")
    train_backbones(corpus, workspace, names=names, config=config, preset="tiny", compute=Compute())
    return workspace


@pytest.fixture
def trained(trained_once: Workspace, tmp_path: Path) -> Workspace:
    """A workspace with the global detector and the specialists of CT and X-ray."""
    return Workspace(Path(shutil.copytree(trained_once.root, tmp_path / "trained")))


@pytest.fixture(scope="session")
def generated() -> Corpus:
    """120 training, 80 validation and 40 test images without files, of three categories.

    C00 stands on every CT, C01 on every X-ray, C02 on every ultrasound image; C03 to C11 anywhere,
    ever rarer; C99 on one image of valid only.
    """
    rng = np.random.default_rng(0)
    numbers = [(split, n) for split, size in SIZES.items() for n in range(size)]
    kinds = rng.choice(3, len(numbers), p=[0.5, 0.35, 0.15])
    concepts: list[Concepts | None] = []
    for (split, number), kind in zip(numbers, kinds, strict=True):
        seen = [f"C{3 + c:02d}" for c in np.flatnonzero(rng.random(9) < np.linspace(0.5, 0.05, 9))]
        rare = ("C99",) if (split, number) == ("valid", 0) else ()
        concepts.append(None if split == "test" else (f"C{kind:02d}", *seen, *rare))
    ids = tuple(f"{split}_{n:03d}" for split, n in numbers)
    table = ImageTable(
        image_ids=ids,
        paths=ids,
        categories=tuple(("DRCT", "DRXR", "DRUS")[kind] for kind in kinds),
        splits=tuple(split for split, _ in numbers),
        folds=np.array([n // 2 % 4 for _, n in numbers], dtype=np.int16),
        groups=tuple(f"{split}-{n // 2}" for split, n in numbers),
        concepts=tuple(concepts),
    )
    labels = LabelSpace.of(c or () for c in table.of(split="train").concepts)
    return Corpus(
        name="generated", table=table, labels=labels, names={}, edition=2020,
        fingerprint="gen00000", notes=(),
    )  # fmt: skip


def see(corpus: Corpus, source: str, split: str, *, noise: float) -> Predictions:
    """What a source says: log odds of 2 for what is true and -3 for what is not, under noise.

    Of test images, whose truth nobody knows, only the concept of the category is true.
    """
    rng = np.random.default_rng([sum(map(ord, source + split)), round(100 * noise)])
    category = source if source in CATEGORIES else None
    table, train = (corpus.table.of(split=s, category=category) for s in (split, "train"))
    labels = LabelSpace.of(c or () for c in train.concepts)
    own = {"DRCT": "C00", "DRXR": "C01", "DRUS": "C02"}
    known = zip(table.concepts, table.categories, strict=True)
    truth = labels.encode([(own[kind],) if c is None else c for c, kind in known]).matrix.toarray()
    logits = np.where(truth, 2.0, -3.0) + rng.normal(0, noise, truth.shape)
    return Predictions(
        source=source,
        image_ids=table.image_ids,
        labels=labels,
        probs=(1 / (1 + np.exp(-logits))).astype(np.float32),
        fitted_on=frozenset(train.image_ids),
    )


def save_run(
    home: Path, meta: dict[str, object], corpus: Corpus, source: str, *, noise: float, made: str
) -> Path:
    """A finished run folder of a source; made now where no time is given."""
    with new_folder(home, meta) as draft:
        write_json(draft / "config.json", {})
        for split in ("valid", "test"):
            see(corpus, source, split, noise=noise).save(draft / "predictions" / split)
    if made:
        write_json(home / "meta.json", {**meta, "made": made})
    return home


@pytest.fixture
def detector(workspace: Workspace, generated: Corpus) -> SaveRun:
    """Saves a detector run of a category, or `global`, on the generated corpus."""

    def save(
        category: str, *, name: str = "made-1", corpus: str = "gen00000", noise: float = 2.0,
        made: str = "",
    ) -> Path:  # fmt: skip
        preset = name.rpartition("-")[0]
        meta: dict[str, object] = {
            "category": category, "preset": preset, "corpus": corpus, "embeddings": [],
        }  # fmt: skip
        home = workspace.backbones / category / name
        return save_run(home, meta, generated, category, noise=noise, made=made)

    return save


@pytest.fixture
def fused(workspace: Workspace, generated: Corpus) -> SaveRun:
    """Saves a fusion run of a strategy on the generated corpus."""

    def save(
        strategy: str, *, name: str = "", corpus: str = "gen00000", noise: float = 2.0,
        made: str = "", contains: tuple[str, ...] = (), embeddings: tuple[str, ...] = (),
    ) -> Path:  # fmt: skip
        meta: dict[str, object] = {
            "strategy": strategy, "corpus": corpus, "contains": list(contains),
            "embeddings": list(embeddings), "seconds": 2.0,
        }  # fmt: skip
        home = workspace.fusion / (name or f"{strategy}-1")
        return save_run(home, meta, generated, strategy, noise=noise, made=made)

    return save


def once(
    condition: Callable[[], bool], then: Callable[[], object], *, patience_s: float
) -> threading.Thread:
    """Wait for something in a thread, so long at most, then do something else."""

    def wait() -> None:
        until = time.monotonic() + patience_s
        while not condition() and time.monotonic() < until:
            time.sleep(0.005)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread
