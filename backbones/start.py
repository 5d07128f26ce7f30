"""A fine-tuned detector as the start of another: its network and what fits of its head."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from backbones.networks.carriers import Normalisation, State
from backbones.settings.config import BackboneConfig
from core.errors import ConfigError, MissingStageError
from core.labels import LabelSpace
from core.runs.detectors import GLOBAL, DetectorRun, find_runs
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from training.checkpoint import WEIGHTS, load_network

_NETWORK, _HEAD = "backbone.network.", "head."


def start_weights(
    config: BackboneConfig, start: str | None, corpus: Corpus, workspace: Workspace
) -> BackboneConfig:
    """The config with the weights that `--start-from` asks for.

    Args:
        config: as it is without.
        start: `global` for the newest fine-tuned global detector of the config's network, or a run
            folder; None for none.
        corpus: the corpus, whose detectors count.
        workspace: where they lie.

    Raises:
        MissingStageError: no global detector of the network was fine-tuned yet.
        ConfigError: the folder is not a fine-tuned detector's.
    """
    if start is None:
        return config
    folder = Path(start)
    if start == GLOBAL:
        found = newest_fine_tuned(config.backbone, corpus, workspace)
        if found is None:
            raise MissingStageError(
                f"--start-from global: no global detector with {config.backbone} was fine-tuned on"
                " this corpus yet; run `train-backbone --category global --preset finetune`, or"
                " another preset of that network, first"
            )
        folder = found.folder
    weights_file(folder)
    return replace(config, weights=str(folder))


def newest_fine_tuned(backbone: str, corpus: Corpus, workspace: Workspace) -> DetectorRun | None:
    """The newest global detector for which this network was fine-tuned; None without one."""
    for run in reversed(find_runs(workspace, corpus.fingerprint, fine_tuned=True)):
        if run.category == GLOBAL:
            settings = json.loads((run.folder / "config.json").read_text(encoding="utf-8"))
            if settings["backbone"] == backbone:
                return run
    return None


def is_detector_run(weights: str) -> bool:
    """Whether a `weights` setting names a run folder."""
    return Path(weights).is_dir()


def weights_file(folder: Path) -> Path:
    """The file with the run's networks.

    Raises:
        ConfigError: the folder is not a finished run of a fine-tuned detector.
    """
    meta = read_meta(folder)
    if meta.get("regime", "frozen") == "frozen" or not (folder / WEIGHTS).is_file():
        raise ConfigError(
            f"weights: {folder} is not the run of a fine-tuned detector, which alone holds a"
            " network to start from"
        )
    return folder / WEIGHTS


def run_normalisation(folder: Path) -> Normalisation | None:
    """What the run's network expects of images, where that is not timm's own for it."""
    noted = read_meta(folder).get("normalisation")
    return None if noted is None else Normalisation(tuple(noted["mean"]), tuple(noted["std"]))


def network_state(folder: Path) -> State:
    """Weights of the run's first network, by timm's names."""
    return _part(folder, _NETWORK)


def start_head(head: nn.Module, labels: LabelSpace, config: BackboneConfig) -> None:
    """Take over the head of the run that `weights` names, where it names one.

    The last layer starts with the rows of the concepts that both know; the layers before it are
    taken where their widths are equal. Of another number of layers nothing is taken.
    """
    if not is_detector_run(config.weights):
        return
    folder = Path(config.weights)
    known = LabelSpace.load(folder / "labels.txt")
    theirs, own = _part(folder, _HEAD), head.state_dict()
    if theirs.keys() != own.keys():
        return
    *_, last_weight, last_bias = own
    shared = [cui for cui in labels.cuis if cui in known]
    here, there = (torch.from_numpy(space.columns(shared)) for space in (labels, known))
    for name, value in own.items():
        if name in (last_weight, last_bias):
            if theirs[name].shape[1:] == value.shape[1:]:
                value[here] = theirs[name][there]
        elif theirs[name].shape == value.shape:
            value.copy_(theirs[name])


def _part(folder: Path, prefix: str) -> State:
    tensors = load_network(weights_file(folder), 0)
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
