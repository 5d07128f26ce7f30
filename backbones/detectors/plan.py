"""What is to be trained: detectors, and the networks that each consists of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from backbones.detectors.captions import caption_key, check_captions
from backbones.detectors.start import Start
from backbones.encoders.worlds import encoder_of
from backbones.networks.weights import Origin, all_weights, origin_of, settled
from backbones.settings.config import BackboneConfig
from core.categories import CATEGORIES, UNKNOWN
from core.config import fingerprint
from core.errors import ConfigError, MissingStageError
from core.images import ImageTable
from core.labels import LabelSpace
from core.progress import say
from core.runs.detectors import GLOBAL
from core.runs.workspace import Corpus, Workspace
from training.members import MemberPlan, cross_fitted_members, plan_members, stopped_together
from training.texts.spaces import check_sentence_model

EACH = "each"


@dataclass(frozen=True, kw_only=True)
class DetectorPlan:
    """A detector that is to be trained.

    Attributes:
        corpus: what on.
        category: `GLOBAL` or the category of a specialist.
        config: how.
        origin: the weights that its networks start from.
        preset: the name that its folder starts with.
        home: its run folder.
        extracts: whether a fine-tuned network's pooled features of all images go with it.
    """

    corpus: Corpus
    category: str
    config: BackboneConfig
    origin: Origin
    preset: str
    home: Path
    extracts: bool = True

    @cached_property
    def table(self) -> ImageTable:
        """The images that its training meets: those of train, and those of valid that stop it.

        Of a cross-fitted corpus, all labelled ones.
        """
        return training_images(self.corpus, self.category, config=self.config)

    @cached_property
    def labels(self) -> LabelSpace:
        """Its concepts: all of the corpus, or those of the category's training images."""
        if self.category == GLOBAL:
            return self.corpus.labels
        learnt = self.table.of(split=self.corpus.learnt_from)
        return LabelSpace.of(concepts or () for concepts in learnt.concepts)

    @cached_property
    def members(self) -> list[MemberPlan]:
        """Its networks."""
        if self.corpus.crossfit:
            return cross_fitted_members(self.table.folds, self.config, n_folds=self.n_parts)
        if self.config.stop_on != "train":
            return stopped_together(np.array(self.table.splits) == "valid", self.config)
        return plan_members(self.table.folds, self.config, n_folds=self.config.folds)

    @cached_property
    def start(self) -> Start | None:
        """The detector that its networks start from; None for other weights."""
        return Start.of(self.config)

    def started_from(self, member: MemberPlan) -> int:
        """Which network of that detector a network starts from: the first, unless cross-fitted."""
        return self.start.network(member.number) if self.start and self.corpus.crossfit else 0

    @property
    def n_train(self) -> int:
        """Images that it learns from: train, or all of a cross-fitted corpus."""
        return len(self.table) if self.corpus.crossfit else self.table.splits.count("train")

    @property
    def splits(self) -> tuple[str, ...]:
        """What all its networks predict."""
        return ("test",) if self.corpus.crossfit else ("valid", "test")

    @property
    def held_out(self) -> str:
        """Name of the images that its networks hold out and predict, a part each."""
        return self.corpus.learnt_from

    @property
    def n_parts(self) -> int:
        """Parts of those images; 0 where its networks hold out none."""
        return self.corpus.n_folds if self.corpus.crossfit else self.config.folds

    def images(self, split: str) -> ImageTable:
        """The images of a split that it is asked about.

        A specialist is asked about those of its category and about those of which none is given:
        what they are is a guess, which is made later. What their concepts tell counts in training
        alone.
        """
        images = self.corpus.images(split)
        if self.category == GLOBAL:
            return images
        return images.take(np.isin(images.categories, [self.category, UNKNOWN]))

    def held_out_images(self, member: MemberPlan) -> ImageTable:
        """The labelled images that a network predicts and never met.

        Where they include images without a given category these are all of them in the folds that
        the network held out, not only those that their concepts put into its category: whom it
        predicts may not tell what they show.
        """
        learnt = self.corpus.labelled_images(self.held_out)
        if self.category == GLOBAL or UNKNOWN not in learnt.categories:
            return self.table.take(member.held_out)
        asked = np.isin(learnt.categories, [self.category, UNKNOWN])
        if self.corpus.crossfit:
            return learnt.take(asked & (learnt.folds == member.number % self.n_parts))
        return learnt.take(asked & np.isin(learnt.folds, self.table.folds[member.held_out]))

    def member_home(self, member: MemberPlan) -> Path:
        """Where a network lies until all are there."""
        return self.home / "members" / str(member.number)


