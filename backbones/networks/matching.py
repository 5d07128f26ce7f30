"""Tensors of a file under the names of a network: what fits, what is left over, what is missing.

Wrappers put names before a network's own (`module.`, `_orig_mod.`, `model.`, `visual.trunk.`); the
one under which most tensors fit is found by counting. Where timm knows how to read a published
layout (its `checkpoint_filter_fn`), that is tried too, and resamples embeddings of positions; where
transformers names tensors in its files otherwise than in its networks, its own loading is.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial as partially
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from backbones.networks.carriers import Tensors
from backbones.networks.checkpoint_files import WeightsFile
from backbones.networks.pickled import printable
from core.errors import ConfigError


@dataclass(frozen=True)
class Taken:
    """Tensors of a file that fit a network.

    Attributes:
        tensors: by the network's names, in its shapes.
        line: what was taken, left over and missing, as one line.
        doubtful: whether more was left over than a classifier, or something is missing.
    """

    tensors: Tensors
    line: str
    doubtful: bool = False


def fitted_tensors(file: WeightsFile, network: nn.Module, *, name: str, partial: bool) -> Taken:
    """The tensors of a file that are a network's, by the network's names.

    Args:
        file: where they come from.
        network: without a classifier; is not changed.
        name: the network's, for messages.
        partial: whether some of its tensors may be missing.

    Raises:
        ConfigError: tensors of the network are missing from the file or of another shape there,
            though not all are expected to be; or none fits; or some are not finite.
    """
    own: Tensors = network.state_dict()
    needed = _needed(network, own=own)
    fit = _best(_fits(file.tensors, network, own=own), needed=needed)
    _share(fit.taken, network)
    lacking = [n for n in needed if n not in fit.taken]
    n_all = len({*needed, *fit.taken})
    if lacking and (not partial or len(lacking) == len(needed)):
        raise ConfigError(
            f"weights: {file.path} does not fit {name}: {len(lacking)} of its {n_all} tensors are"
            f" missing or of another shape{_said(file)}, {_first(lacking, fit=fit, own=own)}"
            f"{_unmade(file, ', and ')};"
            f" {_advice(file, name=name, any_fits=len(lacking) < len(needed))}"
        )
    parameters = dict(network.named_parameters())
    floating = {n: t for n, t in fit.taken.items() if t.is_floating_point()}
    if unsound := [  # a mask may hold infinities
        name
        for name, tensor in floating.items()
        if not (tensor.isfinite().all() if name in parameters else not tensor.isnan().any())
    ]:
        raise ConfigError(
            f"weights: {file.path}: {len(unsound)} of its tensors hold numbers that are not finite,"
            f" first {unsound[0]!r}; the file is damaged, or its training failed"
        )
    trunk = _of_trunk(fit.left, own=own)
    parts = [f"{len(fit.taken)} of {n_all} tensors of {name} taken"]
    if lacking:
        parts.append(f"{len(lacking)} STAY RANDOM, {_first(lacking, fit=fit, own=own)}")
    if trunk:
        parts.append(
            f"BUT {len(trunk)} OF THE FILE'S NETWORK ARE UNUSED, first {printable(trunk[0])}: it is"
            f" of a deeper or another network{_arch(file)}"
        )
    if rest := [n for n in fit.left if n not in trunk]:
        parts.append(f"{len(rest)} left over ({_some(rest)})")
    where = "; ".join(filter(None, (_part(file), fit.how)))
    line = f"weights: {file.path.name}{where and f' ({where})'}: {', '.join(parts)}"
    line += _unmade(file, ", ")
    return Taken(fit.taken, line, doubtful=bool(lacking or trunk))


@dataclass(frozen=True)
class _Fit:
    """One way to read a file's names.

    Attributes:
        taken: what fits, by the network's names.
        misshapen: shapes in the file of what has the right name.
        left: names of what does not fit, without what stands before all names.
        how: the way, in words.
    """

    taken: Tensors
    misshapen: Mapping[str, tuple[int, ...]]
    left: list[str]
    how: str


def _fits(tensors: Tensors, network: nn.Module, *, own: Tensors) -> Iterator[_Fit]:
    """The ways to read the file: as its names are, then as the network's library reads it."""
    before = Counter[str]()
    for name in tensors:
        words = name.split(".")
        ends = (".".join(words[at:]) for at in range(len(words)))
        before.update(name.removesuffix(end) for end in ends if end in own)
    most = max(before.values(), default=0)
    likely = [p for p in before if 2 * before[p] >= most]
    # Of equally many, a running mean's names come first: DINO's teacher, MoCo's momentum encoder.
    likely.sort(key=lambda p: (-before[p], not _MEAN.search(p), len(p)))
    for prefix in likely[:_MOST_READINGS] or [""]:
        under = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        others = [n for n in tensors if not n.startswith(prefix)]
        how = prefix and f"names after {prefix!r}"
        twins = [p for p in likely if p != prefix and before[p] == before[prefix] == most]
        if prefix and twins and not any(p.startswith(prefix) for p in twins):
            how += f", as many are after {twins[0]!r}"
        yield _compared(under, own=own, others=others, how=how)
    yield from _fits_inside(tensors, own=own)
    for filtered, how in _filtered(tensors, network):
        yield _compared(filtered, own=own, others=(), how=how)


