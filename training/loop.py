"""The one training loop: all networks go through it, one at a time or a stack of them at once.

The score that chooses epochs is never reported as a score of the detector.
"""

import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from core.errors import ConceptError
from core.labels import Targets
from core.metrics import best_threshold, decided_at, f1_by_threshold, image_f1, mean_in_order
from training.batches import Bounds, Examples, batch_bounds, epoch_order, rarity
from training.checkpoint import Checkpoint, Pending, deferred_signals
from training.config import FitConfig
from training.devices.compute import Compute
from training.heads import start_at_prior
from training.learner import Learner
from training.losses.registry import Loss, LossContext, loss_for, loss_of
from training.predict import Rows, predict
from training.step import Step
from training.texts.teacher import narrow, widen


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
        total: sum of the loss over the images of the running epoch so far; with a teacher (2,),
            the second being that of its lessons.
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

    def is_best(self, f1: float | None) -> bool:
        """Whether an epoch that scored so is better than all before; without a score, always."""
        return f1 is None or self.best.f1 is None or f1 > self.best.f1

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
    member = MemberTraining(
        model=model, examples=examples, learnt=np.flatnonzero(~stop), stopping=np.flatnonzero(stop),
        config=config, seed=seed, device=compute.device, watch=watch,
    )  # fmt: skip
    return fit_member(member, compute, checkpoint=checkpoint)


def fit_member(
    member: "MemberTraining", compute: Compute, *, checkpoint: Checkpoint | None = None
) -> Fitted:
    """Train one network by itself, as `fit` does."""
    config = member.config
    bounds = batch_bounds(len(member.learnt), size=config.batch_size)
    learner = Learner(member.model, config, compute, steps_per_epoch=len(bounds))
    remember = None if checkpoint is None else checkpoint.limit_micro_batch
    step = Step(learner, member.examples, config=config, note=member.note, remember=remember)
    TrainingLoop(step, [member], bounds=bounds, checkpoint=checkpoint).run()
    return member.train_state.best


@dataclass(kw_only=True)
class MemberTraining:
    """One network of a training; with `prior_bias` it starts at the prior of what it learns from.

    With a teacher its last layer has further outputs until `keep_best` takes them off.

    Attributes:
        model: the network.
        examples: n images.
        learnt: those that it learns from, by number among them.
        stopping: those that choose its epoch.
        config: loss and length.
        seed: of its order of images and of its mixup.
        device: where it learns.
        watch: told of its epochs.
        train_state: how far it got.
    """

    model: nn.Module
    examples: Examples
    learnt: Rows
    stopping: Rows
    config: FitConfig
    seed: int
    device: str
    watch: Watch
    train_state: TrainState = field(init=False)

    def __post_init__(self) -> None:
        teacher, n_targets = self.examples.teacher, self.examples.targets.shape[1]
        n_parts = () if teacher is None else (2,)
        self.train_state = TrainState(total=torch.zeros(n_parts, device=self.device))
        counts = np.asarray(self.examples.targets[self.learnt].sum(axis=0), dtype=np.float32)
        if self.config.prior_bias:
            start_at_prior(self.model, torch.from_numpy(counts), n_images=len(self.learnt))
        self.points: Tensor | None = None
        if teacher is not None:
            self.points = teacher.points(self.learnt).to(self.device)
            widen(self.model, teacher.n_numbers, n_targets=n_targets, seed=self.seed)
        self.positives = torch.from_numpy(counts).to(self.device)
        rare = self.config.sampling == "rare"
        self.weights = rarity(self.examples.targets[self.learnt]) if rare else None

    def keep_best(self) -> None:
        """Leave the network with the weights of its best epoch."""
        self.model.load_state_dict(self.train_state.best_state)
        if self.points is not None:
            narrow(self.model, n_targets=self.examples.targets.shape[1])

    def note(self, entry: dict[str, Any]) -> None:
        """Put an entry into the log."""
        self.train_state.entries.append(entry)
        self.watch.log(entry)

    def loss(self) -> Loss:
        """The loss of the running epoch."""
        epoch = self.train_state.epoch
        context = LossContext(positives=self.positives, n_images=len(self.learnt), epoch=epoch)
        name = self.config.loss_in(epoch)
        return loss_for(
            name,
            context,
            temperature=self.config.loss_temperature,
            asymmetry=self.config.asymmetry,
        )

    def order(self) -> Rows:
        """The images of the running epoch, one after the other."""
        epoch = self.train_state.epoch
        return epoch_order(self.learnt, seed=self.seed, epoch=epoch, weights=self.weights)

    def scores(self, probs: npt.NDArray[np.float32]) -> dict[str, Any]:
        """F1 of the stopping images, over all and by category, and their loss."""
        kinds = tuple(self.examples.kinds[row] for row in self.stopping if self.examples.kinds)
        targets = self.examples.targets[self.stopping]
        f1, by_kind = stopping_scores(
            probs, targets, kinds=kinds, threshold=self.config.stop_threshold
        )
        scores: dict[str, Any] = {"f1": f1}
        if by_kind:
            scores["f1_by_category"] = by_kind
        return scores | {"stop_loss": loss_of(probs, targets, loss=self.loss(), device=self.device)}


