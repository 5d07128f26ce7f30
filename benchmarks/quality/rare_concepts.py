"""Rare concepts: their recall beside the sample F1, of every loss, head and adjustment.

    python -m benchmarks.quality.rare_concepts WORKSPACE FOLDER [--text MODEL]

WORKSPACE has a cross-fitted corpus, and `train-backbone` done on frozen features. FOLDER gets a
workspace of its own, which shares these; there `prior-offset` is fitted with every loss and with
balanced draws, `retrieval`, `voted` and `words` as they are by default, `words` by the sentence
model as well where one is given. What is there already is kept, so that a run that was ended goes
on. Then the table (rare_concepts.md, all of it in rare_concepts.csv) and the figure: on radbench
two minutes for each loss, on one thread, and ten for the rest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.machine import environment
from benchmarks.quality.pages import make_page
from benchmarks.quality.tail import Floats, Tail, TailRow, rows_of
from benchmarks.quality.tail_heads import images_of, nearest_mean, remade_last_layers
from core.metrics import group_numbers
from core.progress import say
from core.runs.fused import FusedSource
from core.runs.workspace import Corpus, Workspace
from core.storage.tables import write_rows
from core.storage.text import plain
from fusion.config import PRESETS, FuseConfig
from fusion.fuse import fuse
from fusion.inputs.gather import gather_inputs
from fusion.words.queries import WORDS
from reports.pages.figures import GREY, WIDTH, save_figure, style
from training.config import LossName

HEAD = "prior-offset"
"""The strategy whose losses are compared."""

SHARED = ("corpus", "prepared.json", "cache", "speed", "embeddings", "backbones")
"""Of a workspace: what fused sources are made from."""

SHOWN = (0.1, 0.2, 0.3)
"""Strengths of the adjustment in the table, for the methods below; the csv has all."""

NAME = "rare_concepts"


def sharing_workspace(base: Path, home: Path) -> Workspace:
    """A workspace with the corpus and features of another, and fused sources of its own."""
    home.mkdir(parents=True, exist_ok=True)
    for name in SHARED:
        if (base / name).exists() and not (home / name).exists():
            (home / name).symlink_to((base / name).resolve())
    return Workspace(home)


def methods(config: FuseConfig, *, text: str = "") -> dict[str, FuseConfig]:
    """Settings by name, the default head first."""
    default = config.loss
    head = replace(config, strategies=(HEAD,))
    found = {f"default head: `{HEAD}`, {default}": head}
    others = [name for name in get_args(LossName) if name != default]
    found |= {f"loss {name}": replace(head, loss=name) for name in others}
    found["`sampling=rare`"] = replace(head, sampling="rare")
    for name in ("retrieval", "voted"):
        found[f"`{name}`"] = replace(config, strategies=(name,))
    words = replace(config, strategies=(WORDS,))
    found[f"`{WORDS}`, hashed n-grams"] = words
    if text:
        found[f"`{WORDS}`, {plain(Path(text).name)}"] = replace(words, text=text)
    return found


def fused_runs(
    corpus: Corpus, workspace: Workspace, settings: Mapping[str, FuseConfig], *, preset: str
) -> dict[str, FusedSource]:
    """The run of each method, made where it is not there."""
    found = {}
    for name, config in settings.items():
        made = fuse(corpus, workspace, config=config, preset=preset, device="cpu")
        found[name] = FusedSource.read(made[-1].folder)
        say(f"{name}: {made[-1]}")
    return found


def answers_of(
    corpus: Corpus, workspace: Workspace, tail: Tail, runs: Mapping[str, FusedSource]
) -> list[tuple[str, Floats]]:
    """Out-of-fold probabilities (N, L) of each method; heads made anew stand behind the losses."""
    ids = corpus.labelled_images("labelled").image_ids
    found: dict[str, Floats] = {}
    for name, run in runs.items():
        probs = run.predictions("labelled").widen(corpus.labels, fill=0.0).rows(ids).probs
        found[name] = np.asarray(probs, dtype=np.float32)
    inputs = gather_inputs(corpus, workspace, embeddings=(), device="cpu")
    rows = torch.from_numpy(inputs.rows(corpus.labelled_images("labelled")))
    network_inputs = inputs.network_inputs
    images = images_of(tail, network_inputs.features[rows], network_inputs.widths)
    heads = remade_last_layers(images, next(iter(runs.values())))
    place = list(found).index("`retrieval`")
    items = [*found.items()]
    return [
        *items[:place],
        *heads.items(),
        *items[place:],
        ("nearest mean", nearest_mean(images)),
    ]


def table_of(rows: Sequence[TailRow], *, adjusted: Sequence[str]) -> str:
    """Every method as it is, and some adjusted."""
    lines = [
        "| method | adjustment | sample F1 | difference | recall | difference | relative"
        " | precision |",
        "| :-- | --: | --: | :-- | --: | :-- | --: | --: |",
    ]
    for row in rows:
        if row.strength and (row.strength not in SHOWN or row.name not in adjusted):
            continue
        relative = "" if np.isnan(row.relative) else f"{row.relative:+.0%}"
        lines.append(
            f"| {row.name} | {row.strength:g} | {row.f1:.4f} | {row.f1_gain.signed()} |"
            f" {row.recall:.4f} | {row.recall_gain.signed()} | {relative} | {row.precision:.2f} |"
        )
    return "\n".join(lines)


def draw(rows: Sequence[TailRow], *, title: str, room: float = 0.055) -> Figure:
    """Recall against sample F1, a line a method, a point a strength; methods far below cut off.

    Args:
        rows: of all methods; those of the first one first.
        title: above it.
        room: F1 below the first row that is still drawn.
    """
    first, names = rows[0], list(dict.fromkeys(row.name for row in rows))
    figure = Figure(figsize=(1.15 * WIDTH, 0.95 * WIDTH), layout="constrained")
    axes = figure.add_subplot()
    for number, name in enumerate(names):
        own = [row for row in rows if row.name == name]
        look = _LOOKS[(number - 1) % len(_LOOKS)] if number else ("black", "o", "-")
        axes.plot(
            [row.f1 for row in own],
            [row.recall for row in own],
            color=look[0],
            marker=look[1],
            linestyle=look[2],
            markersize=3.5,
            linewidth=1.8 if not number else 1.0,
            label=name.replace("`", ""),
        )
    inside = [row for row in rows if row.f1 >= first.f1 - room]
    axes.axvspan(first.f1 - 0.003, first.f1 + 0.003, color="black", alpha=0.07, linewidth=0)
    axes.axhline(1.2 * first.recall, color=GREY, linestyle=":", linewidth=0.8)
    axes.text(first.f1 - room, 1.2 * first.recall, "first row + 20 %", fontsize=7, va="bottom")
    axes.set_xlim(first.f1 - room, max(row.f1 for row in inside) + 0.003)
    axes.set_ylim(0, 1.05 * max(row.recall for row in inside) + 0.001)
    axes.set_xlabel("sample F1, cross-fitted; grey: within 0.003 of the first row")
    axes.set_ylabel("recall of rare concepts")
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=3, fontsize=7)
    return figure


_LOOKS = [
    (colour, marker, line)
    for marker, line in (("s", "-"), ("^", "--"), ("D", ":"))
    for colour in ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#882255")
]
"""Colours of Okabe and Ito, and one of Tol."""


def write(
    folder: Path, tail: Tail, rows: Sequence[TailRow], *, adjusted: Sequence[str]
) -> list[Path]:
    """Write table and figure."""
    images, n_rare = tail.images, tail.n_rare
    n_groups, n_pairs = int(group_numbers(images.groups).max()) + 1, int(tail.rare_pairs.sum())
    about = (
        f"{len(images):,} labelled images of {n_groups:,} groups, {len(images.labels):,} concepts,"
        f" out of fold. Recall is that of concepts with {tail.least} to {tail.most} training images"
        f" ({min(n_rare)} to {max(n_rare)} concepts a fold, {n_pairs:,} pairs), precision of the"
        " same. Intervals (95 %) draw groups anew; differences are paired with the first row."
    )
    title = f"Recall of rare concepts ({n_pairs:,} pairs, {len(images):,} images)\n"
    title += "a point for each strength of the prior's adjustment, 0 at the right"
    with style():
        save_figure(draw(rows, title=title), folder, name=NAME)
    page = [f"# {NAME}", about, table_of(rows, adjusted=adjusted), environment("torch", "numpy")]
    (folder / f"{NAME}.md").write_text("\n\n".join(page) + "\n", encoding="utf-8")
    write_rows(folder / f"{NAME}.csv", _csv_rows(rows), for_people=True)
    return [folder / f"{NAME}.{end}" for end in ("md", "csv", "png")]


def _csv_rows(rows: Sequence[TailRow]) -> Iterator[list[object]]:
    """Every method at every strength, numbers unrounded."""
    gains = [f"{what}_gain{end}" for what in ("f1", "recall") for end in ("", "_low", "_high")]
    yield ["name", "strength", "f1", "recall", "relative", "precision", *gains]
    for row in rows:
        spans = [x for g in (row.f1_gain, row.recall_gain) for x in (g.value, g.low, g.high)]
        own = (row.strength, row.f1, row.recall, row.relative, row.precision)
        yield [row.name, *map(float, own), *spans]


def run(
    base: Path, folder: Path, *, text: str = "", preset: str = "quick", tail: Tail | None = None
) -> list[Path]:
    """Make what is not there, compare, and write.

    Args:
        base: a workspace.
        folder: where all of it goes.
        text: a sentence model, see the setting `text` of `fuse`; empty for none.
        preset: of `fuse`.
        tail: the images, with other bounds of what is rare; None for those of the corpus.
    """
    workspace = sharing_workspace(base, folder / "workspace")
    corpus = workspace.open_corpus()
    tail = Tail.of(corpus) if tail is None else tail
    settings = methods(PRESETS[preset], text=text)
    runs = fused_runs(corpus, workspace, settings, preset=preset)
    rows = rows_of(tail, answers_of(corpus, workspace, tail, runs))
    default = next(iter(settings))
    adjusted = (default, "loss distribution-balanced", "`retrieval`", "`voted`")
    return write(folder, tail, rows, adjusted=adjusted)


if __name__ == "__main__":
    make_page(run, name=NAME)
