"""Late fusion: plain classifiers on what a network says of the concepts, and the metadata.

Nunnari et al., CD-MAKE 2020, compare them with networks that see the metadata themselves. Here the
network is the head without metadata, and what it says of a training image comes from networks that
did not learn from it: their answers to what they learnt would look surer than they are.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import logit

from core.images import ImageTable
from fusion.config import FuseConfig
from fusion.inputs.gather import SPLITS, FusionInputs
from fusion.networks.train import out_of_fold
from fusion.result import Earlier, FusedResult, as_predictions

if TYPE_CHECKING:
    from sklearn.svm import LinearSVC

# scikit-learn stands in the functions: with pandas it takes 1.1 s to import, which whoever only
# looks for a strategy's name need not wait for.

Floats = npt.NDArray[np.float32]


class LateModel(Protocol):
    """A classifier of all concepts, fitted and asked in one.

    Inputs (n, L + 7 + M) are log odds of the network and the metadata, of training images; `asked`
    the same of Q others.
    """

    def __call__(
        self, inputs: Floats, targets: csr_array, /, *, asked: Floats, seed: int
    ) -> Floats:
        """(Q, L) probabilities, NaN in columns it does not model."""
        ...


MIN_IMAGES = 5
"""Training images with and without a concept from which on it has a classifier of its own."""

_C_LOGISTIC = 0.01
_C_SVM = 0.001
"""Inverse penalties, on log odds; ten times more or less cost a thousandth each."""

_TREES = 200
_LEAVES = 512
"""Leaves of a tree at most: each holds two numbers a concept, 49 kB at 3,047."""


def late_logistic(inputs: Floats, targets: csr_array, *, asked: Floats, seed: int) -> Floats:
    """A logistic regression for each concept."""
    from sklearn.linear_model import LogisticRegression

    def answer(y: npt.NDArray[np.bool_]) -> Floats:
        model = LogisticRegression(C=_C_LOGISTIC, solver="liblinear", random_state=seed)
        probs: Floats = model.fit(inputs, y).predict_proba(asked)[:, 1]
        return probs

    return _each_concept(answer, targets, len(asked))


def late_svm(inputs: Floats, targets: csr_array, *, asked: Floats, seed: int) -> Floats:
    """A linear support vector machine for each concept, its margins made probabilities.

    By a logistic regression on the margins that machines give to the half of the images that they
    did not learn from. Source: Platt, 1999.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    half = np.random.default_rng(seed).permutation(len(inputs)) % 2 == 0

    def machine(learnt: Floats, y: npt.NDArray[np.bool_]) -> "LinearSVC":
        # The dual is solved in an order drawn from one generator of the whole process, which other
        # threads draw from and seed: no two runs are equal. The primal draws nothing. By itself
        # scikit-learn takes the dual where images are fewer than numbers; there the primal takes
        # 0.8 to 1.2 times as long (300 to 2,000 images, 400 to 3,000 numbers), and the answers
        # differ by 2e-5 at most.
        return LinearSVC(C=_C_SVM, dual=False).fit(learnt, y)

    def answer(y: npt.NDArray[np.bool_]) -> Floats:
        margins = np.empty(len(y))
        for part in (half, ~half):
            if y[part].all() or not y[part].any():  # nothing to part
                return np.full(len(asked), np.nan, dtype=np.float32)
            margins[~part] = machine(inputs[part], y[part]).decision_function(inputs[~part])
        platt = LogisticRegression().fit(margins[:, None], y)
        found = machine(inputs, y).decision_function(asked)
        probs: Floats = platt.predict_proba(found[:, None])[:, 1]
        return probs

    return _each_concept(answer, targets, len(asked))


def late_trees(inputs: Floats, targets: csr_array, *, asked: Floats, seed: int) -> Floats:
    """Extremely randomised trees for all concepts at once (Geurts et al., 2006)."""
    from sklearn.ensemble import ExtraTreesClassifier

    forest = ExtraTreesClassifier(
        _TREES, max_leaf_nodes=_LEAVES, min_samples_leaf=2, max_features=0.2, n_jobs=-1,
        random_state=seed,
    )  # fmt: skip
    chosen = _modelled(targets)
    forest.fit(inputs, targets[:, chosen].toarray())
    probs = np.full((len(asked), targets.shape[1]), np.nan, dtype=np.float32)
    found = forest.predict_proba(asked)
    probs[:, chosen] = np.stack([of_concept[:, 1] for of_concept in found], axis=1)
    return probs


LATE: dict[str, LateModel] = {
    "late-logistic": late_logistic,
    "late-svm": late_svm,
    "late-trees": late_trees,
}
"""Classifiers of late fusion, by strategy."""


def _modelled(targets: csr_array) -> npt.NDArray[np.intp]:
    """Concepts with enough training images on either side."""
    n_true = np.asarray(targets.sum(axis=0)).ravel()
    enough = (n_true >= MIN_IMAGES) & (targets.shape[0] - n_true >= MIN_IMAGES)
    return np.flatnonzero(enough)


def _each_concept(
    answer: Callable[[npt.NDArray[np.bool_]], Floats], targets: csr_array, n_asked: int
) -> Floats:
    """(Q, L) the answers of a classifier a concept, NaN where there are too few images."""
    chosen, by_column = _modelled(targets), targets.tocsc()
    columns = (by_column[:, [column]].toarray().ravel() for column in chosen)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        found = list(threads.map(answer, columns))
    probs = np.full((n_asked, targets.shape[1]), np.nan, dtype=np.float32)
    if len(chosen):
        probs[:, chosen] = np.stack(found, axis=1)
    return probs


def late(
    fusion_inputs: FusionInputs, config: FuseConfig, *, earlier: Earlier, name: str
) -> FusedResult:
    """A classifier of `LATE`, or the network itself of a concept with too few training images."""
    train = fusion_inputs.training_images()
    held_out, answers = out_of_fold(fusion_inputs, config)
    asked = {
        (split, without_category): _inputs(
            fusion_inputs, fusion_inputs.corpus.images(split), answers[split], without_category
        )
        for split in SPLITS
        for without_category in (
            (False,) if fusion_inputs.without_category is None else (False, True)
        )
    }
    targets = train.targets(fusion_inputs.corpus.labels).matrix
    learnt = _inputs(fusion_inputs, train, held_out, False)
    found = LATE[name](
        learnt, targets, asked=np.concatenate(list(asked.values())), seed=config.seed
    )
    parts = np.split(found, np.cumsum([len(inputs) for inputs in asked.values()])[:-1])
    probs: dict[bool, dict[str, Floats]] = {False: {}, True: {}}
    for (split, without_category), part in zip(asked, parts, strict=True):
        own = np.isnan(part)
        probs[without_category][split] = np.where(own, answers[split], part).astype(np.float32)
    return FusedResult(
        predictions=as_predictions(name, fusion_inputs, probs=probs[False]),
        without_category=as_predictions(name, fusion_inputs, probs=probs[True]),
    )


def _inputs(
    fusion_inputs: FusionInputs, images: ImageTable, probs: Floats, without_category: bool
) -> Floats:
    """(n, L + 7 + M) log odds of the network's answers, and the metadata, at like scales."""
    odds = logit(np.clip(probs, _CLIP, 1 - _CLIP)) / _DEVIATION
    likely = fusion_inputs.likely(images, without_category=without_category)
    metadata = fusion_inputs.metadata(images)
    return np.concatenate([odds, likely, metadata], axis=1, dtype=np.float32)


_CLIP = 1e-4
_DEVIATION = 3.0
"""About that of the log odds of a network, most of which are near the floor."""
