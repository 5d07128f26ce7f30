"""A strategy fitted once a view of a cross-fitted corpus, and its answers joined.

In view k the labelled images of fold k are valid, all others train; so what is fitted as on a
held-out corpus predicts fold k out of sample. The views together predict every labelled image; of
test their mean is taken. A refit on all images would be one network more, for an answer that no
fold has tried.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from core.images import LABELLED
from core.predictions import Predictions
from core.runs.out_of_fold import join_folds
from core.runs.workspace import Corpus
from fusion.config import FuseConfig
from fusion.inputs.gather import FusionInputs
from fusion.result import Earlier, FusedResult, Strategy
from training.members import mean_probs


def fit_in_views(
    strategy: Strategy,
    views: Sequence[FusionInputs],
    *,
    corpus: Corpus,
    config: FuseConfig,
    earlier: Earlier,
) -> FusedResult:
    """The strategy's answers for all labelled images, out of fold, and for test.

    There is a network a view and seed, which trains its full length: `n_members` has no meaning.

    Args:
        strategy: fitted on the train of a view.
        views: what each starts from.
        corpus: of which they are views.
        config: settings of the strategy.
        earlier: results of other strategies on the same views, joined.
    """
    alone = replace(config, n_members=1)
    found = [
        strategy(
            view, alone, earlier={n: _in_view(made, view.corpus) for n, made in earlier.items()}
        )
        for view in views
    ]
    known = [dict(result.predictions) for result in found]
    guessed = [dict(result.without_category) for result in found]
    return FusedResult(
        predictions=_joined(known, views, corpus),
        without_category=_joined(guessed, views, corpus) if all(guessed) else {},
        weights={
            name: value
            for number, result in enumerate(found)
            for name, value in _renumbered(result, number).items()
        },
        chosen={name: [result.chosen[name] for result in found] for name in found[0].chosen},
        unfinished=tuple(folder for result in found for folder in result.unfinished),
    )


def _in_view(result: FusedResult, view: Corpus) -> FusedResult:
    """What a joined result says of a view's valid, and of test."""

    def of_view(predictions: Mapping[str, Predictions]) -> dict[str, Predictions]:
        if not predictions:
            return {}
        known = frozenset(predictions[LABELLED].image_ids)
        ids = [i for i in view.labelled_images("valid").image_ids if i in known]
        return {"valid": predictions[LABELLED].rows(ids), "test": predictions["test"]}

    return replace(
        result,
        predictions=of_view(result.predictions),
        without_category=of_view(result.without_category),
    )


def _joined(
    found: Sequence[Mapping[str, Predictions]], views: Sequence[FusionInputs], corpus: Corpus
) -> dict[str, Predictions]:
    """Labelled images by the view that holds them out, test by the mean of all views."""
    folds = []
    for of_view, view in zip(found, views, strict=True):
        valid = view.corpus.table.of(split="valid")
        labelled = frozenset(valid.take(valid.labelled).image_ids)
        ids = [i for i in of_view["valid"].image_ids if i in labelled]
        folds.append(of_view["valid"].rows(ids))
    tests = [of_view["test"] for of_view in found]
    total = np.zeros_like(tests[0].probs)
    for test in tests:
        total += test.probs
    mean = replace(
        tests[0],
        probs=mean_probs(total, len(tests)),
        fitted_on=frozenset().union(*(test.fitted_on for test in tests)),
    )
    return {LABELLED: in_table_order(join_folds(folds), corpus), "test": mean}


def in_table_order(predictions: Predictions, corpus: Corpus) -> Predictions:
    """Predictions with their images in the order of the corpus."""
    have = frozenset(predictions.image_ids)
    return predictions.rows([i for i in corpus.table.image_ids if i in have])


def _renumbered(result: FusedResult, view: int) -> dict[str, Tensor]:
    """The weights of a view's networks, counted on from those of the views before it."""
    split = {name: name.partition(".") for name in result.weights}
    n_networks = len({number for number, _, _ in split.values()})
    return {
        f"{view * n_networks + int(number)}.{rest}": result.weights[name]
        for name, (number, _, rest) in split.items()
    }
