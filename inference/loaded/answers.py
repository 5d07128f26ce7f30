"""Fused sources read again to be asked: heads, retrieval, the prior, and what is made of them.

Of a cross-fitted corpus a strategy was fitted once a view, and a new image gets the mean over the
views, as test does.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from core.labels import LabelSpace
from core.predictions import Predictions, Probs
from core.prior import CategoryPrior
from core.runs.fused import ZERO_SHOT
from fusion.combine import Support, blend, route, with_constants
from fusion.config import FuseConfig
from fusion.inputs.metadata import MetadataEncoder
from fusion.inputs.tensors import NetworkInputs, Training
from fusion.networks.train import HEADS, Head
from fusion.retrieval.nearest import unit_vectors
from fusion.retrieval.votes import Memory
from fusion.strategies import expected_shares
from fusion.words.queries import WORDS, WordQueries
from fusion.words.zero_shot import NamedByPair
from inference.loaded.block import Answer, CategoryGuess, ImageBlock
from inference.loaded.networks import LoadedDetector
from training.devices.compute import Compute
from training.heads import Standardise, weights_to_come
from training.members import mean_probs, predict_members

Floats = npt.NDArray[np.float32]


def mean_of_views(n_views: int, of_view: Callable[[int], Probs]) -> Probs:
    """(n, L) mean over the views, or what the only one says."""
    if n_views == 1:
        return of_view(0)
    total = of_view(0).copy()
    for view in range(1, n_views):
        total += of_view(view)
    return mean_probs(total, n_views)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadsAnswer:
    """Fusion networks on pooled features, category and further columns.

    Attributes:
        name: of the strategy.
        labels: L concepts.
        features: by view, names of the features.
        networks: by view.
        encoders: by view, of the further columns.
        guess: of the category, where none is given.
        device: where they run.
        hidden: widths of their fully connected layers before the last.
    """

    name: str
    labels: LabelSpace
    features: Sequence[tuple[str, ...]]
    networks: Sequence[Sequence[nn.Module]]
    encoders: Sequence[MetadataEncoder]
    guess: CategoryGuess | None
    device: str
    hidden: tuple[int, ...]

    def __call__(self, block: ImageBlock) -> Predictions:
        """Probabilities of all images of the block."""
        probs = mean_of_views(len(self.networks), lambda view: self._of_view(block, view))
        return block.predictions(self.name, probs, labels=self.labels)

    def _of_view(self, block: ImageBlock, view: int) -> Probs:
        inputs = NetworkInputs(
            features=torch.from_numpy(block.features(self.features[view])),
            category=torch.from_numpy(block.likely(self.guess, view=view)),
            metadata=torch.from_numpy(self.encoders[view].encode(block.table).values),
        )
        return predict_members(
            list(self.networks[view]),
            inputs.batch,
            rows=np.arange(len(block)),
            n_concepts=len(self.labels),
            compute=Compute(device=self.device),
        )


OF_NAMES: dict[str, Head] = {WORDS: WordQueries, ZERO_SHOT: NamedByPair}
"""Linear maps from pooled features to the names of concepts, by strategy."""

READABLE: dict[str, Head] = {**HEADS, **OF_NAMES}
"""Networks on pooled features and the category that are read again, by strategy."""


@weights_to_come()
def read_heads(
    name: str,
    states: Sequence[Mapping[str, torch.Tensor]],
    *,
    config: FuseConfig,
    n_features: int,
    n_metadata: int,
    n_concepts: int,
) -> list[nn.Module]:
    """The networks of a strategy of `READABLE` from their tensors.

    Args:
        name: of the strategy.
        states: tensors of each network.
        config: its settings.
        n_features: D.
        n_metadata: M.
        n_concepts: L.
    """
    shapes = Training(  # what is fitted on training images is among the tensors
        inputs=(torch.zeros(1, n_features), torch.zeros(1, 7), torch.zeros(1, n_metadata)),
        targets=torch.zeros(1, n_concepts),
    )
    networks = []
    for state in states:
        network = READABLE[name](shapes, config)
        network.load_state_dict(state)
        networks.append(network.eval())
    return networks


_KEPT = 2**30
"""Bytes of unit vectors that are kept between searches: 100,000 rows of 2,560 numbers."""


def _fits(n_bytes: int, device: str) -> bool:
    """Whether so much may be kept: on a GPU a quarter of what is free there."""
    if device.startswith("cuda"):
        return 4 * n_bytes <= torch.cuda.mem_get_info(device)[0]
    return n_bytes <= _KEPT


class StandardisedRows:
    """Some rows of an array of features, standardised as they are read: no copy of a long array.

    The unit vectors of a short one are made once. Making them anew for each block of 128 images
    took two thirds of the time that is not the networks'.

    Args:
        values: (N, D) features as they are kept.
        rows: (M,) numbers of those that count.
        standardise: fitted on them; float32 comes out.
    """

    ndim = 2

    def __init__(
        self,
        values: Floats | npt.NDArray[np.float16],
        rows: npt.NDArray[np.intp],
        *,
        standardise: Standardise,
    ) -> None:
        self.values, self.rows, self.standardise = values, rows, standardise
        self.shape = (len(rows), values.shape[1])
        self._units: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: "slice | npt.NDArray[np.integer]") -> Floats:
        """(m, D) some of the rows."""
        return self.of(self.values[self.rows[chosen]].astype(np.float32, copy=False))

    def of(self, features: Floats) -> Floats:
        """(m, D) features of other images, standardised likewise."""
        with torch.inference_mode():
            scaled: Floats = self.standardise(torch.from_numpy(features)).numpy()
        return scaled

    def unit_vectors(self, chosen: "slice | npt.NDArray[np.integer]", device: str) -> torch.Tensor:
        """(m, D) some of the rows, at length 1; see `fusion.retrieval.nearest.unit_vectors`."""
        if self._units is None:
            if not _fits(4 * self.shape[0] * self.shape[1], device):
                return unit_vectors(self[chosen], device)
            self._units = unit_vectors(self[:], device)
        return self._units[chosen if isinstance(chosen, slice) else torch.from_numpy(chosen)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Training images that new ones are compared with.

    Attributes:
        features: names of the features.
        rows: those of the training images.
        memory: the same, to be searched.
        image_ids: theirs; () where they are not known.
    """

    features: tuple[str, ...]
    rows: StandardisedRows
    memory: Memory
    image_ids: tuple[str, ...] = ()

    def queries(self, block: ImageBlock) -> Floats:
        """(n, D) features of new images, standardised as those of the memory."""
        return self.rows.of(block.features(self.features))

    def nearest(self, block: ImageBlock) -> tuple[Floats, tuple[str, ...]]:
        """(n,) cosine to the nearest training image, and its id, "" where ids are not known."""
        found = self.memory.nearest(self.queries(block))
        rows = found.rows[:, 0].tolist()
        ids = tuple(self.image_ids[row] if self.image_ids else "" for row in rows)
        return found.similarity[:, 0], ids


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrievalAnswer:
    """Votes of the nearest training images.

    Attributes:
        name: of the strategy.
        labels: L concepts.
        references: by view.
        k, temperature: by view, what it chose.
        by_category: whether neighbours are looked for in the category alone.
        guess: of the category, where none is given.
    """

    name: str
    labels: LabelSpace
    references: Sequence[Reference]
    k: Sequence[int]
    temperature: Sequence[float]
    by_category: bool
    guess: CategoryGuess | None

    def __call__(self, block: ImageBlock) -> Predictions:
        """Probabilities of all images of the block."""
        probs = mean_of_views(len(self.references), lambda view: self._of_view(block, view))
        return block.predictions(self.name, probs, labels=self.labels)

    def _of_view(self, block: ImageBlock, view: int) -> Probs:
        reference = self.references[view]
        likely = block.likely(self.guess, view=view) if self.by_category else None
        return reference.memory.votes(
            reference.queries(block), likely, k=self.k[view], temperature=self.temperature[view]
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class PriorAnswer:
    """What the category says, where none is given by the guess.

    Attributes:
        name: of the strategy.
        labels: L concepts.
        shares: by view, (8, L).
        guess: of the category.
    """

    name: str
    labels: LabelSpace
    shares: Sequence[Probs]
    guess: CategoryGuess | None

    def __call__(self, block: ImageBlock) -> Predictions:
        """Probabilities of all images of the block."""
        probs = mean_of_views(
            len(self.shares),
            lambda view: expected_shares(
                self.shares[view], block.likely(self.guess, view=view)
            ).astype(np.float32),
        )
        return block.predictions(self.name, probs, labels=self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenPrior:
    """What the given category says; the share among all images where none is given."""

    prior: CategoryPrior

    def __call__(self, block: ImageBlock) -> Predictions:
        """Probabilities of all images of the block."""
        found = [self.prior.of_category(category) for category in block.table.categories]
        return block.predictions("prior", np.stack(found), labels=self.prior.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class ConstrainedAnswer:
    """Another source's answer with the constant concepts of a category as sure as the category.

    Attributes:
        base: the other source.
        priors: by view, what is constant.
        at_least: training images that a category needs.
        guess: of the category, where none is given.
    """

    base: Answer
    priors: Sequence[CategoryPrior]
    at_least: int
    guess: CategoryGuess | None

    def __call__(self, block: ImageBlock) -> Predictions:
        """Probabilities of all images of the block."""
        base = block.ask(self.base)
        probs = mean_of_views(
            len(self.priors),
            lambda view: with_constants(
                base.probs,
                block.likely(self.guess, view=view),
                prior=self.priors[view],
                at_least=self.at_least,
            ),
        )
        return block.predictions("constrained", probs, labels=base.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class VotedAnswer:
    """A network together with the votes of the nearest images.

    Attributes:
        name: of the strategy.
        network, votes: the two.
        share: of the votes in the log odds.
    """

    name: str
    network: Answer
    votes: Answer
    share: float

    def __call__(self, block: ImageBlock) -> Predictions:
        """Probabilities of all images of the block."""
        seen, votes = block.ask(self.network), block.ask(self.votes)
        probs = blend(seen.probs, votes.probs, share=self.share)
        return block.predictions(self.name, probs, labels=seen.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class RoutedAnswer:
    """Specialists where they know, elsewhere the general source.

    Attributes:
        general: the global detector, or the head that stands in for it.
        specialists: those that are heard.
        support: (L,) training images of each concept, by category.
        at_least: of them that a specialist's say takes; None where none is heard.
        guess: of the category, where none is given.
    """

    general: Answer
    specialists: Sequence[Answer]
    support: Support
    at_least: int | None
    guess: CategoryGuess | None

    def __call__(self, block: ImageBlock) -> Predictions:
        """Probabilities of all images of the block."""
        general = block.ask(self.general)
        if self.at_least is None:
            return block.predictions("routed", general.probs, labels=general.labels)
        return route(
            general,
            [block.ask(specialist) for specialist in self.specialists],
            support=self.support,
            at_least=self.at_least,
            likely=block.likely(self.guess, view=None),
        )


def detectors_within(answer: Answer) -> Iterator[LoadedDetector]:
    """The detectors that an answer is, or is made of."""
    match answer:
        case LoadedDetector():
            yield answer
        case RoutedAnswer():
            for part in (answer.general, *answer.specialists):
                yield from detectors_within(part)
        case ConstrainedAnswer():
            yield from detectors_within(answer.base)
        case VotedAnswer():
            yield from detectors_within(answer.network)
            yield from detectors_within(answer.votes)
