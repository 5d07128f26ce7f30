"""A teacher beside the targets: images learn to lie at the points of their texts.

While a network learns, its last layer has further outputs, one a number of the text space; once it
has learnt they are taken off. So nothing that predicts knows of a text, and a network is on disk
what it would be without a teacher.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from core.errors import ConfigError
from training.predict import Rows
from training.texts.spaces import N_NUMBERS, Points, hashed_space


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """Texts of images, and what they weigh.

    Attributes:
        texts: a text an image, "" where there is none.
        weight: of the mean loss of lessons beside that of the targets.
        n_numbers: d, of the text space.
        space: (T, d) points of T different texts, no more than d numbers each.
    """

    texts: tuple[str, ...]
    weight: float
    n_numbers: int
    space: Callable[[Sequence[str]], Points]

    @classmethod
    def hashed(cls, texts: Sequence[str], *, weight: float, seed: int) -> "Teacher":
        """By n-grams, whose space is fitted on the texts of the images that are learnt from."""

        def space(distinct: Sequence[str]) -> Points:
            return hashed_space(distinct, n_numbers=N_NUMBERS, seed=seed, in_at_least=2)

        return cls(texts=tuple(texts), weight=weight, n_numbers=N_NUMBERS, space=space)

    @classmethod
    def placed(
        cls, texts: Sequence[str], points: Mapping[str, Points], *, weight: float
    ) -> "Teacher":
        """By points that are known, of a space that nothing here was fitted to."""
        n_numbers = len(next(iter(points.values())))

        def space(distinct: Sequence[str]) -> Points:
            return np.stack([points[text] for text in distinct])

        return cls(texts=tuple(texts), weight=weight, n_numbers=n_numbers, space=space)

    def with_repeated(self, places: Rows) -> "Teacher":
        """The teacher of these images, followed by some of them once more."""
        return replace(self, texts=(*self.texts, *(self.texts[place] for place in places)))

    def points(self, learnt: Rows) -> Tensor:
        """(n, d) points of all images, at 0 but for those learnt from that have a text.

        Args:
            learnt: places of the images that a network learns from: the text space is fitted on
                theirs alone.
        """
        points = torch.zeros(len(self.texts), self.n_numbers)
        told = [place for place in learnt.tolist() if self.texts[place]]
        distinct = {text: k for k, text in enumerate(sorted({self.texts[i] for i in told}))}
        if not distinct:
            return points
        found = torch.from_numpy(self.space(list(distinct))).float()
        points[told, : found.shape[1]] = found[[distinct[self.texts[place]] for place in told]]
        return points

    def mean_loss(self, told: Tensor, lessons: Tensor) -> Tensor:
        """() or of a stack (S,) the mean of 1 - cosine over the images that have a text.

        Args:
            told: (..., B, d) outputs.
            lessons: (..., B, d + 1) of `lessons_of`.
        """
        points, counts = lessons[..., :-1], lessons[..., -1]
        apart = 1 - cosine_similarity(told, points, dim=-1)
        return (counts * apart).mean(dim=-1)


def lessons_of(points: Tensor) -> Tensor:
    """(..., B, d + 1) points, and a column with 1 for each that is not at 0.

    Lessons are mixed as targets are. The point of a mixed image lies between those of its two; if
    one of them has none, it counts for as much of the loss as the other is of the image.
    """
    return torch.cat([points, points.any(dim=-1, keepdim=True).float()], dim=-1)


def counted(lessons: Tensor) -> Tensor:
    """The lessons of a whole batch, the last column such that a mean over it is one of those told.

    So a batch that is taken in parts has the loss that it would have as a whole.
    """
    counts = lessons[..., -1:]
    mean = counts.mean(dim=-2, keepdim=True)
    return torch.cat([lessons[..., :-1], counts / mean.clamp_min(_LEAST)], dim=-1)


_LEAST = 1e-6
"""Of a mean: a batch in which no image has a text."""


def last_layer(model: nn.Module) -> nn.Linear:
    """The last fully connected layer of a network."""
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]


def widen(model: nn.Module, n_numbers: int, *, n_targets: int, seed: int) -> None:
    """Give the last layer further outputs, drawn as torch draws a layer, by a seed of their own.

    The other outputs, and what is drawn after, are those of a network without a teacher.

    Raises:
        ConfigError: the last layer has not an output a target.
    """
    last = last_layer(model)
    if last.out_features != n_targets:
        raise ConfigError(
            f"a caption teaches networks whose last layer has an output a concept ({n_targets});"
            f" this one has {last.out_features}"
        )
    bound = last.in_features**-0.5
    rng = torch.Generator().manual_seed(seed)
    further = torch.empty(n_numbers, last.in_features).uniform_(-bound, bound, generator=rng)
    _set(
        last,
        torch.cat([last.weight.detach(), further.to(last.weight)]),
        torch.cat([last.bias.detach(), last.bias.new_zeros(n_numbers)]),
    )


def narrow(model: nn.Module, *, n_targets: int) -> None:
    """Take the further outputs off again."""
    last = last_layer(model)
    _set(last, *(own.detach()[:n_targets].clone() for own in (last.weight, last.bias)))


def _set(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    layer.weight = nn.Parameter(weight, requires_grad=layer.weight.requires_grad)
    layer.bias = nn.Parameter(bias, requires_grad=layer.bias.requires_grad)
    layer.out_features = len(weight)
