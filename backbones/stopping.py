"""The score that chooses epochs; never reported as a score of the detector."""

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.labels import Targets
from core.metrics import best_threshold, decided_at, f1_by_threshold, image_f1, mean_in_order


def stopping_f1(
    probs: npt.NDArray[np.float32], targets: csr_array, *, threshold: float = 0.0
) -> float:
    """Sample F1 at a threshold, or at the best of many.

    Stopping images without concepts are left out; where none has any, the score is 0.
    """
    return stopping_scores(probs, targets, (), threshold=threshold)[0]


def stopping_scores(
    probs: npt.NDArray[np.float32],
    targets: csr_array,
    kinds: tuple[str, ...],
    *,
    threshold: float = 0.0,
) -> tuple[float, dict[str, float]]:
    """The score, and the part of each category in it at the same threshold.

    Args:
        probs: (n, L).
        targets: (n, L) boolean, CSR.
        kinds: (n,) category of each image, or empty.
        threshold: from which on a concept is decided; 0 for the best one.

    Returns:
        The score and a score by category, of those that have images with concepts.
    """
    if not targets.nnz:
        return 0.0, {}
    known = Targets(matrix=targets, n_outside=np.zeros(targets.shape[0], dtype=np.int32))
    if threshold:
        chosen = image_f1(known, decided_at(probs, threshold), empty_truth="left out")
    else:
        scores = f1_by_threshold(probs, known, empty_truth="left out")
        chosen = scores[best_threshold(scores)]
    of_kind = np.array(kinds)
    by_kind = {kind: chosen[of_kind == kind] for kind in sorted(set(kinds))}
    return mean_in_order(chosen), {
        kind: mean_in_order(part) for kind, part in by_kind.items() if np.isfinite(part).any()
    }
