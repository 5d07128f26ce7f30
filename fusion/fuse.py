"""`fuse`: every strategy asked for, from what the workspace holds, written as predictions."""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.config import fingerprint
from core.detectors import untrained
from core.errors import ConfigError
from core.metrics import Interval, bootstrap, empty_truth_rule
from core.predictions import Predictions
from core.progress import say
from core.runs import ask_again, is_complete, new_folder, read_meta, write_json
from core.single_threshold import cross_fitted_f1
from core.workspace import Corpus, Workspace
from fusion.config import FuseConfig
from fusion.given import Given, gather
from fusion.strategies import SPLITS, STRATEGIES, Fused


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
    """Make the config's strategies; those made before from the same are kept.

    Raises:
        ConfigError: a strategy is not known.
        MissingStageError: there are no pooled features.
    """
    if unknown := [name for name in config.strategies if name not in STRATEGIES]:
        raise ConfigError(f"strategies: unknown {unknown[0]!r}; known: {', '.join(STRATEGIES)}")
    given = gather(corpus, workspace, embeddings=config.embeddings, device=device)
    if line := untrained(given.detectors, corpus.training_categories):
        say(line)
    made: dict[str, Fused] = {}
    return [_fuse_one(name, given, workspace, config, made, preset) for name in config.strategies]


def _fuse_one(
    name: str,
    given: Given,
    workspace: Workspace,
    config: FuseConfig,
    made: dict[str, Fused],
    preset: str,
) -> FusionRun:
    detectors = [run.name for run in given.detectors] if name == "routed" else []
    key = fingerprint(given.corpus.fingerprint, config, given.names, detectors, name)
    home = workspace.fusion / f"{name}-{key}"
    if is_complete(home):
        say(f"{name}: already fused, {home}")
        ask_again(home)
        made[name] = _load(home)
    else:
        started = time.perf_counter()
        made[name] = fused = STRATEGIES[name](given, config, made)
        meta = {
            "strategy": name,
            "preset": preset,
            "corpus": given.corpus.fingerprint,
            "embeddings": list(given.names),
            "contains": list(fused.contains),
            "seconds": round(time.perf_counter() - started, 1),
        }
        with new_folder(home, meta) as draft:
            write_json(draft / "config.json", dataclasses.asdict(config))
            for split, predictions in fused.predictions.items():
                predictions.save(draft / "predictions" / split)
    score = _valid_f1(given.corpus, made[name].predictions)
    return FusionRun(strategy=name, folder=home, valid_f1=score)


def _load(home: Path) -> Fused:
    predictions = {split: Predictions.load(home / "predictions" / split) for split in SPLITS}
    return Fused(predictions=predictions, contains=tuple(read_meta(home)["contains"]))


def _valid_f1(corpus: Corpus, predictions: Mapping[str, Predictions]) -> Interval | None:
    valid = corpus.labelled_images("valid")
    if not len(valid):
        return None
    scores = cross_fitted_f1(
        predictions["valid"].rows(valid.image_ids).probs,
        valid.targets(corpus.labels),
        valid.folds,
        empty_truth=empty_truth_rule(corpus.edition),
    )
    return bootstrap(scores, groups=valid.groups)
