"""The page of `fuse`: every strategy beside the same head without metadata."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from core.categories import CATEGORIES, Category
from core.images import ImageTable
from core.metrics import Interval, Scores, bootstrap, column_sums, recall_by_frequency
from core.runs.fused import BLIND
from core.runs.workspace import Corpus
from reports.pages.markdown import picture, table


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A strategy, scored on the N labelled images of valid.

    Attributes:
        name: of the strategy.
        image_f1: (N,) cross-fitted at one threshold for all concepts.
        withheld_f1: the same with the category withheld; None where it makes no difference.
        decided: (N, L) what is decided so.
        constant: share of the images that have all constant concepts of their category.
        seconds: that it took to make.
        run: its run folder.
    """

    name: str
    image_f1: Scores
    withheld_f1: Scores | None
    decided: csr_array
    constant: float
    seconds: float
    run: str


def comparison_page(
    corpus: Corpus,
    valid: ImageTable,
    found: Sequence[Compared],
    gains: Mapping[str, Interval],
    metas: Sequence[Mapping[str, Any]],
) -> str:
    """The comparison as Markdown.

    Args:
        corpus: what was worked on.
        valid: the N validation images that were scored.
        found: the strategies.
        gains: over `BLIND`, paired, by strategy; empty where it was not made.
        metas: of the strategies' runs.
    """
    newest = max(metas, key=lambda meta: str(meta["made"]))
    versions = ", ".join(f"{name} {version}" for name, version in newest["packages"].items())
    parts = [
        f"# Ways of using the category on {corpus.name}",
        f"Sample F1 of {len(valid):,} validation images, each decided at the one threshold that is"
        " best on the other folds. Intervals are 95 % bootstrap intervals over groups (patients,"
        f" studies); gains are over `{BLIND}`, the same head on the same features without metadata,"
        " paired on the same images.",
        _summary(found, gains, valid),
        "*Withheld*: the category is guessed from the features, and the loss is against knowing"
        " it. *Constant*: images on which every concept that stands on all training images of"
        " their category is decided.",
    ]
    if gains:
        parts.append(
            picture("fusion_gain", "Gain of each strategy with its interval, but for the prior")
        )
    parts += [
        "## Rare concepts",
        "Share of the true pairs of image and concept that is decided, by the number of training"
        " images that have the concept.",
        _recalls(corpus, found, valid),
        "## By category",
        _by_category(found, valid),
        "## How it was made",
        f"Runs {', '.join(f'`{compared.run}`' for compared in found)}; Python"
        f" {newest['python']}, {newest['machine']}; {versions}.",
    ]
    return "\n\n".join(parts) + "\n"


def _summary(found: Sequence[Compared], gains: Mapping[str, Interval], valid: ImageTable) -> str:
    header = ["strategy", "sample F1", "gain", "withheld", "loss by it", "constant", "seconds"]
    rows = []
    for compared in found:
        withheld, loss = "", ""
        if compared.withheld_f1 is not None:
            withheld = f"{np.nanmean(compared.withheld_f1):.4f}"
            difference = compared.withheld_f1 - compared.image_f1
            loss = bootstrap(difference, groups=valid.groups).signed()
        gain = gains.get(compared.name)
        rows.append(
            [
                compared.name,
                str(bootstrap(compared.image_f1, groups=valid.groups)),
                "" if gain is None else gain.signed(),
                withheld,
                loss,
                f"{compared.constant:.1%}",
                f"{compared.seconds:.0f}",
            ]
        )
    return table(header, rows)


def _recalls(corpus: Corpus, found: Sequence[Compared], valid: ImageTable) -> str:
    targets = valid.targets(corpus.labels)
    train = corpus.table.of(split="train")
    n_train = column_sums(train.take(train.labelled).targets(corpus.labels).matrix)
    by_name = {c.name: recall_by_frequency(targets, c.decided, n_train=n_train) for c in found}
    buckets = next(iter(by_name.values()))
    shown = [name for name, (_, n) in buckets.items() if n]
    header = ["strategy", *(f"{name} images, n = {buckets[name][1]:,}" for name in shown)]
    rows = [
        [name, *(f"{recall[bucket][0]:.3f}" for bucket in shown)]
        for name, recall in by_name.items()
    ]
    return table(header, rows)


def _by_category(found: Sequence[Compared], valid: ImageTable) -> str:
    names = np.array(valid.categories, dtype=np.str_)
    present = [c for c in CATEGORIES if np.isfinite(found[0].image_f1[names == c]).any()]
    header = ["strategy", *(f"{Category(c).value}, n = {(names == c).sum():,}" for c in present)]
    rows = [
        [c.name, *(f"{np.nanmean(c.image_f1[names == category]):.3f}" for category in present)]
        for c in found
    ]
    legend = ", ".join(f"{c} {Category(c).meaning}" for c in present)
    return f"{table(header, rows)}\n\n{legend}." if present else table(header, rows)