def plan_detectors(
    corpus: Corpus,
    workspace: Workspace,
    *,
    names: Sequence[str],
    config: BackboneConfig,
    preset: str,
) -> list[DetectorPlan]:
    """Plans of the named detectors; those of categories without training images are skipped.

    Raises:
        MissingStageError: none has training images.
        ConfigError: there is no such network, its weights are missing, a setting has no meaning on
            a cross-fitted corpus, the detector to start from may have met what is held out, a
            category has too few folds, there is no such sentence model, or captions are to teach
            and there are none.
        PredictionsError: what the detector to start from has met is not known.
    """
    config = settled(config)
    check_protocol(corpus, config)
    if config.head == "words":
        check_sentence_model(config.query_text, setting="query_text")
    check_captions(corpus, config)
    origin = origin_of(config)
    if start := Start.of(config):
        start.check(corpus, config)
    present = [name for name in names if _can_learn(corpus, name, config)]
    if missing := [name for name in names if name not in present]:
        reason = f"no training image of {corpus.name} has the category {', '.join(missing)}"
        if corpus.crossfit:
            reason = (
                f"fewer than two folds of {corpus.name} have labelled images of"
                f" {', '.join(missing)}"
            )
        if not present:
            there = ", ".join(corpus.training_categories) or "no image with a category"
            raise MissingStageError(
                f"{reason}: nothing to train a specialist on; to learn from there is {there}"
            )
        say(f"not trained: {reason}")
    encoders = [encoder_of(text).blueprint() for text in (config.backbone, *config.joined)]
    same = replace(config, backbone=encoders[0], joined=tuple(encoders[1:]))  # wherever they lie
    key = fingerprint(
        corpus.fingerprint,
        replace(same, weights=all_weights(config)),
        *caption_key(corpus, config),
    )
    return [
        DetectorPlan(
            corpus=corpus,
            category=name,
            config=config,
            origin=origin,
            preset=preset,
            home=workspace.backbones / name / f"{preset}-{key}",
        )
        for name in present
    ]


def check_protocol(corpus: Corpus, config: BackboneConfig) -> None:
    """Refuse settings that say which images are held out, where the corpus says so already.

    Raises:
        ConfigError: the corpus is cross-fitted, and there is such a setting.
    """
    if not corpus.crossfit:
        return
    own = f"{corpus.name} was prepared with the protocol crossfit"
    if config.stop_on != "train":
        raise ConfigError(
            f"stop_on {config.stop_on}: {own}, under which no image stops a training; prepare it"
            " with the protocol holdout"
        )
    for name in ("folds", "use_folds"):
        if getattr(config, name):
            raise ConfigError(
                f"{name}: {own}, whose {corpus.n_folds} folds every detector is trained along;"
                f" leave {name} out"
            )


def _can_learn(corpus: Corpus, name: str, config: BackboneConfig) -> bool:
    """Whether a detector has images to learn from, in a cross-fitted corpus without any fold."""
    images = training_images(corpus, name, config=config)
    if corpus.crossfit:
        return len(np.unique(images.folds)) > 1
    return "train" in images.splits


def detector_names(category: str | None) -> tuple[str, ...]:
    """The detectors that `--category` asks for.

    Args:
        category: one of the seven for its specialist, `global` for the detector of all images,
            `each` for all seven specialists, None for the global one and all seven.

    Raises:
        ConfigError: no such category.
    """
    if category is None:
        return (GLOBAL, *CATEGORIES)
    if category == EACH:
        return CATEGORIES
    if category == GLOBAL or category in CATEGORIES:
        return (category,)
    raise ConfigError(
        f"--category {category}: expected {GLOBAL}, {EACH} or one of {', '.join(CATEGORIES)}"
    )


def training_images(
    corpus: Corpus, category: str, *, config: BackboneConfig | None = None
) -> ImageTable:
    """Labelled, readable images of train, of a category or of all, and those of valid that stop.

    Their category is the given one or, where none is, the one that their concepts tell.

    Where none of valid could stop it, training runs its full length. Of a cross-fitted corpus they
    are the labelled, readable images of train and valid.

    Args:
        corpus: a prepared corpus.
        category: `GLOBAL` or a category.
        config: which folds of train, and which images of valid; None for all of train.

    Raises:
        MissingStageError: the corpus was prepared without halves of valid.
    """
    only = None if category == GLOBAL else category
    train = corpus.training_images(category=only)
    if config is None or corpus.crossfit:
        return train
    if config.use_folds:
        train = train.take(train.folds < config.use_folds)
    if config.stop_on == "train":
        return train
    stopping = corpus.valid_half(config.stop_on, category=only)
    rows = corpus.table.row_numbers((*train.image_ids, *stopping.image_ids))
    return corpus.table.take(rows).as_training_images()
