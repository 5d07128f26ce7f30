"""Which of the tensors in a checkpoint are the network's: running means first, optimisers never.

Trainers nest them under keys of their own: timm's train script under `state_dict` and
`state_dict_ema`, DINO's under `teacher` and `student`, MMEngine's and Lightning's under
`state_dict`; others save the whole module, whose code is not needed to find its tensors.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from backbones.networks.pickled import TensorRecord, UnmadeObject, printable


@dataclass(frozen=True)
class CheckpointPart:
    """Named tensors of a checkpoint.

    Attributes:
        key: where they lie in it, keys joined by dots; "" for the whole.
        tensors: by name.
        note: what there is to know of them.
        arch: the network's name, where the checkpoint says.
    """

    key: str
    tensors: Mapping[str, TensorRecord]
    note: str = ""
    arch: str = ""


def chosen_part(checkpoint: object) -> CheckpointPart | None:
    """The named tensors that are a network's; None where there are none.

    A running mean is chosen before the weights that it is of, unless it lacks some of them.

    Raises:
        ValueError: there are several sets of tensors of which none has a known name.
    """
    found = _chosen(checkpoint, ())
    told = _items(checkpoint).get("arch")
    if found is None or not isinstance(told, str) or not told.isprintable():
        return found
    return replace(found, arch=told[:60])


_DEEPEST = 3
"""Keys are nested within keys so often at most."""


def _chosen(value: object, path: tuple[str, ...]) -> CheckpointPart | None:
    key = ".".join(path)
    if isinstance(value, UnmadeObject) and (module := _of_module(value)):
        return CheckpointPart(key, module, note="a whole module, whose code is not run")
    items = _items(value)
    if len(path) < _DEEPEST:
        mean = _first(items, _MEANS, path=path)
        plain = _first(items, _WEIGHTS, path=path)
        if mean is not None and plain is not None:
            if _swapped(items):
                return replace(plain, note="its running mean, as MMEngine keeps it")
            if len(mean.tensors) < len(plain.tensors):
                lacking = f"its running mean, {mean.key}, lacks some of them and is left"
                return replace(plain, note=lacking)
        if mean is not None:
            return replace(mean, note="its running mean")
        if plain is not None:
            is_mean = plain.key.endswith("teacher") and "student" in items
            return replace(plain, note="the running mean of `student`") if is_mean else plain
    named = {name: t for name, t in items.items() if isinstance(t, TensorRecord)}
    if named:
        return CheckpointPart(key, named)
    return None if path else _only_one(items)


def _only_one(items: Mapping[str, object]) -> CheckpointPart | None:
    """The part under a key that is not known, where there is but one."""
    names = [n for n in items if not any(word in n.lower() for word in _OF_TRAINING)]
    found = [part for name in names if (part := _first(items, (name,), path=()))]
    if len(found) > 1:
        keys = ", ".join(printable(part.key) for part in found[:5])
        raise ValueError(
            f"holds {len(found)} sets of tensors ({keys}); expected one, or one that is called"
            " state_dict or model"
        )
    return found[0] if found else None


def _first(
    items: Mapping[str, object], keys: Iterable[str], *, path: tuple[str, ...]
) -> CheckpointPart | None:
    for key in keys:
        if key in items and (found := _chosen(items[key], (*path, key))):
            return found
    return None


def _items(value: object) -> dict[str, object]:
    """What a dict, or an object like one, has under keys that are text."""
    items = value.items if isinstance(value, UnmadeObject) else value
    if not isinstance(items, dict):
        return {}
    return {key: item for key, item in items.items() if isinstance(key, str)}


def _swapped(items: Mapping[str, object]) -> bool:
    """Whether the running mean lies under `state_dict`: MMEngine swaps both when it saves."""
    return "ema_state_dict" in items and "mmengine_version" in _items(items.get("meta"))


def _of_module(module: UnmadeObject) -> dict[str, TensorRecord]:
    """Tensors of a module that was saved whole, by the names that its state dict has."""
    named: dict[str, TensorRecord] = {}
    waiting: list[tuple[str, UnmadeObject]] = [("", module)]
    n_seen = 0
    while waiting:
        prefix, layer = waiting.pop(0)
        n_seen += 1
        if n_seen > _MOST_LAYERS or prefix.count(".") > _MOST_NESTED:  # or a module within itself
            raise ValueError("holds a module of more layers than any network has")
        state = _items(layer.state[0] if isinstance(layer.state, tuple) else layer.state)
        groups = [state] if layer.name.startswith("__torch__.") else []  # TorchScript
        groups += [_items(state.get(name)) for name in ("_parameters", "_buffers", "_modules")]
        for name, value in (item for group in groups for item in group.items()):
            if isinstance(value, TensorRecord):
                named[f"{prefix}{name}"] = value
            elif isinstance(value, UnmadeObject) and value.state is not None:
                waiting.append((f"{prefix}{name}.", value))
    return named


_MOST_LAYERS, _MOST_NESTED = 100_000, 40

_MEANS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "model_state_dict_ema", "ema_model"),
    *("ema", "params_ema"),
)
_WEIGHTS = (
    *("teacher", "state_dict", "model_state_dict", "model", "model_state", "net", "network"),
    *("module", "backbone", "encoder", "visual", "params", "weights", "student"),
)
"""Keys of the network's tensors, those to be preferred first."""

_OF_TRAINING = ("optim", "sched", "scaler", "args", "loop", "callback", "rng", "hyper", "loss")
