"""Several networks of one kind, trained on different parts of train and averaged."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from core.errors import ConfigError
from training.batches import Examples
from training.config import FitConfig
from training.devices.compute import Compute
from training.loop import Fitted, MemberTraining, Watch, fit_member
from training.predict import Batches, Rows, predict

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class MemberPlan:
    """One of a detector's networks.

    Attributes:
        number: counted from 0.
        seed: of its weights, batches and dropout.
        stop: (n,) training images that choose its epoch; where there are none, it trains its full
            length.
        held_out: (n,) training images that it never meets, and predicts out of fold.
    """

    number: int
    seed: int
    stop: Mask
    held_out: Mask

    @property
    def learnt(self) -> Mask:
        """(n,) training images that it learns from."""
        learnt: Mask = ~(self.stop | self.held_out)
        return learnt


def plan_members(
    folds: npt.NDArray[np.int16], config: FitConfig, *, n_folds: int = 0, stops: bool = True
) -> list[MemberPlan]:
    """The networks that a config asks for.

    Args:
        folds: (n,) folds of the training images, as `prepare` dealt them.
        config: how many, how often.
        n_folds: 0 for `config.n_members` networks, each stopped on a fold of its own; K for K
            networks that hold out a K-th of the folds each and are stopped on another.
        stops: whether images choose the epoch; else every network trains its full length.

    Raises:
        ConfigError: the corpus has fewer folds than are asked for.
    """
    n = n_folds or config.n_members
    members = []
    for number in range(n * config.seeds):
        if n_folds:
            held_out, stop = _out_of_fold(folds, number % n, n_folds=n_folds)
        else:
            stop = stopping_images(folds, number % n)
            held_out = np.zeros_like(stop)
        stop &= stops
        members.append(
            MemberPlan(number=number, seed=config.seed + number, stop=stop, held_out=held_out)
        )
    return members


def cross_fitted_members(
    folds: npt.NDArray[np.int16], config: FitConfig, *, n_folds: int
) -> list[MemberPlan]:
    """A network a fold and seed: network k never meets fold k, and trains its full length.

    No image stops it: those of its own fold are predicted, and one of another fold would be an
    image less to learn from.

    Args:
        folds: (n,) folds of the images, as `prepare` dealt them; some may have none of them.
        config: how often.
        n_folds: K, of the corpus.
    """
    return [
        MemberPlan(
            number=number,
            seed=config.seed + number,
            stop=np.zeros(len(folds), dtype=np.bool_),
            held_out=folds == number % n_folds,
        )
        for number in range(n_folds * config.seeds)
    ]


def stopped_together(stop: Mask, config: FitConfig) -> list[MemberPlan]:
    """The networks that a config asks for, all stopped on the same images.

    Args:
        stop: (n,) which images choose the epoch.
        config: how many, how often.
    """
    return [
        MemberPlan(number=k, seed=config.seed + k, stop=stop, held_out=np.zeros_like(stop))
        for k in range(config.n_members * config.seeds)
    ]


def stopping_images(folds: npt.NDArray[np.int16], member: int) -> Mask:
    """(n,) which images stop the member: those of one fold, another one for each member.

    A small category may be missing from some folds; only the present ones are gone through. Where
    all images share one fold none is held out, and training runs its full length.
    """
    present = np.unique(folds)
    chosen: Mask = folds == present[member % len(present)]
    return chosen if len(present) > 1 else np.zeros_like(chosen)


def _out_of_fold(folds: npt.NDArray[np.int16], number: int, *, n_folds: int) -> tuple[Mask, Mask]:
    """Images that network `number` of K never meets, and those that stop it."""
    present = np.unique(folds)
    if len(present) < n_folds:
        raise ConfigError(
            f"folds: expected at most the {len(present)} folds that these training images are"
            f" dealt into, found {n_folds}; see train_folds of `prepare`"
        )
    part = np.searchsorted(present, folds) % n_folds
    held_out: Mask = part == number
    stop: Mask = folds == present[(number + 1) % n_folds]
    learns = (~(stop | held_out)).any()
    return held_out, stop if learns else np.zeros_like(stop)


def fit_members(
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
    """Train all members, one after the other.

    Args:
        new_model: a fresh network for these training rows.
        examples: the training images.
        folds: (n,) their folds.
        config: how to fit.
        compute: where and how.
        log: told of each epoch, with the member's number.
        n_folds: as for `plan_members`; a member never meets what it holds out.
        stops: as for `plan_members`.

    Returns:
        Each network with what it reached.
    """
    members = new_members(
        new_model, examples, folds=folds, config=config, device=compute.device, log=log,
        n_folds=n_folds, stops=stops,
    )  # fmt: skip
    return [(member.model, fit_member(member, compute)) for member in members]


def new_members(
    new_model: Callable[[Rows], nn.Module],
    examples: Examples,
    *,
    folds: npt.NDArray[np.int16],
    config: FitConfig,
    device: str,
    log: Callable[[dict[str, Any]], None],
    n_folds: int,
    stops: bool,
) -> Iterator[MemberTraining]:
    """The members of `fit_members`, drawn one by one; each sets torch's seed to its own."""
    for plan in plan_members(folds, config, n_folds=n_folds, stops=stops):
        torch.manual_seed(plan.seed)

        def log_member(entry: dict[str, Any], number: int = plan.number) -> None:
            log({"member": number, **entry})

        yield MemberTraining(
            model=new_model(examples.rows[plan.learnt]),
            examples=examples,
            learnt=np.flatnonzero(plan.learnt),
            stopping=np.flatnonzero(plan.stop),
            config=config,
            seed=plan.seed,
            device=device,
            watch=Watch(log=log_member),
        )


def predict_members(
    models: Sequence[nn.Module],
    batches: Batches,
    *,
    rows: Rows,
    n_concepts: int,
    compute: Compute,
    batch_size: int = 256,
    mirror: bool = False,
) -> npt.NDArray[np.float32]:
    """(len(rows), n_concepts) mean probability over the networks; the rest as of `predict`."""
    probs = np.zeros((len(rows), n_concepts), dtype=np.float32)
    for model in models if len(rows) else ():
        probs += predict(
            model, batches, rows=rows, compute=compute, batch_size=batch_size, mirror=mirror
        )
    return mean_probs(probs, len(models))


def mean_probs(total: npt.NDArray[np.float32], n: int) -> npt.NDArray[np.float32]:
    """The mean of n networks' probabilities from their sum."""
    return np.clip(total / n, 0.0, 1.0)  # the mean's rounding may pass 1
