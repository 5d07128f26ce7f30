"""A bundle's files as the ensemble that they were written from: the same values, the same bits."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from backbones.networks.build import backbone_state
from backbones.networks.queries import layer_widths
from backbones.settings.config import BackboneConfig
from core.categories import CATEGORIES, UNKNOWN
from core.errors import BundleError, ConfigError, LabelSpaceError, PredictionsError
from core.labels import LabelSpace
from core.prior import CategoryPrior
from core.runs.decoding import Decoding
from core.runs.detectors import GLOBAL
from core.storage.tables import read_pairs
from ensembles.decisions.rule import DecisionRule
from ensembles.stacking.registry import load_stacker
from fusion.combine import Support
from fusion.config import FuseConfig
from fusion.inputs.category import CategoryModel
from fusion.inputs.metadata import MetadataEncoder
from inference.bundle.checks import check_columns, check_rule, check_stacker
from inference.bundle.files import DECISION, FORECAST, LABELS, NAMES, STACKER
from inference.bundle.graph import (
    BundleGraph,
    ConstrainedEntry,
    DetectorEntry,
    GuessEntry,
    HeadsEntry,
    NetworkEntry,
    PartEntry,
    PriorEntry,
    RetrievalEntry,
    RoutedEntry,
    SharesEntry,
    SpeedEntry,
    VotedEntry,
)
from inference.bundle.reference import read_distance, read_references, read_statistics
from inference.bundle.tensors import BundleFiles, TensorFile, backbone_of, check_widths
from inference.bundle.trial import try_out
from inference.loaded.answers import (
    READABLE,
    ConstrainedAnswer,
    GivenPrior,
    HeadsAnswer,
    PriorAnswer,
    Reference,
    RetrievalAnswer,
    RoutedAnswer,
    VotedAnswer,
    read_heads,
)
from inference.loaded.block import Answer, CategoryGuess
from inference.loaded.ensemble import LoadedEnsemble, LoadedMember
from inference.loaded.networks import (
    FeatureNetwork,
    FoundSpeed,
    LoadedDetector,
    Look,
    detector_of,
    feature_network,
)

T = TypeVar("T")

_KINDS = (*CATEGORIES, UNKNOWN)


def read_parts(files: BundleFiles, graph: BundleGraph, *, device: str) -> LoadedEnsemble:
    """The ensemble of a bundle.

    Args:
        files: that were checked.
        graph: of the bundle.
        device: where its networks are to run.

    Raises:
        BundleError: a file is not what `write_parts` wrote, or parts do not fit together.
        ConceptError: of a file that other commands write as well.
    """
    reader = _Reader(files, graph, device=device)
    ensemble = reader.ensemble()
    try_out(ensemble, [*reader.parts.values()], widths=reader.widths)
    return ensemble


class _Reader:
    """Parts read so far, each once, whoever is made of it."""

    def __init__(self, files: BundleFiles, graph: BundleGraph, *, device: str) -> None:
        self.files, self.graph, self.device = files, graph, device
        self.labels = LabelSpace.load(files.path(LABELS))
        self.widths = {name: entry.n_features for name, entry in graph.networks.items()}
        self.parts: dict[str, Answer] = {}
        self.looks: set[Look] = set()

    def ensemble(self) -> LoadedEnsemble:
        """All of it."""
        graph, files, labels = self.graph, self.files, self.labels
        if not len(labels) or not graph.members:
            raise self._error("has no concepts, or no members")
        networks = {name: self._network(name, own) for name, own in graph.networks.items()}
        self.looks |= {network.look for network in networks.values()}
        self.guesses = [self._guess(entry) for entry in graph.guesses]
        for number, reference in enumerate(graph.references):
            self._check_features(reference.features, f"reference {number}")
        self.references: list[Reference] = read_references(
            files,
            graph.references,
            n_concepts=len(labels),
            device=self.device,
            widths=self.widths,
            has_ids=graph.has_training_ids,
        )
        if graph.distance:
            self._check_features(graph.distance, "distance")
        for entry in graph.parts:
            if entry.name in self.parts:
                raise self._error(f"part {entry.name!r} stands twice")
            self.parts[entry.name] = self._part(entry)
        members = []
        for member in graph.members:
            if member.category not in (GLOBAL, *CATEGORIES):
                raise self._error(f"member {member.name!r}: no category {member.category!r}")
            answer = self._named(member.part, f"member {member.name!r}")
            members.append(LoadedMember(name=member.name, answer=answer, category=member.category))
        if len({member.name for member in members}) < len(members):
            raise self._error("a member stands twice")
        check_stacker(files, members=[m.name for m in members], n_concepts=len(labels))
        return LoadedEnsemble(
            labels=labels,
            names=self._names(),
            edition=graph.edition,
            decoding=Decoding(background=graph.decoding.background, frame=graph.decoding.frame),
            networks=networks,
            guess=self._at(self.guesses, graph.guess, "guess"),
            members=members,
            statistics=read_statistics(files, n_concepts=len(labels)),
            candidates={
                "floor": graph.candidates.floor,
                "top": graph.candidates.top,
                "most": graph.candidates.most,
            },
            stacker=load_stacker(files.folder / STACKER),
            rule=self._rule(DECISION),
            calibrated_by=self._rule(FORECAST) if graph.has_forecast else None,
            reference=self._at(self.references, graph.reference, "reference"),
            distance=read_distance(self.files, features=graph.distance),
            columns=graph.columns,
            looks=frozenset(self.looks),
        )

    def _error(self, text: str) -> BundleError:
        return BundleError(f"{self.files.shown}: {text}; make the bundle again")

    def _at(self, known: Sequence[T], number: int | None, what: str) -> T | None:
        """That of a number; None for none."""
        if number is None:
            return None
        if not 0 <= number < len(known):
            raise self._error(f"there is no {what} {number}")
        return known[number]

    def _named(self, name: str, who: str) -> Answer:
        """A part that stands before the one that is made of it."""
        if name not in self.parts:
            raise self._error(f"{who}: there is no part {name!r} before it")
        return self.parts[name]

    def _check_features(self, names: Sequence[str], who: str) -> int:
        """How many numbers these features have."""
        if not names:
            raise self._error(f"{who}: takes no features")
        for name in names:
            if name not in self.widths:
                raise self._error(f"{who}: no network gives the features {name!r}")
        return sum(self.widths[name] for name in names)

    def _names(self) -> dict[str, str]:
        path = self.files.path(NAMES)
        try:
            return read_pairs(path)
        except PredictionsError as error:
            text = str(error).removeprefix(f"{path}: ")
            raise BundleError(
                f"{self.files.shown / NAMES}: expected rows of CUI and name ({text}); make the"
                " bundle again"
            ) from None

    def _rule(self, name: str) -> DecisionRule:
        try:
            check_rule(self.files, name, labels=self.labels)
            return DecisionRule.load(self.files.path(name))
        except (ConfigError, LabelSpaceError) as error:
            text = str(error).removeprefix(f"{self.files.folder / name}: ")
            raise BundleError(f"{self.files.shown / name}: {text}; make the bundle again") from None

    def _network(self, name: str, entry: NetworkEntry) -> FeatureNetwork:
        stored = self.files.tensors(entry.weights)
        config = self._settings(entry, {"pooling": entry.pooling})
        backbone = backbone_of(config, stored.below(entry.prefix), stored=stored)
        if backbone.n_features != entry.n_features:
            raise self._error(f"network {name!r} gives {backbone.n_features} features")
        return feature_network(
            backbone.eval(), config, speed=_speed(entry.speed), device=self.device
        )

    def _settings(
        self, entry: NetworkEntry | DetectorEntry, others: Mapping[str, Any]
    ) -> BackboneConfig:
        """Settings of a network; what is not among them is of no account once it has learnt."""
        if not 32 <= entry.size <= _MOST_PIXELS:
            raise self._error(f"images of {entry.size} pixels; expected 32 to {_MOST_PIXELS:,}")
        return replace(
            BackboneConfig(),
            backbone=entry.backbone,
            weights="none",
            image_sizes=(entry.size,),
            resample=entry.resample,
            mirror=entry.mirror,
            **others,
        )

    def _guess(self, entry: GuessEntry) -> CategoryGuess:
        if len(entry.features) != len(entry.models):
            raise self._error("a guess has more views than models")
        stored = self.files.tensors(entry.weights)
        models: list[CategoryModel | None] = []
        for view, (names, model) in enumerate(zip(entry.features, entry.models, strict=True)):
            width, n = self._check_features(names, "guess"), len(CATEGORIES)
            if model is None:
                models.append(None)
                continue
            weights = stored.array(f"{view}.weights", None, n, width, dtype=np.float32)
            counts = stored.array(f"{view}.n_of_category", n, dtype=np.int64)
            if not model.temperature > 0 or not len(weights) or (counts < 0).any():
                raise stored.error("a temperature or number below 0, or no heads")
            models.append(
                CategoryModel(
                    mean=stored.array(f"{view}.mean", width, dtype=np.float32),
                    scale=stored.array(f"{view}.scale", width, dtype=np.float32),
                    weights=weights,
                    biases=stored.biases(f"{view}.biases", len(weights), n),
                    temperature=model.temperature,
                    accuracy=model.accuracy,
                    n_of_category=counts,
                )
            )
        lacking = (
            f"{self.files.shown}: made of an ensemble of an earlier version, which did not keep all"
            " that guessing the category of a new image takes; say it with --category"
        )
        return CategoryGuess(
            features=entry.features, models=tuple(models), lacking=lacking if entry.lacking else ""
        )

    def _part(self, entry: PartEntry) -> Answer:
        match entry:
            case DetectorEntry():
                return self._detector(entry)
            case HeadsEntry():
                return self._heads(entry)
            case RetrievalEntry():
                return self._retrieval(entry)
            case SharesEntry():
                stored, n = self.files.tensors(entry.weights), len(self.labels)
                return PriorAnswer(
                    name="prior",
                    labels=self.labels,
                    shares=[
                        stored.shares(str(view), len(_KINDS), n)
                        for view in range(self._n_views(entry.n_views, entry.name))
                    ],
                    guess=self._at(self.guesses, entry.guess, "guess"),
                )
            case PriorEntry():
                stored = self.files.tensors(entry.weights)
                return GivenPrior(prior=self._prior(stored, "", entry.n_images))
            case ConstrainedEntry():
                stored = self.files.tensors(entry.weights)
                self._n_views(len(entry.n_images), entry.name)
                return ConstrainedAnswer(
                    base=self._named(entry.base, entry.name),
                    priors=[
                        self._prior(stored, f"{view}.", n_images)
                        for view, n_images in enumerate(entry.n_images)
                    ],
                    at_least=entry.at_least,
                    guess=self._at(self.guesses, entry.guess, "guess"),
                )
            case VotedEntry():
                if not 0 <= entry.share <= 1:
                    raise self._error(f"{entry.name}: a share of {entry.share}")
                return VotedAnswer(
                    name=entry.strategy,
                    network=self._named(entry.network, entry.name),
                    votes=self._named(entry.votes, entry.name),
                    share=entry.share,
                )
            case RoutedEntry():
                return RoutedAnswer(
                    general=self._named(entry.general, entry.name),
                    specialists=[self._named(own, entry.name) for own in entry.specialists],
                    support=self._support(self.files.tensors(entry.weights)),
                    at_least=entry.at_least,
                    guess=self._at(self.guesses, entry.guess, "guess"),
                )

    def _n_views(self, n: int, who: str, *others: int) -> int:
        """The number of views of a part, the same of all that it has one of a view."""
        if n < 1 or any(other != n for other in others):
            raise self._error(f"{who}: has no views, or not as many of each thing")
        return n

    def _support(self, stored: TensorFile) -> Support:
        if strange := sorted({*stored.tensors} - {*CATEGORIES}):
            raise stored.error(f"no category {strange[0]!r}")
        n = len(self.labels)
        return {name: stored.array(name, n, dtype=np.int64) for name in stored.tensors}

    def _prior(self, stored: TensorFile, prefix: str, n_images: Mapping[str, int]) -> CategoryPrior:
        names = {name or "all": name for name in _KINDS}
        own = stored.below(prefix)
        if "all" not in own or {*own} - {*names} or {*n_images} - {*_KINDS}:
            raise stored.error("shares of other categories than there are")
        if any(n_images.get(names[name], 0) < 1 for name in own):
            raise stored.error("shares of a category without images")
        n = len(self.labels)
        probs = {names[name]: stored.shares(f"{prefix}{name}", n) for name in own}
        return CategoryPrior(
            labels=self.labels, probs=probs, n_images=n_images, fitted_on=frozenset()
        )

    def _detector(self, entry: DetectorEntry) -> LoadedDetector:
        if entry.category not in (GLOBAL, *CATEGORIES) or entry.fine_tuned == bool(entry.features):
            raise self._error(f"part {entry.name!r}: a category that is none, or its features")
        stored, labels = self.files.tensors(entry.weights), LabelSpace.load(
            self.files.path(entry.labels)
        )  # fmt: skip
        self.labels.columns(labels.cuis)  # refuses others
        if entry.n_at_once < 1:
            raise self._error(f"part {entry.name!r}: {entry.n_at_once} images at once")
        states = stored.networks()
        others = {"hidden": entry.hidden, "batch_size": entry.n_at_once}
        if entry.fine_tuned:
            others |= {"regime": "full", "pooling": entry.pooling, "head": entry.head}
            others |= {"n_queries": entry.n_queries, "query_width": entry.query_width}
        config = self._settings(entry, others)
        if entry.fine_tuned:
            own = [backbone_state(state) for state in states]
            bare = iter([backbone_of(config, state, stored=stored) for state in own])
            width = 0
        else:
            width = self._check_features(entry.features, entry.name)
        for state in states:
            widths = stored.fitting(partial(layer_widths, config, len(labels), detector=state))
            check_widths(state, (width, *widths), stored=stored)
        detector = stored.fitting(
            lambda: detector_of(
                [{n: t for n, t in state.items() if n not in _SCALE} for state in states],
                config,
                labels=labels,
                category=entry.category,
                features=entry.features,
                speed=_speed(entry.speed),
                device=self.device,
                bare=lambda: next(bare),
            )
        )
        if entry.fine_tuned:
            self.looks.add(detector.look)
        return detector

    def _heads(self, entry: HeadsEntry) -> HeadsAnswer:
        if entry.strategy not in READABLE:
            raise self._error(f"part {entry.name!r}: no strategy {entry.strategy!r}")
        n_views = self._n_views(len(entry.features), entry.name, len(entry.encoders))
        stored = self.files.tensors(entry.weights)
        states = stored.networks()
        if len(states) % n_views:
            raise stored.error(f"{len(states)} networks of {n_views} views")
        n_each = len(states) // n_views
        config = replace(FuseConfig(), hidden=entry.hidden)
        encoders, networks = [], []
        for view, names in enumerate(entry.features):
            width = self._check_features(names, entry.name)
            check_columns(self.files, entry.encoders[view], known=self.graph.columns)
            encoders.append(MetadataEncoder.load(self.files.path(entry.encoders[view])))
            own = states[view * n_each : (view + 1) * n_each]
            for state in own:
                check_widths(state, (width, *entry.hidden, len(self.labels)), stored=stored)
            networks.append(
                stored.fitting(
                    lambda own=own, width=width, encoder=encoders[-1]: read_heads(  # type: ignore[misc]
                        entry.strategy,
                        own,
                        config=config,
                        n_features=width,
                        n_metadata=encoder.width,
                        n_concepts=len(self.labels),
                    )
                )
            )
        return HeadsAnswer(
            name=entry.strategy,
            labels=self.labels,
            features=entry.features,
            networks=networks,
            encoders=encoders,
            guess=self._at(self.guesses, entry.guess, "guess"),
            device=self.device,
            hidden=entry.hidden,
        )

    def _retrieval(self, entry: RetrievalEntry) -> RetrievalAnswer:
        n_views = self._n_views(len(entry.references), entry.name, len(entry.k))
        self._n_views(n_views, entry.name, len(entry.temperature))
        if min(entry.k) < 1 or min(entry.temperature) <= 0:
            raise self._error(f"part {entry.name!r}: k or temperature below what there is")
        return RetrievalAnswer(
            name=entry.strategy,
            labels=self.labels,
            references=[self._reference(number) for number in entry.references],
            k=entry.k,
            temperature=entry.temperature,
            by_category=entry.by_category,
            guess=self._at(self.guesses, entry.guess, "guess"),
        )

    def _reference(self, number: int) -> Reference:
        found = self._at(self.references, number, "reference")
        assert found is not None
        return found


_MOST_PIXELS = 4096

_SCALE = ("backbone.mean", "backbone.std")


def _speed(entry: SpeedEntry) -> FoundSpeed:
    return FoundSpeed(words=entry.words, device=entry.device)
