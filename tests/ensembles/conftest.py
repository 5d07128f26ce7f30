"""A generated corpus without images, and predictions of detectors that see it through noise."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.categories import CATEGORIES
from core.images import ImageTable
from core.labels import Concepts, LabelSpace
from core.predictions import Predictions
from core.runs import new_folder, write_json
from core.workspace import Corpus, Workspace

SIZES = {"train": 120, "valid": 80, "test": 40}

SaveRun = Callable[..., Path]


def draw_table(rng: np.random.Generator) -> ImageTable:
    """CT and X-ray, and a few ultrasound images; C00 on every CT, C01 on every X-ray, C02 on US."""
    splits = [split for split, n in SIZES.items() for _ in range(n)]
    kinds = rng.choice(3, len(splits), p=[0.5, 0.35, 0.15])
    shared = np.linspace(0.5, 0.05, 9)
    concepts: list[Concepts] = []
    for kind in kinds:
        seen = [f"C{3 + c:02d}" for c in np.flatnonzero(rng.random(9) < shared)]
        concepts.append((f"C{kind:02d}", *seen))
    concepts[SIZES["train"]] = (*concepts[SIZES["train"]], "C99")  # valid only: always missed
    numbers = [n for size in SIZES.values() for n in range(size)]
    ids = tuple(f"{split}_{n:03d}" for split, n in zip(splits, numbers, strict=True))
    return ImageTable(
        image_ids=ids,
        paths=ids,
        categories=tuple((CATEGORIES[2], CATEGORIES[6], CATEGORIES[5])[kind] for kind in kinds),
        splits=tuple(splits),
        folds=np.array([n // 2 % 4 for n in numbers], dtype=np.int16),
        groups=tuple(f"{split}-{n // 2}" for split, n in zip(splits, numbers, strict=True)),
        concepts=tuple(
            c if split != "test" else None for c, split in zip(concepts, splits, strict=True)
        ),
    )


@pytest.fixture(scope="session")
def generated() -> Corpus:
    """120 training, 80 validation and 40 test images of three categories, 12 concepts."""
    table = draw_table(np.random.default_rng(0))
    train = [c or () for c in table.of(split="train").concepts]
    return Corpus(
        name="generated",
        table=table,
        labels=LabelSpace.of(train),
        names={},
        edition=2020,
        fingerprint="gen00000",
        notes=(),
    )


def predict(
    corpus: Corpus, source: str, split: str, *, noise: float, category: str | None = None
) -> Predictions:
    """The truth as log odds of 2 and -3, under noise.

    Of test images, whose truth nobody knows, that of the category alone.
    """
    seed = [len(source), sum(map(ord, source + split)), round(100 * noise)]
    rng = np.random.default_rng(seed)
    table = corpus.table.of(split=split, category=category)
    own = corpus.table.of(split="train", category=category)
    labels = LabelSpace.of(c or () for c in own.concepts) if category else corpus.labels
    constant = {"DRCT": "C00", "DRXR": "C01", "DRUS": "C02"}
    truth = labels.encode(
        [
            known if known is not None else (constant[kind],)
            for known, kind in zip(table.concepts, table.categories, strict=True)
        ]
    ).matrix.toarray()
    logits = np.where(truth, 2.0, -3.0) + rng.normal(0, noise, truth.shape)
    return Predictions(
        source=source,
        image_ids=table.image_ids,
        labels=labels,
        probs=(1 / (1 + np.exp(-logits))).astype(np.float32),
        fitted_on=frozenset(own.image_ids),
    )


def save_detector(
    workspace: Workspace,
    corpus: Corpus,
    category: str,
    *,
    noise: float = 2.0,
    name: str = "made-1",
    made: str | None = None,
    fingerprint: str | None = None,
) -> Path:
    """A finished detector run."""
    home = workspace.backbones / category / name
    meta = {
        "category": category,
        "preset": "made",
        "corpus": fingerprint or corpus.fingerprint,
        "embeddings": [],
    }
    save_run(home, meta, corpus, category, noise=noise, made=made)
    return home


def save_fused(
    workspace: Workspace,
    corpus: Corpus,
    strategy: str,
    *,
    noise: float = 2.0,
    name: str | None = None,
    made: str | None = None,
    contains: tuple[str, ...] = (),
    fingerprint: str | None = None,
) -> Path:
    """A finished fusion run."""
    home = workspace.fusion / (name or f"{strategy}-1")
    meta = {
        "strategy": strategy,
        "corpus": fingerprint or corpus.fingerprint,
        "contains": list(contains),
    }
    save_run(home, meta, corpus, strategy, noise=noise, made=made)
    return home


def save_run(
    home: Path,
    meta: Mapping[str, Any],
    corpus: Corpus,
    source: str,
    *,
    noise: float,
    made: str | None,
) -> None:
    category = source if source in CATEGORIES else None
    with new_folder(home, meta) as draft:
        write_json(draft / "config.json", {})
        for split in ("valid", "test"):
            predictions = predict(corpus, source, split, noise=noise, category=category)
            predictions.save(draft / "predictions" / split)
    if made is not None:
        write_json(home / "meta.json", {**meta, "made": made})


@pytest.fixture
def detector(workspace: Workspace, generated: Corpus) -> SaveRun:
    """Saves a detector run of a category, or `global`, in the workspace."""
    return lambda category, **given: save_detector(workspace, generated, category, **given)


@pytest.fixture
def fused(workspace: Workspace, generated: Corpus) -> SaveRun:
    """Saves a fusion run of a strategy in the workspace."""
    return lambda strategy, **given: save_fused(workspace, generated, strategy, **given)
