"""Settings of the ensemble stage."""

from dataclasses import dataclass
from typing import Annotated

from core.config import Range, check_ranges, later
from core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """What decides the second stage.

    Attributes:
        stackers: names of `ensembles.stacking.registry.STACKERS`, the simplest first; a later one
            is kept only where cross-fitting shows that it beats the one kept so far.
        floor: a pair of an image and a concept is looked at if a member gives it this probability,
        top: or if it is among this many of its image;
        most: at most so many of an image are, the highest by the mean of the members.
        margin: standard errors of the paired difference by which something less simple must win.
        caution: standard errors taken off the gain of a category's or concept's own threshold.
        min_true: concepts with fewer true images in valid have no threshold of their own.
        nomissing: an image left without a concept gets its most probable one (the reading here of
            the run `vgg16-f1-bce-nomissing` of the iml team). Not so in editions since 2022, where
            an empty decision can be the right one.
        constant_from: training images from which on the constant concepts of a category are
            decided for every image of it; 0 decides none that way.
        fall_back: whether test images that differ in kind from valid, as far as can be seen without
            labels, are decided by one threshold: what was tuned or calibrated on valid may
            not hold for them.
        leave_one_out: whether the stack is scored without each member, for the report; it decides
            nothing and takes as long as the quick stackers once a member.
        learning_curve: whether a quick stacker is fitted on shares of the labelled images as well,
            for the report; it decides nothing and takes as long as that stacker three times.
        prior_adjustment: part of the log of a concept's share of the training images that is taken
            from its log odds before anything is decided: above 0 rare concepts are decided more
            often, at a small cost in F1; see `ensembles.decisions.prior_adjustment`.
        prior_frontier: whether the submission's probabilities are decided under rising strengths of
            it as well, for the report; it decides nothing and takes as long as a few decisions.
    """

    stackers: tuple[str, ...] = ("mean", "logistic", "lightgbm")
    floor: Annotated[float, Range(above=0, below=1)] = 0.02
    top: Annotated[int, Range(least=1, most=1_000_000)] = 30
    most: Annotated[int, Range(least=1, most=1_000_000)] = 200
    margin: Annotated[float, Range(least=0, most=1_000)] = 1.0
    caution: Annotated[float, Range(least=0, most=1_000)] = 2.0
    min_true: Annotated[int, Range(least=1, most=10**9)] = 5
    nomissing: bool = True
    constant_from: Annotated[int, Range(least=0, most=10**9)] = 50
    fall_back: bool = True
    leave_one_out: bool = True
    learning_curve: bool = later(True)
    prior_adjustment: Annotated[float, Range(least=0, most=2)] = later(0.0)
    prior_frontier: bool = later(True)

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.stackers:
            raise ConfigError("stackers: expected at least one")


PRESETS: dict[str, EnsembleConfig] = {
    # Two cores, 1,015 validation images, five members: 11 s.
    "quick": EnsembleConfig(),
}
