"""Whether valid looks like train: concept by concept, and as a whole against chance.

Images of one group (a patient, a study) resemble each other, so chance is what whole groups give
that are dealt to the two splits at random.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, hstack
from scipy.special import ndtr, rel_entr
from scipy.stats import false_discovery_control

from core.categories import CATEGORIES
from core.labels import LabelSpace
from reports.statistics.labels import Counts, LabelledImages

Numbers = npt.NDArray[np.float64]

_BLOCK = 50  # deals at once: 16 MB of marks for 80,000 groups

_FEW_GROUPS = 10  # with fewer, a normal distribution or a deal of groups says nothing


@dataclass(frozen=True, kw_only=True)
class Against:
    """A number beside what chance alone makes of it.

    Attributes:
        value: as observed.
        mean, low, high: mean and 95 % range of the deals; NaN where there are too few groups.
        p: share of the deals, the observed one counted in, that reach the value.
    """

    value: float
    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Concepts and categories of train and of valid.

    Attributes:
        labels: L concepts of either split.
        n_images: labelled images of train and of valid.
        support: (2, L) images with the concept.
        z: (L,) standard errors between the two shares; NaN for a concept too rare to test.
        q: (L,) false discovery rate at which the difference counts (Benjamini and Hochberg); NaN
            where z is.
        concepts: Jensen-Shannon distance, in [0, 1], of the two distributions of assignments.
        categories: the same of categories; None without them.
        unseen: concepts of valid that never stand in train.
        n_unseen_assignments: their assignments in valid.
        n_groups: groups of both splits.
    """

    labels: LabelSpace
    n_images: tuple[int, int]
    support: Counts
    z: Numbers
    q: Numbers
    concepts: Against
    categories: Against | None
    unseen: Against
    n_unseen_assignments: int
    n_groups: int

    @cached_property
    def shares(self) -> Numbers:
        """(2, L) share of the images with the concept."""
        return np.asarray(self.support / np.array(self.n_images)[:, None])

    @cached_property
    def standardised(self) -> Numbers:
        """(L,) (p_valid - p_train) / sqrt((p_train (1 - p_train) + p_valid (1 - p_valid)) / 2).

        Its size does not depend on the number of images; beyond 0.1 is usually called imbalance.
        NaN where the concept stands on every image or on none. Source: Austin, Communications in
        Statistics - Simulation and Computation, 2009.
        """
        spread = np.sqrt((self.shares * (1 - self.shares)).mean(axis=0))
        gap = self.shares[1] - self.shares[0]
        return np.where(spread > 0, gap / np.where(spread > 0, spread, 1.0), np.nan)


def compare_splits(images: LabelledImages, *, n_deals: int = 200, seed: int = 0) -> Drift | None:
    """How far valid is from train; None where one of them has no labelled image."""
    images = images.take(np.isin(np.array(images.table.splits, dtype=np.str_), ("train", "valid")))
    in_valid = np.array(images.table.splits, dtype=np.str_) == "valid"
    if in_valid.all() or not in_valid.any():
        return None
    support = np.stack([images.split(name).support for name in ("train", "valid")])
    n_images = (int((~in_valid).sum()), int(in_valid.sum()))
    z = _z(images, support, n_images)
    q = np.full(len(z), np.nan)
    tested = ~np.isnan(z)
    if tested.any():
        q[tested] = false_discovery_control(2 * ndtr(-np.abs(z[tested])))
    given = np.array(images.table.categories, dtype=np.str_)
    kinds = csr_array(np.stack([given == name for name in CATEGORIES], axis=1))
    statistics = csr_array(hstack([images.matrix, kinds]).astype(np.int64))
    by_group = csr_array(images.membership @ statistics)
    sizes = images.membership.sum(axis=1)
    observed = statistics[in_valid].sum(axis=0)[None, :]
    total, n_labels = statistics.sum(axis=0), len(images.labels)
    dealt = np.empty((0, len(total)))
    if len(sizes) >= _FEW_GROUPS:
        rng = np.random.default_rng(seed)
        dealt = _deals(by_group, sizes, n_valid=n_images[1], n_deals=n_deals, rng=rng)
    both = np.concatenate([observed, dealt])
    unseen = ((both == total) & (both > 0))[:, :n_labels]
    return Drift(
        labels=images.labels,
        n_images=n_images,
        support=support,
        z=z,
        q=q,
        concepts=_against(_distance(total[:n_labels], both[:, :n_labels])),
        categories=_against(_distance(total[n_labels:], both[:, n_labels:]))
        if np.isin(given, CATEGORIES).any()
        else None,
        unseen=_against(unseen.sum(axis=1).astype(np.float64)),
        n_unseen_assignments=int(support[1][unseen[0]].sum()),
        n_groups=len(sizes),
    )


