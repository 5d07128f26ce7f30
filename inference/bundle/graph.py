"""`bundle.json`: which parts a bundle has, and which part is made of which; see docs/bundle.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from backbones.encoders.pooling import Pooling
from backbones.settings.config import HeadName
from corpus.images.decode import Resample

Background = Literal["black", "white"]


@dataclass(frozen=True, kw_only=True)
class SpeedEntry:
    """A way to run networks.

    Attributes:
        words: memory format and precision; "" for the safe way.
        device: where it was found to be the fastest; on another kind nothing is made of it.
    """

    words: str
    device: str


@dataclass(frozen=True, kw_only=True)
class NetworkEntry:
    """A network that gives features.

    Attributes:
        weights: file of its tensors.
        prefix: what their names begin with there.
        backbone: blueprint of the network, see `backbones.encoders.encoder.Encoder`.
        size: of its images, in pixels.
        resample: how they are scaled to it.
        mirror: whether its features are the mean over image and mirror.
        pooling: what is made of its last layer.
        n_features: D.
        speed: how features were extracted.
    """

    weights: str
    prefix: str
    backbone: str
    size: int
    resample: Resample
    mirror: bool
    pooling: Pooling
    n_features: int
    speed: SpeedEntry


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A model of a guess, beside its tensors.

    Attributes:
        temperature: of its posterior.
        accuracy: of its guesses of training images, held out.
    """

    temperature: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class GuessEntry:
    """What features say of the category.

    Attributes:
        weights: file of the tensors.
        features: by view, names of the features.
        models: by view; null where nothing could be guessed.
        lacking: whether there should be models, but an earlier version did not keep them whole.
    """

    weights: str
    features: tuple[tuple[str, ...], ...]
    models: tuple[ModelEntry | None, ...]
    lacking: bool


@dataclass(frozen=True, kw_only=True)
class ReferenceEntry:
    """Training images that new ones are compared with.

    Attributes:
        features: names of the features.
        bits: that their numbers are rounded to.
        approximate_from: images from which on an approximate index is built.
        seed: of that index.
    """

    features: tuple[str, ...]
    bits: Literal[16, 32]
    approximate_from: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class DetectorEntry:
    """A detector.

    Attributes:
        name: of the part.
        weights: file of its tensors, those of network k under `k.`.
        labels: file of its own concepts.
        category: `global`, or that of a specialist.
        features: names of the features that it takes; none for images.
        fine_tuned: whether its network learnt as well.
        backbone, size, resample, mirror, pooling: of a fine-tuned one, as of `NetworkEntry`.
        hidden: widths of its fully connected layers before the last.
        head, n_queries, query_width: of a fine-tuned one, as of `BackboneConfig`.
        n_at_once: images in a batch.
        speed: how it was run.
    """

    kind: Literal["detector"] = "detector"
    name: str
    weights: str
    labels: str
    category: str
    features: tuple[str, ...]
    fine_tuned: bool
    backbone: str
    size: int
    resample: Resample
    mirror: bool
    pooling: Pooling
    hidden: tuple[int, ...]
    head: HeadName
    n_queries: int
    query_width: int
    n_at_once: int
    speed: SpeedEntry


@dataclass(frozen=True, kw_only=True)
class HeadsEntry:
    """Fusion networks.

    Attributes:
        name: of the part.
        strategy: that they are of.
        weights: file of the tensors; those of network k under `k.`, as many of each view.
        features: by view, names of the features.
        encoders: by view, file that says how further columns become numbers.
        hidden: widths of the fully connected layers before the last.
        guess: number of the guess of the category; null without.
    """

    kind: Literal["heads"] = "heads"
    name: str
    strategy: str
    weights: str
    features: tuple[tuple[str, ...], ...]
    encoders: tuple[str, ...]
    hidden: tuple[int, ...]
    guess: int | None


@dataclass(frozen=True, kw_only=True)
class RetrievalEntry:
    """Votes of the nearest training images.

    Attributes:
        name: of the part.
        strategy: `retrieval` or `retrieval-global`.
        references: by view, number of the reference.
        k: by view, neighbours that vote.
        temperature: by view, the smaller, the more the nearest counts.
        by_category: whether neighbours are looked for in the category alone.
        guess: number of the guess of the category; null without.
    """

    kind: Literal["retrieval"] = "retrieval"
    name: str
    strategy: str
    references: tuple[int, ...]
    k: tuple[int, ...]
    temperature: tuple[float, ...]
    by_category: bool
    guess: int | None


@dataclass(frozen=True, kw_only=True)
class SharesEntry:
    """What the category says, where none is given by the guess.

    Attributes:
        name: of the part.
        weights: file of the shares, those of view k under `k`.
        n_views: how many views.
        guess: number of the guess of the category; null without.
    """

    kind: Literal["shares"] = "shares"
    name: str
    weights: str
    n_views: int
    guess: int | None


