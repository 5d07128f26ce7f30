"""The ten experiments of the iml paper (ImageCLEFmed Caption 2020, Table 4) as settings.

What all have in common: ImageNet weights, all convolutions unlocked, everything after the last of
them replaced by fully connected layers on its flattened output, each followed by dropout 0.5;
images scaled to the input size by nearest neighbours without cropping; NAdam at 1e-5 with schedule
decay 0.9; concepts decided at 0.5, and so scored for early stopping.

What torch's NAdam does with these numbers is what Keras' did: its `momentum_decay` is Keras'
`schedule_decay`, and both follow Dozat 2016 step by step. They differ in what is added to the root
of the squared gradients, 1e-7 in Keras and 1e-8 in torch, which at gradients as small as those of
3,047 sparse concepts decides how far a step goes: it is set to Keras'. Fully connected layers are
drawn as Keras draws them. Keras lowers the rate at the last epoch of its patience without gain,
torch at the one after: 3 and 5 there are 2 and 4 here. Not stated in the paper, and ours: no weight
decay, at most 30 epochs and 10 without gain.
"""

from dataclasses import dataclass, field, replace

from backbones.settings.config import BackboneConfig

_ALL = BackboneConfig(
    backbone="vgg16",
    weights="package",
    image_sizes=(227,),
    resample="nearest",
    pooling="none",
    regime="full",
    hidden=(4096, 4096),
    dropout=0.5,
    input_dropout=0.0,
    head_init="glorot",
    loss="bce",
    optimizer="nadam",
    learning_rate=1e-5,
    momentum_decay=0.9,
    epsilon=1e-7,
    weight_decay=0.0,
    schedule="constant",
    batch_size=32,
    epochs=30,
    patience=10,
    stop_threshold=0.5,
    n_members=1,
)
_ON_LOSS = replace(_ALL, schedule="plateau", plateau_patience=2, plateau_on="loss")
_ON_F1 = replace(_ALL, schedule="plateau", plateau_patience=4, plateau_on="f1", augment="both")
_AT_224 = replace(_ALL, weights="hub", image_sizes=(224,))
_RESNET = replace(_AT_224, backbone="resnet50.tv_in1k", batch_size=16)
_DENSENET = replace(_AT_224, backbone="densenet169.tv_in1k")

EXPERIMENTS: dict[int, BackboneConfig] = {
    1: replace(_ON_LOSS, hidden=(2048, 2048)),
    2: _ON_LOSS,
    3: _ON_F1,
    4: replace(_ON_F1, image_sizes=(450,), batch_size=24),
    5: replace(_RESNET, augment="both"),
    6: _DENSENET,
    7: replace(_DENSENET, augment="both"),
    8: replace(_ON_F1, hidden=(4096, 4096, 4096)),
    9: replace(_ON_F1, batch_size=48, loss="f1*bce"),
    10: replace(_ON_F1, batch_size=48, loss="f1+bce"),
}
"""By number in Table 4; `core.runs.paper` has what each reached there."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What an experiment's settings are changed to.

    Attributes:
        title: what that means, for the head of the table.
        use_folds: folds of train that are learnt from; 0 for all.
        sizes: input size by the paper's, in pixels.
        width: what the widths of the fully connected layers are divided by.
        batch: what the images of a step are divided by, 8 being the fewest.
        learning_rate: None for the paper's.
        epochs: at most; None for the paper's.
        weights: by network, what it starts from; None for the preset's.
    """

    title: str
    use_folds: int = 0
    sizes: dict[int, int] = field(default_factory=dict)
    width: int = 1
    batch: int = 1
    learning_rate: float | None = None
    epochs: int | None = None
    weights: dict[str, str] = field(default_factory=dict)

    def of(self, config: BackboneConfig) -> BackboneConfig:
        """An experiment's settings at this scale."""
        (size,) = config.image_sizes
        epochs = config.epochs if self.epochs is None else self.epochs
        return replace(
            config,
            use_folds=self.use_folds,
            image_sizes=(self.sizes.get(size, size),),
            hidden=tuple(units // self.width for units in config.hidden),
            batch_size=max(config.batch_size // self.batch, min(config.batch_size, _FEWEST)),
            learning_rate=self.learning_rate or config.learning_rate,
            epochs=epochs,
            weights=self.weights.get(architecture(config.backbone), config.weights),
        )


_FEWEST = 8
"""Images of a step: batch normalisation of fewer is all noise."""


def architecture(backbone: str) -> str:
    """A network's name without the tag of its weights.

    >>> architecture("resnet50.tv_in1k")
    'resnet50'
    """
    return backbone.partition(".")[0]


SCALES = {
    "full": Scale(title="the paper's own settings"),
    # A minute for a pair: whether every part works, not what it reaches.
    "tiny": Scale(
        title="a tenth of train, pictures of 32 pixels, fully connected layers of a 64th of the"
        " width, random weights, 2 epochs: a trial of the machinery, no result",
        use_folds=1,
        sizes={227: 32, 224: 32, 450: 64},
        width=64,
        learning_rate=1e-3,
        epochs=2,
        weights={"vgg16": "none", "resnet50": "none", "densenet169": "none"},
    ),
    # Two cores, 5,454 images: under two hours. The paper takes 50 times as many steps, so the rate
    # is higher and batches are smaller: decided at 0.5, fewer steps leave most concepts undecided.
    "small": Scale(
        title="a fifth of train, pictures of 32 pixels (64 where the paper has 450), a quarter of"
        " the width of the fully connected layers, a quarter of the batch, learning rate 3e-4, 5"
        " epochs; ResNet50 and DenseNet169 from random weights, for no package carries theirs",
        use_folds=2,
        sizes={227: 32, 224: 32, 450: 64},
        width=4,
        batch=4,
        learning_rate=3e-4,
        epochs=5,
        weights={"resnet50": "none", "densenet169": "none"},
    ),
}
"""By name of `--scale`."""
