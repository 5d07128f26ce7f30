"""What fusion strategies make, and what they are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from core.images import ImageTable
from core.predictions import Predictions, Probs
from fusion.config import FuseConfig
from fusion.inputs.gather import FusionInputs
from fusion.inputs.tensors import NetworkInputs


@dataclass(frozen=True, kw_only=True)
class FusedResult:
    """What a strategy made.

    Attributes:
        predictions: by split, `valid` and `test`; of a cross-fitted corpus `labelled` and `test`.
        without_category: predictions made as if no image had a category; empty where that makes
            no difference or no category can be guessed.
        contains: names of the detectors that these predictions already include.
        weights: of its networks; those of network k begin with `k.`.
        chosen: settings that data chose, and what else predictions follow from, for the record.
        unfinished: folders from which its making would go on after a kill, to be removed once all
            of this is on disk.
    """

    predictions: Mapping[str, Predictions]
    without_category: Mapping[str, Predictions] = field(default_factory=dict)
    contains: tuple[str, ...] = ()
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    chosen: Mapping[str, Any] = field(default_factory=dict)
    unfinished: tuple[Path, ...] = ()


Earlier = Mapping[str, FusedResult]
"""Results of the strategies that ran before, by name."""


class Strategy(Protocol):
    """A function that makes predictions of what is known of the images."""

    def __call__(
        self, fusion_inputs: FusionInputs, config: FuseConfig, /, *, earlier: Earlier
    ) -> FusedResult:
        """What the strategy makes, of the results of those before it where it needs them."""
        ...


def as_predictions(
    name: str,
    fusion_inputs: FusionInputs,
    *,
    probs: Mapping[str, Probs],
    images: Callable[[str], ImageTable] | None = None,
) -> dict[str, Predictions]:
    """(N, L) probabilities by split as predictions of something fitted on train alone.

    Args:
        name: of the strategy.
        fusion_inputs: what it was made from.
        probs: by split.
        images: the N images of a split; None for those that can be decoded.
    """
    of_split = images or fusion_inputs.corpus.images
    fitted_on = frozenset(fusion_inputs.training_images().image_ids)
    return {
        split: Predictions(
            source=name,
            image_ids=of_split(split).image_ids,
            labels=fusion_inputs.corpus.labels,
            probs=values,
            fitted_on=fitted_on,
        )
        for split, values in probs.items()
    }


def asked_both_ways(
    name: str,
    fusion_inputs: FusionInputs,
    *,
    answer: Callable[[NetworkInputs], Mapping[str, Probs]],
    takes_category: bool,
) -> FusedResult:
    """What networks say of the images, and what they would if none had a category.

    Args:
        name: of the strategy.
        fusion_inputs: what the networks were made from.
        answer: (N, L) probabilities by split of what networks are given.
        takes_category: whether the category makes a difference to them.
    """
    inputs, without = fusion_inputs.network_inputs, fusion_inputs.without_category
    return FusedResult(
        predictions=as_predictions(name, fusion_inputs, probs=answer(inputs)),
        without_category={}
        if without is None or not takes_category
        else as_predictions(name, fusion_inputs, probs=answer(without)),
    )
