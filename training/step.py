"""One optimiser's step: inputs, loss, gradients, in as many parts as memory asks for."""

from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.errors import ConceptError, first_line, is_out_of_memory
from core.progress import say
from training.batches import (
    Batch,
    Bounds,
    Examples,
    mixed,
    mixing_share,
    prefetched,
    prepared_truth,
    run_of,
    split_batch,
)
from training.config import FitConfig
from training.devices.compute import Compute, Inputs
from training.learner import Learner
from training.losses.registry import Loss
from training.predict import Rows
from training.texts.teacher import lessons_of


class Step:
    """Takes a learner one step further.

    Attributes:
        halves: whether a step that is too large for the memory is taken in parts.
    """

    halves = True

    def __init__(
        self,
        learner: Learner,
        examples: Examples,
        *,
        config: FitConfig,
        note: Callable[[dict[str, Any]], None],
        remember: Callable[[int], None] | None = None,
    ) -> None:
        """Prepare to learn from these examples.

        Args:
            learner: what learns.
            examples: what it learns from.
            config: batches, smoothing, mixup.
            note: told of what is out of the ordinary.
            remember: told of a smaller micro-batch, which the next start uses.
        """
        self.learner, self.examples, self.config = learner, examples, config
        self.compute: Compute = learner.compute
        self.note, self.remember = note, remember

    def batches(
        self,
        orders: Rows,
        bounds: Bounds,
        *,
        seeds: list[int],
        epoch: int,
        first: int = 0,
        points: Sequence[Tensor | None] = (None,),
    ) -> Generator[Any]:
        """The batches of an epoch from `first` on, of (1, n) images; read ahead for CUDA.

        With a teacher, `points` are those of the network.
        """
        loaded = (
            self.load(
                orders[0, start:end], seed=seeds[0], epoch=epoch, number=number, points=points[0]
            )
            for number, (start, end) in enumerate(bounds)
            if number >= first
        )
        return prefetched(loaded) if self.compute.device.startswith("cuda") else loaded

    def load(
        self, chosen: Rows, *, seed: int, epoch: int, number: int, points: Tensor | None = None
    ) -> Batch:
        """Read this process' part of a batch; may run ahead in a thread."""
        partners, share = None, 1.0
        if self.config.mixup:
            share = mixing_share(self.config.mixup, seed=seed, epoch=epoch, number=number)
            partners = np.roll(chosen, 1)  # the order is random as it is
        return Batch(
            chosen=chosen,
            partners=partners,
            share=share,
            inputs=self._read(chosen),
            others=() if partners is None else self._read(partners),
            points=points,
        )

    def _read(self, chosen: Rows) -> Inputs:
        return self._pinned(self.inputs(self.compute.world.share(chosen)))

    def _pinned(self, tensors: Inputs) -> Inputs:
        """Tensors that `Compute.take` moves to a CUDA device without waiting for its queue."""
        if self.compute.device.startswith("cuda"):
            return tuple(tensor.pin_memory() for tensor in tensors)
        return tensors

    def inputs(self, places: Rows) -> Inputs:
        """Inputs of the images at these places among the examples, as they are."""
        return self.examples.batches(self.examples.rows[places])

    def __call__(self, batch: Any, losses: list[Loss], *, epoch: int, n_updates: int) -> Tensor:
        """Learn from a batch; the mean loss on the device, () or of a stack (S,).

        With a teacher (2,) or (S, 2): that of the targets, and what the teacher adds.

        Raises:
            ConceptError: memory is too small for a single image, or ran out in one of several
                processes.
        """
        while True:
            try:
                total = self._gradients(batch, losses, epoch=epoch)
                break
            except (RuntimeError, MemoryError, OSError) as error:
                if not (self.halves and is_out_of_memory(error)):
                    raise
                reason = first_line(error)
            # Outside the handler: its traceback holds on to the tensors that did fit.
            self._shrink(len(self.compute.world.share(batch.chosen)), reason, epoch=epoch)
        self.learner.update(n_updates=n_updates)
        return total

    def _gradients(self, batch: Any, losses: list[Loss], *, epoch: int) -> Tensor:
        learner, world = self.learner, self.compute.world
        learner.optimizer.zero_grad(set_to_none=True)
        inputs, y = self.prepared(batch, epoch=epoch)
        axis = y.ndim - 2  # of the images; before it that of networks, where they are several
        n = y.shape[axis]
        n_parts = () if self.examples.teacher is None else (2,)
        total = torch.zeros((*y.shape[:axis], *n_parts), device=self.compute.device)
        parts = split_batch(n, n_processes=world.size, micro_batch=learner.micro_batch)
        for number, places in enumerate(parts):
            # Gradients travel between processes with the last part only.
            silent = world.size > 1 and number < len(parts) - 1
            with learner.forward.no_sync() if silent else nullcontext():
                own = places[world.rank] - parts[0][world.rank][0]
                with self.compute.speed.autocast(self.compute.device):
                    logits = learner.forward(*(run_of(x, own, axis=axis) for x in inputs)).float()
                truth = torch.cat([run_of(y, rows, axis=axis) for rows in places], dim=axis)
                logits = self._everyones(logits, places)
                mean = self._mean_losses(losses, logits, truth, epoch=epoch)
                mean = mean * (truth.shape[axis] / n)
                # Each process has the loss of all, and what they send is averaged.
                scaled = learner.scaler.scale(self._weighed(mean) * world.size).sum()
                scaled.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            total += mean.detach()
        return total

    def _mean_losses(
        self, losses: list[Loss], logits: Tensor, truth: Tensor, *, epoch: int
    ) -> Tensor:
        """The mean loss of the targets; behind it that of lessons, where there is a teacher."""
        teacher, n = self.examples.teacher, self.examples.targets.shape[1]
        if teacher is None:
            return self.learner.mean_losses(losses, logits, targets=truth, epoch=epoch)
        own, targets = logits[..., :n], truth[..., :n]
        mean = self.learner.mean_losses(losses, own, targets=targets, epoch=epoch)
        told = teacher.mean_loss(logits[..., n:], truth[..., n:])
        return torch.stack([mean, told], dim=-1)

    def _weighed(self, means: Tensor) -> Tensor:
        """The losses as they are learnt by."""
        if self.examples.teacher is None:
            return means
        return means * torch.tensor([1.0, self.examples.teacher.weight], device=means.device)

    def prepared(self, batch: Any, *, epoch: int) -> tuple[Inputs, Tensor]:
        """Inputs and targets of a batch as they are learnt from, on the device."""
        return self.prepared_inputs(batch, epoch=epoch), self.dense_targets(batch)

    def prepared_inputs(self, batch: Batch, *, epoch: int) -> Inputs:
        """Inputs on the device, augmented and mixed."""
        inputs = self._augmented(batch.inputs, batch.chosen, epoch)
        if batch.partners is None:
            return inputs
        others = self._augmented(batch.others, batch.partners, epoch)
        return tuple(mixed(x, z, share=batch.share) for x, z in zip(inputs, others, strict=True))

    def _augmented(self, inputs: Inputs, chosen: Rows, epoch: int) -> Inputs:
        taken = self.compute.take(inputs)
        if self.examples.augment is None:
            return taken
        mine = self.examples.rows[self.compute.world.share(chosen)]
        return self.examples.augment(taken, mine, epoch)

    def dense_targets(self, batch: Batch) -> Tensor:
        """(B, L) of the batch of all processes, on the device; behind them lessons, if any."""
        y = self._dense(batch.chosen, batch.points)
        if batch.partners is not None:
            y = mixed(y, self._dense(batch.partners, batch.points), share=batch.share)
        n_targets = self.examples.targets.shape[1]
        return prepared_truth(y, self.config.negative_smoothing, n_targets=n_targets)

    def _dense(self, chosen: Rows, points: Tensor | None) -> Tensor:
        dense = torch.from_numpy(self.examples.targets[chosen].toarray())
        (taken,) = self.compute.take(self._pinned((dense,)))
        if points is None:
            return taken.float()
        (told,) = self.compute.take((points[torch.from_numpy(chosen).to(points.device)],))
        return torch.cat([taken.float(), lessons_of(told)], dim=-1)

    def _everyones(self, logits: Tensor, places: list[Rows]) -> Tensor:
        """The logits of all processes, this one's with their gradients.

        Every process then takes the loss of the whole batch: right also for losses that tie the
        images of a batch together, as soft-F1 times cross-entropy does.
        """
        if self.compute.world.size == 1:
            return logits
        gathered = self.compute.world.gather(logits.detach(), [len(rows) for rows in places])
        gathered[self.compute.world.rank] = logits
        return torch.cat(gathered)

    def _shrink(self, n_images: int, reason: str, *, epoch: int) -> None:
        """Take half as many images at once from now on."""
        micro_batch = self.learner.micro_batch or n_images
        if micro_batch == 1:
            raise ConceptError(
                f"out of memory with a single image at once ({reason}); take smaller image_sizes"
                " or a smaller backbone"
            )
        self.learner.optimizer.zero_grad(set_to_none=True)
        if self.compute.device.startswith("cuda"):
            torch.cuda.empty_cache()
        self.learner.micro_batch = -(-min(micro_batch, n_images) // 2)
        halved = self.learner.micro_batch
        if self.compute.world.size > 1:  # the others wait for gradients that will never come
            if self.remember is not None:
                self.remember(halved)
            raise ConceptError(
                f"process {self.compute.world.rank}: out of memory with {micro_batch} images at"
                f" once; the next start takes {halved}: run the same command again (torchrun"
                " --max-restarts does so by itself)"
            )
        say(f"out of memory with {micro_batch} images at once: going on with {halved}")
        self.note({"epoch": epoch, "event": "out of memory", "micro_batch": halved})
