"""`fuse`: every strategy asked for, from what the workspace holds, written as predictions."""

import dataclasses
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.config import fingerprint
from core.editions import empty_truth_rule
from core.metrics import Interval, bootstrap, cross_fitted_f1
from core.predictions import Predictions
from core.progress import say
from core.runs.detectors import untrained
from core.runs.fused import split_folder
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import is_complete, locked, new_folder, read_meta, reuse, write_json
from fusion.config import FuseConfig
from fusion.inputs.gather import SPLITS, FusionInputs, gather_inputs
from fusion.result import UNFINISHED, FusedResult
from fusion.strategies import END_TO_END, STRATEGIES, in_order
from training.checkpoint import WEIGHTS, save_tensors


@dataclass(frozen=True, kw_only=True)
class FusionRun:
    """A fused source on disk.

    Attributes:
        strategy: its name.
        folder: its run folder.
        valid_f1: cross-fitted sample F1 on valid at a single threshold; None without valid labels.
    """

    strategy: str
    folder: Path
    valid_f1: Interval | None


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
    """
    names = in_order(config.strategies)
    fusion_inputs = gather_inputs(
        corpus, workspace, embeddings=config.embeddings, metadata=config.metadata, device=device
    )
    if line := untrained(fusion_inputs.detectors, corpus.training_categories):
        say(line)
    earlier: dict[str, FusedResult] = {}
    return [_fuse_one(name, fusion_inputs, workspace, config, earlier, preset) for name in names]


def _fuse_one(
    name: str,
    fusion_inputs: FusionInputs,
    workspace: Workspace,
    config: FuseConfig,
    earlier: dict[str, FusedResult],
    preset: str,
) -> FusionRun:
    config = dataclasses.replace(config, strategies=(name,))  # the others do not decide this one
    detectors = [run.name for run in fusion_inputs.detectors] if name == "routed" else []
    key = fingerprint(
        fusion_inputs.corpus.fingerprint,
        config,
        fusion_inputs.names,
        detectors,
        fusion_inputs.columns,
        name,
    )
    home = workspace.fusion / f"{name}-{key}"
    fused = None
    if not is_complete(home):
        place = workspace.fusion / UNFINISHED / home.name
        with locked(place, what=name):
            if not is_complete(home):  # another process may have made it while this one waited
                fused = _make(name, home, fusion_inputs, config, earlier, preset)
        shutil.rmtree(place, ignore_errors=True)
    if fused is None:
        reuse(home, what=f"{name}: already fused")
        fused = _load(home)
    earlier[name] = fused
    score = _valid_f1(fusion_inputs.corpus, fused.predictions)
    return FusionRun(strategy=name, folder=home, valid_f1=score)


def _make(
    name: str,
    home: Path,
    fusion_inputs: FusionInputs,
    config: FuseConfig,
    earlier: Mapping[str, FusedResult],
    preset: str,
) -> FusedResult:
    """What the strategy makes, written as its run."""
    started = time.perf_counter()
    fused = (STRATEGIES | END_TO_END)[name](fusion_inputs, config, earlier=earlier)
    meta = {
        "strategy": name,
        "preset": preset,
        "corpus": fusion_inputs.corpus.fingerprint,
        "embeddings": list(fusion_inputs.names),
        "contains": list(fused.contains),
        "chosen": dict(fused.chosen),
        "seconds": round(time.perf_counter() - started, 1),
    }
    with new_folder(home, meta) as draft:
        write_json(draft / "config.json", dataclasses.asdict(config))
        for split, predictions in fused.predictions.items():
            predictions.save(split_folder(draft, split))
        for split, predictions in fused.without_category.items():
            predictions.save(split_folder(draft, split, without_category=True))
        if fused.weights:
            save_tensors(draft / WEIGHTS, fused.weights)
            fusion_inputs.encoder.save(draft / "metadata.json")
    if fused.unfinished is not None:
        shutil.rmtree(fused.unfinished, ignore_errors=True)
    return fused


def _load(home: Path) -> FusedResult:
    without_category = {split: split_folder(home, split, without_category=True) for split in SPLITS}
    return FusedResult(
        predictions={split: Predictions.load(split_folder(home, split)) for split in SPLITS},
        without_category={
            s: Predictions.load(f) for s, f in without_category.items() if is_complete(f)
        },
        contains=tuple(read_meta(home, "contains")["contains"]),
    )


def _valid_f1(corpus: Corpus, predictions: Mapping[str, Predictions]) -> Interval | None:
    valid = corpus.labelled_images("valid")
    if not len(valid):
        return None
    scores = cross_fitted_f1(
        predictions["valid"].rows(valid.image_ids).probs,
        valid.targets(corpus.labels),
        folds=valid.folds,
        empty_truth=empty_truth_rule(corpus.edition),
    )
    return bootstrap(scores, groups=valid.groups)
