"""The (image, concept) pairs that a stacker looks at, with features from every source.

Features are made image by image, as machine code.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import expit

from core.errors import PredictionsError, first_few
from core.metrics import Scores
from ensembles.compiled import compiled, in_blocks
from ensembles.pairs import Bools, Floats, Ints, Pairs
from ensembles.solvers.features import FeatureRows, take_rows
from ensembles.solvers.logistic import logit
from ensembles.stacking.label_statistics import LabelStatistics, Together, fill_shares
from ensembles.stacking.sources import Source, find_candidates


@dataclass(frozen=True, kw_only=True)
class Candidates(Pairs):
    """Pairs that a stacker looks at.

    Every other pair is decided absent. Of 252 concepts 42 an image stayed, with 96 % of the true
    ones, for six sources at the default floor; a larger label space leaves a smaller share.

    Attributes:
        features: (n, F) float32, NaN where a source does not cover the pair.
        feature_names: F names: `logit <source>` and `rank <source>` of each source, then the same
            ones whatever the sources.
    """

    features: FeatureRows
    feature_names: tuple[str, ...]

    def feature(self, name: str) -> Floats:
        """(n,) one feature."""
        return self.features[:, self.feature_names.index(name)]

    def take(self, chosen: Bools) -> "Candidates":
        """Some of the pairs, by (n,) mask; images and concepts keep their numbers.

        The features are shared, not copied.
        """
        return replace(
            self,
            rows=self.rows[chosen],
            columns=self.columns[chosen],
            features=take_rows(self.features, chosen),
        )

    def disagreement(self, probs: Floats, *, at_least: float = 0.1) -> Scores:
        """(N,) mean over an image's likely concepts of the standard deviation of the sources.

        The deviation is that of the probabilities of the sources that cover the pair.

        Args:
            probs: (n,) what the stacker makes of each pair.
            at_least: probability of a likely concept; images without one have 0.
        """
        likely = probs >= at_least
        rows = self.rows[likely]
        n, total, squares = np.zeros((3, len(rows)))
        for name in self.feature_names:
            if not name.startswith("logit "):
                continue
            values = expit(self.feature(name)[likely].astype(np.float64))
            covered = ~np.isnan(values)
            values[~covered] = 0.0
            n += covered
            total += values
            squares += values**2
        n = np.maximum(n, 1.0)
        deviation = np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0.0))
        n_images = self.shape[0]
        found = np.bincount(rows, weights=deviation, minlength=n_images)
        return np.asarray(found / np.maximum(np.bincount(rows, minlength=n_images), 1))

    def to_sparse(self, values: Floats) -> csr_array:
        """(N, L) float32 CSR: a value for each pair, 0 elsewhere."""
        return csr_array((values, self.columns, self.starts), shape=self.shape)


SHARED_FEATURES = (
    "mean logit",
    "max logit",
    "min logit",
    "deviation",
    "sources",
    "prior logit",
    "log frequency",
    "mass",
    "support",
)


def make_candidates(
    sources: Sequence[Source],
    *,
    label_statistics: LabelStatistics | Sequence[tuple[Bools, LabelStatistics]],
    category_weights: Floats,
    floor: float = 0.02,
    top: int = 30,
    most: int = 200,
) -> Candidates:
    """Candidate pairs of N images with their features.

    A pair is a candidate if any source gives it `floor` or more, or if it is among the `top` of
    its image by the mean of the sources that cover it; of an image with more candidates than `most`
    those stay that are highest by this mean. (Of twenty noisy sources and 3,047 concepts 536 an
    image reach the floor of 0.02; with the best 100, 200, 300 or all of them the cross-fitted
    sample F1 of logistic regression is 0.6083, 0.6082, 0.6082 and 0.6083.)

    Features of a pair: each source's log odds, and log of its rank among the image's candidates;
    mean, maximum, minimum and standard deviation of these log odds over the sources that cover
    the pair, and their number; log odds of the concept in the image's category; log of its number
    of training images; sum of the image's mean probabilities, which is the number of concepts to
    be expected; and its support: P(concept | c'), averaged over the image's other candidates c'
    in proportion to their mean probability.

    Args:
        sources: at least one, for the same N images and L concepts.
        label_statistics: what the training labels say; where images are among those that others
            learn from, (N,) masks that cover each image once, with what the labels of images say
            that are not in the mask.
        category_weights: (N, C) certainty of each image's category, see `LabelStatistics`; a
            posterior where the category is not known.

    Raises:
        PredictionsError: there is no source, or two have the same name.
    """
    given = [source.name for source in sources]
    if not given or len(set(given)) < len(given):
        raise PredictionsError(
            f"expected sources of distinct names; found {first_few(sorted(given), n=20)}"
        )
    n_images = len(category_weights)
    if isinstance(label_statistics, LabelStatistics):
        label_statistics = [(np.ones(n_images, dtype=np.bool_), label_statistics)]
    n_concepts = len(label_statistics[0][1].rate)
    rows, columns = find_candidates(
        sources, n_images=n_images, n_concepts=n_concepts, floor=floor, top=top, most=most
    )
    starts = np.searchsorted(rows, np.arange(n_images + 1))
    names = (
        *(f"logit {name}" for name in given),
        *(f"rank {name}" for name in given),
        *SHARED_FEATURES,
    )
    features = np.empty((len(rows), len(names)), dtype=np.float32)
    logs = np.log1p(np.arange(np.diff(starts).max(initial=0) + 1)).astype(np.float32)

    for mask, statistics in label_statistics:
        images = np.flatnonzero(mask)

        def fill(
            first_image: int,
            last_image: int,
            images: npt.NDArray[np.intp] = images,
            known: tuple[LabelStatistics, Together] = (statistics, statistics.lookup),
        ) -> None:
            for first in range(first_image, last_image, _BLOCK):
                block = images[first : min(first + _BLOCK, last_image)]
                sizes = starts[block + 1] - starts[block]
                ends = np.concatenate([[0], np.cumsum(sizes)])
                here = np.arange(ends[-1]) + np.repeat(starts[block] - ends[:-1], sizes)
                described = np.empty((len(here), len(names)), dtype=np.float32)
                pairs = rows[here], columns[here], ends
                _describe(sources, pairs, known, category_weights[block], logs, described)
                features[here] = described

        in_blocks(len(images), fill)
    return Candidates(
        rows=rows,
        columns=columns,
        shape=(n_images, n_concepts),
        features=features,
        feature_names=names,
    )


_BLOCK = 64
"""Images described together: 2 MB of features at 150 pairs an image."""


def _describe(
    sources: Sequence[Source],
    pairs: tuple[Ints, Ints, npt.NDArray[np.int64]],
    known: tuple[LabelStatistics, Together],
    category_weights: Floats,
    logs: Floats,
    features: Floats,
) -> None:
    """Write the features of the pairs of some images.

    Args:
        pairs: (n,) image and (n,) concept, and (B + 1,) where the pairs of each image begin.
        known: what training labels say.
        category_weights: (B, C).
        logs: log of 1, 2, ..., to as many as an image has pairs.
        features: (n, F), where they go.
    """
    rows, columns, starts = pairs
    label_statistics, together = known
    n_sources = len(sources)
    for m, source in enumerate(sources):
        logits = logit(source.at(rows, columns))
        features[:, m] = logits
        fill_log_ranks(starts, logits, logs, features[:, n_sources + m])
    shared = features[:, 2 * n_sources :]
    fill_summaries(features[:, :n_sources], shared)
    prior = np.empty(len(rows), dtype=np.float32)
    fill_prior(starts, columns, category_weights, label_statistics.prior, prior)
    shared[:, 5] = logit(prior)
    shared[:, 6] = np.log1p(label_statistics.n_train[columns])
    probs = expit(shared[:, 0])
    fill_mass_and_support(starts, columns, probs, together, label_statistics.rate, shared[:, 7:])


Starts = npt.NDArray[np.int64]


@compiled
def fill_log_ranks(starts: Starts, values: Floats, logs: Floats, out: Floats) -> None:
    """Write log of 1 + the number of higher values of the same image, NaN where the value is.

    Args:
        starts: (N + 1,) where the pairs of each image begin.
        values: (n,).
        logs: log of 1, 2, ..., to as many as an image has pairs.
        out: (n,).
    """
    higher = np.zeros(len(logs), dtype=np.int32)
    for i in range(len(starts) - 1):
        own = values[starts[i] : starts[i + 1]]
        n = len(own)
        higher[:n] = 0
        for other in range(n):
            value = own[other]
            for k in range(n):
                higher[k] += value > own[k]  # no comparison with NaN holds
        for k in range(n):
            out[starts[i] + k] = np.nan if np.isnan(own[k]) else logs[higher[k]]


@compiled
def fill_summaries(logits: Floats, out: Floats) -> None:
    """Write mean, maximum, minimum, deviation and number of the log odds of those that cover.

    Args:
        logits: (n, M), NaN where a source does not cover the pair; one does at least.
        out: (n, 5) or wider.
    """
    for k in range(len(logits)):
        total, highest, lowest, n = 0.0, np.float32(-np.inf), np.float32(np.inf), 0
        for m in range(logits.shape[1]):
            value = logits[k, m]
            if not np.isnan(value):
                total += value
                highest, lowest = max(highest, value), min(lowest, value)
                n += 1
        mean, squares = total / n, 0.0
        for m in range(logits.shape[1]):
            if not np.isnan(logits[k, m]):
                squares += (logits[k, m] - mean) ** 2
        out[k, 0], out[k, 1], out[k, 2] = mean, highest, lowest
        out[k, 3], out[k, 4] = np.sqrt(squares / n), n


@compiled
def fill_prior(
    starts: Starts, columns: Ints, category_weights: Floats, prior: Floats, out: Floats
) -> None:
    """Write P(concept) of each pair under the certainty of its image's category.

    Args:
        starts: (N + 1,) where the pairs of each image begin.
        columns: (n,) concept.
        category_weights: (N, C).
        prior: (C, L) P(concept | category).
        out: (n,).
    """
    for i in range(len(starts) - 1):
        for k in range(starts[i], starts[i + 1]):
            total = np.float32(0.0)
            for c in range(len(prior)):
                total += category_weights[i, c] * prior[c, columns[k]]
            out[k] = total


@compiled
def fill_mass_and_support(
    starts: Starts, columns: Ints, probs: Floats, together: Together, rate: Floats, out: Floats
) -> None:
    """Write the sum of the image's probabilities, and the support of each pair by the others.

    The support is P(concept | other concept), averaged over the image's other candidates in
    proportion to their probability.

    Args:
        starts: (N + 1,) where the pairs of each image begin.
        columns: (n,) concept.
        probs: (n,).
        together: what P(concept | other concept) is looked up in.
        rate: (L,) what is said of a concept that is alone in its image.
        out: (n, 2).
    """
    longest = 0
    for i in range(len(starts) - 1):
        longest = max(longest, starts[i + 1] - starts[i])
    total, weight = np.empty(longest), np.empty(longest)
    shares = np.empty(longest, dtype=np.float32)
    for i in range(len(starts) - 1):
        own, weights = columns[starts[i] : starts[i + 1]], probs[starts[i] : starts[i + 1]]
        n = len(own)
        mass = 0.0
        for k in range(n):
            total[k] = 1e-3 * rate[own[k]]
            weight[k] = 1e-3
            mass += weights[k]
        for other in range(n):  # a row at a time, which stays in the cache
            p = weights[other]
            fill_shares(together, own, other, shares)
            for k in range(other):
                total[k] += p * shares[k]
                weight[k] += p
            for k in range(other + 1, n):
                total[k] += p * shares[k]
                weight[k] += p
        for k in range(n):
            out[starts[i] + k, 0] = mass
            out[starts[i] + k, 1] = total[k] / weight[k]
