"""Ways from what is given to one answer in the full label space, by name."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from functools import partial

import numpy as np
import numpy.typing as npt

from core.categories import CATEGORIES, UNKNOWN
from core.errors import ConfigError
from core.images import LABELLED, ImageTable
from core.metrics import column_sums
from core.predictions import Predictions, Probs, row_numbers
from core.prior import CategoryPrior
from core.runs.detectors import GLOBAL
from core.runs.fused import NO_METADATA, PRIOR, ZERO_SHOT
from core.runs.out_of_fold import join_folds
from core.runs.workspace import Corpus
from fusion.combine import (
    Support,
    blend,
    choose_on_valid,
    cross_fitted_variants,
    route,
    with_constants,
)
from fusion.config import PRESETS, FuseConfig
from fusion.inputs.gather import SPLITS, FusionInputs
from fusion.networks.end_to_end import SUFFIX, end_to_end
from fusion.networks.late import LATE, late
from fusion.networks.train import HEADS, network
from fusion.result import Earlier, FusedResult, Strategy, as_predictions
from fusion.retrieval.votes import retrieval
from fusion.words.queries import WORDS, words
from fusion.words.zero_shot import zero_shot
from training.config import FitConfig

VOTES = "share of the votes"
"""What a voted run calls the share that it chose."""

GENERAL_ALONE = "general alone"
"""What a routed run that hears no specialist says in place of the images that their say takes."""

_SHARES = (0.5, 0.25, 0.75, 0.0)
"""Shares of the neighbours' votes that are tried; the first of equals is taken."""


def prior(fusion_inputs: FusionInputs, config: FuseConfig, *, earlier: Earlier) -> FusedResult:
    """How often a concept stands on training images of the category.

    Images that cannot be decoded have an answer as well.
    """
    shares = prior_shares(fusion_inputs.corpus.prior)

    def images(split: str) -> ImageTable:
        return fusion_inputs.corpus.table.of(split=split)

    def answer(*, without_category: bool) -> dict[str, Predictions]:
        probs = {}
        for split in SPLITS:
            likely = fusion_inputs.likely(images(split), without_category=without_category)
            probs[split] = expected_shares(shares, likely)
        return as_predictions(PRIOR, fusion_inputs, probs=probs, images=images)

    return FusedResult(
        predictions=answer(without_category=False),
        without_category={}
        if fusion_inputs.without_category is None
        else answer(without_category=True),
    )


def prior_shares(of_category: CategoryPrior) -> Probs:
    """(8, L) share of each concept in each category, in the order of `CATEGORIES`, and in all."""
    return np.stack([of_category.of_category(category) for category in (*CATEGORIES, UNKNOWN)])


def expected_shares(shares: Probs, likely: npt.NDArray[np.float32]) -> Probs:
    """(n, L) shares under the certainty of the categories, those of all where nothing is said.

    Args:
        shares: (8, L) of `prior_shares`.
        likely: (n, 7) certainty of each category.
    """
    unsaid = 1 - likely.sum(axis=1, keepdims=True)
    found: Probs = np.clip(np.concatenate([likely, unsaid], axis=1) @ shares, 0, 1)
    return found


def constrained(
    fusion_inputs: FusionInputs, config: FuseConfig, *, earlier: Earlier
) -> FusedResult:
    """The one-hot head, with the constant concepts of a category as sure as the category."""
    base = earlier["one-hot"]

    def answer(
        predictions: Mapping[str, Predictions], *, without_category: bool
    ) -> dict[str, Probs]:
        return {
            split: with_constants(
                of_split.probs,
                fusion_inputs.likely(
                    fusion_inputs.corpus.images(split), without_category=without_category
                ),
                prior=fusion_inputs.corpus.prior,
                at_least=config.constant_from,
            )
            for split, of_split in predictions.items()
        }

    return FusedResult(
        predictions=as_predictions(
            "constrained", fusion_inputs, probs=answer(base.predictions, without_category=False)
        ),
        without_category=as_predictions(
            "constrained", fusion_inputs, probs=answer(base.without_category, without_category=True)
        ),
    )


