"""The one training loop: detectors, heads on pooled features and fusion heads all go through it.

The score that chooses epochs is never reported as a score of the detector.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from core.errors import ConceptError
from core.labels import Targets
from core.metrics import best_threshold, decided_at, f1_by_threshold, image_f1, mean_in_order
from training.batches import Batch, Examples, prefetched
from training.checkpoint import Checkpoint, Pending, deferred_signals
from training.config import FitConfig
from training.devices.compute import Compute
from training.heads import start_at_prior
from training.learner import Learner
from training.losses.registry import Loss, LossContext, loss_for, loss_of
from training.predict import Rows, predict
from training.step import Step


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a training reached.

    Attributes:
        epoch: the epoch whose weights the model holds, counted from 1.
        f1: its stopping score; None where no image was held out to stop on.
    """

    epoch: int
    f1: float | None


@dataclass(kw_only=True)
class TrainState:
    """Progress of a training.

    Attributes:
        total: sum of the loss over the images of the running epoch so far.
        epoch: the running one, counted from 1.
        step: steps taken in it.
        seconds: spent in it.
        best: the best epoch before it.
        best_state: its weights.
        entries: of the log.
    """

    total: Tensor
    epoch: int = 1
    step: int = 0
    seconds: float = 0.0
    best: Fitted = field(default_factory=lambda: Fitted(epoch=0, f1=None))
    best_state: dict[str, Tensor] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)

    def is_over(self, config: FitConfig) -> bool:
        """Whether the last epoch is done, or patience has ended."""
        done = self.epoch - 1
        return done >= config.epochs or done - self.best.epoch >= config.patience

    def state(self) -> dict[str, Any]:
        """All of it in plain types."""
        return {**vars(self), "best": vars(self.best)}

    def restore(self, state: dict[str, Any]) -> None:
        """Set everything to a saved state."""
        total = state["total"].to(self.total.device)
        vars(self).update({**state, "best": Fitted(**state["best"]), "total": total})

    def begin_epoch(self) -> None:
        """Go on to the next epoch."""
        self.total.zero_()
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0


def epoch_batches(rows: Rows, *, size: int, seed: int, epoch: int) -> Iterator[Rows]:
    """All rows once in the epoch's own order, in batches; the last may be smaller.

    The order depends on seed and epoch alone, so that a training can go on in the middle of it. A
    single image left over joins the batch before: batch normalisation has no deviation of one.
    """
    order = np.random.default_rng((seed, epoch)).permutation(rows)
    bounds = [*range(0, len(order), size), len(order)]
    if len(bounds) > 2 and size > 1 and bounds[-1] - bounds[-2] == 1:
        del bounds[-2]
    return (order[start:end] for start, end in pairwise(bounds))


