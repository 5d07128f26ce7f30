"""Several shallow networks trained at once, as one computation: heads on features, for seconds.

They are of one build, and their weights lie in one tensor each.
"""

import copy
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from core.errors import ConceptError, first_line, is_out_of_memory
from core.progress import say
from training.batches import Bounds, DeviceExamples, Examples, batch_bounds
from training.config import FitConfig
from training.devices.compute import Compute, Inputs
from training.heads import made_for_stacks
from training.learner import Learner
from training.loop import UNWATCHED, Fitted, MemberTraining, TrainingLoop, fit_member
from training.losses.registry import CONTEXT_LOSSES, Loss
from training.members import new_members
from training.optim import OPTIMIZERS, parameter_groups
from training.predict import Rows
from training.step import Step


def fit_stack(
    new_model: Callable[[Rows], nn.Module],
    examples: Examples,
    *,
    folds: npt.NDArray[np.int16],
    config: FitConfig,
    compute: Compute,
    log: Callable[[dict[str, Any]], None],
    n_folds: int = 0,
    stops: bool = True,
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
        n_folds, stops: as for `plan_members`.

    Returns:
        Each network with what it reached.

    Raises:
        ConceptError: a loss became NaN or infinite, or memory is too small.
        ValueError: the networks have different layers.
    """
    drawn = new_members(
        new_model, examples, folds=folds, config=config, device=compute.device, log=log,
        n_folds=n_folds, stops=stops,
    )  # fmt: skip
    if reason := why_apart(config, compute):
        say(f"{reason}: networks are trained one after the other")
        return [(member.model, fit_member(member, compute)) for member in drawn]
    members = list(drawn)
    try:
        _fit(members, DeviceExamples(examples, config, compute))
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise ConceptError(
            f"out of memory with {len(members)} networks at once"
            f" ({first_line(error)}); take fewer n_members or seeds, or a smaller"
            " batch_size"
        ) from error
    return [(member.model, member.train_state.best) for member in members]


def fit_chosen(
    new_model: Callable[[Rows], nn.Module],
    examples: Examples,
    *,
    learnt: Sequence[Rows],
    seeds: Sequence[int],
    config: FitConfig,
    compute: Compute,
) -> list[nn.Module]:
    """Train a network on each of several choices of the images at once, their full length.

    As `fit_stack` does, whose words on what is lost by that hold here: all take the steps of the
    one that learns from the fewest images.

    Args:
        new_model: a fresh network for these training rows; all have the same layers.
        examples: the training images.
        learnt: by network, the places of its images among the examples.
        seeds: by network, of its weights, batches and dropout.
        config: how to fit.
        compute: where and how.

    Returns:
        The networks, one a choice.
    """
    members = []
    for places, seed in zip(learnt, seeds, strict=True):
        torch.manual_seed(seed)
        members.append(
            MemberTraining(
                model=new_model(examples.rows[places]),
                examples=examples,
                learnt=places,
                stopping=places[:0],
                config=config,
                seed=seed,
                device=compute.device,
                watch=UNWATCHED,
            )
        )
    if why_apart(config, compute):
        for member in members:
            fit_member(member, compute)
    else:
        _fit(members, DeviceExamples(examples, config, compute))
    return [member.model for member in members]


def _fit(members: list[MemberTraining], device_examples: DeviceExamples) -> None:
    """Train the networks on as many images an epoch as the one with the fewest has."""
    config = device_examples.config
    n_images = min(len(member.learnt) for member in members)
    bounds = batch_bounds(n_images, size=config.batch_size)
    models = [member.model for member in members]
    network_stack = NetworkStack(
        models, config, device_examples.compute, steps_per_epoch=len(bounds)
    )
    TrainingLoop(StackStep(network_stack, device_examples), members, bounds=bounds).run()


class StackStep(Step):
    """Takes a stack of networks one step further, whole, from batches of each one's own."""

    halves = False

    def __init__(self, network_stack: "NetworkStack", device_examples: DeviceExamples) -> None:
        super().__init__(
            network_stack,
            device_examples.examples,
            config=device_examples.config,
            note=lambda _: None,
        )
        self.device_examples = device_examples

    def batches(
        self,
        orders: Rows,
        bounds: Bounds,
        *,
        seeds: list[int],
        epoch: int,
        first: int = 0,
        points: Sequence[Tensor | None] = (),
    ) -> Generator[tuple[Inputs, Tensor]]:
        """The batches of an epoch, of (S, n) orders of images."""
        places = torch.from_numpy(orders).to(self.compute.device)
        for number, (start, end) in enumerate(bounds[first:], start=first):
            chosen = places[:, start:end]
            yield self.device_examples.batch(
                chosen, epoch=epoch, number=number, seeds=seeds, points=points
            )

    def prepared(self, batch: tuple[Inputs, Tensor], *, epoch: int) -> tuple[Inputs, Tensor]:
        """The batch, which is prepared as it is read."""
        return batch

    def inputs(self, places: Rows) -> Inputs:
        """Inputs of the images at these places among the examples, as they are."""
        return self.device_examples.inputs(places)


class NetworkStack(Learner):
    """S networks that learn as one, whose weights are theirs side by side.

    A network's parameters and buffers are views of the stack's: what the stack learns, the network
    has, and it is scored as any other. Where a running mean of weights is kept, they are views of
    that. `release` gives each its own again.

    Every update is of single weights by themselves (the optimisers, the running mean) or of one
    network's (`clip_norm`), so a network learns what it would alone. Rates are the same for all.

    Layers that normalise over a batch keep statistics of their own in each network.

    Attributes:
        models: the networks that still learn.
    """

    def __init__(
        self, models: list[nn.Module], config: FitConfig, compute: Compute, *, steps_per_epoch: int
    ) -> None:
        """Stack networks that differ in weights and buffers alone.

        Raises:
            ValueError: they differ in more.
        """
        _refuse_unlike(models)
        self.models = [model.to(compute.device) for model in models]
        first = self.models[0]
        self._pass = made_for_stacks(copy.deepcopy(first), compute.device).train()
        weights = {
            name: nn.Parameter(values, requires_grad=first.get_parameter(name).requires_grad)
            for name, values in _stack([dict(m.named_parameters()) for m in self.models]).items()
        }
        state = _stack([dict(model.named_buffers()) for model in self.models])
        names = {parameter: name for name, parameter in first.named_parameters()}
        groups = [  # of the networks: a stacked bias looks like a matrix, which is decayed
            {**group, "params": [weights[names[single]] for single in group["params"]]}
            for group in parameter_groups(first, config)
        ]
        tensors, optimizer = _Tensors(weights, state), OPTIMIZERS[config.optimizer](groups, config)
        super().__init__(
            tensors, config, compute, steps_per_epoch=steps_per_epoch, optimizer=optimizer
        )
        self.micro_batch = 0  # also where a batch is one image larger
        # The networks differ in their random numbers.
        self.forward = partial(vmap(self._one, randomness="different"), weights, state)
        self._show()

    def _one(self, weights: Any, state: Any, *inputs: Tensor) -> Any:
        """Logits (B, L) of one network, as in training."""
        return functional_call(self._pass, {**weights, **state}, inputs)

    def _show(self) -> None:
        """Let the networks' tensors be views of what is scored."""
        scored = _by_name(self.averaged)
        for place, model in enumerate(self.models):
            for name, tensor in _tensors(model).items():
                tensor.data = scored[name].data[place]

    def scored(self, place: int) -> nn.Module:
        """The network at a place, as it is scored and kept."""
        return self.models[place]

    def mean_losses(
        self, losses: list[Loss], logits: Tensor, *, targets: Tensor, epoch: int
    ) -> Tensor:
        """(S,) mean loss of each network, of its own batch alone."""
        if self.config.loss_in(epoch) in CONTEXT_LOSSES:  # each one's knows other training images
            pairs = zip(losses, logits, targets, strict=True)
            return torch.stack([loss(z, y).mean() for loss, z, y in pairs])
        means: Tensor = vmap(lambda z, y: losses[0](z, y).mean())(logits, targets)
        return means

    def _clip(self) -> None:
        """Shorten each network's gradient, as `clip_grad_norm_` does that of one."""
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        norms = [torch.linalg.vector_norm(grad.flatten(1), dim=1) for grad in grads]
        norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        share = (self.clip_norm / (norm + 1e-6)).clamp(max=1)
        for grad in grads:
            grad.mul_(share.view(-1, *[1] * (grad.ndim - 1)))

    def release(self, places: list[int]) -> None:
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
        for kept in {self.model, self.averaged}:
            for tensor in _tensors(kept).values():
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


def _by_name(stack: nn.Module) -> dict[str, Tensor]:
    """A stack's tensors by their names in a network."""
    return {name.replace("/", "."): tensor for name, tensor in _tensors(stack).items()}


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those that are not saved among them."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _stack(tensors: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """(S, ...) of each name."""
    return {name: torch.stack([own[name].detach() for own in tensors]) for name in tensors[0]}


def _refuse_unlike(models: list[nn.Module]) -> None:
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
