"""Heads that ask the places of a network's last map: a query a concept, or a group of concepts.

    answers (B, K, d) = decoder(K queries, P places),    logits = a map of answers to concepts

One layer of a transformer's decoder, without attention among the queries: what is asked does not
depend on what else is asked, and K queries cost K times one.

Source: Liu et al., Query2Label, 2021 (arXiv 2107.10834); Ridnik et al., ML-Decoder, 2021 (arXiv
    2111.12933), whose layer this is; queries learn here, two layers behind the attention are
    narrower, and no share of attention is dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from backbones.settings.config import N_HEADS, BackboneConfig
from training.heads import GroupedLayer, build_head, start_as_glorot

_WIDER = 2
"""Units between the two layers behind the attention, for each number of an answer."""

_AT_ONCE = 256
"""Names that are asked for at once: 3,047 of 32 images are learnt in 0.6 GB instead of 1.4."""

_ABSENT = -20.0
"""Logit, while it learns, of a concept without training images: probability 2e-9, no gradient."""


class QueryDecoder(nn.Module):
    """Answers of queries about places: cross-attention, then two layers, each normalised."""

    def __init__(
        self, n_channels: int, *, width: int, dropout: float, input_dropout: float
    ) -> None:
        """Take places of `n_channels` numbers; queries and answers have `width`."""
        super().__init__()
        self.input_dropout = nn.Dropout(input_dropout)
        self.place = nn.Linear(n_channels, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.query, self.key, self.value, self.joined = (nn.Linear(width, width) for _ in range(4))
        self.first, self.second = nn.Linear(width, _WIDER * width), nn.Linear(_WIDER * width, width)
        self.dropout = nn.Dropout(dropout)

    def looked_at(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, P, width / heads) of places (B, D, P)."""
        seen = relu(self.place(self.input_dropout(places.mT)))
        return _by_head(self.key(seen)), _by_head(self.value(seen))

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(B, K, width) answers to queries (K, width)."""
        asked = self.norms[0](queries)
        per_head = _by_head(self.query(asked)[None]).expand(keys.shape[0], -1, -1, -1)
        found = scaled_dot_product_attention(per_head, keys, values)
        found = self.joined(found.transpose(1, 2).flatten(2))
        found = self.norms[1](asked + self.dropout(found))
        further = self.second(self.dropout(relu(self.first(found))))
        answers: Tensor = self.norms[2](found + self.dropout(further))
        return answers


def _by_head(values: Tensor) -> Tensor:
    """(B, heads, n, width / heads) of (B, n, width)."""
    return values.view(*values.shape[:2], N_HEADS, -1).transpose(1, 2)


class QueryHead(nn.Module):
    """Learnt queries, each of which answers for a group of concepts, in their order.

    With as many queries as concepts each has its own: Query2Label.
    """

    def __init__(
        self, decoder: QueryDecoder, n_concepts: int, *, n_queries: int, width: int
    ) -> None:
        """Ask by `n_queries` at most; by fewer where some would have no concept."""
        super().__init__()
        self.decoder = decoder
        self.last = GroupedLayer(width, n_concepts, most_groups=n_queries)
        self.queries = nn.Parameter(torch.empty(self.last.n_groups, width))
        nn.init.normal_(self.queries)

    def forward(self, places: Tensor) -> Tensor:
        """Logits (B, L) of places (B, D, P)."""
        keys, values = self.decoder.looked_at(places)
        logits: Tensor = self.last(self.decoder(self.queries, keys, values))
        return logits


@dataclass(frozen=True, kw_only=True, eq=False)
class Words:
    """Names of concepts, and which of them are learnt.

    Attributes:
        points: (L, m) names in a text space.
        learnt: (L,) which concepts have training images; None for all.
    """

    points: Tensor
    learnt: Tensor | None = None


class WordHead(nn.Module):
    """Queries made of the concepts' names, and one last map for all of them.

    A concept without training images is asked for as any other. It is unknown, not absent: what is
    learnt says nothing of it.

    Attributes:
        points: (L, m) names in a text space, kept in the weights.
        learnt: (L,) which concepts have training images.
    """

    points: Tensor
    learnt: Tensor

    def __init__(self, decoder: QueryDecoder, words: Words, *, width: int) -> None:
        """Ask for the concepts of these names."""
        super().__init__()
        n_concepts, n_numbers = words.points.shape
        learnt = torch.ones(n_concepts, dtype=torch.bool) if words.learnt is None else words.learnt
        self.register_buffer("points", words.points)
        self.register_buffer("learnt", learnt, persistent=False)
        self.word = nn.Linear(n_numbers, width)
        self.decoder = decoder
        self.last = nn.Linear(width, 1)

    def forward(self, places: Tensor) -> Tensor:
        """Logits (B, L) of places (B, D, P)."""
        keys, values = self.decoder.looked_at(places)
        # In training, what lies between a block's queries and logits is computed again on the way
        # back, so that memory does not grow with the number of concepts.
        again = self.training and len(self.points) > _AT_ONCE
        parts = [
            checkpoint(self._logits, points, keys, values, use_reentrant=False)
            if again
            else self._logits(points, keys, values)
            for points in torch.split(self.points, _AT_ONCE)
        ]
        logits = torch.cat(parts, dim=1)
        return logits.masked_fill(~self.learnt, _ABSENT) if self.training else logits

    def _logits(self, points: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        logits: Tensor = self.last(self.decoder(self.word(points), keys, values)).squeeze(2)
        return logits


def build_head_on(
    n_features: int, n_concepts: int, *, config: BackboneConfig, words: Words | None = None
) -> nn.Module:
    """The config's head: logits (B, L) of what its backbone gives.

    Args:
        n_features: D of features (B, D), or of places (B, D, P).
        n_concepts: L.
        config: which head.
        words: names of the concepts, of the head `words` alone.
    """
    if config.head == "layers":
        return build_head(n_features, n_concepts, config=config)
    width = config.query_width
    decoder = QueryDecoder(
        n_features, width=width, dropout=config.dropout, input_dropout=config.input_dropout
    )
    head: nn.Module
    if config.head == "queries":
        head = QueryHead(decoder, n_concepts, n_queries=config.n_queries, width=width)
    else:
        if words is None:
            raise ValueError("a head of words takes names")
        head = WordHead(decoder, words, width=width)
    if config.head_init == "glorot":
        start_as_glorot(head)
    return head


def head_like(
    detector: Mapping[str, Tensor], *, n_features: int, n_concepts: int, config: BackboneConfig
) -> nn.Module:
    """A head for the tensors of a detector; its names are there, and are not read again.

    Raises:
        LookupError: the config's head is of words, and the detector has none.
    """
    words = Words(points=detector["head.points"].clone()) if config.head == "words" else None
    return build_head_on(n_features, n_concepts, config=config, words=words)


def layer_widths(
    config: BackboneConfig, n_concepts: int, *, detector: Mapping[str, Tensor]
) -> tuple[int, ...]:
    """Numbers between a head's layers, whose products its tensors have at least.

    Args:
        config: which head.
        n_concepts: L.
        detector: tensors that the head is among.

    Raises:
        LookupError: the config's head is of words, and the detector has none.
    """
    if config.head == "layers":
        return (*config.hidden, n_concepts)
    width = config.query_width
    layers = (width, _WIDER * width, width)
    if config.head == "queries":
        return (*layers, n_concepts)
    return (detector["head.points"].shape[-1], *layers)


@dataclass(frozen=True)
class ConceptParts:
    """Tensors of a head that belong to its concepts.

    Attributes:
        rows: with a row for each concept.
        whole: of use together with all concepts alone.
    """

    rows: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()


def concept_parts(
    head: nn.Module, theirs: Mapping[str, Tensor], *, here: Tensor, there: Tensor
) -> ConceptParts:
    """Which tensors a head can take from another of its kind, concept by concept or not.

    Args:
        head: any of a detector.
        theirs: tensors of the other.
        here: columns of the concepts that both know.
        there: the same of the other.
    """
    if isinstance(head, QueryHead):
        own = frozenset({"queries", "last.weight"})
        alone = head.last.weight.shape[2] == 1  # a query a concept
        rows = frozenset({"last.bias"})
        return ConceptParts(rows | own) if alone else ConceptParts(rows, own)
    if isinstance(head, WordHead):
        points = frozenset({"points"})
        read = frozenset({"word.weight", "word.bias"})  # numbers of one text space
        theirs_too = theirs["points"].shape[1:] == head.points.shape[1:]
        alike = theirs_too and torch.equal(theirs["points"][there], head.points[here])
        if alike or (theirs_too and len(here) == len(head.points)):
            return ConceptParts(points)
        return ConceptParts(whole=points | read)
    *_, last_weight, last_bias = head.state_dict()
    return ConceptParts(frozenset({last_weight, last_bias}))