_MOST_READINGS = 8
_MEAN = re.compile(r"(^|[._])(ema|teacher|momentum|target)([._]|$)")


def _fits_inside(tensors: Tensors, *, own: Tensors) -> Iterator[_Fit]:
    """A file of what the network has within: its names lack what stands before all of its own."""
    for prefix in _common(own):
        if prefix:
            within = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
            yield _compared(within, own=own, others=(), how=f"put under {prefix!r}")


def _filtered(tensors: Tensors, network: nn.Module) -> Iterator[tuple[Tensors, str]]:
    """The tensors as the library reads them for the network, for each prefix in question."""
    filters = _filters_of(network)
    library = type(network).__module__.partition(".")[0]
    library = library if library == "transformers" else "timm"
    for prefix in _common(tensors) if filters else ():
        under = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        for read in filters:
            try:
                filtered = read(dict(under))
            except _NOT_THEIRS:
                continue
            how = f"as {library} reads them" + (prefix and f" after {prefix!r}")
            n_less = len(tensors) - len(filtered)
            yield filtered, how + (f", without {n_less} others" if n_less > 0 else "")


_NOT_THEIRS = (
    *(LookupError, ValueError, RuntimeError, TypeError, AttributeError, AssertionError),
    ImportError,  # of settings that ask for a package that quantises
)
"""What the libraries' readings raise at tensors of a layout that is not one they know."""


def _common(tensors: Iterable[str]) -> list[str]:
    """What stands before many of the names, the longest last; "" among them."""
    before = Counter[str]()
    for name in tensors:
        words = name.split(".")[:-1]
        before.update("".join(f"{word}." for word in words[:n]) for n in range(len(words) + 1))
    most = before[""]
    return sorted((p for p in before if 5 * before[p] >= most), key=len)[:_MOST_READINGS]


def _filters_of(network: nn.Module) -> list[Callable[[Tensors], Tensors]]:
    """How timm or transformers read files of this network; none for networks of others."""
    if type(network).__module__.startswith("transformers."):
        return [partially(_loaded_by_transformers, network)]
    known = getattr(network, "pretrained_cfg", None) or {}
    architecture = known.get("architecture") if isinstance(known, dict) else None
    modules = [type(network).__module__]
    if architecture:
        import timm

        if timm.is_model(architecture):
            modules.insert(0, timm.models.model_entrypoint(architecture).__module__)
    for module in modules:
        for name in _FILTERS if module.startswith("timm.") else ():
            read = getattr(sys.modules[module], name, None)
            if read is not None:
                return [*_as_called(read, network)]
    return []


_FILTERS = (
    *("checkpoint_filter_fn", "checkpoint_filter_fn_encoder", "_filter_fn"),
    "_filter_torchvision_pretrained",
)


def _as_called(
    read: Callable[..., Tensors], network: nn.Module
) -> Iterator[Callable[[Tensors], Tensors]]:
    """A reading with the arguments timm gives it: DeiT III's layer scales have other names."""
    takes = signature(read).parameters
    if len(takes) == 1:
        yield read
        return
    yield lambda tensors: read(tensors, network)
    if "adapt_layer_scale" in takes:
        scaled = partially(read, adapt_layer_scale=True)
        yield lambda tensors: scaled(tensors, network)