def n_batches(n_rows: int, *, size: int) -> int:
    """How many batches `epoch_batches` gives."""
    left_over = n_rows > size > 1 and n_rows % size == 1
    return -(-n_rows // size) - left_over


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Who looks on.

    Attributes:
        log: told of each epoch; where training goes on, of those before it again.
        advance: told how many images were learnt from.
    """

    log: Callable[[dict[str, Any]], None] = lambda entry: None
    advance: Callable[[int], None] = lambda n: None


UNWATCHED = Watch()


def fit(
    model: nn.Module,
    examples: Examples,
    *,
    stop: npt.NDArray[np.bool_],
    config: FitConfig,
    seed: int,
    compute: Compute,
    watch: Watch = UNWATCHED,
    checkpoint: Checkpoint | None = None,
) -> Fitted:
    """Train a model and leave it with the weights of its best epoch.

    The loss is the mean of its (B, L) entries. After each epoch the stopping images are scored:
    sample F1 at the best single threshold (a bce network decided at 0.5 looks worse than it is and
    would be stopped at the wrong epoch).

    With a checkpoint, training resumes where it was interrupted: weights and log are identical to
    an uninterrupted run, to the last bit on a processor. The order of the images, their
    augmentation and mixup are functions of seed and epoch; dropout's random state is saved.

    Args:
        model: takes what the examples give; logits (B, L).
        examples: n images.
        stop: (n,) which of them choose the epoch; the others are learnt from.
        config: loss, rate, length.
        seed: of the order of images and of mixup.
        compute: where and how; of many processes each learns from a part of every batch.
        watch: told of each epoch and of each batch.
        checkpoint: where to save; None for short work.

    Raises:
        ConceptError: the loss became NaN or infinite, or memory is too small for one image.
        OSError: a checkpoint could not be written; the one before it is whole.
        SystemExit: SIGTERM or Ctrl-C came, and a checkpoint was written.
    """
    learnt = np.flatnonzero(~stop)
    if config.prior_bias:
        start_at_prior(model, torch.from_numpy(_counts(examples, learnt)), len(learnt))
    steps = n_batches(len(learnt), size=config.batch_size)
    learner = Learner(model, config, compute, steps_per_epoch=steps)
    stopping = np.flatnonzero(stop)
    run = _Run(learner, examples, learnt, stopping, steps, config, seed, checkpoint, watch)
    run.resume()
    with nullcontext(Pending()) if checkpoint is None else deferred_signals() as pending:
        while not run.train_state.is_over(config):
            run.learn(pending)
            run.end_epoch(pending)
    model.load_state_dict(run.train_state.best_state)
    return run.train_state.best


def _counts(examples: Examples, learnt: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
    """(L,) images with each concept."""
    return np.asarray(examples.targets[learnt].sum(axis=0), dtype=np.float32)


class _Run:
    """One call of `fit`."""

    def __init__(
        self,
        learner: Learner,
        examples: Examples,
        learnt: npt.NDArray[np.intp],
        stopping: npt.NDArray[np.intp],
        steps: int,
        config: FitConfig,
        seed: int,
        checkpoint: Checkpoint | None,
        watch: Watch,
    ) -> None:
        self.learner, self.examples, self.compute = learner, examples, learner.compute
        self.learnt, self.stopping, self.steps = learnt, stopping, steps
        self.config, self.seed, self.checkpoint = config, seed, checkpoint
        remember = None if checkpoint is None else checkpoint.limit_micro_batch
        self.watch = watch
        self.step = Step(
            learner, examples, config=config, seed=seed, note=self._note, remember=remember
        )
        self.train_state = TrainState(total=torch.zeros((), device=self.compute.device))
        self.positives = torch.from_numpy(_counts(examples, learnt)).to(self.compute.device)
        self._since = time.perf_counter()

    def _note(self, entry: dict[str, Any]) -> None:
        self.train_state.entries.append(entry)
        self.watch.log(entry)

    def resume(self) -> None:
        """Go on where the checkpoint says; tell of what lies before."""
        if self.checkpoint is None:
            return
        if (state := self.checkpoint.load()) is not None:
            self.learner.restore(state["trainee"])
            self.train_state.restore(state["course"])
        if limit := self.checkpoint.micro_batch_limit():
            self.learner.micro_batch = min(self.learner.micro_batch or limit, limit)
        for entry in self.train_state.entries:
            self.watch.log(entry)
        done = min(self.train_state.step * self.config.batch_size, len(self.learnt))
        self.watch.advance((self.train_state.epoch - 1) * len(self.learnt) + done)

    def learn(self, pending: Pending) -> None:
        """The rest of the running epoch."""
        train_state, epoch = self.train_state, self.train_state.epoch
        self._since = time.perf_counter()
        loss = self._loss()
        self.learner.model.train()
        with closing(self._batches(epoch)) as batches:
            for batch in batches:
                n_updates = (epoch - 1) * self.steps + train_state.step + 1
                mean = self.step(batch, loss, epoch=epoch, n_updates=n_updates)
                train_state.total += mean * len(batch.chosen)
                train_state.step += 1
                self.watch.advance(len(batch.chosen))
                self._save_if(pending, epoch_ended=False)

    def _loss(self) -> Loss:
        """The loss of the running epoch."""
        n_images, epoch = len(self.learnt), self.train_state.epoch
        context = LossContext(positives=self.positives, n_images=n_images, epoch=epoch)
        name = "bce" if epoch <= self.config.bce_epochs else self.config.loss
        return loss_for(name, context, temperature=self.config.loss_temperature)

    def _batches(self, epoch: int) -> Any:
        """The batches of the epoch that are not learnt from yet, read ahead for a CUDA device."""
        order = epoch_batches(self.learnt, size=self.config.batch_size, seed=self.seed, epoch=epoch)
        first = self.train_state.step
        loaded: Iterable[Batch] = (
            self.step.load(chosen, epoch=epoch, number=number)
            for number, chosen in enumerate(order)
            if number >= first
        )
        return prefetched(loaded) if self.compute.device.startswith("cuda") else loaded

    def end_epoch(self, pending: Pending) -> None:
        """Score the epoch, log it, keep its weights where they are the best, and save."""
        train_state = self.train_state
        mean_loss = float(train_state.total) / len(self.learnt)
        if not np.isfinite(mean_loss):
            raise ConceptError(
                f"the loss {self.config.loss} became {mean_loss} in epoch {train_state.epoch};"
                f" lower learning_rate (now {self.config.learning_rate:g})"
            )
        entry: dict[str, Any] = {"epoch": train_state.epoch, "loss": mean_loss, "f1": None}
        if len(self.stopping):
            entry |= self._scores(pending)
        rates = self.learner.schedule.rates()
        self.learner.schedule.end_epoch(loss=entry.get("stop_loss", mean_loss), f1=entry["f1"])
        seconds = train_state.seconds + time.perf_counter() - self._since
        entry |= {"rate": max(rates), "lowest_rate": min(rates), "seconds": seconds}
        entry["images_per_s"] = len(self.learnt) / seconds
        self._note(entry)
        if entry["f1"] is None or train_state.best.f1 is None or entry["f1"] > train_state.best.f1:
            train_state.best = Fitted(epoch=train_state.epoch, f1=entry["f1"])
            train_state.best_state = self.learner.kept_state()
        train_state.begin_epoch()
        self._since = time.perf_counter()
        self._save_if(pending, epoch_ended=True)

    def _scores(self, pending: Pending) -> dict[str, Any]:
        """F1 of the stopping images, over all and by category, and their loss."""

        def leave_if_asked() -> None:
            if pending.number and self.compute.world.size == 1:
                self._save_if(pending, epoch_ended=False)

        probs = predict(
            self.learner.scored,
            self.examples.batches,
            self.examples.rows[self.stopping],
            compute=self.compute,
            batch_size=self.examples.n_at_once,
            between=leave_if_asked,
        )
        kinds = tuple(self.examples.kinds[row] for row in self.stopping if self.examples.kinds)
        targets = self.examples.targets[self.stopping]
        f1, by_kind = stopping_scores(probs, targets, kinds, threshold=self.config.stop_threshold)
        scores: dict[str, Any] = {"f1": f1}
        if by_kind:
            scores["f1_by_category"] = by_kind
        scores["stop_loss"] = loss_of(probs, targets, self._loss(), device=self.compute.device)
        return scores

    def _save_if(self, pending: Pending, *, epoch_ended: bool) -> None:
        """Save where it is time; leave where a signal came, in all processes together."""
        if self.checkpoint is None:
            return
        world = self.compute.world
        is_due = world.first and self.checkpoint.is_due(epoch_ended=epoch_ended)  # the first saves
        call = world.most(2 * pending.number + is_due)
        if not call:
            return
        now = time.perf_counter()
        self.train_state.seconds, self._since = self.train_state.seconds + now - self._since, now
        state = {"trainee": self.learner.state(), "course": self.train_state.state()}
        if world.first:
            self.checkpoint.save(state)
        if call > 1:
            raise SystemExit(128 + call // 2)


def stopping_f1(
    probs: npt.NDArray[np.float32], targets: csr_array, *, threshold: float = 0.0
) -> float:
    """Sample F1 at a threshold, or at the best of many.

    Stopping images without concepts are left out; where none has any, the score is 0.
    """
    return stopping_scores(probs, targets, (), threshold=threshold)[0]


def stopping_scores(
    probs: npt.NDArray[np.float32],
    targets: csr_array,
    kinds: tuple[str, ...],
    *,
    threshold: float = 0.0,
) -> tuple[float, dict[str, float]]:
    """The score, and the part of each category in it at the same threshold.

    Args:
        probs: (n, L).
        targets: (n, L) boolean, CSR.
        kinds: (n,) category of each image, or empty.
        threshold: from which on a concept is decided; 0 for the best one.

    Returns:
        The score and a score by category, of those that have images with concepts.
    """
    if not targets.nnz:
        return 0.0, {}
    known = Targets(matrix=targets, n_outside=np.zeros(targets.shape[0], dtype=np.int32))
    if threshold:
        chosen = image_f1(known, decided_at(probs, threshold), empty_truth="left out")
    else:
        scores = f1_by_threshold(probs, known, empty_truth="left out")
        chosen = scores[best_threshold(scores)]
    of_kind = np.array(kinds)
    by_kind = {kind: chosen[of_kind == kind] for kind in sorted(set(kinds))}
    return mean_in_order(chosen), {
        kind: mean_in_order(part) for kind, part in by_kind.items() if np.isfinite(part).any()
    }
