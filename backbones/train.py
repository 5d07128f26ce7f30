"""`train-backbone`: detectors for all images and for each category, here or on a cluster."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from backbones.detectors.features import frozen_parts
from backbones.detectors.inputs import TRAINING_INPUTS
from backbones.detectors.jobs import train_in_order
from backbones.detectors.plan import plan_detectors
from backbones.detectors.ray import Cluster, on_ray
from backbones.detectors.run import DEFAULT_OPTIONS, RunOptions
from backbones.networks.build import build_backbone
from backbones.networks.weights import check_weights, is_detector_run, weights_in_words
from backbones.settings.config import BackboneConfig
from core.errors import ConfigError
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import is_complete, reuse
from training.devices.compute import Compute


def train_backbones(
    corpus: Corpus,
    workspace: Workspace,
    *,
    names: Sequence[str],
    config: BackboneConfig,
    preset: str,
    compute: Compute,
    options: RunOptions = DEFAULT_OPTIONS,
    cluster: Cluster | None = None,
) -> list[Path]:
    """Train the asked detectors; those trained before with equal settings are kept.

    Args:
        corpus: a prepared corpus.
        workspace: where the runs go.
        names: which detectors, see `backbones.detectors.plan.detector_names`. Of several, those of
            categories without training images are skipped, and that is said.
        config: settings, the same for all.
        preset: the name that the run folders start with.
        compute: where to compute.
        options: what a training writes while it runs.
        cluster: where networks are trained side by side; None for here, one after the other.

    Returns:
        The run folders.

    Raises:
        MissingStageError: none of them has training images.
        ConfigError: the weights cannot be had, the cluster does not answer, or these processes are
            already several.
        SystemExit: SIGTERM or Ctrl-C came; the same call goes on.
    """
    if cluster is not None and compute.world.size > 1:
        raise ConfigError("--engine ray: starts processes of its own; run it without torchrun")
    plans = plan_detectors(corpus, workspace, names=names, config=config, preset=preset)
    todo = [plan for plan in plans if not compute.world.everyone(is_complete(plan.home))[0]]
    for plan in plans:
        if plan not in todo and compute.world.first:
            reuse(plan.home, what=f"{plan.category}: already trained", among=workspace.backbones)
    if todo:
        check_start(corpus, workspace, config=config, compute=compute)
        engine = nullcontext(train_in_order) if cluster is None else on_ray(cluster)
        with engine as train:  # a cluster that does not answer is found out before any work
            inputs = TRAINING_INPUTS[config.regime](
                corpus, workspace, config=config, compute=compute
            )
            train(todo, inputs, workspace=workspace, options=options)
    return [plan.home for plan in plans]


def check_start(
    corpus: Corpus, workspace: Workspace, *, config: BackboneConfig, compute: Compute
) -> None:
    """Refuse weights that cannot be had, before any work is done.

    Those of a hub are fetched here and those of a file fitted, so that no image is decoded for a
    network that is out of reach; unless a frozen network's features are there and nobody asks for
    it.

    Raises:
        ConfigError: a package is missing or broken, the hub cannot be reached, or a file does not
            fit.
    """
    check_weights(config)
    parts = [(config, config.image_sizes[0])]
    if config.regime == "frozen":
        parts = [
            (part.config, part.size)
            for part in frozen_parts(corpus, config)
            if not compute.world.everyone(is_complete(workspace.embeddings / part.name))[0]
        ]
    for own, size in parts:
        weights = weights_in_words(own)
        if weights not in ("none", "package") and not is_detector_run(weights):
            compute.world.in_turn(partial(build_backbone, own, size=size))