def _loaded_by_transformers(network: Any, tensors: Tensors) -> Tensors:
    """A file's tensors as a second network of the kind has them once transformers has loaded them.

    Those of another shape and those that it has no place for are kept as they are.
    """
    loaded, report = type(network).from_pretrained(
        None,
        config=network.config,
        state_dict=tensors,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    found: Tensors = loaded.state_dict()
    for name in report["missing_keys"]:
        found.pop(name, None)
    for name, shape, _ in report["mismatched_keys"]:
        found[name] = torch.empty(shape, device="meta")
    for name in sorted(report["unexpected_keys"]):  # a set
        found[name] = tensors.get(name, torch.empty(0))
    return found


def _compared(tensors: Tensors, *, own: Tensors, others: Iterable[str], how: str) -> _Fit:
    taken: Tensors = {}
    misshapen = {}
    for name, value in own.items():
        found = tensors.get(name)
        if isinstance(found, Tensor):
            if found.shape == value.shape and _same_kind(found, value):
                taken[name] = found
            else:
                misshapen[name] = tuple(found.shape)
    left = [n for n in tensors if n not in taken and n not in own]
    return _Fit(taken, misshapen, [*left, *others], how)


def _same_kind(found: Tensor, own: Tensor) -> bool:
    return found.is_floating_point() or not own.is_floating_point()


def _best(fits: Iterator[_Fit], *, needed: Iterable[str]) -> _Fit:
    """The first by which all fits that is needed, else the one by which most does."""
    best: _Fit | None = None
    for fit in fits:
        if all(name in fit.taken for name in needed):
            return fit
        if best is None or len(fit.taken) > len(best.taken):
            best = fit
    assert best is not None  # names as they are is one way
    return best


def _share(taken: Tensors, network: nn.Module) -> None:
    """Give a parameter of several names to all of them; safetensors keeps one."""
    by_parameter: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        by_parameter.setdefault(id(parameter), []).append(name)
    for names in by_parameter.values():
        known = [name for name in names if name in taken]
        if known:
            taken.update({name: taken[known[0]] for name in names if name not in taken})


def _needed(network: nn.Module, *, own: Tensors) -> list[str]:
    """Names of the network's tensors that only a file can give.

    Counters of batches, positions' indices and masks follow from the network itself, and old files
    lack them.
    """
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    return [
        name
        for name, value in own.items()
        if name in parameters
        or (value.is_floating_point() and name.rpartition(".")[2] not in _FOLLOWING)
    ]


_FOLLOWING = {
    *("attn_mask", "relative_coords_table", "attention_biases_idxs", "inv_freq", "freqs", "mask"),
    *("relative_position_index", "position_ids", "mean", "std", "pos_embed_grid", "bands"),
}
"""Buffers that follow from the network's settings."""


def _of_trunk(left: Iterable[str], *, own: Tensors) -> list[str]:
    """Those left over that look like further layers of the network."""
    layers = {name.partition(".")[0] for name in own if "." in name}
    layers = {layer for layer in layers if not _CLASSIFIER.fullmatch(layer)}
    return [
        name
        for name in left
        if name.partition(".")[0] in layers and name.rpartition(".")[2] not in _FOLLOWING
    ]


_CLASSIFIER = re.compile(r"fc\d?|classifier|heads?\w*|logits|last_linear|pre_logits|aux\w*")
"""Names of a network's own layers that a detector has no use for."""


def _first(lacking: list[str], *, fit: _Fit, own: Tensors) -> str:
    """The first of the network's tensors that is lacking, and why."""
    name = next((n for n in lacking if n in fit.misshapen), lacking[0])
    if name not in fit.misshapen:
        return f"first {name!r}"
    theirs, ours = _shape(fit.misshapen[name]), _shape(own[name].shape)
    return (
        f"first {name!r}, {theirs} for {ours}" if theirs != ours else f"first {name!r}, quantised"
    )


def _shape(lengths: Iterable[int]) -> str:
    return " x ".join(map(str, lengths)) or "a single number"


def _advice(file: WeightsFile, *, name: str, any_fits: bool) -> str:
    if any_fits:
        return (
            f"give a file of {name}, the --backbone that the file is of, or --set"
            " partial_weights=true to leave them random"
        )
    found = _some([*file.tensors])
    return f"none fits; it holds {len(file.tensors)} tensors ({found}): give a file of {name}"


def _unmade(file: WeightsFile, joint: str) -> str:
    n = len(file.passed_over)
    if n == 0:
        return ""
    kinds = _some([*dict.fromkeys(file.passed_over)])
    return f"{joint}{n} object{'s'[: n > 1]} passed over, not made ({kinds})"


def _said(file: WeightsFile) -> str:
    return f" (the file says it is of {file.arch})" if file.arch else ""


def _arch(file: WeightsFile) -> str:
    return f", {file.arch} by its own words" if file.arch else ""


def _part(file: WeightsFile) -> str:
    return ", ".join(filter(None, (printable(file.part), file.note)))


def _some(names: list[str]) -> str:
    return ", ".join(map(printable, names[:3])) + (", ..." if len(names) > 3 else "")
