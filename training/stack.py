"""Several shallow networks trained at once, as one computation: heads on features, for seconds.

They are of one build, and their weights lie in one tensor each.
"""

import copy
import time
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.func import functional_call, vmap

from core.errors import ConceptError
from core.metrics import column_sums
from core.progress import say
from training.batches import DeviceExamples, Examples
from training.config import FitConfig, LossName
from training.devices.compute import Compute, Inputs, is_out_of_memory
from training.heads import made_for_stacks, start_at_prior
from training.loop import Fitted, TrainState, epoch_batches, stopping_scores
from training.losses.registry import CONTEXT_LOSSES, Loss, LossContext, loss_for, loss_of
from training.members import MemberPlan, fit_members, plan_members
from training.optim import OPTIMIZERS, build_schedule, parameter_groups
from training.predict import Rows, predict


def fit_stack(
    new_model: Callable[[Rows], nn.Module],
    examples: Examples,
    *,
    folds: npt.NDArray[np.int16],
    config: FitConfig,
    compute: Compute,
    log: Callable[[dict[str, Any]], None],
    n_folds: int = 0,
) -> list[tuple[nn.Module, Fitted]]:
    """Train all members at once.

    Each member is what `fit` makes of it alone, but for rounding and the random numbers of dropout:
    it has its own first weights, order of images, mixup, stopping images, best epoch and patience;
    one whose patience has ended leaves the others. Two differences remain. Members learn from
    slightly different numbers of images, yet all take the same steps: an epoch goes through as many
    images as the member with the fewest has, the first ones of each member's own order, which
    leaves out others each time. And networks must differ in parameters and buffers alone, and take
    the same steps whatever the values are: all are computed by the code of the first.

    One after the other, as by `fit_members`, are trained: networks under the schedule `plateau`
    (whose rate is each member's own), in fp16 (whose scale is), in micro-batches, compiled, or by
    many processes; one line on stderr says so. There is no checkpoint.

    Args:
        new_model: a fresh network for these training rows; all have the same layers.
        examples: the training images; inputs of less than 1 GB are read once and kept on the
            device.
        folds: (n,) their folds.
        config: how to fit.
        compute: where and how.
        log: told of each member's epochs, with its number; seconds and images_per_s are those of
            all members that learn.
        n_folds: as for `plan_members`.

    Returns:
        Each network with what it reached.

    Raises:
        ConceptError: a loss became NaN or infinite, or memory is too small.
        ValueError: the networks have different layers.
    """
    if reason := why_apart(config, compute):
        say(f"{reason}: networks are trained one after the other")
        return fit_members(
            new_model,
            examples,
            folds=folds,
            config=config,
            compute=compute,
            log=log,
            n_folds=n_folds,
        )
    members = plan_members(folds, config, n_folds=n_folds)
    models = []
    for member in members:
        torch.manual_seed(member.seed)
        model = new_model(examples.rows[member.learnt])
        if config.prior_bias:
            positives, n_images = _counts(examples, member)
            start_at_prior(model, torch.from_numpy(positives), n_images)
        models.append(model)
    try:
        run = _Run(models, members, DeviceExamples(examples, config, compute), config, log)
        run.to_the_end()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ConceptError(
            f"out of memory with {len(models)} networks at once"
            f" ({str(error).splitlines()[0]}); take fewer n_members or seeds, or a smaller"
            " batch_size"
        ) from error
    return [
        (model, train_state.best)
        for model, train_state in zip(models, run.train_states, strict=True)
    ]


def _counts(examples: Examples, member: MemberPlan) -> tuple[npt.NDArray[np.float32], int]:
    """(L,) images with each concept among those that a member learns from, and their number."""
    learnt = examples.targets[np.flatnonzero(member.learnt)]
    return column_sums(learnt).astype(np.float32), learnt.shape[0]


