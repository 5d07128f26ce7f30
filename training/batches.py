"""What is learnt from, and batches of it: whole, shared among processes, and in parts.

Batches are prepared ahead by a thread, or come out of tensors that lie on the device.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array, vstack
from torch import Tensor

from training.config import FitConfig
from training.devices.compute import Compute, Inputs
from training.predict import Batches, Rows
from training.texts.teacher import Teacher, counted, lessons_of

Mask = npt.NDArray[np.bool_]

Bounds = list[tuple[int, int]]
"""Where the batches of an epoch start and end in its order of images."""

Augment = Callable[[Inputs, Rows, int], Inputs]
"""Inputs on the device, the rows they are of and the epoch, into other inputs of the same shape."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Images to learn from.

    Attributes:
        batches: inputs of the model, by row, as they are.
        targets: (n, L) boolean, CSR: the true concepts; made dense a batch at a time.
        rows: (n,) rows of the images in the inputs.
        augment: what training inputs undergo.
        kinds: (n,) category of each image, for scores by category; empty for none.
        n_at_once: images at once where nothing is learnt.
        teacher: texts that teach beside the targets; None for none.
    """

    batches: Batches
    targets: csr_array
    rows: Rows
    augment: Augment | None = None
    kinds: tuple[str, ...] = ()
    n_at_once: int = 256
    teacher: Teacher | None = None


def with_mirrors(examples: Examples, stop: Mask, *, n_inputs: int) -> tuple[Examples, Mask]:
    """The examples with the mirror of each that is learnt from, and which of them stop.

    An epoch is then twice as long. Those that stop are seen as they are.

    Args:
        examples: n images.
        stop: (n,) which of them choose the epoch.
        n_inputs: rows of the inputs; row n_inputs + i is the mirror of row i.
    """
    learnt = np.flatnonzero(~stop)
    kinds = tuple(examples.kinds[row] for row in learnt) if examples.kinds else ()
    doubled = replace(
        examples,
        targets=csr_array(vstack([examples.targets, examples.targets[learnt]], format="csr")),
        rows=np.concatenate([examples.rows, examples.rows[learnt] + n_inputs]),
        kinds=examples.kinds + kinds,
        teacher=examples.teacher and examples.teacher.with_repeated(learnt),
    )
    return doubled, np.concatenate([stop, np.zeros(len(learnt), dtype=np.bool_)])


def epoch_order(
    rows: Rows, *, seed: int, epoch: int, weights: npt.NDArray[np.float64] | None = None
) -> Rows:
    """The rows that an epoch goes through, in its own order: all once, or drawn by weight.

    It depends on seed and epoch alone, so that a training can go on in the middle of it.

    Args:
        rows: (n,) to choose from.
        seed: of the network.
        epoch: counted from 1.
        weights: (n,) how often each is drawn, as shares of 1; n are, with replacement. None for all
            rows once.
    """
    rng = np.random.default_rng((seed, epoch))
    if weights is None:
        return rng.permutation(rows)
    return rng.choice(rows, len(rows), p=weights)


def rarity(targets: csr_array) -> npt.NDArray[np.float64]:
    """(n,) shares of 1 by which images are drawn, those with rare concepts more often.

    An image weighs 1 / sqrt(f), f the share of the images that have its rarest concept. No concept
    counts as rarer than one image in a thousand, and an image without any weighs as if it had one
    that all have: so none weighs more than 32 times another. Without root and floor an image with a
    concept of its own would be shown hundreds of times an epoch.

    Sources: the root and the rarest concept are those of Mahajan et al., Exploring the Limits of
        Weakly Supervised Pretraining, ECCV 2018, and of LVIS (Gupta et al., CVPR 2019); the floor
        is ours. The fourth place of 2026 draws by weights as well, and does not publish its rule.

    Args:
        targets: (n, L) boolean, CSR: concepts of the images that are learnt from.
    """
    n = targets.shape[0]
    counts = np.asarray(targets.sum(axis=0), dtype=np.float64)
    shares = np.maximum(counts / n, _RAREST)
    of_entry = 1 / np.sqrt(shares[targets.indices])
    weights = np.ones(n)
    np.maximum.at(weights, np.repeat(np.arange(n), np.diff(targets.indptr)), of_entry)
    shares_of_draws: npt.NDArray[np.float64] = weights / weights.sum()
    return shares_of_draws


_RAREST = 1e-3


def batch_bounds(n_images: int, *, size: int) -> Bounds:
    """Where the batches of an epoch start and end; the last may be smaller.

    A single image left over joins the batch before: batch normalisation has no deviation of one.
    """
    bounds = [*range(0, n_images, size), n_images]
    if len(bounds) > 2 and size > 1 and bounds[-1] - bounds[-2] == 1:
        del bounds[-2]
    return list(pairwise(bounds))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A step's images.

    Attributes:
        chosen: (B,) the images of all processes, by number among the examples.
        partners: (B,) those they are mixed with; None without mixup.
        share: how much of a mixed image is itself.
        inputs: of this process' part, on the processor.
        others: the same of the partners.
        points: (n, d) of all examples, that their texts teach; None without a teacher.
    """

    chosen: Rows
    partners: Rows | None
    share: float
    inputs: Inputs
    others: Inputs
    points: Tensor | None = None


