"""Weights from packages, from files, from a fine-tuned detector, or none.

They are never downloaded here, and no code of theirs is run. Of a fine-tuned detector, its network
and what fits of its head are taken over.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from backbones.encoders.encoder import Normalisation
from backbones.encoders.worlds import encoder_of
from backbones.networks.carriers import CARRIERS, Carrier, Tensors
from backbones.networks.checkpoint_files import checkpoint_sha256, holds_checkpoint, read_checkpoint
from backbones.networks.licences import licence_beside
from backbones.networks.queries import concept_parts
from backbones.settings.config import BackboneConfig
from core.errors import ConfigError, MissingStageError
from core.labels import LabelSpace
from core.runs.detectors import GLOBAL, DetectorRun, find_runs
from core.runs.workspace import Corpus, Workspace
from core.storage.documents import read_object
from core.storage.folders import META, read_meta, read_whole
from core.storage.sums import file_sha256
from training.checkpoint import WEIGHTS, load_network

NAMED_WEIGHTS = ("auto", "package", "hub", "none")
"""Settings of `weights` that are not a file."""


@dataclass(frozen=True)
class Origin:
    """Which weights a setting stands for.

    Attributes:
        text: for a reader: a package with its version, a file, a run or weights of timm's hub, with
            the SHA-256 where there is a file to know beforehand; or `random`.
        identity: what tells these weights from others; of a file what it holds, wherever it lies.
        normalisation: what they expect of images.
        licence: of them; "" where it is not stated.
    """

    text: str
    identity: str
    normalisation: Normalisation
    licence: str = ""

    def __str__(self) -> str:
        return self.text


def origin_of(config: BackboneConfig) -> Origin:
    """Which weights the config's network starts from.

    Raises:
        ConfigError: no package carries them, or the file is missing.
    """
    weights, expected = weights_in_words(config), normalisation_of(config)
    if weights == "none":
        return Origin("random", weights, expected)
    if weights == "hub":
        stated = encoder_of(config.backbone).stated()
        digests = [_sha256(path) for path in stated.files]
        text = ", sha256 ".join((stated.source, *digests))
        return Origin(text, "".join(digests) or text, expected, stated.licence)
    if weights == "package":
        carrier = carrier_of(config)
        text = f"{carrier.requirement}, sha256 {carrier.sha256}"
        return Origin(text, text, expected, carrier.licence)  # the bare file is scaled otherwise
    path = Path(weights)
    if is_detector_run(weights):
        run, digest = path.resolve(), _sha256(weights_file(path))
        text = f"{run.parent.name}/{run.name}, sha256 {digest}"
        return Origin(text, digest, expected, str(read_meta(path).get("weights_licence") or ""))
    if not path.exists():
        raise ConfigError(
            f"weights: {path}: no such weights file; expected a file, the run folder of a"
            f" detector, or one of {', '.join(NAMED_WEIGHTS)}"
        )
    digest = checkpoint_sha256(path, digest=_sha256)
    return Origin(f"{path.name}, sha256 {digest}", digest, expected, licence_beside(path))


def weights_in_words(config: BackboneConfig) -> str:
    """The setting `weights`, `auto` replaced by what it stands for."""
    if config.weights != "auto":
        return config.weights
    return "package" if config.backbone in CARRIERS else "hub"


def _sha256(path: Path) -> str:
    try:
        state = path.stat()
    except OSError as error:  # a folder that was there when it was first looked at
        raise ConfigError(f"weights: {path}: cannot be read ({error.strerror})") from None
    return _sha256_of(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)  # weights are asked for by name many times, and may be gigabytes
def _sha256_of(path: Path, n_bytes: int, changed: int) -> str:
    return file_sha256(path)


def carrier_of(config: BackboneConfig) -> Carrier:
    """The package that carries weights of the config's network, installed or not.

    Raises:
        ConfigError: there is none.
    """
    if config.backbone not in CARRIERS:
        raise ConfigError(
            f"weights: no package carries {config.backbone} (only {', '.join(CARRIERS)}); give"
            " --weights FILE, --weights hub where there is a network, or --weights none for random"
            " ones"
        )
    return CARRIERS[config.backbone]


def check_weights(config: BackboneConfig) -> None:
    """Refuse weights of a package that is missing or broken, before any work is done.

    Raises:
        ConfigError: as `Carrier.find`.
    """
    for own in each_encoder(config):
        if weights_in_words(own) == "package":
            carrier_of(own).find()


def normalisation_of(config: BackboneConfig) -> Normalisation:
    """What the config's weights expect of images: as given, else as they or the model state.

    A detector that starts from another goes on with that one's.
    """
    if config.mean or config.std:
        return Normalisation(config.mean, config.std)
    weights = weights_in_words(config)
    if weights == "package":
        own = carrier_of(config).normalisation
        if own is not None:
            return own
    elif is_detector_run(weights):
        own = run_normalisation(Path(weights))
        if own is not None:
            return own
    return encoder_of(config.backbone).stated().normalisation


def settled(config: BackboneConfig) -> BackboneConfig:
    """The config with everything that the model itself states put in its place.

    A file of weights goes by its whole path, as folders of models do: it is read again wherever
    later commands run.

    Raises:
        ConfigError: there is no such model.
    """
    encoder, *others = (encoder_of(text) for text in (config.backbone, *config.joined))
    stated, *_ = (own.stated() for own in (encoder, *others))  # refuses what there is not
    given = config.weights
    named = given in NAMED_WEIGHTS or not Path(given).exists()  # what there is not stays as given
    return replace(
        config,
        backbone=encoder.text,
        weights=given if named else str(Path(given).absolute()),
        joined=tuple(other.text for other in others),
        image_sizes=config.image_sizes or (stated.size,),
        resample=stated.resample if config.resample == "own" else config.resample,
    )


def each_encoder(config: BackboneConfig) -> tuple[BackboneConfig, ...]:
    """The config of each of its encoders alone: that of `backbone`, then those that are joined.

    Raises:
        ConfigError: there is no such model.
    """
    others = [
        settled(
            BackboneConfig(
                backbone=text,
                weights="none" if config.weights == "none" else "auto",
                image_sizes=(),
                resample="own",
                mirror=config.mirror,
                precision=config.precision,
                probe=config.probe,
            )
        )
        for text in config.joined
    ]
    return replace(config, joined=()), *others


def all_weights(config: BackboneConfig) -> str:
    """What tells the weights of a config's encoders from others, wherever they lie.

    Raises:
        ConfigError: as `origin_of`.
    """
    return " + ".join(origin_of(own).identity for own in each_encoder(config))


def carried_state(carrier: Carrier, network: Tensors) -> Tensors:
    """A carrier's tensors by the names of timm's network.

    Args:
        carrier: of the network.
        network: its own state.

    Raises:
        ConfigError: as `Carrier.find`.
    """
    path = carrier.find()
    state = read_initialisers(path) if path.suffix == ".onnx" else read_checkpoint(path).tensors
    return carrier.rename(state, network)


def read_initialisers(path: Path) -> Tensors:
    """The constants of an ONNX file's graph, its weights among them, by name."""
    import onnx  # needed for one carrier alone, whose `find` looks whether it is there

    constants = onnx.load(path).graph.initializer
    return {c.name: torch.tensor(onnx.numpy_helper.to_array(c)) for c in constants}