def _z(images: LabelledImages, support: Counts, n_images: tuple[int, int]) -> Numbers:
    """(L,) difference of two proportions in standard errors that respect groups.

        z = (p_valid - p_train) / sqrt(V (1 / N_train + 1 / N_valid))
        V = 1 / N sum over groups g of (t_g - p m_g)^2

    t_g of the m_g images of a group have the concept, p of all N. Where every image is a group of
    its own, V = p (1 - p): the usual pooled test.
    """
    n, p = len(images), support.sum(axis=0) / len(images)
    by_group = csr_array(images.membership @ images.matrix.astype(np.int64))
    sizes = images.membership.sum(axis=1).astype(np.float64)
    squares = by_group.power(2).sum(axis=0) - 2 * p * (by_group.T @ sizes) + p**2 * (sizes @ sizes)
    variance = np.maximum(squares, 0.0) / n * (1 / n_images[0] + 1 / n_images[1])
    n_groups = np.bincount(by_group.indices, minlength=len(p))
    of_group = np.repeat(np.arange(len(sizes)), np.diff(by_group.indptr))
    on_all = by_group.indices[by_group.data == sizes[of_group]]
    n_groups_without = len(sizes) - np.bincount(on_all, minlength=len(p))
    few_groups = np.minimum(n_groups, n_groups_without) < _FEW_GROUPS
    enough = (np.minimum(p, 1 - p) * min(n_images) >= 5) & ~few_groups & (variance > 1e-15)
    gap = support[1] / n_images[1] - support[0] / n_images[0]
    return np.where(enough, gap / np.sqrt(np.where(enough, variance, 1.0)), np.nan)


def _deals(
    by_group: csr_array, sizes: Counts, *, n_valid: int, n_deals: int, rng: np.random.Generator
) -> Numbers:
    """(n_deals, columns) what valid would count if whole groups had been dealt to it at random."""
    marks = np.empty((len(sizes), _BLOCK), dtype=np.float64)
    made = []
    for first in range(0, n_deals, _BLOCK):
        here = marks[:, : n_deals - first]
        for deal in range(here.shape[1]):
            order = rng.permutation(len(sizes))
            ends = np.cumsum(sizes[order])
            # A group goes to valid while more than half of it fits; one does, one stays outside.
            n_taken = int(np.searchsorted(ends - sizes[order] / 2, n_valid))
            here[:, deal] = 0.0
            here[order[: min(max(n_taken, 1), len(sizes) - 1)], deal] = 1.0
        made.append(np.asarray(by_group.T @ here).T)
    return np.concatenate(made)


def _distance(total: Counts, in_valid: Numbers) -> Numbers:
    """Jensen-Shannon distance of what is in valid and of the rest, row by row; NaN beside nothing.

    sqrt((KL(P || M) + KL(Q || M)) / 2), M = (P + Q) / 2, logarithms to the base 2
    """
    sides = np.stack([in_valid, total - in_valid]).astype(np.float64)
    sums = sides.sum(axis=2, keepdims=True)
    shares = sides / np.maximum(sums, 1.0)
    bits = rel_entr(shares, shares.mean(axis=0)).sum(axis=(0, 2)) / (2 * np.log(2))
    return np.where((sums > 0).all(axis=(0, 2)), np.sqrt(np.clip(bits, 0.0, 1.0)), np.nan)


def _against(values: Numbers) -> Against:
    """The first value against the others."""
    value, others = float(values[0]), values[1:]
    if not len(others):
        return Against(value=value, mean=np.nan, low=np.nan, high=np.nan, p=np.nan)
    low, high = np.quantile(others, (0.025, 0.975))
    p = (1 + int((others >= value - 1e-12).sum())) / (1 + len(others))
    return Against(value=value, mean=float(others.mean()), low=float(low), high=float(high), p=p)
