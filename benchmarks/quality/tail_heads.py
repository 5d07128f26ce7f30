"""Answers made anew from a finished run for rare concepts' sake: none of them is a strategy.

- Its last layer is trained anew on balanced draws: a concept, then an image that has it (Kang et
  al. 2020, arXiv:1910.09217, classifier re-training).
- The weights of its last layer are brought to one length (ibid., tau-normalisation with tau = 1).
- A concept is what the mean of its images looks like (ibid., nearest class mean).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.quality.tail import Floats, Tail
from core.runs.fused import FusedSource
from fusion.inputs.category import one_hot
from fusion.networks.heads import category_odds
from fusion.retrieval.votes import for_neighbours
from training.checkpoint import WEIGHTS, load_networks

N_STEPS, AT_ONCE, RATE, DECAY, DROPOUT = 405, 128, 5e-4, 1e-2, 0.3
"""Of the last layer's training: 15 epochs of radbench."""

N_COMPONENTS = 512
"""Principal components on which images are compared with the means of concepts."""

CATEGORY_WEIGHT = 9.0
"""Of a category among the features that are compared."""

_STEADY = 100
"""The component to whose variance that of all is added, so that those of little do not decide."""

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class TailImages:
    """What these answers are made of.

    Attributes:
        tail: N images.
        features: (N, D) pooled.
        widths: columns of each encoder.
        category: (N, 7).
    """

    tail: Tail
    features: Tensor
    widths: tuple[int, ...]
    category: Tensor

    @property
    def truth(self) -> Array:
        """(N, L) 1 for a true pair."""
        return self.tail.images.targets.matrix.toarray().astype(np.float64)

    def parts(self) -> Iterator[tuple[Rows, Rows]]:
        """Rows outside each fold, and rows in it."""
        folds = self.tail.images.folds
        for fold in np.unique(folds):
            yield np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)


def remade_last_layers(images: TailImages, run: FusedSource) -> dict[str, Floats]:
    """Answers of `prior-offset` with a last layer trained anew, and with weights of one length."""
    truth = torch.from_numpy(images.truth).float()
    retrained, equal = (np.empty(truth.shape, dtype=np.float32) for _ in range(2))
    networks = load_networks(run.folder / WEIGHTS)
    for number, (others, own) in enumerate(images.parts()):
        state = networks[number]
        hidden, weight, bias = _last_layer(state, images.features)
        odds = category_odds(images.category, prior=state["prior"], rate=state["rate"])
        lengths = weight.norm(dim=1, keepdim=True)
        same = weight * (lengths.mean() / lengths)
        equal[own] = torch.sigmoid(odds + hidden @ same.T + bias)[own].numpy()
        anew = _retrained(hidden, odds, truth, weight, bias, rows=others, seed=number)
        retrained[own] = torch.sigmoid(odds + hidden @ anew[0].T + anew[1])[own].numpy()
    return {
        "last layer retrained on balanced draws": retrained,
        "weights of each concept at equal length": equal,
    }


