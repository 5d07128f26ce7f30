"""How large the paper's experiments are run: as they were, or small enough for two cores."""

from dataclasses import dataclass, field, replace

from backbones.settings.config import BackboneConfig


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
