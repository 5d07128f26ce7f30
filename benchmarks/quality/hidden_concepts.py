"""Hidden concepts: how well those that no training image shows are found by their names.

    python -m benchmarks.quality.hidden_concepts WORKSPACE FOLDER [--text MODEL]

WORKSPACE has a cross-fitted corpus, and `train-backbone` done on frozen features. A fifth of the
concepts is hidden from training. An image that has some of them ranks all that are hidden by the
linear map of `fuse --strategy words`, fitted on the other folds; what counts is the share of its
own among the first ten. Five draws of what is hidden; names by hashed n-grams, and by a sentence
model where one is given. As a control the names of the hidden concepts are exchanged among them,
fifty times. FOLDER gets the table (hidden_concepts.md) and the figure. On radbench three minutes,
on one thread.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from scipy.sparse import csr_array

from benchmarks.machine import environment
from benchmarks.quality.pages import make_page
from benchmarks.quality.tail import Tail
from core.metrics import Interval, bootstrap
from core.progress import progress
from core.runs.workspace import Corpus, Workspace
from core.storage.text import plain
from fusion.inputs.gather import gather_inputs
from fusion.words.queries import PENALTY, RANK, fit_queries, similar_names
from reports.pages.figures import GREY, PALETTE, WIDTH, save_figure, style
from training.heads import Standardise
from training.texts.spaces import N_NUMBERS, Points, hashed_space, named, sentence_space

N_DRAWS, N_EXCHANGES = 5, 50

SHARE = 0.2
"""Of the concepts that are hidden."""

N_FIRST = 10

NAME = "hidden_concepts"

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]
Space = Callable[[csr_array], Points]
"""From the training images' concepts to the names of all as points."""


@dataclass(kw_only=True)
class Found:
    """What a text space finds of hidden concepts, filled fold by fold.

    Attributes:
        share: (K, N) share of an image's hidden concepts among its first ten, by draw; NaN where
            it has none.
        exchanged: by exchange of names, the same shares in one list.
        n_hit, n_true: (K, H) images that have a hidden concept, and those that find it.
    """

    share: Array
    n_hit: Array
    n_true: Array
    exchanged: list[list[float]] = field(default_factory=lambda: [[] for _ in range(N_EXCHANGES)])


def hidden_draws(n_concepts: int) -> list[Rows]:
    """The concepts that each draw hides."""
    rng, n = np.random.default_rng(0), max(1, int(SHARE * n_concepts))
    return [np.sort(rng.choice(n_concepts, n, replace=False)) for _ in range(N_DRAWS)]


def find_hidden(
    corpus: Corpus, workspace: Workspace, tail: Tail, spaces: Mapping[str, Space]
) -> dict[str, Found]:
    """What each text space finds of each draw, out of fold."""
    images, truth = tail.images, tail.images.targets.matrix.toarray().astype(np.bool_)
    draws = hidden_draws(truth.shape[1])
    size = len(draws[0])
    found = {
        name: Found(
            share=np.full((N_DRAWS, len(images)), np.nan),
            n_hit=np.zeros((N_DRAWS, size)),
            n_true=np.zeros((N_DRAWS, size)),
        )
        for name in spaces
    }
    total = N_DRAWS * len(spaces) * len(np.unique(images.folds))
    with progress("hidden concepts", total=total, unit="fits") as advance:
        for others, own, components in _views(corpus, workspace, images.folds):
            for number, hidden in enumerate(draws):
                shown = truth[others]
                shown[:, hidden] = False
                seen = csr_array(shown)
                for name, space in spaces.items():
                    weights = fit_queries(
                        components[others],
                        seen,
                        similarity=similar_names(space(seen)),
                        penalty=PENALTY * len(others),
                    )
                    first = first_ten(components[own] @ weights[:, hidden])
                    _count(found[name], number, own, truth[np.ix_(own, hidden)], first)
                    advance(1)
    return found


def _views(
    corpus: Corpus, workspace: Workspace, folds: npt.NDArray[np.integer]
) -> Iterator[tuple[Rows, Rows, Array]]:
    """Rows outside a fold, rows in it, and components of all that those outside have."""
    inputs = gather_inputs(corpus, workspace, embeddings=(), device="cpu")
    rows = inputs.rows(corpus.labelled_images("labelled"))
    features = inputs.network_inputs.features[torch.from_numpy(rows)]
    for fold in np.unique(folds):
        others, own = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        layer = Standardise.fitted(features[others], widths=inputs.network_inputs.widths)
        standard = layer(features).double().numpy()
        _, v = np.linalg.eigh(standard[others].T @ standard[others])
        yield others, own, standard @ v[:, -RANK:]


def first_ten(scores: Array) -> Bools:
    """(n, H) whether a hidden concept is among the ten of the highest score."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :N_FIRST]
    first = np.zeros(scores.shape, dtype=np.bool_)
    np.put_along_axis(first, order, True, axis=1)
    return first


def _count(found: Found, number: int, own: Rows, true: Bools, first: Bools) -> None:
    has, n_true = true.any(axis=1), true.sum(axis=1)

    def shares(ranked: Bools) -> Array:
        each: Array = (ranked & true)[has].sum(axis=1) / n_true[has]
        return each

    found.share[number, own[has]] = shares(first)
    found.n_hit[number] += (first & true).sum(axis=0)
    found.n_true[number] += true.sum(axis=0)
    for exchange in range(N_EXCHANGES):
        rng = np.random.default_rng(1000 * number + exchange)
        found.exchanged[exchange] += shares(first[:, rng.permutation(first.shape[1])]).tolist()


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a text space finds, in numbers.

    Attributes:
        by_draw: mean over the images of each draw.
        all_draws: over all images, the mean of each over draws first; groups drawn anew.
        exchanged: with names exchanged; its interval is that of the exchanges.
        by_concept: over hidden concepts, each with the same weight; concepts drawn anew.
    """

    by_draw: list[Interval]
    all_draws: Interval
    exchanged: Interval
    by_concept: Interval


