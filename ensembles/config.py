"""Settings of the ensemble stage."""

from dataclasses import dataclass

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
    """

    stackers: tuple[str, ...] = ("mean", "logistic", "lightgbm")
    floor: float = 0.02
    top: int = 30
    most: int = 200
    margin: float = 1.0
    caution: float = 2.0
    min_true: int = 5
    nomissing: bool = True
    constant_from: int = 50
    fall_back: bool = True
    leave_one_out: bool = True

    def __post_init__(self) -> None:
        if not self.stackers:
            raise ConfigError("stackers: expected at least one")
        if not 0 < self.floor < 1:
            raise ConfigError(f"floor: expected a number between 0 and 1, found {self.floor}")
        for name in ("top", "most", "min_true"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, found {getattr(self, name)}")
        for name in ("margin", "caution", "constant_from"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}: expected 0 or more, found {getattr(self, name)}")


PRESETS: dict[str, EnsembleConfig] = {
    # Two cores, 1,015 validation images, five members: 11 s.
    "quick": EnsembleConfig(),
}
