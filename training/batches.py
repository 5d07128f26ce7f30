"""What is learnt from, and a batch of it: whole, shared among processes, and in parts."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, vstack

from backbones.compute import Inputs
from training.predict import Batches, Rows

Mask = npt.NDArray[np.bool_]

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
    """

    batches: Batches
    targets: csr_array
    rows: Rows
    augment: Augment | None = None
    kinds: tuple[str, ...] = ()
    n_at_once: int = 256


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
    )
    return doubled, np.concatenate([stop, np.zeros(len(learnt), dtype=np.bool_)])


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A step's images.

    Attributes:
        chosen: (B,) the images of all processes, by number among the examples.
        partners: (B,) those they are mixed with; None without mixup.
        share: how much of a mixed image is itself.
        inputs: of this process' part, on the processor.
        others: the same of the partners.
    """

    chosen: Rows
    partners: Rows | None
    share: float
    inputs: Inputs
    others: Inputs


def run_of(places: Rows) -> slice:
    """Places that follow each other as a slice: a view of a tensor and no copy."""
    return slice(int(places[0]), int(places[-1]) + 1)


def split_batch(n_images: int, n_processes: int, micro_batch: int) -> list[list[Rows]]:
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