_NETWORK, _POOLING, _HEAD = "backbone.network.", "backbone.generalised.", "head."


def start_weights(
    config: BackboneConfig, start: str | None, *, corpus: Corpus, workspace: Workspace
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
        found = newest_fine_tuned(config.backbone, corpus, workspace=workspace)
        if found is None:
            raise MissingStageError(
                f"--start-from global: no global detector with {config.backbone} was fine-tuned on"
                " this corpus yet; run `train-backbone --category global --preset finetune`, or"
                " another preset of that network, first"
            )
        folder = found.folder
    weights_file(folder)
    return replace(config, weights=str(folder))


def newest_fine_tuned(backbone: str, corpus: Corpus, *, workspace: Workspace) -> DetectorRun | None:
    """The newest global detector for which this network was fine-tuned; None without one."""
    for run in reversed(find_runs(workspace, corpus.fingerprint, fine_tuned=True)):
        if run.category == GLOBAL:
            read_whole(run.folder, only=["config.json"])
            settings = read_object(run.folder / "config.json")
            if settings["backbone"] == backbone:
                return run
    return None


def is_detector_run(weights: str) -> bool:
    """Whether a `weights` setting names a run folder, and not one with weights alone."""
    folder = Path(weights)
    return folder.is_dir() and ((folder / META).is_file() or not holds_checkpoint(folder))


def weights_file(folder: Path) -> Path:
    """The file with the run's networks.

    Raises:
        ConfigError: the folder is not a finished run of a fine-tuned detector.
    """
    meta = read_whole(folder)
    if meta.get("regime", "frozen") == "frozen" or not (folder / WEIGHTS).is_file():
        raise ConfigError(
            f"weights: {folder} is not the run of a fine-tuned detector, which alone holds a"
            " network to start from"
        )
    return folder / WEIGHTS


def run_normalisation(folder: Path) -> Normalisation | None:
    """What the run's network expects of images; None where it is the model's own."""
    noted = read_meta(folder).get("normalisation")
    return None if noted is None else Normalisation(tuple(noted["mean"]), tuple(noted["std"]))


def network_state(folder: Path, number: int) -> Tensors:
    """Weights of one of the run's networks, by timm's names."""
    return _part(folder, _NETWORK, number=number)


def pooling_state(folder: Path, number: int) -> Tensors:
    """What one of the run's networks learnt of its pooling; empty where that has no parameter."""
    return _part(folder, _POOLING, number=number)


def start_head(
    head: nn.Module, labels: LabelSpace, *, config: BackboneConfig, number: int = 0
) -> None:
    """Take over the head of the run that `weights` names, where it names one.

    What a concept has of its own, rows of the last layer and queries, is taken for the concepts
    that both know; the layers before it are taken where their widths are equal. Of another kind of
    head, or another number of layers, nothing is taken; queries of groups of concepts are taken of
    a run with the same concepts alone.

    Args:
        head: is changed.
        labels: the concepts of its last layer.
        config: names the run.
        number: which of the run's networks.
    """
    if not is_detector_run(config.weights):
        return
    folder = Path(config.weights)
    known = LabelSpace.load(folder / "labels.txt")
    theirs, own = _part(folder, _HEAD, number=number), head.state_dict()
    if theirs.keys() != own.keys():
        return
    shared = [cui for cui in labels.cuis if cui in known]
    here, there = (torch.from_numpy(space.columns(shared)) for space in (labels, known))
    parts = concept_parts(head, theirs, here=here, there=there)
    for name, value in own.items():
        if name in parts.rows:
            if theirs[name].shape == (len(known), *value.shape[1:]):
                value[here] = theirs[name][there]
        elif theirs[name].shape == value.shape and (name not in parts.whole or labels == known):
            value.copy_(theirs[name])


def _part(folder: Path, prefix: str, *, number: int) -> Tensors:
    tensors = load_network(weights_file(folder), number)
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
