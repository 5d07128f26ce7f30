"""Settings of the fusion stage."""

from dataclasses import dataclass

from core.errors import ConfigError
from training.config import FitConfig


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
    guess_share: float = 0.1
    metadata_dropout: float = 0.1
    k: tuple[int, ...] = (10, 25, 50, 100)
    temperature: tuple[float, ...] = (0.02, 0.05, 0.1)
    approximate_from: int = 1_000_000
    support: tuple[int, ...] = (0, 2, 5, 10, 20, 50)
    constant_from: int = 50
    end_to_end: str = "finetune"
    end_to_end_epochs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("k", "temperature", "support", "strategies"):
            if not getattr(self, name):
                raise ConfigError(f"{name}: expected at least one")
        if min(self.k) < 1:
            raise ConfigError(f"k: expected at least 1, found {min(self.k)}")
        if not min(self.temperature) > 0:
            raise ConfigError(f"temperature: expected above 0, found {min(self.temperature)}")
        for name in ("guess_share", "metadata_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected [0, 1), found {getattr(self, name)}")
        if min(self.support) < 0:
            raise ConfigError(f"support: expected 0 or more, found {min(self.support)}")
        if self.approximate_from < 1:
            raise ConfigError(
                f"approximate_from: expected at least 1, found {self.approximate_from}"
            )
        if self.end_to_end_epochs < 0:
            raise ConfigError(
                f"end_to_end_epochs: expected 0 or more, found {self.end_to_end_epochs}"
            )
        if self.constant_from < 1:
            raise ConfigError(f"constant_from: expected at least 1, found {self.constant_from}")


PRESETS: dict[str, FuseConfig] = {
    # Larger batches and fewer epochs than a detector's heads have: as good, in half the time. One
    # thread, 5,454 images, 2,560 features: 50 s for five networks, 10 s for retrieval.
    "quick": FuseConfig(batch_size=128, learning_rate=1.5e-3, epochs=20),
}
