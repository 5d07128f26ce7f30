"""What an ensemble's run keeps to tell how far images lie, and whether many of them are far.

In `distance/` of the run folder: the known images as points, `reliance.json` with what distance
costs, and the names of the features that points are made of. No image and no id is in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from core.categories import UNKNOWN
from core.editions import EmptyTruth
from core.errors import PredictionsError
from core.metrics import Scores, group_numbers
from core.storage.arrays import load_array, save_array
from core.storage.documents import read_object
from core.storage.folders import write_json
from core.storage.tables import meant_as_written
from ensembles.distance.features import Floats
from ensembles.distance.known import FILES as KNOWN_FILES
from ensembles.distance.known import (
    NEIGHBOURS,
    KnownImages,
    Parts,
    category_numbers,
    group_weights,
)
from ensembles.distance.left_out import LabelledPoints, leave_out
from ensembles.distance.reliance import USUAL_SHARE, Reliance
from ensembles.distance.separation import separation

FOLDER = "distance"
_GROUPS, _RELIANCE = "groups.npy", "reliance.json"

FILES = (*KNOWN_FILES, _GROUPS, _RELIANCE)
"""All files of a model."""

_CHANCE = 0.03
"""Of images that differ in nothing, the share in which some category is told apart."""

_DEALS = 999


@dataclass(frozen=True, kw_only=True)
class FarCategory:
    """How images of a category lie to the known ones.

    Attributes:
        category: its name, "" for images without one.
        n: images.
        share: of far ones among them, estimated; 0 where chance explains their distances.
        separation: in [0, 1], how well they can be told from the known ones of the category; 0
            where chance explains it.
    """

    category: str
    n: int
    share: float
    separation: float

    @property
    def differs(self) -> bool:
        """Whether they are of another kind than the known ones, in part at least."""
        return self.share > 0 or self.separation > 0


@dataclass(frozen=True, kw_only=True)
class NearPoints:
    """N images that are of the sources that were learnt from, and predicted out of sample.

    Attributes:
        points: (N, D).
        categories, groups: N of each; categories are given or guessed.
        folds: (N,) where learnt images of the same fold are no neighbours; None where these images
            are none of them.
    """

    points: Floats
    categories: Sequence[str]
    groups: Sequence[str]
    folds: Parts | None


@dataclass(frozen=True, kw_only=True)
class DistanceModel:
    """Known images and what distance from them costs.

    Attributes:
        features: names of the pooled features that points are made of.
        known: images that sources learnt from.
        groups: (M,) numbers of their groups.
        reliance: how distance tells on the score.
        usual_f1: what is expected of scored images, as percentiles from the lowest to the highest;
            () where that is not known.
    """

    features: tuple[str, ...]
    known: KnownImages
    groups: npt.NDArray[np.int32]
    reliance: Reliance
    usual_f1: tuple[float, ...] = ()

    @classmethod
    def fit(
        cls,
        learnt: LabelledPoints,
        near: NearPoints,
        *,
        features: tuple[str, ...],
        empty_truth: EmptyTruth,
    ) -> "DistanceModel | None":
        """By the images that sources learn from; None where no source can be left out.

        Args:
            learnt: these images.
            near: images that lie to them as new ones of the same sources would.
            features: names of the features that points are made of.
            empty_truth: what an image without true concepts scores.
        """
        left_out = leave_out(learnt, empty_truth=empty_truth)
        if left_out is None:
            return None
        known = KnownImages.of(learnt.points, learnt.categories)
        parts = None if near.folds is None else (near.folds, learnt.folds[known.rows])
        nearest = known.nearest(near.points, near.categories, k=NEIGHBOURS, parts=parts)
        weights = group_weights(near.groups)
        known = known.with_usual(nearest, near.categories, weights=weights)
        return cls(
            features=features,
            known=known,
            groups=group_numbers(learnt.groups)[known.rows].astype(np.int32),
            reliance=Reliance.fit(
                known.distances(nearest, near.categories), left_out, weights=weights
            ),
        )

    def distances(self, points: Floats, categories: Sequence[str]) -> Scores:
        """(N,) logarithms of the distances of new images, less the usual one of their category.

        Args:
            points: (N, D).
            categories: N of them, given or guessed.
        """
        nearest = self.known.nearest(points, categories, k=NEIGHBOURS)
        return self.known.distances(nearest, categories)

    def alone(self, expected: Scores, distances: Scores) -> Scores:
        """(N,) F1 that can be expected of images by themselves.

        Args:
            expected: (N,) F1 that their probabilities let expect.
            distances: (N,).
        """
        return self.reliance.expected(expected, distances, share=USUAL_SHARE)

    def with_usual_f1(self, expected: Scores) -> "DistanceModel":
        """The same, knowing what is expected of scored images.

        Args:
            expected: (N,) F1, NaN where an image is left out.
        """
        percentiles = np.nanquantile(expected, np.linspace(0.0, 1.0, 101))
        return replace(self, usual_f1=tuple(percentiles.tolist()))

    def places(self, expected: Scores) -> Scores:
        """(N,) place of each image in the order of review, beside the scored images.

        That is the share of these of which less is expected: at 0.05 an image is in the twentieth
        part that is looked at first. NaN where nothing is expected of it.

        Args:
            expected: (N,) F1.
        """
        if not self.usual_f1:
            return np.full(len(expected), np.nan)
        steps = np.linspace(0.0, 1.0, len(self.usual_f1))
        return np.asarray(np.interp(expected, self.usual_f1, steps))

    def compare(
        self,
        points: Floats,
        distances: Scores,
        *,
        categories: Sequence[str],
        groups: Sequence[str],
    ) -> tuple[FarCategory, ...]:
        """How new images lie to the known ones, by category.

        Args:
            points: (N, D).
            distances: (N,) of them.
            categories, groups: N of each.
        """
        of_image, own_groups = (np.array(own, dtype=np.str_) for own in (categories, groups))
        names = sorted(set(categories))
        found = []
        for name in names:
            here = of_image == name
            known = self.known.categories == category_numbers([name])[0]
            own = own_groups[here].tolist()
            if name != UNKNOWN and not known.any():
                found.append(FarCategory(category=name, n=len(own), share=1.0, separation=1.0))
                continue
            apart = separation(
                self.known.points[known],
                points[here],
                groups=self.groups[known].astype(np.str_).tolist(),
                new_groups=own,
                n_deals=_DEALS,
            )
            told = apart is not None and apart.p_value * len(names) <= _CHANCE
            strength = apart.strength if apart is not None and told else 0.0
            share = self.reliance.share(distances[here], groups=own)
            found.append(
                FarCategory(
                    category=name, n=len(own), share=max(share, strength), separation=strength
                )
            )
        return tuple(found)

    def save(self, folder: Path) -> None:
        """Write it into a folder that is there."""
        self.known.save(folder)
        save_array(folder / _GROUPS, self.groups)
        told = {"features": list(self.features), "usual_f1": list(self.usual_f1)}
        write_json(folder / _RELIANCE, {**told, **self.reliance.to_json()})

    @classmethod
    def load(cls, folder: Path) -> "DistanceModel":
        """Read what `save` wrote.

        Raises:
            PredictionsError: a file is not as it was written.
        """
        path, known = folder / _RELIANCE, KnownImages.load(folder)
        groups = load_array(folder / _GROUPS)
        if groups.dtype != np.int32 or groups.shape != (len(known.points),):
            raise PredictionsError(f"{folder / _GROUPS}: not as it was written")
        values = read_object(path)
        with meant_as_written(path):
            named = values.pop("features")
            if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
                raise ValueError("no names of features")
            features = tuple(named)
            told = values.pop("usual_f1")
            if not isinstance(told, list) or not all(isinstance(f1, float | int) for f1 in told):
                raise ValueError("usual_f1 is no list of numbers")
            usual_f1 = tuple(map(float, told))
            if len(told) == 1 or not all(0.0 <= a <= b <= 1.0 for a, b in pairwise(usual_f1)):
                raise ValueError("usual_f1 does not rise within 0 and 1")
            reliance = Reliance.from_json(values)
        return cls(
            features=features, known=known, groups=groups, reliance=reliance, usual_f1=usual_f1
        )
