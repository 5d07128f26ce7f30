"""The network that gave a workspace's features, found again by a detector that takes them."""

from collections.abc import Sequence

from backbones.detectors.features import frozen_parts
from backbones.settings.config import BackboneConfig
from core.errors import ConfigError, MissingStageError
from core.runs.detectors import GLOBAL, DetectorRun
from core.runs.out_of_fold import fold_name
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from inference.loaded.networks import (
    FeatureNetwork,
    FoundSpeed,
    read_fine_tuned,
    read_frozen,
    settings_in,
)


def network_of(
    name: str,
    runs: Sequence[DetectorRun],
    *,
    corpus: Corpus,
    workspace: Workspace,
    device: str,
) -> FeatureNetwork:
    """The network that gives the features of a name.

    That of a fine-tuned detector lies in its run. A frozen one is built again from where it was
    built first: its folder, package or file must be there, with the same weights.

    Args:
        name: of the features' folder.
        runs: all detectors of the corpus, the newest last.
        corpus: whose features they are.
        workspace: where they lie.
        device: where the network is to run.

    Raises:
        MissingStageError: no detector takes them, or the network cannot be had any more, or has
            other weights.
    """
    said = read_meta(workspace.embeddings / name).get("speed", "")
    why = "no detector of this corpus says which network with which weights made them"
    for run in reversed(runs):
        if name not in run.embeddings:
            continue
        meta, config = read_meta(run.folder), settings_in(run.folder, BackboneConfig())
        speed = FoundSpeed(words=said, device=meta["device"])
        if config.regime != "frozen":
            number = _fold_of(name, run, corpus)
            return read_fine_tuned(run.folder, config, number=number, speed=speed, device=device)
        try:
            parts = frozen_parts(corpus, config)
        except ConfigError as error:
            why = f"their network cannot be had any more ({error}); put it back"
            continue
        for part in parts:
            if part.name == name:
                return read_frozen(part.config, size=part.size, speed=speed, device=device)
        encoders = " and ".join(own.config.backbone for own in parts)
        why = f"{encoders} has other weights now than when they were made; put those back"
    raise MissingStageError(
        f"pooled features {name}: {why}, or run"
        f" `{workspace.command('train-backbone')}` again, then `fuse` and `ensemble"
        " --submit`"
    )


def _fold_of(name: str, run: DetectorRun, corpus: Corpus) -> int:
    """Which of a fine-tuned detector's networks gave these features."""
    whole, n_parts = f"{GLOBAL}-{run.folder.name}", corpus.n_folds
    parts = [fold_name(whole, part, n_parts=n_parts) for part in range(n_parts)]
    return parts.index(name) if name in parts else 0
