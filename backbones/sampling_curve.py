"""`sample --curve`: heads on frozen features, trained on chosen shares of the training images.

Every strategy and share is tried by several networks, each of its own seed: on a cross-fitted
corpus network k leaves out fold k and is judged on it; under `holdout` each learns from train and
is judged on valid. A network chooses among its own training images. No image stops it.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from backbones.detectors.captions import caption_key, caption_teacher, check_captions
from backbones.detectors.features import frozen_features, frozen_names
from backbones.settings.config import BackboneConfig
from core.config import fingerprint
from core.embeddings import Embeddings
from core.errors import ConfigError, MissingStageError
from core.images import ImageTable
from core.progress import progress, say
from core.runs.learning import (
    ALL,
    BASELINE,
    Counts,
    SampleTrial,
    bucket_of_concepts,
    curve_folder,
    judged,
)
from core.runs.workspace import CONFIG, Corpus, Workspace
from core.storage.folders import is_complete, locked, write_json
from corpus.sampling.candidates import CandidateImages, Rows
from corpus.sampling.choose import choose
from corpus.sampling.config import STRATEGY_NAMES, SampleConfig
from training.batches import Examples
from training.devices.compute import Compute
from training.heads import Standardise, build_head
from training.predict import predict
from training.stack import fit_chosen

SHARES = (0.5, 0.25, 0.1, 0.75)
"""Of the training images, in the order in which they are tried, after all images."""

_AT_ONCE = 1024


def curve_trials(config: BackboneConfig, strategies: Sequence[str]) -> dict[str, SampleConfig]:
    """The choices that are compared, by name; each is made at every share.

    Args:
        config: `sample_rare`, `sample_within` and `sample_power` of all but the baseline.
        strategies: those beside the random draws; none for all.

    Raises:
        ConfigError: there is no such strategy, or features are not those of a frozen network.
    """
    if config.regime != "frozen":
        raise ConfigError("a curve trains heads on frozen features: regime frozen")
    if unknown := [name for name in strategies if name not in STRATEGY_NAMES]:
        known = ", ".join(STRATEGY_NAMES)
        raise ConfigError(f"--strategy {unknown[0]}: expected one of {known}")
    own = SampleConfig(
        strategy="random",
        keep=min(SHARES),
        rare=config.sample_rare,
        within=config.sample_within,
        power=config.sample_power,
    )
    named = [name for name in STRATEGY_NAMES if name in strategies or not strategies]
    return {
        BASELINE: replace(own, rare=0),
        "random, rare kept": own,
        **{name: replace(own, strategy=name) for name in named if name != "random"},
    }


def make_curve(
    corpus: Corpus,
    workspace: Workspace,
    *,
    trials: Mapping[str, SampleConfig],
    config: BackboneConfig,
    compute: Compute,
    shares: Sequence[float] = SHARES,
    same_steps: bool = False,
) -> Path:
    """Train what is not there yet; what was interrupted goes on with the same call.

    Args:
        corpus: a prepared corpus.
        workspace: where features are, and the trials go.
        trials: of `curve_trials`.
        config: of features, head and training.
        compute: where to compute.
        shares: of the training images.
        same_steps: whether networks on fewer images are trained for as many more epochs, so that
            all take about the same steps.

    Returns:
        The folder with the trials.

    Raises:
        ConfigError: a share is not below 1, or captions are to teach and there are none.
        MissingStageError: no image is labelled to learn from, or to be judged.
    """
    if max(shares) >= 1:
        raise ConfigError("--keep: a curve holds shares below 1 against all images")
    check_captions(corpus, config)
    features = frozen_features(corpus, workspace, config=config, compute=compute)
    # What a trial is named by, and how many there are, is no part of it.
    same = replace(config, sample_rare=5, sample_within="dominant", sample_power=1.0, seeds=1)
    names = list(frozen_names(corpus, config))
    further = [*caption_key(corpus, config), *(["same steps"] * same_steps)]
    key = fingerprint(corpus.fingerprint, same, names, *further)
    folder = curve_folder(workspace, key)
    points = [(1.0, {ALL: SampleConfig()}), *((share, trials) for share in shares)]
    n_parts = n_networks(corpus, config)
    total = sum(len(own) for _, own in points) * n_parts
    with (
        locked(folder, what="learning curve"),
        progress("learning curve", total=total, unit="networks") as advance,
    ):
        write_json(folder / CONFIG, {**asdict(config), "same_steps": same_steps})
        # One part at a time: each holds its images' features twice.
        for number in range(n_parts):
            part = _Part.of(corpus, number, features, config)
            for share, own in points:
                named = {name: replace(choice, keep=share) for name, choice in own.items()}
                epochs = round(config.epochs / share) if same_steps else config.epochs
                _train_missing(part, named, folder=folder, epochs=epochs, compute=compute)
                advance(len(named))
            say(
                f"learning curve: network {number + 1} of {n_parts}, {len(trials)} ways to choose"
                f" {', '.join(f'{share:.0%}' for share in shares)} of the images"
            )
    return folder


def n_networks(corpus: Corpus, config: BackboneConfig) -> int:
    """Networks of each strategy and share: as many as a detector has."""
    return (corpus.n_folds if corpus.crossfit else config.n_members) * config.seeds


def _train_missing(
    part: "_Part",
    trials: Mapping[str, SampleConfig],
    *,
    folder: Path,
    epochs: int,
    compute: Compute,
) -> None:
    """Train what is not in the folder yet."""
    homes = {name: _home(folder, name, part, config) for name, config in trials.items()}
    todo = {name: trials[name] for name in trials if not is_complete(homes[name])}
    if todo:
        for name, trial in part.trained(todo, epochs=epochs, compute=compute).items():
            trial.save(homes[name])


def _home(folder: Path, name: str, part: "_Part", config: SampleConfig) -> Path:
    key = fingerprint(config)
    return folder / f"{name.replace(', ', '-').replace(' ', '-')}" / f"{part.number:03d}-{key}"


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What a network learns from and is judged on."""

    number: int
    corpus: Corpus
    train: ImageTable
    judges: ImageTable
    features: Embeddings
    config: BackboneConfig

    @classmethod
    def of(
        cls, corpus: Corpus, number: int, features: Embeddings, config: BackboneConfig
    ) -> "_Part":
        view = corpus.views[number % len(corpus.views)]
        train, judges = view.training_images(), view.labelled_images("valid")
        if not len(train) or not len(judges):
            raise MissingStageError(
                f"{corpus.name}: a curve needs labelled images of train and valid"
            )
        return cls(
            number=number, corpus=corpus, train=train, judges=judges, features=features,
            config=config,
        )  # fmt: skip

    @cached_property
    def candidates(self) -> CandidateImages:
        """The training images."""
        values = self.features.rows(self.train.image_ids).values
        return CandidateImages.of(self.train, self.corpus.labels, features=values)

    @cached_property
    def values(self) -> Tensor:
        """Features of the training images, then of those that are judged."""
        ids = (*self.train.image_ids, *self.judges.image_ids)
        return torch.tensor(self.features.rows(ids).values)

    def batch(self, rows: Rows) -> tuple[Tensor]:
        return (self.values[torch.from_numpy(rows)],)

    def new_model(self, rows: Rows) -> nn.Module:
        standardise = Standardise.fitted(self.batch(rows)[0], widths=self.features.widths)
        head = build_head(self.values.shape[1], len(self.corpus.labels), config=self.config)
        return nn.Sequential(standardise, head)

    def trained(
        self, trials: Mapping[str, SampleConfig], *, epochs: int, compute: Compute
    ) -> dict[str, SampleTrial]:
        """A network a choice; those of as many images are trained at once."""
        seed, chosen, seconds = self.config.seed + self.number, {}, {}
        for name, config in trials.items():
            start = time.perf_counter()
            choice = choose(self.candidates, config, seed=seed)
            chosen[name] = np.flatnonzero(choice.kept)
            seconds[name] = time.perf_counter() - start
        examples = Examples(
            batches=self.batch,
            targets=self.candidates.targets,
            rows=np.arange(len(self.train)),
            n_at_once=_AT_ONCE,
            teacher=caption_teacher(self.train, self.config, seed=seed),
        )
        found = {}
        for size in sorted({len(rows) for rows in chosen.values()}):
            names = [name for name, rows in chosen.items() if len(rows) == size]
            models = fit_chosen(
                self.new_model,
                examples,
                learnt=[chosen[name] for name in names],
                seeds=[seed] * len(names),
                config=replace(self.config, epochs=epochs),
                compute=compute,
            )
            for name, model in zip(names, models, strict=True):
                f1, hits = self._judged(model, compute)
                found[name] = SampleTrial(
                    name=name,
                    share=trials[name].keep,
                    number=self.number,
                    n_kept=size,
                    seconds=seconds[name],
                    image_ids=self.judges.image_ids,
                    f1=f1,
                    hits=hits,
                )
        return found

    def _judged(self, model: nn.Module, compute: Compute) -> tuple[npt.NDArray[np.float32], Counts]:
        rows = np.arange(len(self.train), len(self.values))
        probs = predict(model, self.batch, rows=rows, compute=compute, batch_size=_AT_ONCE)
        buckets = bucket_of_concepts(self.corpus)
        return judged(probs, self.judges, labels=self.corpus.labels, buckets=buckets)
