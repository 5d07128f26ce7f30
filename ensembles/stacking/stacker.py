"""What all stackers share: their form, their file, and the checks of what they are given."""

from pathlib import Path
from typing import Any, Protocol

from core.errors import AlignmentError, PredictionsError, first_few
from core.storage.documents import parse_json
from core.storage.plain import plain_file
from ensembles.pairs import Bools, Floats
from ensembles.stacking.candidates import Candidates

FILE = "stacker.json"


class Stacker(Protocol):
    """What every stacker can do."""

    def fit(self, candidates: Candidates, targets: Bools) -> "Stacker":
        """Learn from (n,) truth of the pairs."""

    def predict(self, candidates: Candidates) -> Floats:
        """(n,) probability of each pair."""

    def save(self, folder: Path) -> None:
        """Write what was learned into an existing folder."""

    @classmethod
    def load(cls, folder: Path) -> "Stacker":
        """The stacker that `save` wrote; see `load_stacker`."""


def read_header(folder: Path) -> dict[str, Any]:
    """What `stacker.json` of a folder says.

    Raises:
        PredictionsError: it is missing or not a JSON object.
    """
    path = folder / FILE
    try:
        values = parse_json(plain_file(path, error=PredictionsError).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PredictionsError(f"{path}: no such file") from None
    except ValueError as error:
        raise PredictionsError(f"{path}: not JSON ({error})") from None
    if not isinstance(values, dict):
        raise PredictionsError(f"{path}: expected an object, found {type(values).__name__}")
    return values


def check_targets(candidates: Candidates, targets: Bools) -> None:
    """Refuse to learn from pairs of one kind.

    Raises:
        PredictionsError: none of the pairs is true, or all are.
    """
    assert len(targets) == len(candidates)
    found = f"cannot stack: {int(targets.sum())} of {len(targets)} candidate pairs are true"
    if targets.all():
        raise PredictionsError(
            f"{found}: every labelled image has the same concepts, which leaves nothing to decide;"
            " it takes concepts that some images have and others lack"
        )
    if not targets.any():
        raise PredictionsError(
            f"{found}; it takes concepts that some images have and others lack, and sources that"
            " know them"
        )


def check_features(candidates: Candidates, names: tuple[str, ...]) -> None:
    """Refuse features other than those of the fit.

    Raises:
        AlignmentError: names or their order differ.
    """
    if candidates.feature_names != names:
        odd = sorted(set(candidates.feature_names) ^ set(names)) or list(candidates.feature_names)
        raise AlignmentError(
            f"the stacker was fitted on {len(names)} features, these are"
            f" {len(candidates.feature_names)}; different: {first_few(odd)}"
        )
