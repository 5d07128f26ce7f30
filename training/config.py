"""Settings of a head and of its training, shared by detectors and fusion networks."""

from dataclasses import dataclass
from typing import Annotated, Literal

from core.config import Range, Seed, check_ranges, later

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

Share = Annotated[float, Range(least=0, below=1)]
Epochs = Annotated[int, Range(least=0, most=100_000)]
Networks = Annotated[int, Range(least=1, most=1_000)]


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

    hidden: tuple[Annotated[int, Range(least=1, most=65_536)], ...] = (512,)
    dropout: Share = 0.3
    input_dropout: Share = 0.2
    head_init: Literal["torch", "glorot"] = "torch"
    prior_bias: bool = False
    loss: LossName = "f1*bce"
    gamma_neg: Annotated[float, Range(least=0, most=100)] = later(4.0)
    gamma_pos: Annotated[float, Range(least=0, most=100)] = later(1.0)
    loss_margin: Share = later(0.05)
    bce_epochs: Epochs = 0
    loss_temperature: Annotated[float, Range(least=1e-3, most=1_000)] = 1.0
    negative_smoothing: Share = 0.0
    mixup: Annotated[float, Range(least=0, most=1_000)] = 0.0
    optimizer: OptimizerName = "adamw"
    learning_rate: Annotated[float, Range(above=0, most=1_000)] = 1e-3
    weight_decay: Annotated[float, Range(least=0, most=1_000)] = 1e-2
    momentum_decay: Annotated[float, Range(least=0, most=100)] = 0.004
    epsilon: Annotated[float, Range(above=0, most=1)] = 1e-8
    schedule: ScheduleName = "one-cycle"
    warmup: Annotated[float, Range(least=0, most=100_000)] = 0.0
    plateau_factor: Annotated[float, Range(above=0, below=1)] = 0.2
    plateau_patience: Epochs = 3
    plateau_on: Literal["loss", "f1"] = "loss"
    clip_norm: Annotated[float, Range(least=0, most=1_000_000)] = 0.0
    ema: Share = 0.0
    sampling: Sampling = later("uniform")
    batch_size: Annotated[int, Range(least=1, most=1_000_000)] = 64
    micro_batch: Annotated[int, Range(least=0, most=1_000_000)] = 0
    epochs: Annotated[int, Range(least=1, most=100_000)] = 30
    patience: Annotated[int, Range(least=1, most=100_000)] = 10
    stop_threshold: Share = 0.0
    n_members: Networks = 5
    seeds: Networks = 1
    seed: Seed = 0

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
        check_ranges(self)