def summary_of(found: Found, groups: Sequence[str]) -> Summary:
    """The numbers of a text space."""
    each = [share for share in found.share if not np.isnan(share).all()]
    several = ~np.isnan(found.share).all(axis=0)
    mean = np.full(found.share.shape[1], np.nan)
    mean[several] = np.nanmean(found.share[:, several], axis=0)
    control = [float(np.mean(values)) for values in found.exchanged]
    low, high = np.quantile(control, (0.025, 0.975))
    has = found.n_true > 0
    return Summary(
        by_draw=[bootstrap(share, groups=groups, n_resamples=1000) for share in each],
        all_draws=bootstrap(mean, groups=groups, n_resamples=1000),
        exchanged=Interval(float(np.mean(control)), float(low), float(high), len(control)),
        by_concept=bootstrap(found.n_hit[has] / found.n_true[has]),
    )


def table_of(summaries: Mapping[str, Summary]) -> str:
    """A row a text space."""

    def cell(interval: Interval) -> str:
        return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"

    n_draws = max(len(found.by_draw) for found in summaries.values())
    draws = " | ".join(str(number + 1) for number in range(n_draws))
    lines = [
        f"| text space | {draws} | all [95 %] | exchanged | by concept |",
        f"| :-- |{' --: |' * n_draws} :-- | :-- | :-- |",
    ]
    for name, found in summaries.items():
        values = [f"{own.value:.3f}" for own in found.by_draw]
        values += map(cell, (found.all_draws, found.exchanged, found.by_concept))
        lines.append(f"| {plain(name)} | {' | '.join(values)} |")
    return "\n".join(lines)


def draw(summaries: Mapping[str, Summary], *, chance: float, n_hidden: int) -> Figure:
    """A bar a text space, and one with names exchanged; draws as dots."""
    figure = Figure(figsize=(0.8 * WIDTH, 0.55 * WIDTH), layout="constrained")
    axes = figure.add_subplot()
    labels = []
    for number, (name, found) in enumerate(summaries.items()):
        colour = PALETTE[number % len(PALETTE)]
        for place, what, alpha in (
            (2 * number, found.all_draws, 1.0),
            (2 * number + 1, found.exchanged, 0.4),
        ):
            axes.bar(place, what.value, width=0.65, color=colour, alpha=alpha)
            axes.plot([place] * 2, [what.low, what.high], color="black", linewidth=1.2)
        values = [own.value for own in found.by_draw]
        axes.plot([2 * number + 0.15] * len(values), values, "o", color="black", markersize=3,
                  markerfacecolor="white")  # fmt: skip
        labels += [name, "names exchanged"]
    axes.axhline(chance, color=GREY, linestyle="--", linewidth=0.9)
    axes.set_xticks(range(len(labels)), labels=labels)
    axes.set_ylabel(f"share found among the first {N_FIRST} of {n_hidden}")
    axes.set_title("Concepts hidden from training, ranked by name\n"
                   "draws (dots), all (bars, 95 %), chance (dashed)")  # fmt: skip
    return figure


def run(base: Path, folder: Path, *, text: str = "") -> list[Path]:
    """Hide, find, and write.

    Args:
        base: a workspace; nothing is written there.
        folder: where table and figure go.
        text: a sentence model, see the setting `text` of `fuse`; empty for none.
    """
    workspace = Workspace(base)
    corpus = workspace.open_corpus()
    tail, names = Tail.of(corpus), named(corpus)
    spaces: dict[str, Space] = {
        "hashed n-grams": lambda seen: hashed_space(names, seen, n_numbers=N_NUMBERS, seed=0)
    }
    if text:
        points = sentence_space(names, model=text)
        spaces[Path(text).name] = lambda seen: points
    found = find_hidden(corpus, workspace, tail, spaces)
    summaries = {name: summary_of(own, tail.images.groups) for name, own in found.items()}
    n_hidden = next(iter(found.values())).n_true.shape[1]
    n_images = [draw.n for draw in next(iter(summaries.values())).by_draw]
    chance = min(1.0, N_FIRST / n_hidden)
    about = (
        f"{n_hidden} of {len(names)} concepts hidden from training, {N_DRAWS} draws of"
        f" {min(n_images):,} to {max(n_images):,} images that have some,"
        f" {next(iter(summaries.values())).all_draws.n:,} in all, out of fold. Share found among"
        f" the first {N_FIRST}; chance finds {chance:.3f}. Exchanged: names exchanged among the"
        f" hidden concepts, mean and 95 % of {N_EXCHANGES} times. By concept: each with the same"
        " weight, interval over concepts."
    )
    folder.mkdir(parents=True, exist_ok=True)
    with style():
        save_figure(draw(summaries, chance=chance, n_hidden=n_hidden), folder, name=NAME)
    page = [f"# {NAME}", about, table_of(summaries), environment("torch", "numpy")]
    (folder / f"{NAME}.md").write_text("\n\n".join(page) + "\n", encoding="utf-8")
    return [folder / f"{NAME}.{end}" for end in ("md", "png")]


if __name__ == "__main__":
    make_page(run, name=NAME)
