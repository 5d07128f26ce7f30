"""Commands that learn from images: train-backbone, fuse."""

from typing import Annotated

import typer

from commands.options import (
    RUNS,
    CheckpointOption,
    ConfigOption,
    CpusOption,
    DeviceOption,
    GpusOption,
    PresetOption,
    SetOption,
    WorkspaceOption,
    names_workspace,
    number,
)
from core.categories import CATEGORIES
from core.config import Range


def train_backbone(
    context: typer.Context,
    category: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(CATEGORIES)}; global; each (all seven)."
            " Without it: the global detector and all seven."
        ),
    ] = None,
    workspace: WorkspaceOption = RUNS,
    preset: Annotated[
        list[str] | None,
        typer.Option(
            help="Named settings to start from; may be repeated. None: auto, which fine-tunes on a"
            " GPU and is quick without."
        ),
    ] = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="Encoder: a name of timm, or WORLD:NAME, see docs/training.md."),
    ] = None,
    folds: Annotated[
        int | None,
        number("K networks that predict train out of fold.", Range(least=2, most=1_000, also=0)),
    ] = None,
    seeds: Annotated[
        int | None, number("Times each network is trained.", Range(least=1, most=1_000))
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="What networks start from: auto, package, hub, none (random), a file."),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(help="Learn from chosen images: a strategy of docs/sampling.md."),
    ] = None,
    keep: Annotated[
        float | None, number("With --sample: share of the images.", Range(above=0, most=1))
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(help="Start from a fine-tuned detector: global, or its run folder."),
    ] = None,
    device: DeviceOption = "auto",
    checkpoint_minutes: CheckpointOption = 10.0,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard's events.")
    ] = False,
    engine: Annotated[
        str, typer.Option(help="serial: one network after the other; ray: side by side.")
    ] = "serial",
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster that shares the workspace's disk; none: this machine."),
    ] = None,
    cpus_per_job: CpusOption = None,
    gpus_per_job: GpusOption = None,
) -> None:
    """Train CNN concept detectors, per category and for all images.

    Killed at any moment, the same command resumes. On several GPUs: torchrun --nproc-per-node N
    cli.py train-backbone ...
    """
    from backbones.detectors.ray import cluster_of
    from backbones.detectors.run import RunOptions
    from backbones.request import TrainingRequest, train_asked
    from core.progress import answer
    from core.runs.workspace import Workspace

    request = TrainingRequest(
        category=category,
        presets=tuple(preset or ("auto",)),
        file=config,
        given=tuple(settings or ()),
        options={
            **{"backbone": backbone, "folds": folds, "seeds": seeds, "weights": weights},
            **{"sample": sample, "keep": keep},
        },
        start_from=start_from,
    )
    cluster = cluster_of(
        engine, address=address, device=device, cpus_per_job=cpus_per_job, gpus_per_job=gpus_per_job
    )
    options = RunOptions(checkpoint_s=60 * checkpoint_minutes, tensorboard=tensorboard)
    home = Workspace(workspace)
    made = train_asked(
        request,
        home,
        device=device,
        options=options,
        cluster=cluster,
        draws=not names_workspace(context),
    )
    for run in made:
        answer(run)


def fuse(
    workspace: WorkspaceOption = RUNS,
    preset: PresetOption = "quick",
    config: ConfigOption = None,
    settings: SetOption = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(help="What is made, or all; may be repeated. None: those of the preset."),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="Whose features: an encoder, preset or run of train-backbone; several are joined."
            " None: those of the newest detector."
        ),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(help="Further column that networks are given; may be repeated."),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Fuse image evidence with the category and other metadata, and compare the ways to do it."""
    from core.config import configured, preset_of
    from core.progress import answer
    from core.runs.workspace import Workspace
    from fusion.config import PRESETS
    from fusion.fuse import fuse as run
    from reports.fusion import write_comparison
    from training.devices.device import find_device

    options = {"strategies": strategy, "metadata": metadata, "embeddings": encoder}
    given = [f"{key}={','.join(values)}" for key, values in options.items() if values]
    home = Workspace(workspace)
    corpus = home.open_corpus()
    made = run(
        corpus,
        home,
        config=configured(
            preset_of(PRESETS, preset), file=config, given=[*(settings or ()), *given]
        ),
        preset=preset,
        device=find_device(device),
    )
    answer(*made)
    if page := write_comparison(corpus, home):
        answer(page)


def sample(
    context: typer.Context,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            help="How images are chosen, see docs/sampling.md; of a curve may be repeated."
        ),
    ] = None,
    keep: Annotated[
        float | None, number("Share of the images that is kept.", Range(above=0, most=1))
    ] = None,
    workspace: WorkspaceOption = RUNS,
    category: Annotated[
        str, typer.Option(help="global, or the category of a specialist.")
    ] = "global",
    config: ConfigOption = None,
    settings: SetOption = None,
    sheet: Annotated[
        bool, typer.Option("--sheet", help="Draw images that are kept and that are left out.")
    ] = False,
    curve: Annotated[
        bool,
        typer.Option("--curve", help="Train heads on shares of the images by every strategy."),
    ] = False,
    same_steps: Annotated[
        bool,
        typer.Option("--same-steps", help="Of a curve: more epochs on fewer images."),
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Show which training images a strategy would keep; or what each strategy costs and gains.

    With --curve a head is trained on 10, 25, 50, 75 and 100 % of the images (or on the share to
    --keep alone), chosen by each strategy (or by --strategy) and drawn at random; a page and a
    figure compare them.
    """
    from backbones.detectors.plan import detector_names
    from backbones.sample import show_sample
    from backbones.sampling_curve import SHARES, curve_trials, make_curve
    from backbones.settings.config import BackboneConfig
    from core.config import configured
    from core.errors import ConfigError
    from core.progress import answer
    from core.runs.detectors import GLOBAL
    from core.runs.workspace import Workspace
    from corpus.prepare import corpus_or_phantom
    from reports.sampling import write_curve
    from training.devices.compute import Compute
    from training.devices.device import find_device

    if len(detector_names(category)) != 1:
        raise ConfigError(f"--category {category}: expected global or one of the categories")
    named = strategy or []
    if not curve and (len(named) > 1 or same_steps):
        raise ConfigError("several strategies, and --same-steps, go with --curve")
    if curve and (category != GLOBAL or sheet):
        raise ConfigError("a category's specialist, and --sheet, do not go with --curve")
    given = {} if curve else {"sample": next(iter(named), None), "keep": keep}
    asked = configured(
        BackboneConfig(),
        file=config,
        given=settings or (),
        options=given,
        called={"sample": "--strategy"},
    )
    compute, home = Compute(device=find_device(device)), Workspace(workspace)
    trials = curve_trials(asked, named) if curve else {}
    corpus = corpus_or_phantom(home, draws=not names_workspace(context))
    if curve:
        made = make_curve(
            corpus,
            home,
            trials=trials,
            config=asked,
            compute=compute,
            shares=SHARES if keep is None else (keep,),
            same_steps=same_steps,
        )
        answer(*write_curve(corpus, home, folder=made))
        return
    answer(
        *show_sample(
            corpus, home, category=category, config=asked, compute=compute, with_sheet=sheet
        )
    )
