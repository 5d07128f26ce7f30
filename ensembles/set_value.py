"""What any given concept set is expected to score: a forecast that needs no labels.

With h and r the distributions of the number of true concepts among the decided and among the other
pairs, both independent, and P(s) / PB(s) what a head for the number of concepts makes of it:

    E[F1(D)] = sum_{a,b} h(a) r(b) P(a + b) / PB(a + b) E[2 a / (|D| + a + b + missed)]
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from core.metrics import EmptyTruth
from ensembles.compiled import compiled, in_blocks
from ensembles.decisions.concept_counts import CountHead, add_concepts, poisson_binomial
from ensembles.decisions.expected_f1 import Expected, reciprocals
from ensembles.decisions.general_f1 import tilts
from ensembles.pairs import Bools, Ints
from ensembles.ranked import Counts, Floats64, Ranked


def expected_of(
    ranked: Ranked,
    decided: Bools,
    *,
    head: CountHead,
    categories: Sequence[str],
    empty_truth: EmptyTruth,
    missed: float = 0.0,
) -> Expected:
    """Expected F1 of given sets of N images, exact under the distribution above.

    Args:
        ranked: the pairs of the images, all decided ones among them.
        decided: (n,) which of them are decided.
        head: with its defaults all concepts are independent.
        categories: N categories.
        empty_truth: whether an image without true concepts is part of the mean.
        missed: mean number of true concepts of an image beside its pairs.
    """
    n_images = ranked.shape[0]
    pmf = poisson_binomial(ranked)
    tilt = tilts(pmf, head=head, categories=categories)
    none = pmf[:, 0] * tilt[:, 0] * np.exp(-missed)
    inverse = reciprocals(2 * pmf.shape[1] + 1, missed=missed)
    f1 = np.full(n_images, np.nan)
    starts, probs = ranked.starts, ranked.ranked_probs
    flags = decided[ranked.order]
    counted = empty_truth == "counted"

    def work(first: int, last: int) -> None:
        here = slice(first, last)
        _values(
            starts[first : last + 1], probs, flags, tilt[here], none[here], counted, inverse,
            f1[here],
        )  # fmt: skip

    in_blocks(n_images, work)
    counts = np.ones(n_images) if counted else 1.0 - none
    return Expected(decided=ranked.chosen(decided), f1=f1, counts=counts)


def with_decided(rows: Ints, columns: Ints, decided: csr_array) -> tuple[Ints, Ints, Bools]:
    """The pairs and the decided ones together, ordered, and (n,) which of them are decided."""
    width = decided.shape[1]
    its_rows = np.repeat(np.arange(decided.shape[0]), np.diff(decided.indptr))
    wanted = its_rows * width + decided.indices
    keys = np.union1d(rows.astype(np.int64) * width + columns, wanted)
    all_rows, all_columns = (keys // width).astype(np.int32), (keys % width).astype(np.int32)
    return all_rows, all_columns, np.isin(keys, wanted)


@compiled
def _values(
    starts: Counts,
    probs: Floats64,
    decided: Bools,
    tilt: Floats64,
    none: Floats64,
    empty_counts: bool,
    inverse: Floats64,
    values: Floats64,
) -> None:
    for i in range(len(starts) - 1):
        p, flags = probs[starts[i] : starts[i + 1]], decided[starts[i] : starts[i + 1]]
        hits, rest = _pmf(p[flags]), _pmf(p[~flags])
        k = len(hits) - 1
        if k == 0:
            values[i] = none[i] if empty_counts else (0.0 if none[i] < 1.0 else np.nan)
            continue
        total = 0.0
        for a in range(1, k + 1):
            for b in range(len(rest)):
                if tilt[i, a + b] > 0.0:
                    total += hits[a] * rest[b] * tilt[i, a + b] * 2.0 * a * inverse[k + a + b]
        if empty_counts:
            values[i] = total
        elif none[i] < 1.0:
            values[i] = total / (1.0 - none[i])


@compiled
def _pmf(p: Floats64) -> Floats64:
    """(n + 1,) distribution of the number of true ones among independent ones."""
    pmf = np.zeros(len(p) + 1)
    add_concepts(p, pmf)
    return pmf
