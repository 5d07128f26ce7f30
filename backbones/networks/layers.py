"""How far each layer of a network lies from the head."""

from types import SimpleNamespace

from timm.models import group_parameters
from torch import nn

from core.errors import ConfigError


def head_distances(network: nn.Module, *, coarse: bool) -> dict[str, int]:
    """How many groups of layers each parameter lies from the head.

    0 for what timm counts to the classifier (in some networks the last norm or a layer after
    pooling), 1 for the last group before it. Normalisation that is a group of its own, as in a VGG,
    joins the layer before it.

    Args:
        network: of timm, without its classifier.
        coarse: groups are stages; else blocks.

    Returns:
        The distance of each name of `network.named_parameters()`.

    Raises:
        ConfigError: timm does not know the network's groups.
    """
    groups = _groups(network, coarse=coarse)
    return {name: i for i, names in enumerate(reversed(groups)) for name in names}


def _groups(network: nn.Module, *, coarse: bool) -> list[list[str]]:
    """Names of the parameters of each group, the one with the classifier last."""
    own = dict(network.named_parameters())
    classifier = _classifier(network)
    # The classifier takes part in the grouping, so that what timm counts to it can be told apart.
    names_only = SimpleNamespace(named_parameters={**own, classifier: None}.items)
    groups: list[list[str]] = []
    after: list[str] = []
    for names in _timm_groups(names_only, network, coarse=coarse):
        if classifier in names:
            after = [name for name in names if name in own]
        elif groups and all(own[name].ndim <= 1 for name in names):
            groups[-1] += names
        else:
            groups.append(names)
    if len(groups) < 2:
        raise _unknown(network)
    return [*groups, after]


def _timm_groups(
    names_only: SimpleNamespace, network: nn.Module, *, coarse: bool
) -> list[list[str]]:
    matcher = getattr(network, "group_matcher", None)
    if matcher is None:
        raise _unknown(network)
    try:
        return list(group_parameters(names_only, matcher(coarse=coarse)).values())
    except AssertionError:  # timm's way to say that it has no stages for this network
        raise _unknown(network) from None


def _classifier(network: nn.Module) -> str:
    """Name of the weights that the network was built without."""
    settings = getattr(network, "pretrained_cfg", {})
    name = settings.get("classifier") or "head"
    return f"{name if isinstance(name, str) else name[0]}.weight"


def _unknown(network: nn.Module) -> ConfigError:
    return ConfigError(
        f"backbone: timm does not know the stages of a {type(network).__name__}; use the regime"
        " full with layer_decay 1, or another network"
    )