def _last_layer(state: dict[str, Tensor], features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N, H) what the last layer of a `prior-offset` network is given; its weight and bias."""
    names = [name.removesuffix(".weight") for name in state if name.startswith("head.layers.")
             and name.endswith(".weight")]  # fmt: skip
    *below, last = sorted(names, key=lambda name: int(name.rpartition(".")[2]))
    mean, std = state["head.standardise.mean"], state["head.standardise.std"]
    hidden = (features - mean) / std
    for name in below:
        hidden = torch.relu(hidden @ state[f"{name}.weight"].T + state[f"{name}.bias"])
    return hidden, state[f"{last}.weight"], state[f"{last}.bias"]


def _retrained(
    hidden: Tensor,
    odds: Tensor,
    truth: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    rows: Rows,
    seed: int,
) -> tuple[Tensor, Tensor]:
    rng, noise = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    of_concept = [rows[truth[rows, concept].numpy() > 0] for concept in range(truth.shape[1])]
    there = np.flatnonzero([len(own) for own in of_concept])
    new = [part.clone().requires_grad_() for part in (weight, bias)]
    optimiser = torch.optim.AdamW(new, lr=RATE, weight_decay=DECAY)
    for _ in range(N_STEPS):
        drawn = [rng.choice(of_concept[c]) for c in rng.choice(there, AT_ONCE)]
        some = torch.tensor(np.array(drawn))
        kept = torch.rand(AT_ONCE, hidden.shape[1], generator=noise) >= DROPOUT
        given = hidden[some] * kept / (1 - DROPOUT)
        logits = odds[some] + given @ new[0].T + new[1]
        loss = binary_cross_entropy_with_logits(logits, truth[some])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return new[0].detach(), new[1].detach()


def nearest_mean(images: TailImages) -> Floats:
    """How near an image is to the mean of a concept's, as sure as held-out images were right."""
    from sklearn.linear_model import LogisticRegression

    truth, folds = images.truth, images.tail.images.folds
    found = np.empty(truth.shape, dtype=np.float32)
    for others, own in images.parts():
        points = _points(images, others)
        terms, true = [], []
        for fold in np.unique(folds[others]):
            inner, held_out = others[folds[others] != fold], others[folds[others] == fold]
            terms.append(_terms(images, points, inner)[held_out].reshape(-1, 5))
            true.append(truth[held_out].ravel())
        fitted = LogisticRegression(C=1e3, fit_intercept=False, max_iter=1000, tol=1e-8)
        fitted.fit(np.concatenate(terms), np.concatenate(true))
        asked = _terms(images, points, others)[own]
        found[own] = fitted.predict_proba(asked.reshape(-1, 5))[:, 1].reshape(asked.shape[:2])
    return found


def _points(images: TailImages, rows: Rows) -> Array:
    """(N, C) unit rows: principal components that these images have, near one scale."""
    standard = for_neighbours(images.features[rows], images.widths)(images.features)
    both = torch.cat([standard, CATEGORY_WEIGHT * images.category], dim=1).double().numpy()
    both -= both[rows].mean(axis=0)
    variance, basis = np.linalg.eigh(both[rows].T @ both[rows])
    variance, basis = variance[::-1], basis[:, ::-1]
    n = min(N_COMPONENTS, len(variance))
    steady = variance[min(_STEADY, len(variance) - 1)]
    points = both @ basis[:, :n] / np.sqrt(np.maximum(variance[:n] + steady, 1e-9))
    unit: Array = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9)
    return unit


def _terms(images: TailImages, points: Array, rows: Rows) -> Array:
    """(N, L, 5) what log odds are a sum of: a constant, the category's, how near, from how many."""
    truth = images.truth[rows]
    counts, category = truth.sum(axis=0), images.category.numpy().astype(np.float64)
    means = truth.T @ points[rows]
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
    near = points @ means.T
    apart = (near - near[rows].mean(axis=0)) / near[rows].std(axis=0).clip(1e-6)
    rate = (counts + 0.5) / (len(rows) + 1)
    known = category[rows]
    shares = (known.T @ truth + rate) / (known.sum(axis=0)[:, None] + 1)
    unsaid = 1 - category.sum(axis=1, keepdims=True)
    share = category @ shares.clip(1e-4, 1 - 1e-4) + unsaid * rate
    log_share = np.log(share) - np.log1p(-share)
    many = np.broadcast_to(np.log1p(counts), near.shape)
    return np.stack([np.ones_like(near), log_share, apart, apart * many, many], axis=-1)


def images_of(tail: Tail, features: Tensor, widths: tuple[int, ...]) -> TailImages:
    """The images with the categories that are given."""
    category = torch.from_numpy(one_hot(tail.images.categories))
    return TailImages(tail=tail, features=features, widths=widths, category=category)
