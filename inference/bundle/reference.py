"""Training images in a bundle: what their labels say, their features, what stands on each.

Files:
    statistics.safetensors: counts and shares of concepts.
    reference/<features>.npy: (N, D) float16, or float32 where that would lose something.
    reference/images.safetensors: concepts as rows of CSR, categories as small integers.
    reference/views.safetensors: by number of the reference, rows, mean and deviation.
    distance/: training images as points, see `ensembles.distance.model`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array, vstack

from core.categories import CATEGORIES, UNKNOWN
from core.errors import BundleError, PredictionsError
from core.storage.arrays import save_array
from core.storage.tables import read_lines, write_lines
from ensembles.distance.model import FILES as DISTANCE_FILES
from ensembles.distance.model import FOLDER as DISTANCE
from ensembles.distance.model import DistanceModel
from ensembles.stacking.label_statistics import LabelStatistics
from fusion.retrieval.votes import Memory, as_references
from inference.bundle.files import GRAPH, STATISTICS, TRAINING_IDS
from inference.bundle.graph import ReferenceEntry
from inference.bundle.tensors import BundleFiles, csr_tensors
from inference.loaded.answers import Reference, StandardisedRows
from training.checkpoint import save_tensors
from training.heads import Standardise

Floats = npt.NDArray[np.float32]

FOLDER = "reference"
IMAGES, VIEWS = f"{FOLDER}/images.safetensors", f"{FOLDER}/views.safetensors"

_KINDS = (*CATEGORIES, UNKNOWN)


class SideBySide:
    """Arrays of features as one of float32, whatever they are stored as; rows are read as asked.

    Args:
        parts: (N, d) each; together D columns.
        rounded: whether they are to be rounded as references are.
    """

    def __init__(self, parts: Sequence[npt.NDArray[np.floating[Any]]], *, rounded: bool) -> None:
        self.parts, self.rounded = parts, rounded
        self.shape = (len(parts[0]), sum(part.shape[1] for part in parts))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: npt.NDArray[np.integer]) -> Floats:
        """(m, D) some rows."""
        found = np.empty((len(rows), self.shape[1]), dtype=np.float32)
        start = 0
        for part in self.parts:
            own = part[rows]
            here = found[:, start : start + part.shape[1]]
            here[:] = as_references(own) if self.rounded and own.dtype == np.float32 else own
            start += part.shape[1]
        return found


def write_references(
    folder: Path, references: Sequence[Reference], *, widths: Mapping[str, int], ids: bool
) -> tuple[ReferenceEntry, ...]:
    """Write training images, each once.

    Args:
        folder: of the bundle.
        references: whose rows are numbers of the same images.
        widths: number of features by their name.
        ids: whether to write the images' ids.
    """
    if not references:
        return ()
    (folder / FOLDER).mkdir()
    numbers = np.unique(np.concatenate([own.rows.rows for own in references]))
    written: set[str] = set()
    for own in sorted(references, key=lambda own: own.rows.values.dtype != np.float32):
        values, stop = own.rows.values[numbers], 0  # those of 32 bits first: they serve both
        for name in own.features:
            start, stop = stop, stop + widths[name]
            if name not in written:
                save_array(folder / FOLDER / f"{name}.npy", values[:, start:stop])
                written.add(name)
    images = _Images.of(references, numbers)
    tensors = csr_tensors("concepts", images.concepts)
    save_tensors(folder / IMAGES, {**tensors, "categories": torch.from_numpy(images.categories)})
    views: dict[str, torch.Tensor] = {}
    for number, own in enumerate(references):
        rows = np.searchsorted(numbers, own.rows.rows).astype(np.int32)
        views[f"{number}.rows"] = torch.from_numpy(rows)
        views[f"{number}.mean"] = own.rows.standardise.mean
        views[f"{number}.std"] = own.rows.standardise.std
    save_tensors(folder / VIEWS, views)
    if ids:
        write_lines(folder / TRAINING_IDS, images.ids)
    return tuple(
        ReferenceEntry(
            features=own.features,
            bits=32 if own.rows.values.dtype == np.float32 else 16,
            approximate_from=own.memory.approximate_from,
            seed=own.memory.seed,
        )
        for own in references
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Images:
    """What stands on N training images.

    Attributes:
        ids: N; "" where they are not known.
        concepts: (N, L) boolean.
        categories: (N,) places in `_KINDS`.
    """

    ids: Sequence[str]
    concepts: csr_array
    categories: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, references: Sequence[Reference], numbers: npt.NDArray[np.integer]) -> "_Images":
        """Of all images of some references, which know the same of each."""
        ids = np.full(len(numbers), "", dtype=object)
        categories = np.zeros(len(numbers), dtype=np.uint8)
        rows_of: list[csr_array] = []
        places: list[npt.NDArray[np.intp]] = []
        for own in references:
            here = np.searchsorted(numbers, own.rows.rows)
            places.append(here)
            rows_of.append(own.memory.targets)
            ids[here] = own.image_ids or ""
            categories[here] = [_KINDS.index(category) for category in own.memory.categories]
        every = np.concatenate(places)
        first = np.unique(every, return_index=True)[1]
        return cls(ids=ids.tolist(), concepts=vstack(rows_of).tocsr()[first], categories=categories)


def read_references(
    files: BundleFiles,
    entries: Sequence[ReferenceEntry],
    *,
    n_concepts: int,
    device: str,
    widths: Mapping[str, int],
    has_ids: bool,
) -> list[Reference]:
    """The training images that were written.

    Args:
        files: of the bundle.
        entries: of its references.
        n_concepts: L.
        device: where they are to be compared.
        widths: number of features by their name.
        has_ids: whether ids are among the files.

    Raises:
        BundleError: a file is not what `write_references` wrote.
    """
    if not entries:
        return []
    stored, views = files.tensors(IMAGES), files.tensors(VIEWS)
    concepts = stored.csr("concepts", (None, n_concepts), dtype=np.bool_)
    n_images = int(concepts.shape[0])
    kinds = stored.array("categories", n_images, dtype=np.uint8)
    if n_images == 0 or int(kinds.max()) >= len(_KINDS):
        raise stored.error("has no images, or categories that there are none of")
    ids = _read_ids(files, n_images) if has_ids else ()
    found = []
    for number, entry in enumerate(entries):
        rows = views.array(f"{number}.rows", None, dtype=np.int32)
        if not len(rows) or rows.min() < 0 or rows.max() >= n_images:
            raise views.error(f"the rows of reference {number} are not those of its images")
        parts = [_read_features(files, name, n_images, widths) for name in entry.features]
        values = SideBySide(parts, rounded=entry.bits == 16)
        standardise = Standardise(values.shape[1])
        for name in ("mean", "std"):
            own = views.array(f"{number}.{name}", values.shape[1], dtype=np.float32)
            if (abs(own) > _LARGEST).any() or (name == "std" and (own < 1 / _LARGEST).any()):
                raise views.error(f"reference {number}: no {name} of features")
            getattr(standardise, name).copy_(torch.tensor(own))
        own_rows = StandardisedRows(
            cast(Floats, values),  # gives rows as an array does
            rows.astype(np.intp),
            standardise=standardise,
        )
        memory = Memory(
            cast(Floats, own_rows),
            concepts[rows],
            categories=[_KINDS[kind] for kind in kinds[rows].tolist()],
            approximate_from=entry.approximate_from,
            seed=entry.seed,
            device=device,
        )
        own_ids = tuple(ids[row] for row in rows) if ids else ()
        found.append(
            Reference(features=entry.features, rows=own_rows, memory=memory, image_ids=own_ids)
        )
    return found


def _read_features(
    files: BundleFiles, name: str, n_images: int, widths: Mapping[str, int]
) -> npt.NDArray[np.floating[Any]]:
    file = f"{FOLDER}/{name}.npy"
    shown, array = files.shown / file, files.array(file)
    if array.dtype not in (np.float16, np.float32) or array.shape != (n_images, widths[name]):
        raise BundleError(
            f"{shown}: expected {n_images} x {widths[name]} of float16 or float32; found"
            f" {' x '.join(map(str, array.shape))} of {array.dtype}; make the bundle again"
        )
    for start in range(0, n_images, _ROWS):
        rows = array[start : start + _ROWS].astype(np.float32)
        if not (abs(rows) <= _LARGEST).all():  # NaN is not
            raise BundleError(f"{shown}: has numbers that are no features; make the bundle again")
    return array


_ROWS = 4096  # that are looked at at once

_LARGEST = 1e7
"""Beyond any feature, mean and inverse deviation: standardised ones still have finite lengths."""


def _read_ids(files: BundleFiles, n_images: int) -> tuple[str, ...]:
    ids = read_lines(files.path(TRAINING_IDS))
    if len(ids) != n_images:
        raise BundleError(
            f"{files.shown / TRAINING_IDS}: {len(ids):,} ids of {n_images:,} training images; make"
            " the bundle again"
        )
    return ids


def write_statistics(folder: Path, statistics: LabelStatistics) -> None:
    """Write what training labels say; of two concepts the images with both: mostly there are none.

    Args:
        folder: of the bundle.
        statistics: of the ensemble.
    """
    tensors = {
        "n_train": torch.tensor(statistics.n_train.astype(np.int64)),
        "rate": torch.tensor(statistics.rate),
        "prior": torch.tensor(statistics.prior),
        "category_share": torch.tensor(statistics.category_share),
        **csr_tensors("together", statistics.together),
    }
    save_tensors(folder / STATISTICS, tensors)


def read_statistics(files: BundleFiles, *, n_concepts: int) -> LabelStatistics:
    """What `write_statistics` wrote.

    Raises:
        BundleError: the file is not what it wrote.
    """
    stored, n = files.tensors(STATISTICS), n_concepts
    together = stored.csr("together", (n, n), dtype=np.float32)
    n_train = stored.array("n_train", n, dtype=np.int64)
    rate = stored.array("rate", n, dtype=np.float32)
    if (n_train < 0).any() or (rate <= 0).any() or (rate >= 1).any():
        raise stored.error("counts below 0, or shares that are none")
    return LabelStatistics(
        n_train=n_train,
        rate=rate,
        prior=stored.shares("prior", len(CATEGORIES), n),
        together=together,
        category_share=stored.shares("category_share", len(CATEGORIES)),
    )


def read_distance(files: BundleFiles, *, features: tuple[str, ...]) -> DistanceModel | None:
    """Training images as points, and what distance from them costs; None without features.

    Args:
        files: of the bundle.
        features: names of the features that points are made of.

    Raises:
        BundleError: a file is not what `DistanceModel.save` wrote.
    """
    if not features:
        return None
    shown = files.shown / DISTANCE
    for name in DISTANCE_FILES:
        path = files.path(f"{DISTANCE}/{name}")
        if path.suffix == ".json":
            files.json(f"{DISTANCE}/{name}")
    try:
        model = DistanceModel.load(files.folder / DISTANCE)
    except PredictionsError as error:
        text = str(error).removeprefix(f"{files.folder / DISTANCE}/")
        raise BundleError(f"{shown}: {text}; make the bundle again") from None
    if model.features != features:
        raise BundleError(f"{shown}: of other features than {GRAPH} says; make the bundle again")
    return model