class _Run:
    """One call of `fit_stack`; `learning` are the numbers of the members that still learn."""

    def __init__(
        self,
        models: Sequence[nn.Module],
        members: Sequence[MemberPlan],
        device_examples: DeviceExamples,
        config: FitConfig,
        log: Callable[[dict[str, Any]], None],
    ) -> None:
        self.models, self.members, self.device_examples = models, members, device_examples
        self.config, self.log = config, log
        self.learnt = [np.flatnonzero(member.learnt) for member in members]
        self.n = min(map(len, self.learnt))
        batches = epoch_batches(np.arange(self.n), size=config.batch_size, seed=0, epoch=0)
        self.bounds = [0, *accumulate(len(batch) for batch in batches)]
        steps = len(self.bounds) - 1
        self.network_stack = NetworkStack(
            models, config, device_examples.compute, steps_per_epoch=steps
        )
        self.learning = list(range(len(members)))
        self.train_states = [TrainState(total=torch.zeros(())) for _ in members]
        self.counts = [_counts(device_examples.examples, member) for member in members]
        self.n_updates = 0

    def to_the_end(self) -> None:
        """Train until every member is done, and leave each with its best weights."""
        epoch = 0
        while self.learning:
            epoch += 1
            began = time.perf_counter()
            losses = [self._loss(number, epoch) for number in self.learning]
            total = self._learn(epoch, losses).cpu()
            if not torch.isfinite(total).all():
                raise ConceptError(
                    f"the loss {self.config.loss} became {float(total.sum())} in epoch {epoch};"
                    f" lower learning_rate (now {self.config.learning_rate:g})"
                )
            scores = [
                {"loss": float(total[place]) / self.n, "f1": None, **self._scores(number, loss)}
                for place, (number, loss) in enumerate(zip(self.learning, losses, strict=True))
            ]
            rates = self.network_stack.schedule.rates()
            seconds = time.perf_counter() - began
            speed = {
                "rate": max(rates),
                "lowest_rate": min(rates),
                "seconds": seconds,
                "images_per_s": self.n * len(self.learning) / seconds,
            }
            for place, number in enumerate(self.learning):
                self.log({"member": number, "epoch": epoch, **scores[place], **speed})
                self._keep_if_best(place, scores[place]["f1"])
            self._part()

    def _learn(self, epoch: int, losses: Sequence[Loss]) -> Tensor:
        """(S,) sums of the losses over the images of an epoch, on the device."""
        device = self.device_examples.compute.device
        seeds = [self.members[number].seed for number in self.learning]
        orders = torch.from_numpy(np.stack([self._order(k, epoch) for k in self.learning]))
        orders = orders.to(device)
        total = torch.zeros(len(self.learning), device=device)
        for number, (start, end) in enumerate(pairwise(self.bounds)):
            places = orders[:, start:end]
            inputs, y = self.device_examples.batches(
                places, epoch=epoch, number=number, seeds=seeds
            )
            means = _means(
                losses, self.network_stack.logits(inputs), y, name=self._loss_name(epoch)
            )
            self.n_updates += 1
            self.network_stack.update(means, n_updates=self.n_updates)
            total += means.detach() * places.shape[1]
        return total

    def _order(self, number: int, epoch: int) -> Rows:
        """(n,) the first images of a member's own order."""
        rows, seed = self.learnt[number], self.members[number].seed
        (order,) = epoch_batches(rows, size=len(rows), seed=seed, epoch=epoch)
        return order[: self.n]

    def _loss_name(self, epoch: int) -> LossName:
        return "bce" if epoch <= self.config.bce_epochs else self.config.loss

    def _loss(self, number: int, epoch: int) -> Loss:
        """The loss of a member in the running epoch."""
        positives, n_images = self.counts[number]
        on_device = torch.from_numpy(positives).to(self.device_examples.compute.device)
        context = LossContext(positives=on_device, n_images=n_images, epoch=epoch)
        return loss_for(self._loss_name(epoch), context, temperature=self.config.loss_temperature)

    def _scores(self, number: int, loss: Loss) -> dict[str, Any]:
        """F1 of a member's stopping images, over all and by category, and their loss."""
        stop, examples = np.flatnonzero(self.members[number].stop), self.device_examples.examples
        if not len(stop):
            return {}
        compute = self.device_examples.compute
        probs = predict(
            self.models[number],
            self.device_examples.inputs,
            stop,
            compute=compute,
            batch_size=examples.n_at_once,
        )
        kinds = tuple(examples.kinds[place] for place in stop if examples.kinds)
        targets = examples.targets[stop]
        f1, by_kind = stopping_scores(probs, targets, kinds, threshold=self.config.stop_threshold)
        scores: dict[str, Any] = {"f1": f1}
        if by_kind:
            scores["f1_by_category"] = by_kind
        return scores | {"stop_loss": loss_of(probs, targets, loss, device=compute.device)}

    def _keep_if_best(self, place: int, f1: float | None) -> None:
        """Keep the weights of the member at a place where they are its best, and go on."""
        train_state = self.train_states[self.learning[place]]
        if f1 is None or train_state.best.f1 is None or f1 > train_state.best.f1:
            train_state.best = Fitted(epoch=train_state.epoch, f1=f1)
            train_state.best_state = self.network_stack.kept_state(place)
        train_state.begin_epoch()

    def _part(self) -> None:
        """Leave members that are done with their best weights; the others go on without them."""
        done = [
            place
            for place, number in enumerate(self.learning)
            if self.train_states[number].is_over(self.config)
        ]
        if not done:
            return
        self.network_stack.release(done)
        for number in (self.learning[place] for place in done):
            self.models[number].load_state_dict(self.train_states[number].best_state)
        self.learning = [k for place, k in enumerate(self.learning) if place not in done]


