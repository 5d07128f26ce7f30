"""Settings of a head and of its training, shared by detectors and fusion networks."""

from dataclasses import dataclass
from typing import Literal

from core.config import later
from core.errors import ConfigError

LossName = Literal[
    "bce",
    "soft-f1",
    "f1*bce",
    "f1+bce",
    "focal",
    "asymmetric",
    "distribution-balanced",
    "sigmoid-f1",
    "hill",
    "splc",
]
OptimizerName = Literal["adamw", "nadam", "sgd"]
ScheduleName = Literal["one-cycle", "cosine", "plateau", "constant"]
Sampling = Literal["uniform", "rare"]

_AT_LEAST_1 = ("batch_size", "epochs", "patience", "n_members", "seeds")
_AT_LEAST_0 = (
    *("seed", "micro_batch", "warmup", "weight_decay", "clip_norm", "mixup"),
    *("momentum_decay", "bce_epochs", "gamma_neg", "gamma_pos"),
)
_ABOVE_0 = ("learning_rate", "loss_temperature", "epsilon")
_BELOW_1 = (
    *("dropout", "input_dropout", "ema", "negative_smoothing", "stop_threshold", "loss_margin"),
)


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Head and training settings that detectors and fusion networks share.

    Attributes:
        hidden: widths of the fully connected layers before the last.
        dropout: after each of them.
        input_dropout: on the features that the head is given.
        head_init: how its weights are drawn: `torch`, uniform within 1/sqrt(inputs), or `glorot`,
            uniform within sqrt(6 / (inputs + outputs)) and biases 0, as Keras does.
        prior_bias: whether a concept's probability starts at its share of the training images,
            instead of near 1/2.
        loss: a name of `training.losses.registry`.
        gamma_neg: of the loss `asymmetric`: how much less an absent concept costs the surer it is
            said to be absent; with `gamma_pos` and `loss_margin` the common 4, 1 and 0.05.
        gamma_pos: of `asymmetric`, the same of a present concept.
        loss_margin: of `asymmetric`: an absent concept below this probability costs nothing.
        bce_epochs: epochs that learn under bce before the loss takes over.
        loss_temperature: what logits are divided by in the loss, and nowhere else.
        negative_smoothing: target of an absent concept, for labels that are known to be incomplete.
        mixup: alpha of the Beta distribution that images are mixed by; 0 for none.
        optimizer: `adamw`, `nadam` (the paper's) or `sgd` (Nesterov, momentum 0.9).
        momentum_decay: of `nadam`, d: the momentum of step t is 0.9 (1 - 0.96**(t d) / 2).
            Keras calls it schedule decay, with the same default; the paper's 0.9 reaches nearly
            full momentum within a hundred steps, the default within tens of thousands.
        epsilon: of `adamw` and `nadam`, added to the root of the squared gradients' mean. Gradients
            much smaller than it move nothing. Keras has 1e-7.
        learning_rate: highest rate of the schedule, of the head.
        weight_decay: of weights; biases and normalisation are not decayed.
        schedule: `one-cycle`, `cosine` (after a linear warm-up), `plateau` (the paper's) or
            `constant`.
        warmup: epochs in which `cosine` and `constant` rise to the learning rate; parts count.
        plateau_factor: what `plateau` multiplies the rate by.
        plateau_patience: epochs without gain before it does.
        plateau_on: what must gain: the `loss` of the stopping images (of the training images where
            none stop), or the stopping `f1`.
        clip_norm: longest gradient, as a vector of all parameters; 0 for any length.
        ema: share of the former weights in the running mean that is scored and kept; 0 for none.
        sampling: which images an epoch shows: `uniform`, each once; `rare`, as many, drawn with
            replacement, those with rare concepts more often: see `training.batches.rarity`.
        batch_size: images an optimiser's step, over all devices.
        micro_batch: images at once on a device, their gradients added up; 0 for as many as there
            are. Halved when memory runs out.
        epochs: at most.
        patience: epochs without a better stopping score before training ends.
        stop_threshold: at which the stopping images are decided; 0 for the best one each epoch.
        n_members: networks that are averaged; member k is stopped on fold k of train and learns
            from the others, so that together they have seen all of it.
        seeds: times that all members are trained, each time from another seed.
        seed: of weights, batches and dropout; network k uses seed + k.
    """

    hidden: tuple[int, ...] = (512,)
    dropout: float = 0.3
    input_dropout: float = 0.2
    head_init: Literal["torch", "glorot"] = "torch"
    prior_bias: bool = False
    loss: LossName = "f1*bce"
    gamma_neg: float = later(4.0)
    gamma_pos: float = later(1.0)
    loss_margin: float = later(0.05)
    bce_epochs: int = 0
    loss_temperature: float = 1.0
    negative_smoothing: float = 0.0
    mixup: float = 0.0
    optimizer: OptimizerName = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    momentum_decay: float = 0.004
    epsilon: float = 1e-8
    schedule: ScheduleName = "one-cycle"
    warmup: float = 0.0
    plateau_factor: float = 0.2
    plateau_patience: int = 3
    plateau_on: Literal["loss", "f1"] = "loss"
    clip_norm: float = 0.0
    ema: float = 0.0
    sampling: Sampling = later("uniform")
    batch_size: int = 64
    micro_batch: int = 0
    epochs: int = 30
    patience: int = 10
    stop_threshold: float = 0.0
    n_members: int = 5
    seeds: int = 1
    seed: int = 0

    @property
    def rate_per_layer(self) -> float:
        """Rate of a block of layers as a share of the next one's, down from the head."""
        return 1.0

    @property
    def asymmetry(self) -> dict[str, float]:
        """Arguments of `training.losses.imbalance.asymmetric`."""
        return {
            "gamma_neg": self.gamma_neg,
            "gamma_pos": self.gamma_pos,
            "margin": self.loss_margin,
        }

    def loss_in(self, epoch: int) -> LossName:
        """The loss of this epoch, counted from 1."""
        return "bce" if epoch <= self.bce_epochs else self.loss

    def __post_init__(self) -> None:
        for name in _AT_LEAST_1:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, found {getattr(self, name)}")
        if min(self.hidden, default=1) < 1:
            raise ConfigError(f"hidden: expected widths of at least 1, found {self.hidden}")
        for name in _AT_LEAST_0:
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name}: expected 0 or more, found {getattr(self, name)}")
        for name in _BELOW_1:
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected [0, 1), found {getattr(self, name)}")
        for name in _ABOVE_0:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: expected above 0, found {getattr(self, name)}")
        if not 0 < self.plateau_factor < 1:
            raise ConfigError(f"plateau_factor: expected (0, 1), found {self.plateau_factor}")
        if self.plateau_patience < 0:
            raise ConfigError(
                f"plateau_patience: expected 0 or more, found {self.plateau_patience}"
            )
