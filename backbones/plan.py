"""What is to be trained: detectors, and the networks that each consists of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from backbones.build import check_network
from backbones.config import BackboneConfig
from backbones.members import Member, plan_members
from backbones.weights import Origin, origin_of
from core.categories import CATEGORIES
from core.config import fingerprint
from core.detectors import GLOBAL
from core.errors import ConfigError, MissingStageError
from core.images import ImageTable
from core.labels import LabelSpace
from core.progress import say
from core.workspace import Corpus, Workspace

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
    """

    corpus: Corpus
    category: str
    config: BackboneConfig
    origin: Origin
    preset: str
    home: Path

    @cached_property
    def table(self) -> ImageTable:
        """Its training images."""
        return training_images(self.corpus, self.category)

    @cached_property
    def labels(self) -> LabelSpace:
        """Its concepts: all of train, or those of the category's training images."""
        if self.category == GLOBAL:
            return self.corpus.labels
        return LabelSpace.of(c or () for c in self.table.concepts)

    @cached_property
    def members(self) -> list[Member]:
        """Its networks."""
        return plan_members(self.table.folds, self.config, n_folds=self.config.folds)

    def images(self, split: str) -> ImageTable:
        """The images of a split that it is asked about."""
        category = None if self.category == GLOBAL else self.category
        return self.corpus.images(split, category=category)

    def member_home(self, member: Member) -> Path:
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
        ConfigError: timm has no such network, its weights are missing, or a category has too few
            folds.
    """
    check_network(config)
    origin = origin_of(config)
    present = [name for name in names if len(training_images(corpus, name))]
    if missing := [name for name in names if name not in present]:
        reason = f"no training image of {corpus.name} has the category {', '.join(missing)}"
        if not present:
            raise MissingStageError(f"{reason}: nothing to train a specialist on")
        say(f"skipped: {reason}")
    key = fingerprint(corpus.fingerprint, replace(config, weights=origin.identity))
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


def training_images(corpus: Corpus, category: str) -> ImageTable:
    """Labelled, readable training images of a category, or of all."""
    return corpus.labelled_images("train", category=None if category == GLOBAL else category)