def voted(
    fusion_inputs: FusionInputs, config: FuseConfig, *, earlier: Earlier, name: str
) -> FusedResult:
    """A network together with the votes of the nearest images: the two parts of `NEEDS`.

    The votes' share in the log odds is chosen on valid, cross-fitted.
    """
    seen, votes = (earlier[part] for part in NEEDS[name])

    def variants(of: Predictions, other: Predictions) -> list[Probs]:
        return [blend(of.probs, other.probs, share=share) for share in _SHARES]

    scored = fusion_inputs.corpus.scored
    known = {s: variants(p, votes.predictions[s]) for s, p in seen.predictions.items()}
    choice = choose_on_valid(fusion_inputs, known[scored])
    without_category = {
        s: variants(p, votes.without_category[s]) for s, p in seen.without_category.items()
    }
    return FusedResult(
        predictions=_in_place(
            name, seen.predictions, cross_fitted_variants(fusion_inputs, known, choice=choice)
        ),
        without_category=_in_place(
            name,
            seen.without_category,
            cross_fitted_variants(fusion_inputs, without_category, choice=choice),
        ),
        chosen={VOTES: _SHARES[choice.best]},
    )


def _in_place(
    name: str, predictions: Mapping[str, Predictions], probs: Mapping[str, Probs]
) -> dict[str, Predictions]:
    """Other probabilities by what was fitted on the same images."""
    return {s: replace(p, source=name, probs=probs[s]) for s, p in predictions.items()}


def routed(fusion_inputs: FusionInputs, config: FuseConfig, *, earlier: Earlier) -> FusedResult:
    """Specialists where they know, elsewhere the global detector, or the fused head without one.

    A specialist's say takes training images of the concept; how many, is chosen on valid,
    cross-fitted. Where no category is given, all specialists are heard, each as its category is
    likely by the features. The general source alone is then one of what is chosen from: labels may
    be too poor in modalities for specialists to be worth hearing.
    """
    general = next((run for run in fusion_inputs.detectors if run.category == GLOBAL), None)
    specialists = [run for run in fusion_inputs.detectors if run.category != GLOBAL]
    if general is None and "one-hot" not in earlier:
        raise ConfigError(
            "strategies: `routed` needs the global detector, or `one-hot` named before it"
        )
    corpus = fusion_inputs.corpus
    counted = (corpus, *corpus.views) if corpus.crossfit else (corpus,)
    supports = {each.fingerprint: support_of(each) for each in counted}
    routes: dict[str, list[Predictions]] = {}
    table, guessed = corpus.table, UNKNOWN in corpus.images(corpus.scored).categories
    for split in fusion_inputs.splits:
        base = general.predictions(split) if general else earlier["one-hot"].predictions[split]
        own = [run.predictions(split) for run in specialists]
        likely = fusion_inputs.likely(table.take(table.row_numbers(base.image_ids)))
        routes[split] = [
            _route(
                corpus,
                split,
                base=base,
                own=own,
                supports=supports,
                at_least=n,
                likely=likely,
            )
            for n in config.support
        ]
        if guessed:
            routes[split].append(base)
    known = {split: [r.probs for r in of_split] for split, of_split in routes.items()}
    choice = choose_on_valid(fusion_inputs, known[corpus.scored])
    probs = cross_fitted_variants(fusion_inputs, known, choice=choice)
    return FusedResult(
        predictions={s: replace(r[0], probs=probs[s]) for s, r in routes.items()},
        contains=tuple(run.name for run in specialists),
        chosen={"support": [*config.support, GENERAL_ALONE][choice.best]},
    )


def _route(
    corpus: Corpus,
    split: str,
    *,
    base: Predictions,
    own: Sequence[Predictions],
    supports: Mapping[str, Support],
    at_least: int,
    likely: npt.NDArray[np.float32],
) -> Predictions:
    """`route` with the support of the training images; out of fold, of those of each image's view.

    The images of a fold must not say how far a specialist is trusted on them.

    Args:
        corpus: that the detectors were trained on.
        split: which images.
        base: the general predictions of them.
        own: the specialists'.
        supports: of the corpus and of its views, by fingerprint.
        at_least: images that a specialist's say takes.
        likely: (N, 7) certainty of each category of the N images of `base`.
    """
    if split != LABELLED:
        support = supports[corpus.fingerprint]
        return route(base, own, support=support, at_least=at_least, likely=likely)
    parts = []
    for view in corpus.views:
        ids = view.labelled_images("valid").image_ids
        asked = frozenset(ids)
        of_fold = (s.rows([i for i in s.image_ids if i in asked]) for s in own)
        there = [specialist for specialist in of_fold if len(specialist)]
        support = supports[view.fingerprint]
        rows = row_numbers(base.source, base.image_ids, wanted=ids)
        parts.append(
            route(base.rows(ids), there, support=support, at_least=at_least, likely=likely[rows])
        )
    return join_folds(parts).rows(corpus.images(split).image_ids)