def run_of(tensor: Tensor, places: Rows, *, axis: int) -> Tensor:
    """The part of a tensor at places that follow each other: a view and no copy."""
    return tensor.narrow(axis, int(places[0]), len(places))


def split_batch(n_images: int, *, n_processes: int, micro_batch: int) -> list[list[Rows]]:
    """Which images of a batch are taken at once, and by which process.

    Args:
        n_images: in the batch of all processes.
        n_processes: among which it is shared, a run of images each.
        micro_batch: images at once in a process; 0 for all.

    Returns:
        For each part, by process, places in the batch. Every process has as many parts, so that
        they meet at each of them.
    """
    shares = np.array_split(np.arange(n_images), n_processes)
    most, least = len(shares[0]), len(shares[-1])
    n_parts = min(-(-most // micro_batch) if micro_batch else 1, least)
    split = [np.array_split(share, n_parts) for share in shares]
    return [[parts[number] for parts in split] for number in range(n_parts)]


def mixing_share(alpha: float, *, seed: int, epoch: int, number: int) -> float:
    """How much of a mixed image is itself, in batch `number` of an epoch; Beta(alpha, alpha)."""
    return float(np.random.default_rng((seed, epoch, number)).beta(alpha, alpha))


def mixed(x: Tensor, z: Tensor, *, share: float | Tensor) -> Tensor:
    """Inputs or targets, mixed with those of their partners."""
    return share * x.float() + (1 - share) * z


def prepared_truth(truth: Tensor, smoothing: float, *, n_targets: int) -> Tensor:
    """The targets of a whole batch, smoothed, and what lessons lie behind them, counted."""
    if truth.shape[-1] == n_targets:
        return smoothed(truth, smoothing)
    targets, lessons = truth[..., :n_targets], truth[..., n_targets:]
    return torch.cat([smoothed(targets, smoothing), counted(lessons)], dim=-1)


def smoothed(targets: Tensor, smoothing: float) -> Tensor:
    """Targets of which the absent concepts have this value."""
    return targets + (1 - targets) * smoothing if smoothing else targets


class DeviceExamples:
    """Examples whose inputs and targets are read once, where they are small.

    The inputs of n images, and their targets, stay on the device if they take less than 1 GB each;
    else they are read and made dense for each batch, as `Step` does for one network.

    Attributes:
        examples: n images.
        compute: where.
    """

    def __init__(self, examples: Examples, config: FitConfig, compute: Compute) -> None:
        self.examples, self.config, self.compute = examples, config, compute
        self._inputs = self._all_inputs()
        n_bytes = int(np.prod(examples.targets.shape))
        self._targets = self._dense(slice(None)) if n_bytes < _MOST_BYTES else None

    def _all_inputs(self) -> Inputs | None:
        """The inputs of all images; None where they take too much memory."""
        rows, size = self.examples.rows, self.examples.n_at_once
        first = self.examples.batches(rows[:1])
        if sum(tensor.nbytes for tensor in first) * len(rows) >= _MOST_BYTES:
            return None
        parts = [
            self.compute.take(self.examples.batches(rows[start : start + size]))
            for start in range(0, len(rows), size)
        ]
        return tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))

    def _dense(self, places: slice | Rows) -> Tensor:
        dense = torch.from_numpy(self.examples.targets[places].toarray())
        return dense.to(self.compute.device)

    def inputs(self, places: Rows | Tensor) -> Inputs:
        """Inputs of the images at these places among the examples, as they are."""
        if self._inputs is None:
            rows = self.examples.rows[_on_host(places)]
            return self.compute.take(self.examples.batches(rows))
        chosen = torch.as_tensor(places).to(self.compute.device)
        return tuple(tensor.index_select(0, chosen) for tensor in self._inputs)

    def batch(
        self,
        places: Tensor,
        *,
        epoch: int,
        number: int,
        seeds: list[int],
        points: Sequence[Tensor | None] = (),
    ) -> tuple[Inputs, Tensor]:
        """A batch for each of S networks, augmented, mixed and smoothed as `fit` does it.

        Args:
            places: (S, B) among the examples, on the device.
            epoch: from 1.
            number: of the batch in the epoch, from 0.
            seeds: S, of the networks' mixup.
            points: S times (n, d), that texts teach each network; () without a teacher.

        Returns:
            Inputs (S, B, ...) and targets (S, B, L), with lessons behind them.
        """
        told = [own for own in points if own is not None]
        inputs, y = self._taken(places, epoch), self._truth(places, told)
        if alpha := self.config.mixup:
            shares = torch.tensor(
                [mixing_share(alpha, seed=seed, epoch=epoch, number=number) for seed in seeds]
            ).to(places.device)
            partners = places.roll(1, dims=1)
            others = (*self._taken(partners, epoch), self._truth(partners, told))
            *both, y = (
                mixed(x, z, share=shares.view(-1, *[1] * (x.ndim - 1)))
                for x, z in zip((*inputs, y), others, strict=True)
            )
            inputs = tuple(both)
        n_targets = self.examples.targets.shape[1]
        return inputs, prepared_truth(y, self.config.negative_smoothing, n_targets=n_targets)

    def _taken(self, places: Tensor, epoch: int) -> Inputs:
        """(S, B, ...): the networks' images at once."""
        flat = places.flatten()
        inputs = self.inputs(flat)
        if self.examples.augment is not None:
            inputs = self.examples.augment(inputs, self.examples.rows[_on_host(flat)], epoch)
        return tuple(_by_network(tensor, places) for tensor in inputs)

    def _truth(self, places: Tensor, points: list[Tensor]) -> Tensor:
        """(S, B, L), with lessons behind them."""
        flat = places.flatten()
        chosen = self._targets
        dense = self._dense(_on_host(flat)) if chosen is None else chosen.index_select(0, flat)
        truth = _by_network(dense.float(), places)
        if not points:
            return truth
        told = [own[rows] for own, rows in zip(points, places, strict=True)]
        return torch.cat([truth, lessons_of(torch.stack(told))], dim=-1)


