"""Do forecasts hold on sources that nothing was learnt from? Each source of a corpus left out.

    python -m benchmarks.quality.left_out_sources WORKSPACE FOLDER [N_DRAWS]

WORKSPACE has a prepared corpus whose table has a column `source`, `train-backbone` done on frozen
features, and an ensemble. FOLDER gets a workspace a source with 40 labelled images or more: the
labelled images of the others, with the source as test. There the fused sources and the ensemble are
made anew; the features, which depend on no label, are taken over. What is there already is kept, so
that a run that was ended goes on.

Then, N_DRAWS times (200): half of valid's groups against all other labelled images. These differ in
nothing, so that every warning is a false one and no forecast should move.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from scipy.sparse import csr_array

from benchmarks.machine import cpu_name
from core.embeddings import Embeddings
from core.images import ImageTable
from core.labels import LabelSpace
from core.metrics import bootstrap, group_numbers, image_f1
from core.predictions import read_predictions, row_numbers
from core.progress import progress
from core.runs.ensemble import FORECAST_RULE, EnsembleRecord, EnsembleRun, newest_ensemble
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import new_folder, read_meta
from core.storage.tables import write_rows
from ensembles.decisions.expected_f1 import Expected
from ensembles.decisions.rule import DecisionRule
from ensembles.distance.corpus_points import points_of
from ensembles.distance.known import NEIGHBOURS, KnownImages, group_weights
from ensembles.distance.model import FOLDER, DistanceModel
from ensembles.ensemble import lie_of, rule_for
from ensembles.forecast.forecast import ForecastModel
from ensembles.forecast.interval import Forecast, Lie
from ensembles.forecast.shift import ImageTraits, Shift, shift_between
from ensembles.pairs import as_csr
from reports.pages.figures import BLUE, GREY, ORANGE, WIDTH, save_figure, style

LEAST = 40
N_DRAWS = 200

_STRATEGIES = ("one-hot", "retrieval", "voted", "prior")
_QUICK = ("leave_one_out=false", "learning_curve=false", "stackers=mean,logistic")

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A source that was left out.

    Attributes:
        source: its name.
        categories: of its images.
        truth: sample F1 of its decided images.
        n: images.
        before, after: its forecast without and with a look at distances.
    """

    source: str
    categories: Sequence[str]
    truth: float
    n: int
    before: Forecast
    after: Forecast


def make_workspace(base: Workspace, corpus: Corpus, source: str, home: Path) -> None:
    """A workspace in which a source is test, and nothing else is."""
    images = labelled_images(corpus)
    own = np.array(images.metadata["source"], dtype=np.str_) == source
    splits = tuple("test" if o else s for o, s in zip(own, images.splits, strict=True))
    table = replace(images, splits=splits, folds=np.where(own, -1, images.folds).astype(np.int16))
    labels = LabelSpace.of(concepts or () for concepts in images.take(~own).concepts)
    for folder in sorted(path for path in base.embeddings.iterdir() if path.is_dir()):
        meta = read_meta(folder)
        kept = {name: meta[name] for name in ("weights", "speed", "encoder") if name in meta}
        own_features = Embeddings.load(folder).rows(table.image_ids)
        own_features.save(home / "embeddings" / folder.name, **kept)
    meta = {
        "name": f"without {source}",
        "edition": corpus.edition,
        "fingerprint": corpus.fingerprint,  # by which features are found
        "protocol": corpus.protocol,
        "notes": [],
    }
    with new_folder(home / "corpus", meta) as draft:
        table.save(draft / "images.csv")
        labels.save(draft / "labels.txt")
        write_rows(draft / "names.csv", sorted(corpus.names.items()))


def labelled_images(corpus: Corpus) -> ImageTable:
    """Readable images of train and valid with known concepts."""
    return corpus.labelled_images("labelled")


def run_chain(home: Path) -> None:
    """Fused sources and ensemble of a workspace."""
    features = sorted(path.name for path in (home / "embeddings").iterdir())
    fuse = ["fuse", *_options("--encoder", features), *_options("--strategy", _STRATEGIES)]
    for command in (fuse, ["ensemble", "--submit", *_options("--set", _QUICK)]):
        subprocess.run(
            [sys.executable, "cli.py", *command, "-w", str(home)],
            cwd=Path(__file__).parents[2],
            check=True,
            stdout=subprocess.DEVNULL,
        )


def _options(name: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (name, value)]


