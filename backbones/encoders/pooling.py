"""From a network's last layer to the features of an image."""

from typing import Literal

import torch
from torch import Tensor, nn

from backbones.encoders.encoder import LastMap
from core.errors import ConfigError

Pooling = Literal["own", "mean", "cls", "cls+mean", "gem", "none"]

Given = Pooling | Literal["places"]
"""What a head is given: features, or the places themselves where it asks them."""


class GeneralisedMean(nn.Module):
    """The generalised mean over all places, its exponent learnt.

        f_d = (1/P sum_p max(x_dp, 1e-6)^e)^(1/e)

    An exponent of 1 is the mean, an infinite one the maximum; it starts at 3. Numbers below 1e-6
    count as 1e-6: it is made for networks that end in a rectifier.

    Source: Radenovic, Tolias and Chum, Fine-tuning CNN Image Retrieval with No Human Annotation,
    2018, equation 3.
    """

    def __init__(self, exponent: float = 3.0) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(exponent))

    def forward(self, places: Tensor) -> Tensor:
        """(B, D) of (B, D, P)."""
        with torch.autocast(places.device.type, enabled=False):  # powers of bf16 are rough
            powers = places.float().clamp_min(1e-6).pow(self.exponent)
            pooled: Tensor = powers.mean(dim=2).pow(1 / self.exponent)
        return pooled


def pooled(found: LastMap, pooling: Given, *, mean: GeneralisedMean | None) -> Tensor:
    """(B, D) features; with `cls+mean` twice as many, with `none` those of all places.

    With `places` (B, D, P), the places as they are.

    Args:
        found: what the last layer says.
        pooling: any but `own`.
        mean: of the pooling `gem`.

    Raises:
        ConfigError: a class token is asked for, and there is none.
    """
    if pooling == "places":
        return found.places
    if pooling == "none":
        return found.places.flatten(1)
    if pooling == "gem":
        assert mean is not None
        generalised: Tensor = mean(found.places)
        return generalised
    if pooling == "mean":
        return found.places.mean(dim=2)
    if found.token is None:
        raise ConfigError(
            f"pooling {pooling}: this network has no class token; use own, mean or gem"
        )
    if pooling == "cls":
        return found.token
    return torch.cat((found.token, found.places.mean(dim=2)), dim=1)