def _means(losses: Sequence[Loss], logits: Tensor, targets: Tensor, *, name: LossName) -> Tensor:
    """(S,) mean loss of each network, of its own batch alone."""
    if name in CONTEXT_LOSSES:  # each network's knows other training images
        pairs = zip(losses, logits, targets, strict=True)
        return torch.stack([loss(z, y).mean() for loss, z, y in pairs])
    means: Tensor = vmap(lambda z, y: losses[0](z, y).mean())(logits, targets)
    return means


class NetworkStack:
    """S networks with all that changes while they learn, as `Learner` is for one.

    A network's parameters and buffers are views of the stack's: what the stack learns, the network
    has, and it is scored as any other. Where a running mean of weights is kept, they are views of
    that. `release` gives each its own again.

    Every update is of single weights by themselves (the optimisers, the running mean) or of one
    network's (`clip_norm`), so a network learns what it would alone. Rates are the same for all.

    Layers that normalise over a batch keep statistics of their own in each network.

    Attributes:
        models: the networks that still learn.
        weights: their parameters by name, (S, ...).
        state: their buffers by name, (S, ...).
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        config: FitConfig,
        compute: Compute,
        *,
        steps_per_epoch: int,
    ) -> None:
        """Stack networks that differ in weights and buffers alone.

        Raises:
            ValueError: they differ in more.
        """
        _refuse_unlike(models)
        self.compute = compute
        self.models = [model.to(compute.device) for model in models]
        first = self.models[0]
        self._pass = made_for_stacks(copy.deepcopy(first), compute.device).train()
        self.weights = {
            name: nn.Parameter(values, requires_grad=first.get_parameter(name).requires_grad)
            for name, values in _stack([dict(m.named_parameters()) for m in self.models]).items()
        }
        self.state = _stack([dict(model.named_buffers()) for model in self.models])
        names = {parameter: name for name, parameter in first.named_parameters()}
        groups = [  # of the networks: a stacked bias looks like a matrix, which is decayed
            {**group, "params": [self.weights[names[single]] for single in group["params"]]}
            for group in parameter_groups(first, config)
        ]
        self.optimizer = OPTIMIZERS[config.optimizer](groups, config)
        self.schedule = build_schedule(self.optimizer, config, steps_per_epoch=steps_per_epoch)
        self._tensors = _Tensors(self.weights, self.state)
        self.ema = ModelEmaV3(self._tensors, config.ema, use_warmup=True) if config.ema else None
        self.clip_norm = config.clip_norm
        self._show()

    def _show(self) -> None:
        """Let the networks' tensors be views of what is scored."""
        scored = (self._tensors if self.ema is None else self.ema.module).by_name()
        for place, model in enumerate(self.models):
            for name, tensor in _tensors(model).items():
                tensor.data = scored[name].data[place]

    def logits(self, inputs: Inputs) -> Tensor:
        """Logits (S, B, L) of inputs (S, B, ...), as in training; dropout differs between all."""

        def one(weights: Any, state: Any, *own: Tensor) -> Any:
            return functional_call(self._pass, {**weights, **state}, own)

        # The networks differ in their random numbers.
        all_at_once = vmap(one, randomness="different")
        with self.compute.speed.autocast(self.compute.device):
            logits: Tensor = all_at_once(self.weights, self.state, *inputs)
        return logits.float()

    def update(self, losses: Tensor, *, n_updates: int) -> None:
        """One optimiser's step.

        Args:
            losses: (S,) of each network; none depends on another's weights.
            n_updates: which step it is, from 1.
        """
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(losses.sum())
        if self.clip_norm:
            self._clip()
        self.optimizer.step()
        self.schedule.step()
        if self.ema is not None:
            self.ema.update(self._tensors, step=n_updates)

    def _clip(self) -> None:
        """Shorten each network's gradient, as `clip_grad_norm_` does that of one."""
        grads = [p.grad for p in self.weights.values() if p.grad is not None]
        norms = [torch.linalg.vector_norm(grad.flatten(1), dim=1) for grad in grads]
        norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        share = (self.clip_norm / (norm + 1e-6)).clamp(max=1)
        for grad in grads:
            grad.mul_(share.view(-1, *[1] * (grad.ndim - 1)))

    def kept_state(self, place: int) -> dict[str, Tensor]:
        """A copy of the weights of a network, as they are scored."""
        state = self.models[place].state_dict()
        return {name: tensor.clone() for name, tensor in state.items()}

    def release(self, places: Sequence[int]) -> None:
        """Give the networks at these places tensors of their own; the others go on learning."""
        for place in places:
            for tensor in _tensors(self.models[place]).values():
                tensor.data = tensor.data.clone()
        left = [place for place in range(len(self.models)) if place not in places]
        self.models = [self.models[place] for place in left]
        self.optimizer.zero_grad(set_to_none=True)
        for values in self.optimizer.state.values():
            for name, value in values.items():
                if value.ndim:  # a count of steps is one for all
                    values[name] = value[left]
        for kept in (self._tensors, *([] if self.ema is None else [self.ema.module])):
            for tensor in kept.by_name().values():
                tensor.data = tensor.data[left]
        self._show()