def outcome_of(source: str, home: Path) -> Outcome:
    """How the forecast of a source that was left out did."""
    workspace = Workspace(home)
    corpus = workspace.open_corpus()
    run = newest_ensemble(corpus, workspace)
    test = corpus.table.of(split="test")
    scored = corpus.table.of(split=corpus.scored)
    model = ForecastModel.load(
        run.folder / FORECAST_RULE, EnsembleRecord.load(run.folder), scored=scored
    )
    assert model is not None
    found = read_predictions(run.folder / "predictions" / "test")
    rows = row_numbers(found.source, found.image_ids, wanted=test.image_ids)
    probs, labels, categories = as_csr(found.probs)[rows], corpus.labels, test.categories
    shift = model.shift(probs, categories=categories, groups=test.groups, labels=labels)
    rule, _ = rule_for(run.folder, shift)
    decided = rule.decide(probs, categories=categories, labels=labels)
    plain = model.expected(decided, probs, categories=categories, labels=labels)
    lie = lie_of(run.folder, test, workspace=workspace)
    assert lie is not None
    before, after = (
        model.forecast(expected, categories=categories, groups=test.groups, shift=shift, lie=known)
        for expected, known in ((plain, None), (replace(plain, f1=lie.expected(plain.f1)), lie))
    )
    assert before is not None
    assert after is not None
    truth = image_f1(test.targets(labels), decided, empty_truth=rule.empty_truth)
    return Outcome(
        source=source,
        categories=sorted(set(categories)),
        truth=float(np.nanmean(truth)),
        n=len(test),
        before=before,
        after=after,
    )


@dataclass(frozen=True, kw_only=True)
class Draw:
    """A random part of valid.

    Attributes:
        warned: whether anything about it is said to differ, its mix of categories aside.
        mixed: whether its mix is.
        moved: forecast with a look at distances, less that without.
        wider: width of its interval over the width without.
    """

    warned: bool
    mixed: bool
    moved: float
    wider: float


