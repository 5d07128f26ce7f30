"""Ways from what is given to one answer in the full label space, by name."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import partial

import numpy as np

from core.categories import CATEGORIES, UNKNOWN
from core.errors import ConfigError
from core.images import ImageTable
from core.metrics import column_sums
from core.predictions import Predictions, Probs
from core.runs.detectors import GLOBAL
from core.runs.fused import BLIND, PRIOR
from fusion.combine import Support, blend, choose_on_valid, route, settled, with_constants
from fusion.config import FuseConfig
from fusion.inputs.gather import SPLITS, Given
from fusion.networks.end_to_end import SUFFIX, end_to_end
from fusion.networks.late import LATE, late
from fusion.networks.train import HEADS, network
from fusion.result import Fused, Made, Strategy, as_predictions
from fusion.retrieval.votes import retrieval

_SHARES = (0.5, 0.25, 0.75, 0.0)
"""Shares of the neighbours' votes that are tried; the first of equals is taken."""


def prior(given: Given, config: FuseConfig, made: Made) -> Fused:
    """How often a concept stands on training images of the category.

    Images that cannot be decoded have an answer as well.
    """
    of_category = given.corpus.prior
    shares = np.stack([of_category.of_category(category) for category in (*CATEGORIES, UNKNOWN)])

    def images(split: str) -> ImageTable:
        return given.corpus.table.of(split=split)

    def answer(*, withheld: bool) -> dict[str, Predictions]:
        probs = {}
        for split in SPLITS:
            likely = given.likely(images(split), withheld=withheld)
            unsaid = 1 - likely.sum(axis=1, keepdims=True)
            probs[split] = np.clip(np.concatenate([likely, unsaid], axis=1) @ shares, 0, 1)
        return as_predictions(PRIOR, given, probs, images=images)

    return Fused(
        predictions=answer(withheld=False),
        withheld={} if given.withheld is None else answer(withheld=True),
    )


def constrained(given: Given, config: FuseConfig, made: Made) -> Fused:
    """The one-hot head, with the constant concepts of a category as sure as the category."""
    base = made["one-hot"]

    def answer(predictions: Mapping[str, Predictions], *, withheld: bool) -> dict[str, Probs]:
        return {
            split: with_constants(
                of_split.probs,
                given.likely(given.corpus.images(split), withheld=withheld),
                given.corpus.prior,
                at_least=config.constant_from,
            )
            for split, of_split in predictions.items()
        }

    return Fused(
        predictions=as_predictions("constrained", given, answer(base.predictions, withheld=False)),
        withheld=as_predictions("constrained", given, answer(base.withheld, withheld=True)),
    )


def voted(given: Given, config: FuseConfig, made: Made, *, name: str) -> Fused:
    """A network together with the votes of the nearest images: the two parts of `NEEDS`.

    The votes' share in the log odds is chosen on valid, cross-fitted.
    """
    seen, votes = (made[part] for part in NEEDS[name])

    def variants(of: Predictions, other: Predictions) -> list[Probs]:
        return [blend(of.probs, other.probs, share) for share in _SHARES]

    known = {s: variants(seen.predictions[s], votes.predictions[s]) for s in SPLITS}
    choice = choose_on_valid(given, known["valid"])
    withheld = {s: variants(p, votes.withheld[s]) for s, p in seen.withheld.items()}
    return Fused(
        predictions=as_predictions(name, given, settled(given, known, choice)),
        withheld=as_predictions(name, given, settled(given, withheld, choice)),
        chosen={"share of the votes": _SHARES[choice.best]},
    )


def routed(given: Given, config: FuseConfig, made: Made) -> Fused:
    """Specialists where they know, elsewhere the global detector, or the fused head without one.

    A specialist's say takes training images of the concept; how many, is chosen on valid,
    cross-fitted.
    """
    general = next((run for run in given.detectors if run.category == GLOBAL), None)
    specialists = [run for run in given.detectors if run.category != GLOBAL]
    if general is None and "one-hot" not in made:
        raise ConfigError(
            "strategies: `routed` needs the global detector, or `one-hot` named before it"
        )
    support = _support(given)
    routes: dict[str, list[Predictions]] = {}
    for split in SPLITS:
        base = general.predictions(split) if general else made["one-hot"].predictions[split]
        own = [run.predictions(split) for run in specialists]
        routes[split] = [route(base, own, support=support, at_least=n) for n in config.support]
    known = {split: [r.probs for r in of_split] for split, of_split in routes.items()}
    choice = choose_on_valid(given, known["valid"])
    probs = settled(given, known, choice)
    return Fused(
        predictions={s: replace(r[0], probs=probs[s]) for s, r in routes.items()},
        contains=tuple(run.name for run in specialists),
        chosen={"support": config.support[choice.best]},
    )


def _support(given: Given) -> Support:
    """(L,) training images of each concept, by category."""
    train = given.training_images()
    return {
        category: column_sums(train.of(category=category).targets(given.corpus.labels).matrix)
        for category in given.corpus.training_categories
    }


NEEDS: dict[str, tuple[str, ...]] = {
    "constrained": ("one-hot",),
    "voted": ("prior-offset", "retrieval"),
    "voted-blind": (BLIND, "retrieval-global"),
}
"""Strategies that a strategy is made of."""

STRATEGIES: dict[str, Strategy] = {
    **{name: partial(network, name=name) for name in HEADS},
    **{name: partial(late, name=name) for name in LATE},
    "constrained": constrained,
    "retrieval": partial(retrieval, by_category=True),
    "retrieval-global": partial(retrieval, by_category=False),
    "voted": partial(voted, name="voted"),
    "voted-blind": partial(voted, name="voted-blind"),
    "routed": routed,
    PRIOR: prior,
}
"""In an order in which each comes after those that it is made of."""

END_TO_END: dict[str, Strategy] = {
    f"{name}{SUFFIX}": partial(end_to_end, name=name) for name in HEADS
}
"""Heads whose gradient goes into the network below them: minutes to hours each."""

ALL = "all"


def in_order(names: Sequence[str]) -> tuple[str, ...]:
    """The named strategies and those that they are made of, each once, in the order of making.

    Args:
        names: of `STRATEGIES` and `END_TO_END`; `ALL` stands for all of the former.

    Raises:
        ConfigError: a strategy is not known.
    """
    known = STRATEGIES | END_TO_END
    if unknown := [name for name in names if name not in (*known, ALL)]:
        near = get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"strategies: unknown {unknown[0]!r}; {hint}known: {', '.join(STRATEGIES)}, {ALL};"
            f" networks with {SUFFIX} behind the name are trained end to end"
        )
    wanted = set(STRATEGIES) if ALL in names else set()
    wanted |= set(names) - {ALL}
    wanted |= {part for name in wanted for part in NEEDS.get(name, ())}
    return tuple(name for name in known if name in wanted)
