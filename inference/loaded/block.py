"""Some new images with all that is computed of them, each thing once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from core.categories import CATEGORIES
from core.errors import MissingStageError
from core.images import ImageTable
from core.labels import LabelSpace
from core.predictions import Predictions, Probs
from fusion.inputs.category import CategoryModel, one_hot
from inference.loaded.networks import FeatureNetwork, Look

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


class Answer(Protocol):
    """A source that can be asked of new images."""

    def __call__(self, block: "ImageBlock", /) -> Predictions:
        """What it says of those images of the block that it knows."""
        ...


@dataclass(frozen=True, kw_only=True)
class CategoryGuess:
    """What features say of the category, by a model a view of the corpus.

    Attributes:
        features: by view, names of the features that its model takes.
        models: None for a view whose categories could not be guessed.
        lacking: why there are no models although there should be, and what to do; "" else.
    """

    features: tuple[tuple[str, ...], ...]
    models: tuple[CategoryModel | None, ...]
    lacking: str = ""

    def require(self) -> None:
        """Refuse a guess whose models are not there.

        Raises:
            MissingStageError: they are not; the command that makes them is named.
        """
        if self.lacking:
            raise MissingStageError(self.lacking)

    def posterior(self, block: "ImageBlock", view: int | None) -> Floats | None:
        """(n, 7) P(category | features), of a view or of all together; None where there is none.

        Raises:
            MissingStageError: as `require`.
        """
        self.require()
        if view is not None:
            model = self.models[view]
            return None if model is None else model.posterior(block.features(self.features[view]))
        found = [self.posterior(block, number) for number in range(len(self.models))]
        known = [posterior for posterior in found if posterior is not None]
        if len(known) < len(found):
            return None
        if len(known) == 1:
            return known[0]
        mean: Floats = np.stack(known).mean(axis=0, dtype=np.float32)
        return mean


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageBlock:
    """n new images; what is asked twice is computed once.

    Attributes:
        table: the images, with the categories that are given, and further columns.
        pixels: (n, S, S, 3) by size and way of scaling.
        networks: by the name of the features that they give.
    """

    table: ImageTable
    pixels: Mapping[Look, Pixels]
    networks: Mapping[str, FeatureNetwork]
    _features: dict[str, Floats] = field(default_factory=dict)
    _answers: dict[int, Predictions] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def unknown(self) -> npt.NDArray[np.bool_]:
        """(n,) whether no category is given."""
        return np.array([not category for category in self.table.categories], dtype=np.bool_)

    def features(self, names: tuple[str, ...]) -> Floats:
        """(n, D) pooled features of these names, side by side."""
        for name in names:
            if name not in self._features:
                network = self.networks[name]
                self._features[name] = network(self.pixels[network.look])
        parts = [self._features[name] for name in names]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def likely(self, guess: CategoryGuess | None, *, view: int | None) -> Floats:
        """(n, 7) certainty of each category: 1 where it is given, else the guess, else zeros.

        Args:
            guess: what the features say of the category.
            view: of the corpus, whose model guesses; None for all together.
        """
        found = one_hot(self.table.categories)
        if guess is not None and self.unknown.any():
            posterior = guess.posterior(self, view)
            if posterior is not None:
                found[self.unknown] = posterior[self.unknown]
        return found

    def guessed(self, guess: CategoryGuess | None) -> dict[str, str]:
        """Image id to the likeliest category, of the images without a given one.

        Args:
            guess: the last view's counts, as where test images were guessed.
        """
        if guess is None or not self.unknown.any():
            return {}
        posterior = guess.posterior(self, len(guess.models) - 1)
        if posterior is None:
            return {}
        likeliest = [CATEGORIES[column] for column in posterior.argmax(axis=1)]
        pairs = zip(self.table.image_ids, likeliest, self.unknown, strict=True)
        return {image_id: name for image_id, name, unknown in pairs if unknown}

    def ask(self, answer: Answer) -> Predictions:
        """What a source says of the images, asked once however many parts need it."""
        key = id(answer)
        if key not in self._answers:
            self._answers[key] = answer(self)
        return self._answers[key]

    def predictions(
        self, name: str, probs: Probs, *, labels: LabelSpace, image_ids: Sequence[str] | None = None
    ) -> Predictions:
        """Probabilities of these images, or of some of them, fitted on none of them."""
        ids = self.table.image_ids if image_ids is None else tuple(image_ids)
        return Predictions(
            source=name, image_ids=ids, labels=labels, probs=probs, fitted_on=frozenset()
        )