def random_draws(run: EnsembleRun, workspace: Workspace, *, n_draws: int) -> list[Draw]:
    """Half of valid's groups as if they were test, the other labelled images as what is known."""
    record, images = run.record, run.scored
    model = DistanceModel.load(run.folder / FOLDER)
    points, there = points_of(model.features, images.image_ids, workspace=workspace)
    assert there.all()
    groups, valid = group_numbers(images.groups), np.array(images.splits) == "valid"
    rng, found = np.random.default_rng(0), []
    with progress("drawing", total=n_draws, unit="draws") as advance:
        for _ in range(n_draws):
            own = np.unique(groups[valid])
            drawn = rng.choice(own, size=len(own) // 2, replace=False)
            new = valid & np.isin(groups, drawn)
            found.append(_draw(record, images, points, new, model=model))
            advance(1)
    return found


def _draw(
    record: EnsembleRecord,
    images: ImageTable,
    points: npt.NDArray[np.float32],
    new: Mask,
    *,
    model: DistanceModel,
) -> Draw:
    known, drawn = images.take(~new), images.take(new)
    names, weights = known.categories, group_weights(known.groups)
    placed = KnownImages.of(points[~new], names)
    near = placed.nearest(
        points[~new], names, k=NEIGHBOURS, parts=(known.folds, known.folds[placed.rows])
    )
    own = replace(
        model,
        known=placed.with_usual(near, names, weights=weights),
        groups=group_numbers(known.groups)[placed.rows].astype(np.int32),
    )
    lie = Lie.of(
        own,
        points[new],
        there=np.ones(int(new.sum()), dtype=np.bool_),
        categories=drawn.categories,
        groups=drawn.groups,
    )
    values = {name: found[~new] for name, found in record.forecast.items()}
    shift = shift_between(
        ImageTraits(
            mass=values["mass"],
            highest=values["highest"],
            categories=known.categories,
            groups=known.groups,
        ),
        ImageTraits(
            mass=record.forecast["mass"][new],
            highest=record.forecast["highest"][new],
            categories=drawn.categories,
            groups=drawn.groups,
        ),
    )
    before = _forecast(record, images, new, shift=shift, lie=None)
    after = _forecast(record, images, new, shift=shift, lie=lie)
    return Draw(
        warned=bool(shift.meaning) or any(each.differs for each in lie.categories),
        mixed=bool(shift.mix),
        moved=after.value - before.value,
        wider=(after.high - after.low) / (before.high - before.low),
    )


def _forecast(
    record: EnsembleRecord, images: ImageTable, new: Mask, *, shift: Shift, lie: Lie | None
) -> Forecast:
    known, drawn = images.take(~new), images.take(new)
    model = ForecastModel(
        rule=DecisionRule(kind="expected-f1"),
        found={name: values[~new] for name, values in record.forecast.items()},
        categories=known.categories,
        groups=known.groups,
    )
    f1 = record.forecast["forecast"][new]
    f1 = f1 if lie is None else lie.expected(f1)
    expected = Expected(csr_array((len(f1), 1), dtype=np.bool_), f1, np.ones(len(f1)))
    made = model.forecast(
        expected, categories=drawn.categories, groups=drawn.groups, shift=shift, lie=lie
    )
    assert made is not None
    return made


def table_of(outcomes: Sequence[Outcome]) -> list[str]:
    """Rows of Markdown, a source each, and what they come to."""
    lines = [
        "| source left out | categories | n | truth | before | | after | |",
        "| :-- | :-- | --: | --: | --: | :-- | --: | :-- |",
    ]
    for one in sorted(outcomes, key=lambda one: one.source):
        cells = [one.source, " ".join(one.categories), f"{one.n:,}", f"{one.truth:.3f}"]
        for made in (one.before, one.after):
            inside = made.low <= one.truth <= made.high
            cells += [f"{made.value:.3f} [{made.low:.3f}, {made.high:.3f}]", _mark(inside)]
        lines.append(f"| {' | '.join(cells)} |")
    for name in ("before", "after"):
        pairs = [(one.before if name == "before" else one.after, one.truth) for one in outcomes]
        off = [made.value - truth for made, truth in pairs]
        held = [made.low <= truth <= made.high for made, truth in pairs]
        lines.append(
            f"\n{name}: mean absolute error {np.abs(off).mean():.3f}, mean error"
            f" {np.mean(off):+.3f}; the interval holds the truth of {sum(held)} of {len(held)}"
        )
    return lines


def _mark(inside: bool) -> str:
    return "holds" if inside else "misses"


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Each source's forecast without and with a look at distances, beside what it scored."""
    ordered = sorted(outcomes, key=lambda one: one.truth)
    figure = Figure(figsize=(WIDTH, 0.9 + 0.33 * len(ordered)), layout="constrained")
    axes = figure.add_subplot()
    for shift, colour, name in ((-0.16, ORANGE, "before"), (0.16, BLUE, "after")):
        for place, one in enumerate(ordered):
            made = one.before if name == "before" else one.after
            axes.plot((made.low, made.high), (place + shift,) * 2, color=colour, linewidth=2)
            axes.plot(made.value, place + shift, "o", color=colour, markersize=4)
    axes.plot([], [], "o-", color=ORANGE, label="forecast by probabilities alone")
    axes.plot([], [], "o-", color=BLUE, label="forecast that looks at distance")
    places = range(len(ordered))
    truth = [one.truth for one in ordered]
    axes.plot(truth, places, "D", color="black", markersize=5, label="what it scored")
    axes.set_yticks(places, labels=[f"{one.source} ({one.n:,})" for one in ordered])
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1)
    axes.grid(axis="x", color=GREY, alpha=0.25, linewidth=0.6)
    axes.set_xlabel("sample F1, with the forecast's 95 % interval")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def main(workspace: Path, folder: Path, n_draws: int = N_DRAWS) -> None:
    """Leave every source out, draw parts of valid, print what came of it."""
    base = Workspace(workspace)
    corpus = base.open_corpus()
    names, sizes = np.unique(labelled_images(corpus).metadata["source"], return_counts=True)
    outcomes = []
    for source in names[sizes >= LEAST].tolist():
        home = folder / source
        if not (home / "corpus").is_dir():
            make_workspace(base, corpus, source, home)
        if not list(home.glob("ensembles/*/decided-test.csv")):
            run_chain(home)
        outcomes.append(outcome_of(source, home))
    with style():
        save_figure(draw(outcomes), folder, name="forecast_sources")
    print(f"{cpu_name()}\n", *table_of(outcomes), sep="\n")
    run = newest_ensemble(corpus, base)
    draws = random_draws(run, base, n_draws=n_draws)
    moved, wider = np.array([d.moved for d in draws]), np.array([d.wider for d in draws])
    error = bootstrap(
        run.record.forecast["forecast"] - run.record.forecast["truth"], groups=run.scored.groups
    )
    print(
        f"\n{len(draws)} random halves of valid: {sum(d.warned for d in draws)} with a warning,"
        f" {sum(d.mixed for d in draws)} with another mix; forecast moved by"
        f" {np.abs(moved).max():.4f} at most, {np.abs(moved).mean():.5f} in the mean; intervals"
        f" {wider.max():.2f} times as wide at most; all labelled images off by {error.signed()}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:4]))
