"""`fuse`: every strategy asked for, from what the workspace holds, written as predictions."""

import dataclasses
import shlex
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.config import fingerprint
from core.editions import empty_truth_rule
from core.errors import MissingStageError
from core.images import LABELLED
from core.metrics import Interval, bootstrap, cross_fitted_f1
from core.predictions import Predictions
from core.progress import say
from core.runs.detectors import GLOBAL, untrained
from core.runs.external import MAY_HAVE_MET
from core.runs.fused import WITHHELD, ZERO_SHOT, FusedSource
from core.runs.out_of_fold import check_out_of_sample, fold_name, save_folds
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import (
    TURN,
    is_whole,
    locked_run,
    new_folder,
    next_turn,
    reuse,
    write_json,
)
from fusion.config import FuseConfig
from fusion.inputs.gather import FusionInputs, gather_inputs
from fusion.inputs.metadata import MetadataEncoder
from fusion.result import FusedResult
from fusion.strategies import (
    COMBINING,
    END_TO_END,
    STRATEGIES,
    in_order,
    sees_metadata,
    settings_of,
)
from fusion.views import fit_in_views, in_table_order
from fusion.words.zero_shot import may_be_pair
from training.checkpoint import WEIGHTS, save_tensors


@dataclass(frozen=True, kw_only=True)
class FusionRun:
    """A fused source on disk.

    Attributes:
        strategy: its name.
        folder: its run folder.
        valid_f1: cross-fitted sample F1 on valid at a single threshold; None without valid labels.
        labelled_f1: of a cross-fitted corpus, the same on all labelled images.
    """

    strategy: str
    folder: Path
    valid_f1: Interval | None
    labelled_f1: Interval | None = None

    def __str__(self) -> str:
        score = "no labelled valid images" if self.valid_f1 is None else f"valid {self.valid_f1}"
        if self.labelled_f1 is not None:
            score += f"  labelled {self.labelled_f1}"
        return f"{self.strategy:<16} {score}  {self.folder}"


@dataclass(frozen=True, kw_only=True)
class _Given:
    """What every strategy is made from.

    Attributes:
        whole: the corpus with its detectors.
        views: what is fitted on; of a held-out corpus the whole alone.
        earlier: results of the strategies made before, by name.
        preset: the name of the settings.
    """

    whole: FusionInputs
    views: Sequence[FusionInputs]
    earlier: dict[str, FusedResult]
    preset: str


def fuse(
    corpus: Corpus, workspace: Workspace, *, config: FuseConfig, preset: str, device: str
) -> list[FusionRun]:
    """Make the config's strategies, and those that they are made of.

    Strategies made before from the same inputs are kept. Where another process works on one, this
    one waits and uses its result.

    Raises:
        ConfigError: a strategy is not known, or a metadata column cannot be used.
        CorpusError: text in a numeric column.
        MissingStageError: there are no pooled features.
        LeakageError: a detector was fitted on images that it predicts, or on others of their
            groups.
    """
    names = in_order(config.strategies)
    asked = {name: _features_for(name, config) for name in names}
    earlier: dict[str, FusedResult] = {}
    given = {
        features: _Given(whole=whole, views=views, earlier=earlier, preset=preset)
        for features, (whole, views) in _gathered(
            dict.fromkeys(asked.values()), corpus, workspace, config=config, device=device
        )
    }
    detectors = next(iter(given.values())).whole.detectors
    if line := untrained(detectors, corpus.training_categories, workspace=workspace):
        say(line)
    if ZERO_SHOT in names:
        say(f"{ZERO_SHOT}: {MAY_HAVE_MET}")
    config = replace(config, embeddings=())  # a run is named by the folders, however they were told
    return [_fuse_one(name, given[asked[name]], config) for name in names]


def _features_for(name: str, config: FuseConfig) -> tuple[str, ...]:
    """What a strategy's features are called; () for those of the newest detector."""
    of_pair = name == ZERO_SHOT and config.contrastive
    return (config.contrastive,) if of_pair else config.embeddings


def _gathered(
    asked: Iterable[tuple[str, ...]],
    corpus: Corpus,
    workspace: Workspace,
    *,
    config: FuseConfig,
    device: str,
) -> Iterator[tuple[tuple[str, ...], tuple[FusionInputs, list[FusionInputs]]]]:
    """The corpus with each of these features, and what is fitted on: its views, or the whole."""
    for features in asked:
        try:
            whole = gather_inputs(
                corpus, workspace, embeddings=features, metadata=config.metadata, device=device
            )
        except MissingStageError:
            if features != (config.contrastive,) or not may_be_pair(config.contrastive):
                raise
            encoder = shlex.quote(config.contrastive)
            command = f"train-backbone --category global --preset quick --backbone {encoder}"
            raise MissingStageError(
                f"contrastive: no pooled features of {config.contrastive} in"
                f" {workspace.embeddings}; run `{workspace.command(command)}` first"
            ) from None
        views = [whole]
        if corpus.crossfit:
            views = [whole.of_view(number, config.metadata) for number in range(len(corpus.views))]
            whole = whole.with_guesses(views)
        yield features, (whole, views)


