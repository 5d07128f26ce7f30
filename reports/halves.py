"""Scores of the paper's experiments on the half of valid that did not stop them."""

from dataclasses import dataclass

import numpy as np

from core.editions import empty_truth_rule
from core.errors import LeakageError
from core.images import ImageTable
from core.metrics import Scores, decided_at, image_f1
from core.runs.paper import OTHER_HALF, THRESHOLD, Trial, Trials
from core.runs.workspace import Corpus


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Valid images with the F1 that networks reached which these images did not stop.

    Attributes:
        images: n images.
        image_f1: (n,) NaN where the score leaves an image out.
    """

    images: ImageTable
    image_f1: Scores

    @classmethod
    def join(cls, corpus: Corpus, parts: list["Scored"]) -> "Scored":
        """Both halves as one."""
        ids = [image_id for part in parts for image_id in part.images.image_ids]
        images = corpus.table.take(corpus.table.row_numbers(ids))
        return cls(images=images, image_f1=np.concatenate([part.image_f1 for part in parts]))


def score_half(corpus: Corpus, trial: Trial, *, nomissing: bool = False) -> Scored:
    """A finished network on the half of valid that did not stop it, decided at 0.5.

    Args:
        corpus: the prepared corpus.
        trial: stopped on `val1` or `val2`.
        nomissing: whether an image left without a concept gets its most probable one.

    Raises:
        LeakageError: it met these images while it was trained.
    """
    images = corpus.valid_half(OTHER_HALF[trial.stop_on])
    predictions = trial.predictions("valid").rows(images.image_ids)
    if met := predictions.fitted_on.intersection(images.image_ids):
        raise LeakageError(
            f"{trial.folder}: {len(met)} of the images that test it stopped it; train it again"
        )
    decided = decided_at(predictions.probs, THRESHOLD, nomissing=nomissing)
    rule = empty_truth_rule(corpus.edition)
    truth = images.targets(predictions.labels)
    return Scored(images=images, image_f1=image_f1(truth, decided, empty_truth=rule))


def score_pair(
    corpus: Corpus, trials: Trials, number: int, *, nomissing: bool = False
) -> Scored | None:
    """Both halves of valid, each under the network that the other stopped; None without both."""
    pair = [trials.get((number, stop_on)) for stop_on in OTHER_HALF]
    finished = [trial for trial in pair if trial is not None and trial.meta]
    if len(finished) < len(OTHER_HALF):
        return None
    parts = [score_half(corpus, trial, nomissing=nomissing) for trial in finished]
    return Scored.join(corpus, parts)