_MOST_BYTES = 2**30


def _on_host(places: Rows | Tensor) -> Rows:
    return places.cpu().numpy() if isinstance(places, Tensor) else places


def _by_network(flat: Tensor, places: Tensor) -> Tensor:
    """(S, B, ...) of (S * B, ...)."""
    return flat.reshape(*places.shape, *flat.shape[1:])


T = TypeVar("T")

_END = object()


def prefetched(batches: Iterable[T], depth: int = 2) -> Generator[T, None, None]:
    """Batches in their order, up to `depth` of them prepared ahead by one thread.

    For a CUDA device, which would otherwise wait for the processor. Where the processor itself
    computes it neither helped nor cost anything (EfficientNet-Lite0 at 224 px, two cores, batches
    in turn with it and without: 1.0 times, within the noise): reading a batch takes a thousandth of
    the time of learning from it.

    What the batches raise is raised here when its turn comes. Whoever may stop early closes the
    generator (`contextlib.closing`): that waits for the batch in preparation and drops the others.

    Args:
        batches: iterated in the thread, from the first batch asked for.
        depth: that many batches lie in memory beside the one in use.

    Raises:
        ValueError: the depth is less than 1.

    Example:
        >>> list(prefetched(number**2 for number in range(4)))
        [0, 1, 4, 9]
    """
    if depth < 1:
        raise ValueError(f"depth: expected at least 1, found {depth}")
    source = iter(batches)
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        waiting = deque(pool.submit(next, source, _END) for _ in range(depth))
        try:
            while (batch := waiting.popleft().result()) is not _END:
                waiting.append(pool.submit(next, source, _END))
                yield batch  # type: ignore[misc]
        finally:
            for future in waiting:
                future.cancel()