class TrainingLoop:
    """The epochs of one network, or of several that take their steps together.

    Epoch, step and time are the same for all; log, best weights and patience are each network's
    own. One whose patience has ended leaves the others.
    """

    def __init__(
        self,
        step: Step,
        members: list[MemberTraining],
        *,
        bounds: Bounds,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Prepare to train; only a network that learns by itself has a checkpoint."""
        self.step, self.members, self.learning = step, members, members
        self.learner, self.compute = step.learner, step.learner.compute
        self.bounds, self.n_images = bounds, bounds[-1][1]
        self.config, self.checkpoint = members[0].config, checkpoint
        self._since = time.perf_counter()

    @property
    def _shared_state(self) -> TrainState:
        """The state of the first network, for what is the same for all."""
        return self.learning[0].train_state

    def run(self) -> None:
        """Train to the end and leave each network with the weights of its best epoch."""
        self._resume()
        with nullcontext(Pending()) if self.checkpoint is None else deferred_signals() as pending:
            while self._part():
                self._learn(pending)
                self._end_epoch(pending)
        for member in self.members:
            member.keep_best()

    def _resume(self) -> None:
        """Go on where the checkpoint says; tell of what lies before."""
        if self.checkpoint is None:
            return
        (member,) = self.members
        if (state := self.checkpoint.load()) is not None:
            self.learner.restore(state["trainee"])
            member.train_state.restore(state["course"])
        if limit := self.checkpoint.micro_batch_limit():
            self.learner.micro_batch = min(self.learner.micro_batch or limit, limit)
        for entry in member.train_state.entries:
            member.watch.log(entry)
        done = min(member.train_state.step * self.config.batch_size, self.n_images)
        member.watch.advance((member.train_state.epoch - 1) * self.n_images + done)

    def _part(self) -> bool:
        """Let networks that are done leave; whether any still learns."""
        done = [k for k, m in enumerate(self.learning) if m.train_state.is_over(self.config)]
        if done:
            self.learner.release(done)
            self.learning = [m for k, m in enumerate(self.learning) if k not in done]
        return bool(self.learning)

    def _learn(self, pending: Pending) -> None:
        """The rest of the running epoch."""
        self._since = time.perf_counter()
        epoch, first = self._shared_state.epoch, self._shared_state.step
        losses = [member.loss() for member in self.learning]
        totals = torch.stack([member.train_state.total for member in self.learning])
        for member, total in zip(self.learning, totals, strict=True):
            member.train_state.total = total  # a view: it grows with them
        self.learner.model.train()
        orders = [member.order() for member in self.learning]
        loaded = self.step.batches(
            np.stack([order[: self.n_images] for order in orders]),
            self.bounds,
            seeds=[member.seed for member in self.learning],
            epoch=epoch,
            first=first,
            points=[member.points for member in self.learning],
        )
        with closing(loaded) as batches:
            for number, batch in enumerate(batches, start=first):
                n_updates = (epoch - 1) * len(self.bounds) + number + 1
                means = self.step(batch, losses, epoch=epoch, n_updates=n_updates)
                start, end = self.bounds[number]
                totals += means * (end - start)
                for member in self.learning:
                    member.train_state.step += 1
                    member.watch.advance(end - start)
                self._save_if(pending, epoch_ended=False)

    def _end_epoch(self, pending: Pending) -> None:
        """Score the epoch, log it, keep weights where they are the best, and save."""
        schedule, epoch = self.learner.schedule, self._shared_state.epoch
        entries = [
            {"epoch": epoch, **means, "f1": None, **self._scores(place, pending)}
            for place, means in enumerate(self._mean_losses())
        ]
        rates = schedule.rates()
        for entry in entries:
            schedule.end_epoch(loss=entry.get("stop_loss", entry["loss"]), f1=entry["f1"])
        seconds = self._shared_state.seconds + time.perf_counter() - self._since
        speed = {
            "rate": max(rates),
            "lowest_rate": min(rates),
            "seconds": seconds,
            "images_per_s": self.n_images * len(self.learning) / seconds,
        }
        for place, (member, entry) in enumerate(zip(self.learning, entries, strict=True)):
            member.note(entry | speed)
            if member.train_state.is_best(entry["f1"]):
                member.train_state.best = Fitted(epoch=epoch, f1=entry["f1"])
                member.train_state.best_state = self.learner.kept_state(place)
            member.train_state.begin_epoch()
        self._since = time.perf_counter()
        self._save_if(pending, epoch_ended=True)

    def _mean_losses(self) -> list[dict[str, float]]:
        """Of the running epoch, by network; refused where one is not a number.

        That of lessons stands apart: `loss` is of the targets, with a teacher and without.
        """
        totals = torch.stack([member.train_state.total for member in self.learning])
        means = (totals.double().view(len(self.learning), -1) / self.n_images).tolist()
        if not np.isfinite(means).all():
            epoch = self._shared_state.epoch
            raise ConceptError(
                f"the loss {self.config.loss} became {np.sum(means)} in epoch {epoch};"
                f" lower learning_rate (now {self.config.learning_rate:g})"
            )
        return [dict(zip(("loss", "text_loss"), own, strict=False)) for own in means]

    def _scores(self, place: int, pending: Pending) -> dict[str, Any]:
        """Scores of the stopping images of the network at a place; empty without any."""
        member = self.learning[place]
        if not len(member.stopping):
            return {}

        def leave_if_asked() -> None:
            if pending.number and self.compute.world.size == 1:
                self._save_if(pending, epoch_ended=False)

        probs = predict(
            self.learner.scored(place),
            self.step.inputs,
            rows=member.stopping,
            compute=self.compute,
            batch_size=member.examples.n_at_once,
            between=leave_if_asked,
        )
        return member.scores(probs[:, : member.examples.targets.shape[1]])

    def _save_if(self, pending: Pending, *, epoch_ended: bool) -> None:
        """Save where it is time; leave where a signal came, in all processes together."""
        if self.checkpoint is None:
            return
        train_state, world = self._shared_state, self.compute.world
        is_due = world.first and self.checkpoint.is_due(epoch_ended=epoch_ended)  # the first saves
        call = world.most(2 * pending.number + is_due)
        if not call:
            return
        now = time.perf_counter()
        train_state.seconds, self._since = train_state.seconds + now - self._since, now
        state = {"trainee": self.learner.state(), "course": train_state.state()}
        if world.first:
            self.checkpoint.save(state)
        if call > 1:
            raise SystemExit(128 + call // 2)


def stopping_scores(
    probs: npt.NDArray[np.float32],
    targets: csr_array,
    *,
    kinds: tuple[str, ...],
    threshold: float = 0.0,
) -> tuple[float, dict[str, float]]:
    """Sample F1 at a threshold or at the best of many, and that of each category at the same one.

    Images without concepts are left out; where none has any, the score is 0.

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
