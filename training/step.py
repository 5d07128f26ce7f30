"""One optimiser's step: inputs, loss, gradients, in as many parts as memory asks for."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.errors import ConceptError
from core.progress import say
from training.batches import Batch, Examples, run_of, split_batch
from training.config import FitConfig
from training.devices.compute import Compute, Inputs, is_out_of_memory
from training.learner import Learner
from training.losses.registry import Loss
from training.predict import Rows


class Step:
    """One training step of a learner."""

    def __init__(
        self,
        learner: Learner,
        examples: Examples,
        *,
        config: FitConfig,
        seed: int,
        note: Callable[[dict[str, Any]], None],
        remember: Callable[[int], None] | None = None,
    ) -> None:
        """Prepare to learn from these examples.

        Args:
            learner: what learns.
            examples: what it learns from.
            config: batches, smoothing, mixup.
            seed: of mixup.
            note: told of what is out of the ordinary.
            remember: told of a smaller micro-batch, which the next start uses.
        """
        self.learner = learner
        self.examples = examples
        self.config = config
        self.seed = seed
        self.compute: Compute = learner.compute
        self.note = note
        self.remember = remember

    def load(self, chosen: Rows, *, epoch: int, number: int) -> Batch:
        """Read this process' part of a batch; may run ahead in a thread."""
        partners, share = None, 1.0
        if self.config.mixup:
            rng = np.random.default_rng((self.seed, epoch, number))
            share = float(rng.beta(self.config.mixup, self.config.mixup))
            partners = np.roll(chosen, 1)  # the order is random as it is
        return Batch(
            chosen=chosen,
            partners=partners,
            share=share,
            inputs=self._read(chosen),
            others=() if partners is None else self._read(partners),
        )

    def _read(self, chosen: Rows) -> Inputs:
        mine = self.compute.world.share(chosen)
        inputs = self.examples.batches(self.examples.rows[mine])
        if self.compute.device.startswith("cuda"):
            return tuple(tensor.pin_memory() for tensor in inputs)
        return inputs

    def __call__(self, batch: Batch, loss: Loss, *, epoch: int, n_updates: int) -> Tensor:
        """Learn from a batch; its mean loss, on the device.

        Raises:
            ConceptError: memory is too small for a single image, or ran out in one of several
                processes.
        """
        while True:
            try:
                total = self._gradients(batch, loss, epoch=epoch)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).splitlines()[0]
            # Outside the handler: its traceback holds on to the tensors that did fit.
            self._shrink(len(self.compute.world.share(batch.chosen)), reason, epoch=epoch)
        self.learner.update(n_updates=n_updates)
        return total

    def _gradients(self, batch: Batch, loss: Loss, *, epoch: int) -> Tensor:
        learner, world = self.learner, self.compute.world
        learner.optimizer.zero_grad(set_to_none=True)
        inputs = self.prepared_inputs(batch, epoch=epoch)
        y = self.dense_targets(batch)
        n = len(batch.chosen)
        total = torch.zeros((), device=self.compute.device)
        parts = split_batch(n, world.size, learner.micro_batch)
        for number, places in enumerate(parts):
            # Gradients travel between processes with the last part only.
            silent = world.size > 1 and number < len(parts) - 1
            with learner.forward.no_sync() if silent else nullcontext():
                own = run_of(places[world.rank] - parts[0][world.rank][0])
                with self.compute.speed.autocast(self.compute.device):
                    logits = learner.forward(*(tensor[own] for tensor in inputs)).float()
                truth = torch.cat([y[run_of(rows)] for rows in places])
                mean = loss(self._everyones(logits, places), truth).mean() * (len(truth) / n)
                # Each process has the loss of all, and what they send is averaged.
                scaled = learner.scaler.scale(mean * world.size)
                scaled.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            total += mean.detach()
        return total

    def prepared_inputs(self, batch: Batch, *, epoch: int) -> Inputs:
        """Inputs on the device, augmented and mixed."""
        inputs = self._augmented(batch.inputs, batch.chosen, epoch)
        if batch.partners is None:
            return inputs
        others = self._augmented(batch.others, batch.partners, epoch)
        a = batch.share
        return tuple(a * x.float() + (1 - a) * z for x, z in zip(inputs, others, strict=True))

    def _augmented(self, inputs: Inputs, chosen: Rows, epoch: int) -> Inputs:
        taken = self.compute.take(inputs)
        if self.examples.augment is None:
            return taken
        mine = self.examples.rows[self.compute.world.share(chosen)]
        return self.examples.augment(taken, mine, epoch)

    def dense_targets(self, batch: Batch) -> Tensor:
        """(B, L) of the batch of all processes, on the device."""
        y = self._dense(batch.chosen)
        if batch.partners is not None:
            y = batch.share * y + (1 - batch.share) * self._dense(batch.partners)
        smoothing = self.config.negative_smoothing
        return y + (1 - y) * smoothing if smoothing else y

    def _dense(self, chosen: Rows) -> Tensor:
        dense = torch.from_numpy(self.examples.targets[chosen].toarray())
        return dense.to(self.compute.device, torch.float32)

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
