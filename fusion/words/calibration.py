"""Scores of concepts by their names made probabilities: by few numbers, learnt held out.

What scores names may have met no image of a concept, or no label at all. How much a score says,
beside how frequent the concept is and what the category says of it, is learnt from all pairs of
image and concept together, so that it holds for concepts without images as well.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.metrics import column_sums
from fusion.config import FuseConfig
from fusion.inputs.gather import FusionInputs
from fusion.inputs.tensors import Training
from fusion.networks.heads import category_odds
from training.config import FitConfig
from training.predict import Rows
from training.texts.spaces import named

Array = npt.NDArray[np.float64]

_PARTS = 5
"""Parts of train that scores are held out of in turn, to learn how sure they may be."""

_PAIRS = 4_000_000
"""Pairs of image and concept that this is learnt from: 160 MB."""

_LEAST = 1e-9
"""Of a deviation: the scores of a concept with no similar name are all 0."""


class NamedConcepts(nn.Module):
    """Log odds of the concept in the category, and the score of its name.

        logits = slope logit(sum_c P(c) P(concept | c)) + W seen(features) + bias

    Without a category the shares among all training images take its place.
    """

    prior: Tensor
    rate: Tensor
    slope: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, train: Training, config: FitConfig) -> None:
        super().__init__()
        self.register_buffer("prior", train.prior())
        self.register_buffer("rate", train.targets.mean(dim=0))
        self.register_buffer("slope", torch.ones(1))
        self.register_buffer("weight", torch.zeros(train.n_concepts, train.n_features))
        self.register_buffer("bias", torch.zeros(train.n_concepts))

    def seen(self, features: Tensor) -> Tensor:
        """(B, D) what names are held against."""
        raise NotImplementedError

    def odds(self, category: Tensor) -> Tensor:
        """(B, L) log odds of the concepts by the category alone."""
        return category_odds(category, prior=self.prior, rate=self.rate)

    def forward(self, features: Tensor, category: Tensor, metadata: Tensor) -> Tensor:
        """Logits (B, L)."""
        scores = self.seen(features) @ self.weight.T
        logits: Tensor = self.slope * self.odds(category) + scores + self.bias
        return logits


@dataclass(frozen=True, kw_only=True)
class NameScorer:
    """How names are scored.

    Attributes:
        components: (n, R) of the training images.
        weights: (R, L) that some of these images teach, by their numbers.
        basis: (D, R) from what a network sees to components; None where they are the same.
    """

    components: Array
    weights: Callable[[Rows], Array]
    basis: Array | None = None


@dataclass(frozen=True, kw_only=True)
class _NameScores:
    """What some training images teach.

    Attributes:
        weights: (R, L) on components.
        mean, deviation: (L,) of the scores of these images.
        n_images: (L,) of them with each concept.
    """

    weights: Array
    mean: Array
    deviation: Array
    n_images: Array

    def terms(self, components: Array, odds: Array) -> Array:
        """(n, L, 5) what the logit of a pair is a sum of, beside a constant.

        How far a score is from its mean says more of a concept that was learnt from more images.
        """
        scores = components @ self.weights - self.mean
        apart = scores / self.deviation
        n_images = np.broadcast_to(self.n_images, scores.shape)
        return np.stack([odds, scores, apart, apart * n_images, n_images], axis=-1)


class NamedTraining:
    """The training images of a view, and what is learnt of names from parts of them.

    Args:
        name: of the strategy.
        fusion_inputs: of the view.
        config: settings.
        network: the strategy's.

    Attributes:
        names: of the L concepts.
        rows: (n,) of the images in the features.
        targets: (n, L) true concepts.
        model: the network, not taught yet.
    """

    def __init__(
        self,
        name: str,
        fusion_inputs: FusionInputs,
        *,
        config: FuseConfig,
        network: Callable[[Training, FitConfig], NamedConcepts],
    ) -> None:
        self.name, self.fusion_inputs, self.config, self.network = (
            name, fusion_inputs, config, network,
        )  # fmt: skip
        train = fusion_inputs.training_images()
        self.names = named(fusion_inputs.corpus)
        self.rows, self.folds = fusion_inputs.rows(train), train.folds
        self.targets = train.targets(fusion_inputs.corpus.labels).matrix
        self.model = self.untaught(np.arange(len(train)))

    def seen(self) -> Array:
        """(N, D) what the network sees of all images."""
        with torch.inference_mode():
            seen = self.model.seen(self.fusion_inputs.network_inputs.features)
        return seen.double().numpy()

    def untaught(self, chosen: Rows) -> NamedConcepts:
        """A network that knows the categories of some images, and no name yet."""
        network_inputs, rows = self.fusion_inputs.network_inputs, self.rows[chosen]
        train = Training(
            inputs=network_inputs.batch(rows),
            targets=torch.from_numpy(self.targets[chosen].toarray()).float(),
            known=self.fusion_inputs.known_category(rows),
            widths=network_inputs.widths,
        )
        return self.network(train, self.config)

    def _learnt(self, scorer: NameScorer, chosen: Rows) -> _NameScores:
        """What these images teach."""
        weights = scorer.weights(chosen)
        scores = scorer.components[chosen] @ weights
        return _NameScores(
            weights=weights,
            mean=scores.mean(axis=0),
            deviation=scores.std(axis=0).clip(_LEAST),
            n_images=np.log1p(column_sums(self.targets[chosen])),
        )

    def held_out(self, scorer: NameScorer) -> tuple[Array, npt.NDArray[np.bool_]]:
        """(P, 5) terms of pairs of images and concepts, learnt from the other parts, and truth.

        Raises:
            ConfigError: train has a single fold.
        """
        folds, part = np.unique(self.folds, return_inverse=True)
        if len(folds) < 2:
            raise ConfigError(
                f"{self.name}: needs two folds of train; see train_folds of `prepare`"
            )
        part %= min(_PARTS, len(folds))
        terms, truth = [], []
        for number in np.unique(part):
            others, asked = np.flatnonzero(part != number), np.flatnonzero(part == number)
            learnt = self._learnt(scorer, others)
            n_most = max(1, _PAIRS // (_PARTS * len(self.names)))
            rng = np.random.default_rng(self.config.seed)
            asked = np.sort(rng.permutation(asked)[:n_most])
            category = self.fusion_inputs.network_inputs.category[self.rows[asked]]
            odds = self.untaught(others).odds(category).double().numpy()
            found = learnt.terms(scorer.components[asked], odds)
            terms.append(found.reshape(-1, found.shape[-1]))
            truth.append(self.targets[asked].toarray().ravel())
        return np.concatenate(terms), np.concatenate(truth)

    def taught(self, scorer: NameScorer) -> NamedConcepts:
        """The network, what it says of names learnt from all images, as sure as it was right.

        Raises:
            ConfigError: as `held_out`.
        """
        from sklearn.linear_model import LogisticRegression  # 1.1 s to import

        terms, truth = self.held_out(scorer)
        spread = terms.std(axis=0).clip(_LEAST)
        # The penalty is nothing beside a million pairs; of few, which terms may part, it keeps
        # probabilities from 0 and 1.
        fitted = LogisticRegression(C=1.0, max_iter=1000).fit(terms / spread, truth)
        on_odds, on_score, on_apart, on_product, on_count = fitted.coef_[0] / spread
        constant = fitted.intercept_[0]
        learnt = self._learnt(scorer, np.arange(len(self.rows)))
        scale = on_score + (on_apart + on_product * learnt.n_images) / learnt.deviation
        weights = learnt.weights * scale
        if scorer.basis is not None:
            weights = scorer.basis @ weights
        model = self.model
        model.slope.fill_(float(on_odds))
        model.weight.copy_(torch.from_numpy(weights.T))
        bias = constant + on_count * learnt.n_images - scale * learnt.mean
        model.bias.copy_(torch.from_numpy(bias))
        return model.eval()
