"""Specialists where they know, another source elsewhere."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from core.predictions import Predictions, row_numbers

Support = Mapping[str, npt.NDArray[np.integer]]
"""(L,) training images of each concept of the full space, by specialist."""


def route(
    general: Predictions,
    specialists: Sequence[Predictions],
    *,
    support: Support | None = None,
    at_least: int = 0,
) -> Predictions:
    """The general predictions, with each specialist's own in its rows and concepts.

    A concept that a specialist does not cover is unknown to it, not absent: the general source
    keeps its say there. So it does for concepts that the specialist learnt from too few images.

    Args:
        general: every image, the full label space.
        specialists: some of these images each, no image twice; concepts of the full space.
        support: images that each specialist, named by its source, learnt a concept from.
        at_least: how many of them a specialist's say takes.

    Raises:
        AlignmentError: a specialist has an image that the general source lacks.
        LabelSpaceError: a specialist has a concept that the full space lacks.
    """
    probs = general.probs.copy()
    fitted_on = general.fitted_on
    for specialist in specialists:
        rows = row_numbers(general.source, general.image_ids, specialist.image_ids)
        columns = general.labels.columns(specialist.labels.cuis)
        known = np.ones(len(columns), dtype=np.bool_)
        if support is not None:
            known = support[specialist.source][columns] >= at_least
        probs[rows[:, None], columns[known][None, :]] = specialist.probs[:, known]
        fitted_on |= specialist.fitted_on
    return Predictions(
        source="routed",
        image_ids=general.image_ids,
        labels=general.labels,
        probs=probs,
        fitted_on=fitted_on,
    )