def why_apart(config: FitConfig, compute: Compute) -> str:
    """What keeps networks from being trained as a stack; empty where nothing does."""
    reasons = {
        "schedule plateau": config.schedule == "plateau",
        "precision fp16": compute.speed.precision == "fp16",
        "compiled networks": compute.speed.compiled,
        "channels-last networks": compute.speed.channels_last,
        f"micro_batch {config.micro_batch}": 0 < config.micro_batch < config.batch_size,
        f"{compute.world.size} processes": compute.world.size > 1,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


class _Tensors(nn.Module):
    """Stacked tensors as a module, which the running mean asks for."""

    def __init__(self, weights: dict[str, nn.Parameter], state: dict[str, Tensor]) -> None:
        super().__init__()
        for name, weight in weights.items():
            self.register_parameter(name.replace(".", "/"), weight)  # torch refuses a dot
        for name, tensor in state.items():
            self.register_buffer(name.replace(".", "/"), tensor)

    def by_name(self) -> dict[str, Tensor]:
        """The tensors by their names in a network."""
        return {name.replace("/", "."): tensor for name, tensor in _tensors(self).items()}


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those that are not saved among them."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _stack(tensors: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """(S, ...) of each name."""
    return {name: torch.stack([own[name].detach() for own in tensors]) for name in tensors[0]}


def _refuse_unlike(models: Sequence[nn.Module]) -> None:
    first = models[0]
    for number, model in enumerate(models):
        kinds = [[type(layer) for layer in m.modules()] for m in (first, model)]
        shapes = [{name: t.shape for name, t in _tensors(m).items()} for m in (first, model)]
        if kinds[0] != kinds[1]:
            raise ValueError(f"network {number} has other layers than network 0")
        unlike = [name for name, shape in shapes[0].items() if shapes[1].get(name) != shape]
        if unlike or len(shapes[0]) != len(shapes[1]):
            raise ValueError(
                f"network {number} has tensors of other shapes than network 0: {unlike[:5]}"
            )
