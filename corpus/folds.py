"""Folds: whole groups, with every category and concept spread evenly.

Iterative stratification (Sechidis, Tsoumakas, Vlahavas, ECML-PKDD 2011) carried over from examples
to groups: the rarest concept that still has groups without a fold is spread first, over the folds
with the fewest of its images (with folds of equal size, that is where the need is greatest).

Most choices for a rare concept are ties. Breaking them by the size of the fold alone, as the paper
does, leaves the group's other concepts to chance; here the fold that has least of those takes it.
Among the 8,180 real label sets of ROCO's validation split are 930 concepts with at least 10 images:
8 of these are then missing from one of 10 folds, instead of 84 by size alone and 486 at random.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, hstack

from core.errors import CorpusError, first_few
from core.images import LABELLED, SPLITS, ImageTable
from core.labels import LabelSpace
from corpus.readers.notes import count

Folds = npt.NDArray[np.int16]

_FOLDED = (*SPLITS, LABELLED)
"""What can be dealt into folds, each by random numbers of its own."""


def assign_folds(table: ImageTable, *, n_folds: Mapping[str, int], seed: int) -> Folds:
    """A fold for every labelled image of the splits named; -1 for all other images.

    Images of one group share a fold. Groups are taken in the order of their rarest concept not yet
    spread, large ones first, and go to the fold with the fewest images of that concept; ties are
    broken by how much of the group's other concepts and of its category the fold has already, then
    by the size of the fold, then by chance. A concept that is the rarest of each of its groups is
    in every fold if it has as many groups as there are folds. Folds depend on the names of the
    groups and on their concepts, never on the order of the rows.

    Args:
        table: the images.
        n_folds: split, or `LABELLED` for train and valid together, to its number of folds, at
            least 2.
        seed: decides the remaining ties.

    Returns:
        (N,) folds, numbered from 0 within each.

    Raises:
        CorpusError: a split does not exist, fewer than 2 folds are asked for, or a split has fewer
            groups of labelled images than folds.
    """
    folds = np.full(len(table), -1, dtype=np.int16)
    for split, n in n_folds.items():
        if split not in _FOLDED:
            raise CorpusError(f"no split {split!r} to fold; known: {', '.join(_FOLDED)}")
        if n < 2:
            raise CorpusError(f"{split}: expected at least 2 folds, found {n}")
        images = table.of(split=split)
        part = images.take(images.labelled)
        rows = table.row_numbers(part.image_ids)
        names, group_of = np.unique(np.array(part.groups, dtype=np.str_), return_inverse=True)
        if len(names) < n:
            where = "train and valid" if split == LABELLED else split
            which = f" ({first_few(names.tolist())})" if len(names) else ""
            raise CorpusError(
                f"{where}: {count(len(names), 'group')} of labelled images{which}"
                f" cannot fill {n} folds; {_remedy(split, len(names))}"
            )
        rng = np.random.default_rng([seed, _FOLDED.index(split)])
        folds[rows] = _spread(_group_counts(part, group_of), n_folds=n, rng=rng)[group_of]
    return folds


def _remedy(split: str, n_groups: int) -> str:
    """What makes folds possible where there are fewer groups than folds."""
    setting, least = ("folds", 3) if split == LABELLED else (f"{split}_folds", 2)
    if n_groups >= least:
        return f"ask for fewer: `prepare --set {setting}={n_groups}`"
    return (
        f"{setting} is at least {least}: give more labelled images, or groups of fewer images each"
        " (`prepare --group-by COLUMN`)"
    )


def deal_shares(table: ImageTable, *, shares: Sequence[float], seed: int) -> Folds:
    """A part for every image, so that the parts have these shares of all images.

    As `assign_folds`, but that parts are of different sizes: a group goes to the part that lacks
    most of the rarest concept not yet spread, measured by its share. A concept with fewer images
    than the smaller parts have room for stays in the larger ones.

    Args:
        table: N labelled images.
        shares: of each part, above 0, 1 together.
        seed: decides the remaining ties.

    Returns:
        (N,) parts, numbered from 0 in the order of the shares; a part can be left without images
        where there are few groups.
    """
    _, group_of = np.unique(np.array(table.groups, dtype=np.str_), return_inverse=True)
    counts = _group_counts(table, group_of)
    rng = np.random.default_rng([seed, len(_FOLDED)])
    wanted = np.array(shares, dtype=np.float64)
    return _spread(counts, n_folds=len(shares), rng=rng, shares=wanted)[group_of]


def _group_counts(part: ImageTable, group_of: npt.NDArray[np.intp]) -> csr_array:
    """(G, L + C + 1) images of each group with each concept, of each category, and all of them.

    Columns run from rare to common in groups; the last one counts all images.
    """
    known = LabelSpace.of(cuis for cuis in part.concepts if cuis is not None)
    category_of = np.unique(np.array(part.categories, dtype=np.str_), return_inverse=True)[1]
    concepts = part.targets(known).matrix.astype(np.int64)
    everything = csr_array(np.ones((len(part), 1), dtype=np.int64))
    images = hstack([concepts, _indicator(category_of), everything], format="csr")
    groups = csr_array(_indicator(group_of).T @ images)
    n_groups = np.bincount(groups.indices, minlength=groups.shape[1])
    ordered = csr_array(groups[:, np.argsort(n_groups, kind="stable")])
    ordered.sort_indices()
    return ordered


def _indicator(member_of: npt.NDArray[np.intp]) -> csr_array:
    """(N, max + 1) one in each row, at the column that the row belongs to."""
    n = len(member_of)
    return csr_array((np.ones(n, dtype=np.int64), member_of, np.arange(n + 1)))


def _spread(
    groups: csr_array,
    *,
    n_folds: int,
    rng: np.random.Generator,
    shares: npt.NDArray[np.float64] | None = None,
) -> Folds:
    """(G,) fold of each group; without shares, folds are of equal size."""
    n_groups, n_columns = groups.shape
    by_column = groups.tocsc()
    total = np.asarray(groups.sum(axis=0)).ravel().astype(np.int64)
    weight = np.maximum(2**40 // total**2, 1)  # whole numbers: no rounding decides a fold
    chance = rng.permutation(n_groups)
    tie = rng.random((n_groups, n_folds))
    folds = np.full(n_groups, -1, dtype=np.int16)
    n_left = np.bincount(groups.indices, minlength=n_columns)
    have = np.zeros((n_folds, n_columns), dtype=np.int64)
    while n_left.any():
        # The first of the smallest is also the rarest over all groups, by the columns' order.
        column = int(np.argmin(np.where(n_left > 0, n_left, n_groups + 1)))
        here = slice(by_column.indptr[column], by_column.indptr[column + 1])
        waiting, sizes = by_column.indices[here], by_column.data[here]
        for group in waiting[np.lexsort((chance[waiting], -sizes))]:
            if folds[group] >= 0:
                continue
            cells = slice(groups.indptr[group], groups.indptr[group + 1])
            columns, counts = groups.indices[cells], groups.data[cells]
            # Of each concept, the share in the fold times the share in the group: rare ones weigh.
            overlap = have[:, columns] @ (counts * weight[columns])
            # lexsort's last key decides first.
            if shares is None:
                order = np.lexsort((tie[group], have[:, -1], overlap, have[:, column]))
            else:
                lacking = total[column] * shares - have[:, column]
                order = np.lexsort((tie[group], have[:, -1] / shares, overlap / shares, -lacking))
            fold = order[0]
            folds[group] = fold
            have[fold, columns] += counts
            n_left[columns] -= 1
    return folds
