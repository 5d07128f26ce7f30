"""The detectors of an ensemble, each in float32 on the processor, whatever way it was run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from backbones.networks.carriers import licence_of
from core.categories import CATEGORIES
from core.labels import LabelSpace
from core.runs.detectors import GLOBAL
from core.runs.external import NOT_STATED, resources_of_detector
from inference.images import NewImage
from inference.loaded.answers import detectors_within
from inference.loaded.block import ImageBlock
from inference.loaded.ensemble import LoadedEnsemble
from inference.loaded.networks import FeatureNetwork, LoadedDetector, Look
from inference.stream import Pixels, new_block
from training.devices.compute import Compute

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainDetector:
    """A detector with the networks that give its features.

    Attributes:
        name: distinct among the detectors of an ensemble, and fit for a folder: `global`, `DRCT`.
        detector: plain float32.
        ensemble: that it is a part of, its networks in plain float32; the same for all detectors.
    """

    name: str
    detector: LoadedDetector
    ensemble: LoadedEnsemble

    @property
    def category(self) -> str:
        """`global`, or that of a specialist."""
        return self.detector.category

    @property
    def labels(self) -> LabelSpace:
        """L concepts, in the order of its probabilities."""
        return self.detector.labels

    @property
    def heads(self) -> Sequence[nn.Module]:
        """Logits of features where it has any, else of images."""
        return self.detector.networks

    @property
    def networks(self) -> list[nn.Module]:
        """Those that give features, in their order; none where it was fine-tuned."""
        return [feature.network for feature in self._features]

    @property
    def n_features(self) -> int:
        """Width of what the heads take; 0 where they take images."""
        return len(self.heads[0].state_dict()["0.mean"]) if self._features else 0

    @property
    def look_of_each(self) -> list[Look]:
        """The images that each of `networks` takes."""
        return [feature.look for feature in self._features]

    @property
    def looks(self) -> tuple[Look, ...]:
        """All images that it takes, each size once."""
        return tuple(dict.fromkeys(self.look_of_each or [self.detector.look]))

    @property
    def mirror(self) -> bool:
        """Whether features, or probabilities without any, are the mean over image and mirror."""
        if self._features:
            return self._features[0].mirror
        return self.detector.mirror

    @property
    def _features(self) -> list[FeatureNetwork]:
        return [self.ensemble.networks[name] for name in self.detector.features]

    def probabilities(self, block: ImageBlock) -> Floats:
        """(n, L) what it says of the images of a block, as `predict` asks it."""
        return self.detector(block).probs


def block_of(detectors: Sequence[PlainDetector], pixels: Sequence[Pixels]) -> ImageBlock:
    """Images to ask detectors of one ensemble; features that several take are computed once.

    Args:
        detectors: at least one.
        pixels: of each image, as `inference.stream.decoded` gives them.
    """
    images = [NewImage(image_id=str(row), path=Path(str(row))) for row in range(len(pixels))]
    return new_block(detectors[0].ensemble, images, pixels=pixels)


def detectors_of(ensemble: LoadedEnsemble) -> list[PlainDetector]:
    """All detectors that an ensemble asks, the global ones first, each once.

    Args:
        ensemble: read on the processor.
    """
    plain = replace(
        ensemble,
        networks={
            name: replace(network, compute=Compute()) for name, network in ensemble.networks.items()
        },
    )
    return [
        PlainDetector(name=name, detector=replace(detector, compute=Compute()), ensemble=plain)
        for name, detector in _named(ensemble).items()
    ]


def _named(ensemble: LoadedEnsemble) -> dict[str, LoadedDetector]:
    """The detectors by category; of several in one, the further ones are numbered."""
    found: dict[int, LoadedDetector] = {}
    for member in ensemble.members:
        for detector in detectors_within(member.answer):
            found[id(detector)] = detector
    order = (GLOBAL, *CATEGORIES)
    named: dict[str, LoadedDetector] = {}
    for detector in sorted(found.values(), key=lambda own: order.index(own.category)):
        n_before = sum(own.category == detector.category for own in named.values())
        named[f"{detector.category}{f'-{n_before + 1}' if n_before else ''}"] = detector
    return named


def weights_of(detector: PlainDetector) -> str:
    """Where a detector's networks started, and the licence of those weights, in words."""
    run = detector.detector.run
    if run is None:
        return "as the card of the bundle says"
    told = []
    for own in resources_of_detector(run):
        licence = licence_of(own.source) if own.licence == NOT_STATED else own.licence
        told.append(f"{own.encoder} from {own.source}; licence: {licence or NOT_STATED}")
    return ", and ".join(told) or "random at first"