def support_of(corpus: Corpus) -> Support:
    """(L,) readable training images of each concept, by category."""
    train = corpus.training_images()
    return {
        category: column_sums(train.of(category=category).targets(corpus.labels).matrix)
        for category in corpus.training_categories
    }


COMBINING = ("voted", "voted-blind", "routed")
"""Strategies that learn from no image, but choose how to combine what others say: made once of
out-of-fold predictions, where the others are fitted once a view."""


NEEDS: dict[str, tuple[str, ...]] = {
    "constrained": ("one-hot",),
    "voted": ("prior-offset", "retrieval"),
    "voted-blind": (NO_METADATA, "retrieval-global"),
}
"""Strategies that a strategy is made of."""

STRATEGIES: dict[str, Strategy] = {
    ZERO_SHOT: zero_shot,  # first: its features are its own, and pages compare on the newest
    **{name: partial(network, name=name) for name in HEADS},
    **{name: partial(late, name=name) for name in LATE},
    "constrained": constrained,
    "retrieval": partial(retrieval, by_category=True),
    "retrieval-global": partial(retrieval, by_category=False),
    WORDS: words,
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

_NETWORK = (*(field.name for field in fields(FitConfig)), "guess_share")
_METADATA = ("metadata", "metadata_dropout")
_BY_IMAGE = (NO_METADATA, "prior-offset")
_VOTES = ("k", "temperature", "approximate_from", "seed")


def settings_of(name: str, config: FuseConfig, *, alone: bool = False) -> FuseConfig:
    """The settings that a strategy looks at; those that it never sees are the default preset's.

    So a setting that does not concern it is no reason to make it again.

    Args:
        name: of the strategy.
        config: what was asked for.
        alone: whether there is no global detector, in whose place the one-hot head stands.
    """
    used = {field: getattr(config, field) for field in _used(name, alone=alone)}
    return replace(PRESETS["quick"], **used, embeddings=config.embeddings, strategies=(name,))


def sees_metadata(name: str, *, alone: bool = False) -> bool:
    """Whether further columns of the image table decide anything in a strategy."""
    return "metadata" in _used(name, alone=alone)


def _used(name: str, *, alone: bool) -> tuple[str, ...]:
    """Names of the settings that a strategy looks at, by itself or in what it is made of."""
    if name == PRIOR:
        return ()
    if name == WORDS:
        return ("text", "seed")
    if name == ZERO_SHOT:
        return ("prompts", "seed")
    if name == "routed":
        return ("support", *(_used("one-hot", alone=alone) if alone else ()))
    if name.startswith("retrieval"):
        return _VOTES
    own: tuple[str, ...] = ("constant_from",) if name == "constrained" else ()
    if parts := NEEDS.get(name):
        return (*own, *(field for part in parts for field in _used(part, alone=alone)))
    if name in END_TO_END:
        own = ("end_to_end", "end_to_end_epochs")
    is_by_image = name.removesuffix(SUFFIX) in _BY_IMAGE
    return (*own, *_NETWORK, *(() if is_by_image else _METADATA))


ALL = "all"


def in_order(names: Sequence[str]) -> tuple[str, ...]:
    """The named strategies and those that they are made of, each once, in the order of making.

    Args:
        names: of `STRATEGIES` and `END_TO_END`; `ALL` stands for all of the former but for
            `ZERO_SHOT`, which takes weights that are not everywhere.

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
    wanted = set(STRATEGIES) - {ZERO_SHOT} if ALL in names else set()
    wanted |= set(names) - {ALL}
    wanted |= {part for name in wanted for part in NEEDS.get(name, ())}
    return tuple(name for name in known if name in wanted)
