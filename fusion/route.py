"""Specialists where they know, another source elsewhere."""

from collections.abc import Sequence

from core.predictions import Predictions, row_numbers


def route(general: Predictions, specialists: Sequence[Predictions]) -> Predictions:
    """The general predictions, with each specialist's own in its rows and concepts.

    A concept that a specialist does not cover is unknown to it, not absent: the general source
    keeps its say there.

    Args:
        general: every image, the full label space.
        specialists: some of these images each, no image twice; concepts of the full space.

    Raises:
        AlignmentError: a specialist has an image that the general source lacks.
        LabelSpaceError: a specialist has a concept that the full space lacks.
    """
    probs = general.probs.copy()
    fitted_on = general.fitted_on
    for specialist in specialists:
        rows = row_numbers(general.source, general.image_ids, specialist.image_ids)
        columns = general.labels.columns(specialist.labels.cuis)
        probs[rows[:, None], columns[None, :]] = specialist.probs
        fitted_on |= specialist.fitted_on
    return Predictions(
        source="routed",
        image_ids=general.image_ids,
        labels=general.labels,
        probs=probs,
        fitted_on=fitted_on,
    )
