"""Settings of the fusion stage."""

from dataclasses import dataclass

from backbones.fit_config import FitConfig
from core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class FuseConfig(FitConfig):
    """What decides the fused predictions; the inherited fields are of the shallow network.

    Attributes:
        strategies: names of `fusion.strategies.STRATEGIES`, in the order they are made.
        embeddings: folders in the workspace's embeddings to join; empty for those of the newest
            detector.
        k: neighbours in retrieval.
        temperature: of the neighbours' cosine similarity.
    """

    strategies: tuple[str, ...] = ("one-hot", "retrieval", "routed", "prior")
    embeddings: tuple[str, ...] = ()
    k: int = 25
    temperature: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 1:
            raise ConfigError(f"k: expected at least 1, found {self.k}")
        if not self.temperature > 0:
            raise ConfigError(f"temperature: expected above 0, found {self.temperature}")
        if not self.strategies:
            raise ConfigError("strategies: expected at least one")


PRESETS: dict[str, FuseConfig] = {
    # Two cores, 5,454 images: 48 s on features that are there already.
    "quick": FuseConfig(),
}