@dataclass(frozen=True, kw_only=True)
class PriorEntry:
    """What the given category says.

    Attributes:
        name: of the part.
        weights: file of the shares.
        n_images: training images by category; "" for all.
    """

    kind: Literal["prior"] = "prior"
    name: str
    weights: str
    n_images: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class ConstrainedEntry:
    """Another part's answer with the constant concepts of the category.

    Attributes:
        name: of the part.
        base: name of the other.
        weights: file of the shares, those of view k under `k.`.
        n_images: by view, training images by category; "" for all.
        at_least: training images that a category needs.
        guess: number of the guess of the category; null without.
    """

    kind: Literal["constrained"] = "constrained"
    name: str
    base: str
    weights: str
    n_images: tuple[Mapping[str, int], ...]
    at_least: int
    guess: int | None


@dataclass(frozen=True, kw_only=True)
class VotedEntry:
    """A network together with the votes of the nearest images.

    Attributes:
        name: of the part.
        strategy: `voted` or `voted-blind`.
        network, votes: names of the two.
        share: of the votes in the log odds.
    """

    kind: Literal["voted"] = "voted"
    name: str
    strategy: str
    network: str
    votes: str
    share: float


@dataclass(frozen=True, kw_only=True)
class RoutedEntry:
    """Specialists where they know, elsewhere the general part.

    Attributes:
        name: of the part.
        general: name of the general one.
        specialists: names of the others.
        weights: file of the support, by category.
        at_least: training images of a concept that a specialist's say takes; null for none heard.
        guess: number of the guess of the category; null without.
    """

    kind: Literal["routed"] = "routed"
    name: str
    general: str
    specialists: tuple[str, ...]
    weights: str
    at_least: int | None
    guess: int | None


PartEntry = (
    DetectorEntry
    | HeadsEntry
    | RetrievalEntry
    | SharesEntry
    | PriorEntry
    | ConstrainedEntry
    | VotedEntry
    | RoutedEntry
)


@dataclass(frozen=True, kw_only=True)
class MemberEntry:
    """A member of the ensemble.

    Attributes:
        name: as the stacker knows it.
        part: what it says.
        category: of a specialist; `global` for every other.
    """

    name: str
    part: str
    category: str


@dataclass(frozen=True, kw_only=True)
class CandidatesEntry:
    """Which pairs of image and concept the stacker looks at: see `EnsembleConfig`."""

    floor: float
    top: int
    most: int


@dataclass(frozen=True, kw_only=True)
class DecodingEntry:
    """How files are read that leave a choice: see `core.runs.decoding`."""

    background: Background
    frame: int | Literal["first", "middle", "last"] | None


@dataclass(frozen=True, kw_only=True)
class BundleGraph:
    """All parts of a bundle.

    Attributes:
        format: of the layout, `FORMAT`.
        radfuse: version that wrote it.
        ensemble: name of the run.
        made: when the ensemble was made, ISO 8601.
        edition: year whose submission format is usual for it.
        decoding: how files are read.
        columns: further columns that heads take.
        candidates: what the stacker looks at.
        networks: by the name of the features that they give.
        guesses: of the category, by number.
        guess: the one that decisions go by; null without.
        references: training images, by number.
        reference: the one that tells how far an image lies from them; null without.
        parts: those that others are made of before these.
        members: in the order of the stacker's features.
        has_forecast: whether there is a rule that tells calibrated probabilities.
        distance: names of the features in which distances from what was learnt are told; none
            where they are not told.
        has_training_ids: whether ids of the training images are in it.
        files: bytes of every file but `bundle.json` and `SHA256SUMS`.
    """

    format: int
    radfuse: str
    ensemble: str
    made: str
    edition: int
    decoding: DecodingEntry
    columns: tuple[str, ...]
    candidates: CandidatesEntry
    networks: Mapping[str, NetworkEntry]
    guesses: tuple[GuessEntry, ...]
    guess: int | None
    references: tuple[ReferenceEntry, ...]
    reference: int | None
    parts: tuple[PartEntry, ...]
    members: tuple[MemberEntry, ...]
    has_forecast: bool
    distance: tuple[str, ...]
    has_training_ids: bool
    files: Mapping[str, int]


def as_written_now(said: Any) -> Any:
    """What `bundle.json` of an earlier layout says, as this one says it; what is strange stays so.

    No layout before 4 had other heads than fully connected layers, none before 3 told distances. In
    layout 1 pooling was `mean`, which was the model's own, or none, and of networks that give
    features never said: it was the model's own.
    """
    said = {"distance": [], **said}
    networks, parts = said.get("networks"), said.get("parts")
    if isinstance(parts, list):
        parts = [{**_LAYERS, **own} if _is_detector(own) else own for own in parts]
    if said.get("format") != 1:
        return {**said, "parts": parts}
    if isinstance(networks, dict):
        networks = {
            name: {"pooling": "own", **own} if isinstance(own, dict) else own
            for name, own in networks.items()
        }
    if isinstance(parts, list):
        parts = [
            {**own, "pooling": "own"}
            if isinstance(own, dict) and own.get("pooling") == "mean"
            else own
            for own in parts
        ]
    return {**said, "networks": networks, "parts": parts}


_LAYERS = {"head": "layers", "n_queries": 1, "query_width": 64}
"""Of a head of fully connected layers, which takes no queries."""


def _is_detector(part: Any) -> bool:
    return isinstance(part, dict) and part.get("kind") == "detector"