def _fuse_one(name: str, given: _Given, config: FuseConfig) -> FusionRun:
    whole = given.whole
    detectors = [run.name for run in whole.detectors]
    config = settings_of(name, config, alone=is_alone(detectors))
    workspace, corpus = whole.workspace, whole.corpus
    home = workspace.fusion / run_name(
        name,
        config,
        corpus_fingerprint=corpus.fingerprint,
        embeddings=whole.names,
        detectors=detectors,
        columns=whole.columns,
    )
    fused = None
    if not is_whole(home):
        with locked_run(home, what=name):
            if not is_whole(home):  # another process may have made it while this one waited
                fused = _make(name, home, given, config)
    if fused is None:
        reuse(home, what=f"{name}: already fused", among=workspace.fusion)
        fused = _load(home, whole)
    given.earlier[name] = fused
    scored = fused.predictions[corpus.scored]
    return FusionRun(
        strategy=name,
        folder=home,
        valid_f1=_f1(corpus, "valid", scored),
        labelled_f1=_f1(corpus, LABELLED, scored) if corpus.crossfit else None,
    )


def is_alone(detectors: Sequence[str]) -> bool:
    """Whether none of these detectors, by `DetectorRun.name`, is the global one."""
    return all(name.partition("/")[0] != GLOBAL for name in detectors)


def run_name(
    name: str,
    config: FuseConfig,
    *,
    corpus_fingerprint: str,
    embeddings: Sequence[str],
    detectors: Sequence[str],
    columns: Sequence[Sequence[str]],
) -> str:
    """Name of a strategy's run folder, by all that decides what it makes.

    Args:
        name: of the strategy.
        config: settings, of which it looks at some.
        corpus_fingerprint: of the whole corpus.
        embeddings: names of the pooled features.
        detectors: `DetectorRun.name` of those at hand, the global one first.
        columns: metadata columns that take part, as the image table has them.
    """
    alone = is_alone(detectors)
    key = fingerprint(
        corpus_fingerprint,
        settings_of(name, config, alone=alone),
        tuple(embeddings),
        list(detectors) if name == "routed" else [],
        list(columns) if sees_metadata(name, alone=alone) else [],
        name,
    )
    return f"{name}-{key}"


def _make(name: str, home: Path, given: _Given, config: FuseConfig) -> FusedResult:
    """What the strategy makes, written as its run."""
    started = time.perf_counter()
    whole, strategy = given.whole, (STRATEGIES | END_TO_END)[name]
    if whole.corpus.crossfit and name not in COMBINING:
        fused = fit_in_views(
            strategy, given.views, corpus=whole.corpus, config=config, earlier=given.earlier
        )
    else:
        fused = strategy(whole, config, earlier=given.earlier)
    made = (*fused.predictions.values(), *fused.without_category.values())
    check_out_of_sample(made, whole.corpus.table)
    meta = {
        "strategy": name,
        "preset": given.preset,
        "corpus": whole.corpus.fingerprint,
        "embeddings": list(whole.names),
        "contains": list(fused.contains),
        "chosen": dict(fused.chosen),
        "seconds": round(time.perf_counter() - started, 1),
        TURN: next_turn(home.parent),
    }
    with new_folder(home, meta) as draft:
        write_json(draft / "config.json", dataclasses.asdict(config))
        for split, predictions in fused.predictions.items():
            save_folds(predictions, draft / "predictions", name=split)
        for split, predictions in fused.without_category.items():
            save_folds(predictions, draft / "predictions", name=split, suffix=WITHHELD)
        if fused.weights:
            save_tensors(draft / WEIGHTS, fused.weights)
            seen = [view.encoder for view in given.views]
            _save_encoders(
                draft, seen if config.metadata else [MetadataEncoder(columns=())] * len(seen)
            )
    for unfinished in fused.unfinished:
        shutil.rmtree(unfinished, ignore_errors=True)
    return fused


def _save_encoders(draft: Path, encoders: Sequence[MetadataEncoder]) -> None:
    """Write `metadata.json`; of several views one each, by what its own train teaches."""
    n_parts = len(encoders)
    for number, encoder in enumerate(encoders):
        name = fold_name("metadata", number, n_parts=n_parts) if n_parts > 1 else "metadata"
        encoder.save(draft / f"{name}.json")


def _load(home: Path, whole: FusionInputs) -> FusedResult:
    run = FusedSource.read(home)
    without_category = {split: run.without_category(split) for split in whole.splits}
    return FusedResult(
        predictions={
            split: in_table_order(run.predictions(split), whole.corpus) for split in whole.splits
        },
        without_category={
            split: in_table_order(predictions, whole.corpus)
            for split, predictions in without_category.items()
            if predictions is not None
        },
        contains=run.contains,
    )


def _f1(corpus: Corpus, split: str, predictions: Predictions) -> Interval | None:
    """Cross-fitted sample F1 of the labelled images of a split, or of all; None without any."""
    images = corpus.labelled_images(split)
    if not len(images):
        return None
    scores = cross_fitted_f1(
        predictions.rows(images.image_ids).probs,
        images.targets(corpus.labels),
        folds=images.folds,
        empty_truth=empty_truth_rule(corpus.edition),
    )
    return bootstrap(scores, groups=images.groups)
