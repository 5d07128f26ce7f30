"""Concepts asked for by their names: a linear map from pooled features into a text space.

The score of a concept is the product of the mapped image and the concept's point, as that of a
caption is in contrastive models; so a concept that few training images have, or none, is scored by
what images with similar names look like.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from core.errors import ConfigError
from core.metrics import column_sums
from fusion.config import FuseConfig
from fusion.inputs.gather import FusionInputs
from fusion.inputs.tensors import Training
from fusion.networks.heads import category_odds
from fusion.networks.train import answered
from fusion.result import Earlier, FusedResult
from training.config import FitConfig
from training.predict import Rows
from training.texts.spaces import HASHED, Points, hashed_space, named, sentence_space

WORDS = "words"
"""Name of the strategy."""

Array = npt.NDArray[np.float64]

_RANK = 512
"""Principal components of the features that are mapped."""

_PENALTY = 1.0
"""Of a query's squared length, for each training image."""

_OWN = 1.0
"""What a concept learns for itself beside what it shares with similar names, whose most is 1."""

_N_NUMBERS = 128
"""Numbers of the hashed text space at most."""

_PARTS = 5
"""Parts of train that scores are held out of in turn, to learn how sure they may be."""

_PAIRS = 4_000_000
"""Pairs of image and concept that this is learnt from: 160 MB."""

_LEAST = 1e-9
"""Of a deviation: the scores of a concept with no similar name are all 0."""


def similar_names(points: Points) -> Array:
    """(L, L) cosine of names, with what each learns for itself on the diagonal."""
    return points @ points.T + _OWN * np.eye(len(points))


def fit_queries(features: Array, targets: csr_array, *, similarity: Array, penalty: float) -> Array:
    """(D, L) weights of concepts that share what they learn as far as their names are similar.

        W = argmin |Y - X W|^2 + penalty trace(W K^-1 W^T)

    over the concepts that a training image has, K their similarity. In the bases of X^T X = V e V^T
    and K = U m U^T each entry is one division:

        A = V [V^T X^T Y U / (e m + penalty)] U^T    and    W = A K

    The columns of K to all other concepts give the weights of those: what has no image is unknown,
    not absent. With K the identity this is ridge regression.

    Args:
        features: (N, D) of training images; a constant is taken from them.
        targets: (N, L) boolean, likewise.
        similarity: (L, L) positive semi-definite.
        penalty: above 0.

    Source: one kernel of tasks and one of images (Bonilla, Chai and Williams, NIPS 2007); a linear
        map between images and descriptions of classes (Romera-Paredes and Torr, ICML 2015).
    """
    counts = column_sums(targets)
    seen = np.flatnonzero(counts)
    centred = features - features.mean(axis=0)
    both: Array = (targets.astype(np.float64).T @ centred)[seen].T
    e, v = np.linalg.eigh(centred.T @ centred)
    m, u = np.linalg.eigh(similarity[np.ix_(seen, seen)])
    shared = (v.T @ both @ u) / (np.outer(e.clip(0), m.clip(0)) + penalty)
    weights: Array = v @ (shared @ (u.T @ similarity[seen]))
    return weights


class WordQueries(nn.Module):
    """Log odds of the concept in the category, and the score of its name.

        logits = slope logit(sum_c P(c) P(concept | c)) + W features + bias

    Without a category the shares among all training images take its place.
    """

    prior: Tensor
    rate: Tensor
    slope: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, train: Training, config: FitConfig) -> None:
        super().__init__()
        self.standardise = train.standardise()
        self.register_buffer("prior", train.prior())
        self.register_buffer("rate", train.targets.mean(dim=0))
        self.register_buffer("slope", torch.ones(1))
        self.register_buffer("weight", torch.zeros(train.n_concepts, train.n_features))
        self.register_buffer("bias", torch.zeros(train.n_concepts))

    def odds(self, category: Tensor) -> Tensor:
        """(B, L) log odds of the concepts by the category alone."""
        return category_odds(category, prior=self.prior, rate=self.rate)

    def forward(self, features: Tensor, category: Tensor, metadata: Tensor) -> Tensor:
        """Logits (B, L)."""
        scores = self.standardise(features) @ self.weight.T
        logits: Tensor = self.slope * self.odds(category) + scores + self.bias
        return logits


