"""A network's parameters by blocks, where its library has no names for them."""

from torch import nn

from backbones.encoders.encoder import unknown_layers


def block_groups(
    network: nn.Module, *, coarse: bool, behind: tuple[str, ...] = ()
) -> list[list[str]]:
    """Names of parameters by groups: what lies before the blocks, each block, what lies behind.

    The blocks are the list of layers that holds most of the network. Where one of them is a stage,
    most of which is a list of layers that have layers themselves, those are its blocks, and what it
    has beside them belongs to the block before, or to its first.

    Args:
        network: any.
        coarse: groups are stages; else blocks.
        behind: parameters that lie behind the blocks, though the network names them first.

    Raises:
        ConfigError: it has no list of at least two layers.
    """
    prefix, stages = _main_list(network)
    names = [name for name, _ in network.named_parameters()]
    inside = [name for name in names if name.startswith(prefix)]
    if not inside:
        raise unknown_layers(network)
    first = names.index(inside[0])
    before = [n for n in names[:first] if n not in behind]
    after = [n for n in names[first:] if not n.startswith(prefix) and n not in behind]
    after += [name for name in names if name in behind]
    blocks: list[list[str]] = []
    for number, stage in stages.named_children():
        start = f"{prefix}{number}."
        own = [name for name in inside if name.startswith(start)]
        blocks += [own] if coarse else _within(stage, own, start=start)
    return [*filter(None, [before, *blocks]), after]


def _main_list(network: nn.Module) -> tuple[str, nn.Module]:
    """The list of layers with the most parameters, the outermost of equals, and its prefix."""
    lists = [
        (name, module)
        for name, module in network.named_modules()
        if name
        and isinstance(module, nn.ModuleList | nn.Sequential)
        and sum(_n_numbers(child) > 0 for child in module.children()) > 1
    ]
    if not lists:
        raise unknown_layers(network)
    name, found = max(lists, key=lambda pair: _n_numbers(pair[1]))
    return f"{name}.", found


def _within(stage: nn.Module, names: list[str], *, start: str) -> list[list[str]]:
    """A stage's parameters by its blocks; in one group where it is a block itself."""
    lists = [
        (name, layers)
        for name, layers in stage.named_children()
        if isinstance(layers, nn.ModuleList | nn.Sequential)
        and 2 * _n_numbers(layers) > _n_numbers(stage)
        and all(list(block.children()) for block in layers.children() if _n_numbers(block))
    ]
    if not lists:
        return [names]
    [(name, layers)] = lists
    blocks: list[list[str]] = [[] for _ in layers.children()]
    prefixes = [f"{start}{name}.{number}." for number, _ in layers.named_children()]
    at = 0
    for parameter in names:
        own = [i for i, prefix in enumerate(prefixes) if parameter.startswith(prefix)]
        at = own[0] if own else at
        blocks[at].append(parameter)
    return blocks


def _n_numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
