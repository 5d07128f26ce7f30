"""Second-stage models judged on images they were not fitted on."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from core.folds import Folds, Mask, cross_fitted, in_order
from core.metrics import ScoredImages, Scores, at_threshold_of_others, f1_of_pairs_by_threshold
from ensembles.compiled import n_cores
from ensembles.stacking.candidates import Candidates
from ensembles.stacking.stacker import Stacker


def cross_fit(
    make_stacker: Callable[[], Stacker],
    candidates: Candidates,
    *,
    targets: npt.NDArray[np.bool_],
    folds: Folds,
    among: Mask | None = None,
) -> npt.NDArray[np.float32]:
    """(n,) probability of each candidate pair by a stacker fitted without the pair's fold.

    Folds are done side by side, on as many cores as numba may use.

    Args:
        make_stacker: gives a fresh stacker; called once a fold.
        targets: (n,) whether each pair is true.
        folds: (N,) fold of each image, as `prepare` assigned them.
        among: (N,) the images that stackers may be fitted on; None for all.

    Raises:
        AlignmentError: an image has no fold, or all share one.
    """

    def fit(images: Mask) -> Stacker:
        chosen = (images if among is None else images & among)[candidates.rows]
        return make_stacker().fit(candidates.take(chosen), targets[chosen])

    def predict(stacker: Stacker, images: Mask) -> npt.NDArray[np.float32]:
        return stacker.predict(candidates.take(images[candidates.rows]))

    found = cross_fitted(fit, predict, folds=folds, n_threads=n_cores())
    return in_order([(held_out[candidates.rows], probs) for held_out, probs in found])


def image_f1_of(
    candidates: Candidates,
    probs: npt.NDArray[np.float32],
    *,
    true: npt.NDArray[np.bool_],
    images: ScoredImages,
) -> Scores:
    """(N,) F1 of each image at the one threshold that is best on the other folds.

    As `core.metrics.cross_fitted_f1` has it of the matrix that `to_sparse` makes.

    Args:
        probs, true: (n,) of each candidate pair.
        images: the N images, with true concepts that are no candidate included.
    """
    scores = f1_of_pairs_by_threshold(
        candidates.rows, probs, true=true, targets=images.targets, empty_truth=images.empty_truth
    )
    return at_threshold_of_others(scores, images.folds)