@dataclass(frozen=True, kw_only=True)
class _Queries:
    """What some training images teach.

    Attributes:
        weights: (R, L) on principal components.
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


class _Teaching:
    """The training images of a view, and what is learnt from parts of them."""

    def __init__(self, fusion_inputs: FusionInputs, config: FuseConfig) -> None:
        self.fusion_inputs, self.config = fusion_inputs, config
        train = fusion_inputs.training_images()
        self.names = named(fusion_inputs.corpus)
        self.rows, self.folds = fusion_inputs.rows(train), train.folds
        self.targets = train.targets(fusion_inputs.corpus.labels).matrix
        self.model = self.untaught(np.arange(len(train)))
        standard = self.model.standardise(fusion_inputs.network_inputs.features).double().numpy()
        _, v = np.linalg.eigh(standard[self.rows].T @ standard[self.rows])
        self.basis: Array = v[:, -_RANK:]
        self.components: Array = standard[self.rows] @ self.basis
        self.sentences = (
            None if config.text == HASHED else sentence_space(self.names, model=config.text)
        )

    def untaught(self, chosen: Rows) -> WordQueries:
        """A network that knows the categories of some images, and no query yet."""
        network_inputs, rows = self.fusion_inputs.network_inputs, self.rows[chosen]
        train = Training(
            inputs=network_inputs.batch(rows),
            targets=torch.from_numpy(self.targets[chosen].toarray()).float(),
            known=self.fusion_inputs.known_category(rows),
            widths=network_inputs.widths,
        )
        return WordQueries(train, self.config)

    def queries(self, chosen: Rows) -> _Queries:
        """What these images teach."""
        targets, components = self.targets[chosen], self.components[chosen]
        points = self.sentences
        if points is None:
            points = hashed_space(self.names, targets, n_numbers=_N_NUMBERS, seed=self.config.seed)
        weights = fit_queries(
            components, targets, similarity=similar_names(points), penalty=_PENALTY * len(chosen)
        )
        scores = components @ weights
        return _Queries(
            weights=weights,
            mean=scores.mean(axis=0),
            deviation=scores.std(axis=0).clip(_LEAST),
            n_images=np.log1p(column_sums(targets)),
        )

    def held_out(self) -> tuple[Array, npt.NDArray[np.bool_]]:
        """(P, 5) terms of pairs of images and concepts, learnt from the other parts, and truth."""
        folds, part = np.unique(self.folds, return_inverse=True)
        if len(folds) < 2:
            raise ConfigError("words: needs two folds of train; see train_folds of `prepare`")
        part %= min(_PARTS, len(folds))
        terms, truth = [], []
        for number in np.unique(part):
            others, asked = np.flatnonzero(part != number), np.flatnonzero(part == number)
            queries = self.queries(others)
            n_most = max(1, _PAIRS // (_PARTS * len(self.names)))
            rng = np.random.default_rng(self.config.seed)
            asked = np.sort(rng.permutation(asked)[:n_most])
            category = self.fusion_inputs.network_inputs.category[self.rows[asked]]
            odds = self.untaught(others).odds(category).double().numpy()
            found = queries.terms(self.components[asked], odds)
            terms.append(found.reshape(-1, found.shape[-1]))
            truth.append(self.targets[asked].toarray().ravel())
        return np.concatenate(terms), np.concatenate(truth)

    def taught(self) -> WordQueries:
        """The network, its queries fitted on all images and as sure as held-out ones were right."""
        from sklearn.linear_model import LogisticRegression  # 1.1 s to import

        terms, truth = self.held_out()
        spread = terms.std(axis=0).clip(_LEAST)
        # The penalty is nothing beside a million pairs; of few, which terms may part, it keeps
        # probabilities from 0 and 1.
        fitted = LogisticRegression(C=1.0, max_iter=1000).fit(terms / spread, truth)
        on_odds, on_score, on_apart, on_product, on_count = fitted.coef_[0] / spread
        constant = fitted.intercept_[0]
        queries = self.queries(np.arange(len(self.rows)))
        scale = on_score + (on_apart + on_product * queries.n_images) / queries.deviation
        model = self.model
        model.slope.fill_(float(on_odds))
        model.weight.copy_(torch.from_numpy((self.basis @ (queries.weights * scale)).T))
        bias = constant + on_count * queries.n_images - scale * queries.mean
        model.bias.copy_(torch.from_numpy(bias))
        return model.eval()


def words(fusion_inputs: FusionInputs, config: FuseConfig, *, earlier: Earlier) -> FusedResult:
    """Queries by name: of concepts with few training images too, or none."""
    model = _Teaching(fusion_inputs, config).taught()
    return answered(WORDS, [model], fusion_inputs=fusion_inputs)
