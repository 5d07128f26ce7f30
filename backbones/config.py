"""Settings of training and of a detector, and presets with what they cost and reach."""

from dataclasses import dataclass
from typing import Literal

from core.errors import ConfigError

Regime = Literal["frozen", "full"]
Augment = Literal["none", "hflip"]
LossName = Literal["bce", "soft-f1", "f1*bce", "f1+bce"]


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Head and training settings that detectors and fusion networks share.

    Attributes:
        hidden: widths of the fully connected layers before the last.
        dropout: after each of them.
        input_dropout: on the pooled features.
        loss: a name of `backbones.losses.LOSSES`.
        learning_rate: highest rate of the one-cycle schedule (AdamW).
        weight_decay: of AdamW.
        batch_size: images a step.
        epochs: at most.
        patience: epochs without a better stopping score before training ends.
        n_members: networks that are averaged; member k is stopped on fold k of train and learns
            from the others, so that together they have seen all of it.
        seed: of weights, batches and dropout; member k uses seed + k.
    """

    hidden: tuple[int, ...] = (512,)
    dropout: float = 0.3
    input_dropout: float = 0.2
    loss: LossName = "f1*bce"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 64
    epochs: int = 30
    patience: int = 10
    n_members: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "patience", "n_members"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if min(self.hidden, default=1) < 1:
            raise ConfigError(f"hidden: expected widths of at least 1, found {self.hidden}")
        if self.seed < 0:
            raise ConfigError(f"seed: expected 0 or more, found {self.seed}")
        for name in ("dropout", "input_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected [0, 1), found {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate: expected above 0, found {self.learning_rate}")
        if self.weight_decay < 0:
            raise ConfigError(f"weight_decay: expected 0 or more, found {self.weight_decay}")


@dataclass(frozen=True, kw_only=True)
class BackboneConfig(FitConfig):
    """What decides a detector; all of it enters the run's fingerprint.

    Attributes:
        backbone: a network of timm.
        weights: `package` (a carrier of `backbones.weights`), `hub` (timm's, needs a network),
            `none` (random), or a file (.safetensors or a state dict).
        image_sizes: input sizes in pixels. A frozen network may look at several, and their pooled
            features are joined; a fine-tuned one takes one.
        resample: how images are scaled to the input size, without cropping.
        mirror: pooled features are averaged over the image and its mirror (regime `frozen`).
        regime: `frozen` trains heads on pooled features; `full` unlocks the whole network.
        augment: `hflip` mirrors each training image with probability 1/2 (regime `full`).
    """

    backbone: str = "tf_efficientnet_lite0"
    weights: str = "package"
    image_sizes: tuple[int, ...] = (224, 320)
    resample: Literal["bilinear", "nearest"] = "bilinear"
    mirror: bool = False
    regime: Regime = "frozen"
    augment: Augment = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.image_sizes or min(self.image_sizes) < 32:
            raise ConfigError(f"image_sizes: expected at least 32 pixels, found {self.image_sizes}")
        if self.regime == "full" and (len(self.image_sizes) > 1 or self.mirror):
            raise ConfigError("regime full: expected one of image_sizes and mirror = false")
        if self.regime == "frozen" and self.augment != "none":
            raise ConfigError("augment: a frozen network sees each image once; use regime full")


PRESETS: dict[str, BackboneConfig] = {
    # Two cores, 5,454 images: features once in 3 1/2 minutes, the eight detectors in 1 1/2; reaches
    # 0.793 (global) and 0.797 (routed) on radbench, see reports/published/.
    "quick": BackboneConfig(),
    # Fine-tunes the same network; meant for a GPU, and not tuned yet.
    "finetune": BackboneConfig(
        image_sizes=(192,),
        regime="full",
        hidden=(),
        learning_rate=5e-4,
        batch_size=32,
        epochs=8,
        patience=3,
        n_members=1,
        augment="hflip",
    ),
}
