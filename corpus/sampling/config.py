"""Settings of a choice of training images."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from core.config import Range, check_ranges
from core.errors import ConfigError

Strategy = Literal[
    "all",
    "random",
    "stratified",
    "inverse-frequency",
    "repeat-factor",
    "k-centre",
    "facility-location",
    "uncertainty",
    "loss",
    "distinct",
]
Within = Literal["dominant", "category", "all"]
Kept = Annotated[float, Range(above=0, most=1)]
Rare = Annotated[int, Range(least=0, most=1_000_000)]
Power = Annotated[float, Range(least=0, most=1)]

STRATEGY_NAMES: tuple[Strategy, ...] = get_args(Strategy)[1:]
"""All that leave something out."""

_BY_FEATURES = ("k-centre", "facility-location", "uncertainty", "loss", "distinct")


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """What decides which images are kept.

    Attributes:
        strategy: a name of `corpus.sampling.choose.STRATEGIES`, or `all`.
        keep: share of the images.
        rare: images of a concept that has at most so many are always kept.
        within: images among which a strategy compares: those of a category with the same dominant
            concepts, those of a category, or all.
        power: how many of each such stratum are kept, see
            `corpus.sampling.strata.shares_of_strata`.

    Raises:
        ConfigError: a number is out of its range; a strategy without a share to keep, or a share
            without a strategy.
    """

    strategy: Strategy = "all"
    keep: Kept = 1.0
    rare: Rare = 5
    within: Within = "dominant"
    power: Power = 1.0

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.strategy == "all" and self.keep < 1:
            known = ", ".join(STRATEGY_NAMES)
            raise ConfigError(f"keep {self.keep:g}: by which strategy? expected one of {known}")
        if self.strategy != "all" and self.keep == 1:
            raise ConfigError(f"{self.strategy}: how many images? give --keep a share below 1")

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is left out."""
        return self.strategy == "all"

    @property
    def needs_features(self) -> bool:
        """Whether the strategy looks at features."""
        return self.strategy in _BY_FEATURES

    def __str__(self) -> str:
        """As the name of a run has it."""
        return "all" if self.keeps_all else f"{self.strategy}-{self.keep:g}"
