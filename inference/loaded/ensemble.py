"""A finished ensemble that decides new images; it knows nothing of the images it was made from.

Where its parts are read from is nobody's business here: `inference.loaded.workspace` reads them
from the runs of a workspace.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.labels import LabelSpace
from core.predictions import AnyPredictions, restrict
from core.runs.decoding import Decoding
from core.runs.detectors import GLOBAL
from core.runs.ensemble import DECISION_RULES
from core.runs.fused import with_guesses
from ensembles.decisions.rule import BY_THRESHOLDS, DecisionRule
from ensembles.distance.features import as_points
from ensembles.distance.model import DistanceModel
from ensembles.forecast.forecast import expected_scores
from ensembles.pairs import values_at
from ensembles.stacking.candidates import make_candidates
from ensembles.stacking.label_statistics import LabelStatistics
from ensembles.stacking.sources import Source
from ensembles.stacking.stacker import Stacker
from inference.loaded.answers import Reference
from inference.loaded.block import Answer, CategoryGuess, ImageBlock
from inference.loaded.networks import FeatureNetwork, Look
from inference.threads import in_turn

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedMember:
    """A source of the ensemble, read again.

    Attributes:
        name: as the stacker knows it.
        answer: what it says.
        category: of a specialist, whose say counts for images of its category alone, given or
            guessed; `GLOBAL` for every other source.
    """

    name: str
    answer: Answer
    category: str = GLOBAL

    def source(self, block: ImageBlock, *, named: Sequence[str], labels: LabelSpace) -> Source:
        """What it knows of the images of a block.

        Args:
            block: the images.
            named: category of each, given or guessed.
            labels: the full label space.
        """
        said: AnyPredictions = block.ask(self.answer)
        ids = block.table.image_ids
        if self.category != GLOBAL:
            own = frozenset(i for i, name in zip(ids, named, strict=True) if name == self.category)
            said = restrict(said, own, labels=said.labels)
        return replace(Source.of(said, image_ids=ids, labels=labels), name=self.name)


@dataclass(frozen=True, kw_only=True)
class DecidedConcept:
    """A concept of an image, decided or a candidate.

    Attributes:
        cui: the concept.
        name: its preferred name, "" where none is known.
        probability: calibrated, in [0, 1].
        decided: whether the image gets it.
        rule: why, in words; "" for a candidate.
    """

    cui: str
    name: str
    probability: float
    decided: bool
    rule: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Decisions:
    """What an ensemble says of n images.

    Attributes:
        image_ids: n ids.
        categories: given or guessed; `UNKNOWN` where neither is possible.
        guessed: (n,) whether the category is a guess.
        labels: L concepts.
        names: of concepts.
        probs: (n, L) stacked probabilities, before calibration.
        decided: (n, L) boolean.
        calibrated: (n, L) probabilities as they are told.
        because: number in `rules` of each decided pair, by row and column.
        rules: what decided, in words.
        expected_f1: (n,) F1 that the decided set of an image is expected to score, less where it
            lies far from what was learnt; NaN where the ensemble holds no calibrated probabilities.
        review: (n,) its place in the order of review, 0 the first, see `DistanceModel.places`; NaN
            where the ensemble does not tell.
        distance: (n,) how far it lies: 0 for a usual image of its category, 0.7 for one twice as
            far from those that were learnt from, see `ensembles.distance.known`; NaN where the
            ensemble does not tell.
        nearest: (n,) cosine of the image's features to the nearest training image, 1 for one of
            them; NaN where the ensemble holds no features of these.
        nearest_image: id of that image; "" where the ensemble holds no ids.
    """

    image_ids: tuple[str, ...]
    categories: tuple[str, ...]
    guessed: npt.NDArray[np.bool_]
    labels: LabelSpace
    names: Mapping[str, str]
    probs: Floats
    decided: csr_array
    calibrated: Floats
    because: Mapping[tuple[int, int], str]
    expected_f1: npt.NDArray[np.float64]
    review: npt.NDArray[np.float64]
    distance: npt.NDArray[np.float64]
    nearest: Floats
    nearest_image: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.image_ids)

    def concepts(self, row: int, *, top: int = 0) -> Iterator[DecidedConcept]:
        """The decided concepts of an image, the most probable first, then candidates.

        Args:
            row: of the image.
            top: the most probable concepts that were not decided, so many.
        """
        own = self.calibrated[row]
        start, stop = self.decided.indptr[row], self.decided.indptr[row + 1]
        taken = np.sort(self.decided.indices[start:stop])
        others = np.setdiff1d(np.argsort(-own, kind="stable")[: top + len(taken)], taken)
        others = others[np.argsort(-own[others], kind="stable")][:top]
        for column in (*taken[np.argsort(-own[taken], kind="stable")], *others):
            cui = self.labels.cuis[column]
            rule = self.because.get((row, int(column)), "")
            yield DecidedConcept(
                cui=cui,
                name=self.names.get(cui, ""),
                probability=float(own[column]),
                decided=bool(rule),
                rule=rule,
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedEnsemble:
    """Everything that decides new images.

    Attributes:
        labels: L concepts.
        names: of concepts.
        edition: year whose submission format is usual for it.
        decoding: how files are read that leave a choice.
        networks: by the name of the features that they give.
        guess: of the category, as decisions go by; None where there is none.
        members: the sources, in the order of the stacker's features.
        statistics: what training labels say.
        candidates: `floor`, `top` and `most` of `make_candidates`.
        stacker: from sources to one probability.
        rule: from probabilities to sets.
        calibrated_by: whose calibration and number of concepts are told; None where there is none.
        reference: training images, to find the nearest one of a new one; None without.
        distance: how far new images lie from what was learnt, and what that costs; None without.
        columns: further columns that heads take.
        looks: images that detectors and networks take.
    """

    labels: LabelSpace
    names: Mapping[str, str]
    edition: int
    decoding: Decoding
    networks: Mapping[str, FeatureNetwork]
    guess: CategoryGuess | None
    members: Sequence[LoadedMember]
    statistics: LabelStatistics
    candidates: Mapping[str, float]
    stacker: Stacker
    rule: DecisionRule
    calibrated_by: DecisionRule | None
    reference: Reference | None
    distance: DistanceModel | None
    columns: tuple[str, ...]
    looks: frozenset[Look]

    @in_turn
    def decide(self, block: ImageBlock) -> Decisions:
        """What it says of the images of a block; one thread at a time, the others wait."""
        given = block.table
        table = with_guesses(given, block.guessed(self.guess))
        probs = self._stacked(block, table.categories)
        decided = self.rule.decide(probs, categories=table.categories, labels=self.labels)
        expected = np.full(len(block), np.nan)
        if self.calibrated_by is not None:
            found, _ = expected_scores(
                self.calibrated_by,
                decided,
                probs=probs,
                categories=table.categories,
                labels=self.labels,
            )
            expected = found.f1
        distance = review = np.full(len(block), np.nan)
        if self.distance is not None:
            points = as_points([block.features((name,)) for name in self.distance.features])
            distance = self.distance.distances(points, table.categories)
            expected = self.distance.alone(expected, distance)
            review = self.distance.places(expected)
        nearest, nearest_image = np.full(len(block), np.nan, dtype=np.float32), ("",) * len(block)
        if self.reference is not None:
            nearest, nearest_image = self.reference.nearest(block)
        return Decisions(
            image_ids=table.image_ids,
            categories=table.categories,
            guessed=np.array(given.categories) != np.array(table.categories),
            labels=self.labels,
            names=self.names,
            probs=probs.toarray(),
            decided=decided,
            calibrated=self._calibrated(probs, table.categories),
            because=self._because(decided, probs, table.categories),
            expected_f1=expected,
            review=review,
            distance=distance,
            nearest=nearest,
            nearest_image=nearest_image,
        )

    def _stacked(self, block: ImageBlock, named: Sequence[str]) -> csr_array:
        """(n, L) probabilities of the stacker; 0 for what is no candidate."""
        pairs = make_candidates(
            [member.source(block, named=named, labels=self.labels) for member in self.members],
            label_statistics=self.statistics,
            category_weights=self.statistics.category_weights(named),
            floor=float(self.candidates["floor"]),
            top=int(self.candidates["top"]),
            most=int(self.candidates["most"]),
        )
        return pairs.to_sparse(self.stacker.predict(pairs))

    def _calibrated(self, probs: csr_array, named: Sequence[str]) -> Floats:
        """(n, L) probabilities as they are told: calibrated, 1 for what a category always gets."""
        known = self.rule.with_always(probs, categories=named, labels=self.labels)
        rows, columns = known.nonzero()
        found = np.zeros(known.shape, dtype=np.float32)
        found[rows, columns] = self._told.calibration.of_pairs(
            values_at(known, rows, columns=columns), columns.astype(np.int32), labels=self.labels
        )
        return found

    @cached_property
    def _told(self) -> DecisionRule:
        return self.calibrated_by or self.rule

    def _because(
        self, decided: csr_array, probs: csr_array, named: Sequence[str]
    ) -> dict[tuple[int, int], str]:
        """What decided each pair: a constant concept, the rule, or that no image stays empty."""
        bare = replace(self.rule, nomissing=False)
        by_rule = bare.decide(probs, categories=named, labels=self.labels)
        empty = np.diff(by_rule.indptr) == 0
        rows, columns = decided.nonzero()
        always = {c: frozenset(cuis) for c, cuis in self.rule.always.items()}
        thresholds = self.rule.thresholds if self.rule.kind == BY_THRESHOLDS else None
        adjusted = self.rule.adjustment is not None
        title = "" if thresholds else DECISION_RULES[self.rule.kind].title
        told = [f"{title}, adjusted by the prior" if adjusted else title] * len(rows)
        if thresholds is not None:
            own = thresholds.of_concepts(self.labels)[columns]
            reached = np.where(np.isnan(own), thresholds.of_images(named)[rows], own)
            reached = reached.astype(np.float32)
            if self.rule.adjustment is not None:  # thresholds are of adjusted values
                reached = self.rule.adjustment.inverse(reached, columns, labels=self.labels)
            shown = self._told.calibration.of_pairs(reached, columns, labels=self.labels)
            told = [f"threshold {threshold:.3f}" for threshold in shown.tolist()]
        found = {}
        for row, column, words in zip(rows.tolist(), columns.tolist(), told, strict=True):
            if self.labels.cuis[column] in always.get(named[row], ()):
                words = f"always in {named[row]}"
            elif empty[row]:
                most = "the most probable once adjusted" if adjusted else "the most probable"
                words = f"{most}, no other was decided"
            found[row, column] = words
        return found
