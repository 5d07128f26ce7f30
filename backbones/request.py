"""What is asked of `train-backbone`, and its runs; nothing is done before all of it holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backbones.auto import AUTO, presets_on, train_by_presets
from backbones.detectors.plan import detector_names
from backbones.detectors.ray import Cluster
from backbones.detectors.run import DEFAULT_OPTIONS, RunOptions
from backbones.networks.weights import NAMED_WEIGHTS, settled, start_weights
from backbones.settings.config import BackboneConfig
from backbones.settings.presets import GROUPS
from core.config import configured, overlay, parse_settings
from core.errors import ConfigError
from core.runs.detectors import GLOBAL
from core.runs.workspace import Workspace
from core.storage.documents import read_toml
from corpus.prepare import corpus_or_phantom
from training.devices.compute import Compute, joined
from training.devices.device import find_device


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """Which detectors are asked for, and what the user set.

    Attributes:
        category: see `backbones.detectors.plan.detector_names`.
        presets: names of `backbones.auto.presets_on` or of `GROUPS`; what is set goes over each.
        file: TOML file with settings; None without one.
        given: settings as `key=value`, which go over the file's.
        options: settings that have an option of their own, which go over both; None where that was
            not given.
        start_from: see `backbones.networks.weights.start_weights`.

    Raises:
        ConfigError: there is no such category, or two options say what networks start from.
    """

    category: str | None = None
    presets: tuple[str, ...] = (AUTO,)
    file: Path | None = None
    given: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    start_from: str | None = None

    def __post_init__(self) -> None:
        detector_names(self.category)
        if self.options.get("weights") is not None and self.start_from is not None:
            raise ConfigError(
                "--weights, --start-from: either says what networks start from; give one"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The presets that are asked for, each once, in their order; a group is its members."""
        names = [name for asked in self.presets for name in GROUPS.get(asked, (asked,))]
        return tuple(dict.fromkeys(names))

    def check(self, presets: Mapping[str, BackboneConfig]) -> None:
        """Refuse what cannot be asked of all the presets, before any work.

        Args:
            presets: all that there are, by name.

        Raises:
            ConfigError: there is no such preset, a setting that one of them does not take, or one
                encoder or one file of weights for presets of several encoders.
        """
        if unknown := [name for name in self.names if name not in presets]:
            known = ", ".join((*presets, *GROUPS))
            raise ConfigError(f"--preset {unknown[0]}: expected one of {known}")
        own = {name: presets[name] for name in self.names}
        asked = {name: self.over(config) for name, config in own.items()}
        encoders = {name: settled(config).backbone for name, config in own.items()}
        if len(set(encoders.values())) < 2:
            return
        first, *others = encoders
        other = next(name for name in others if encoders[name] != encoders[first])
        several = f"{first} is for {encoders[first]}, {other} for {encoders[other]}"
        if any(config.backbone != encoders[name] for name, config in asked.items()):
            raise ConfigError(
                f"--backbone: the presets are of several encoders ({several}); give it with one of"
                " them, or leave it out"
            )
        files = {config.weights for config in asked.values()} - {*NAMED_WEIGHTS}
        files |= {self.start_from or GLOBAL} - {GLOBAL}
        if given := sorted(str(path) for path in files):
            raise ConfigError(
                f"weights: {given[0]} is of one encoder, the presets of several ({several}); train"
                " them one by one"
            )

    def over(self, config: BackboneConfig) -> BackboneConfig:
        """The config with what the user set, the start from a detector aside.

        Where that is another encoder, what a preset says of its own encoder (input sizes,
        resampling, weights) gives way to what the other one states of itself, unless that was set
        as well.

        Raises:
            ConfigError: a setting that there is not, or a value that it does not take; no such
                encoder.
        """
        asked = configured(config, file=self.file, given=self.given, options=self.options)
        if asked.backbone != config.backbone:
            named = {name for name, value in self.options.items() if value is not None}
            named |= {*parse_settings(self.given), *(read_toml(self.file) if self.file else ())}
            own = {"image_sizes": (), "resample": "own", "weights": "auto"}
            asked = overlay(asked, {k: v for k, v in own.items() if k not in named})
        return settled(asked)


def train_asked(
    request: TrainingRequest,
    workspace: Workspace,
    *,
    device: str,
    options: RunOptions = DEFAULT_OPTIONS,
    cluster: Cluster | None = None,
    draws: bool = True,
) -> list[Path]:
    """Train what is asked for, on this process or all that torchrun started.

    Args:
        request: what is asked for.
        workspace: where the corpus lies, and the runs go.
        device: cpu, cuda, cuda:N or auto.
        options: what a training writes while it runs.
        cluster: where networks are trained side by side; None for here, one after the other.
        draws: whether an empty workspace gets the phantom corpus; else it is refused.

    Returns:
        The run folders of the asked detectors, on the first process; the others give none.

    Raises:
        ConfigError: the device is not there, or there is no such preset or setting.
        MissingStageError: no corpus is prepared, and none may be drawn.
        As `backbones.auto.train_by_presets` and `backbones.networks.weights.start_weights`.
    """
    # The nodes may have the GPU that this machine lacks; here only features are made.
    found = find_device(device if cluster is None else "auto")
    request.check(presets_on(found))
    with joined(found) as world:
        corpus = world.in_turn(lambda: corpus_or_phantom(workspace, draws=draws))
        runs = train_by_presets(
            corpus,
            workspace,
            names=detector_names(request.category),
            presets=request.names,
            settle=lambda c: start_weights(
                request.over(c), request.start_from, corpus=corpus, workspace=workspace
            ),
            compute=Compute(device=found, world=world),
            options=options,
            cluster=cluster,
        )
    return runs if world.first else []
