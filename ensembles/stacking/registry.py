"""Stackers by name: from the features of candidate pairs to one probability each."""

from collections.abc import Callable
from pathlib import Path

from core.errors import PredictionsError
from ensembles.stacking.concept_logistic import ConceptLogisticStacker
from ensembles.stacking.forest import LightGBMStacker
from ensembles.stacking.greedy import GreedyStacker
from ensembles.stacking.linear import LogisticStacker, MeanStacker, MemberStacker
from ensembles.stacking.stacker import FILE, Stacker, read_header
from ensembles.stacking.votes import VotesStacker

STACKERS: dict[str, Callable[[], Stacker]] = {
    "mean": MeanStacker,
    "greedy": GreedyStacker,
    "votes": VotesStacker,
    "logistic": LogisticStacker,
    "logistic-offsets": LogisticStacker.with_offsets,
    "logistic-concepts": ConceptLogisticStacker,
    "lightgbm": LightGBMStacker,
    "lightgbm-large": LightGBMStacker.large,
}
"""Fresh stackers by the name a user gives."""

_SAVED: dict[str, type[Stacker]] = {
    "mean": MeanStacker,
    "greedy": GreedyStacker,
    "votes": VotesStacker,
    "logistic": LogisticStacker,
    "logistic-concepts": ConceptLogisticStacker,
    "lightgbm": LightGBMStacker,
    "member": MemberStacker,
}


def load_stacker(folder: Path) -> Stacker:
    """The stacker in a folder, whichever it is.

    Raises:
        PredictionsError: a file is missing or is not what `save` writes.
    """
    name = read_header(folder).get("stacker")
    if name not in _SAVED:
        raise PredictionsError(
            f"{folder / FILE}: unknown stacker {name!r}; expected one of {', '.join(_SAVED)}"
        )
    try:
        return _SAVED[name].load(folder)
    except (KeyError, TypeError, ValueError) as error:
        raise PredictionsError(
            f"{folder / FILE}: not a saved stacker ({type(error).__name__}: {error})"
        ) from None
