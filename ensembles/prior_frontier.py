"""What adjusting by the prior costs and brings: sample F1 against recall of rare concepts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.labels import FREQUENCIES, frequency_bucket_of, frequency_buckets
from core.metrics import Interval, ScoredImages, Scores, bootstrap, group_numbers, mean_in_order
from core.progress import progress
from core.runs.ensemble import ONE_THRESHOLD, SUBMITTED, PriorPoint
from core.runs.workspace import Corpus
from ensembles.config import EnsembleConfig
from ensembles.decisions.choose import adjusted_by, choose_rule, decide_by_one_threshold
from ensembles.pairs import Bools, Ints, values_at
from ensembles.second_stage import SecondStage, said_by_labels, tuning_of
from ensembles.stacking.label_statistics import LabelStatistics

STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.5)
"""Of the adjustment, that are tried: what a user would choose among."""


def prior_frontier(
    corpus: Corpus, fitted: SecondStage, *, config: EnsembleConfig
) -> list[PriorPoint]:
    """Decisions under rising strengths of the adjustment, judged on the scored images.

    The probabilities are the out-of-fold ones that the submission is decided by; each strength has
    one exact threshold, chosen on the other folds. Of an adjusted submission there is beside that
    what it would be without: the rule chosen anew, and everything fitted anew that it needs.

    Args:
        corpus: the prepared corpus.
        fitted: its second stage.
        config: settings.

    Returns:
        By rising strength; none where the settings ask for none.
    """
    if not config.prior_frontier:
        return []
    images, tuning = fitted.images, tuning_of(config, fitted.images.empty_truth)
    said = said_by_labels(
        corpus, fitted.statistics, constant_from=config.constant_from, strength=STRENGTHS[-1]
    )
    measured = _Measured(images=images, statistics=fitted.statistics)
    strengths = sorted({*STRENGTHS, config.prior_adjustment})
    points: list[PriorPoint] = []
    with progress("prior adjustment", total=len(strengths), unit="strengths") as advance:
        before: _Judged | None = None
        for strength in strengths:
            levels = decide_by_one_threshold(
                fitted.out_of_fold, images, tuning=tuning, **adjusted_by(said, strength)
            )
            own = measured.of(levels.decided)
            points += own.points(ONE_THRESHOLD, strength=strength, before=before)
            before = own if before is None else before
            advance(1)
    if config.prior_adjustment:
        choice = choose_rule(fitted.out_of_fold, images, tuning=tuning, **adjusted_by(said, 0.0))
        before = measured.of(choice.decided)
        points += before.points(SUBMITTED, strength=0.0, before=None)
        own = measured.of(fitted.choice.decided)
        points += own.points(SUBMITTED, strength=config.prior_adjustment, before=before)
    return points


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """N images by which decisions are measured, and the images learnt from of each concept."""

    images: ScoredImages
    statistics: Sequence[LabelStatistics]

    @cached_property
    def buckets(self) -> npt.NDArray[np.intp]:
        """(F, L) bucket of each concept in what the images of a fold are decided by; -1: none."""
        return frequency_bucket_of(np.array([own.n_train for own in self.statistics]))

    def _buckets_of(self, rows: Ints, columns: Ints) -> npt.NDArray[np.intp]:
        views = self.images.folds[rows] if len(self.statistics) > 1 else np.zeros_like(rows)
        return np.asarray(self.buckets[views, columns])

    @cached_property
    def _pairs(self) -> tuple[Ints, Ints]:
        rows, columns = self.images.targets.matrix.nonzero()
        return rows, columns

    @cached_property
    def _groups(self) -> npt.NDArray[np.str_]:
        return group_numbers(self.images.groups).astype(np.str_)

    def of(self, decided: csr_array) -> "_Judged":
        """Decisions held against the truth.

        Args:
            decided: (N, L) boolean.
        """
        rows, columns = self._pairs
        own_rows, own_columns = decided.nonzero()
        return _Judged(
            image_f1=self.images.image_f1(decided),
            groups=self.images.groups,
            found=values_at(decided, rows, columns=columns).astype(np.bool_),
            of_true=self._buckets_of(rows, columns),
            pair_groups=self._groups[rows],
            n_decided=np.bincount(
                self._buckets_of(own_rows, own_columns) + 1, minlength=len(FREQUENCIES) + 1
            )[1:],
        )


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """Decisions of N images with n true pairs held against the truth.

    Attributes:
        image_f1: (N,), NaN where an image is left out of the mean.
        groups: N of the images.
        found: (n,) whether each true pair is decided.
        of_true: (n,) bucket of its concept, -1 for none.
        pair_groups: (n,) group of its image.
        n_decided: (B,) decided pairs by bucket.
    """

    image_f1: Scores
    groups: Sequence[str]
    found: Bools
    of_true: npt.NDArray[np.intp]
    pair_groups: npt.NDArray[np.str_]
    n_decided: npt.NDArray[np.int64]

    def points(
        self, decided_by: str, *, strength: float, before: "_Judged | None"
    ) -> list[PriorPoint]:
        """F1, and recall and precision by bucket, with gains over the same at the strength 0."""

        def point(
            measure: str, bucket: str, value: float, gain: Interval | None, n: int
        ) -> PriorPoint:
            return PriorPoint(
                decided_by=decided_by,
                strength=strength,
                measure=measure,
                bucket=bucket,
                value=value,
                gain=gain,
                n=n,
            )

        more = None
        if before is not None:
            more = bootstrap(self.image_f1 - before.image_f1, groups=self.groups)
        n_images = int((~np.isnan(self.image_f1)).sum())
        points = [point("F1", "", mean_in_order(self.image_f1), more, n_images)]
        for number, bucket in enumerate(frequency_buckets()):
            here = self.of_true == number
            found, n = self.found[here], int(here.sum())
            if before is not None and n:
                change = found.astype(np.float64) - before.found[here]
                more = bootstrap(change, groups=self.pair_groups[here].tolist())
            share = float(found.mean()) if n else float("nan")
            points.append(point("recall", bucket.name, share, more if n else None, n))
            n_decided, hits = int(self.n_decided[number]), int(found.sum())
            share = hits / n_decided if n_decided else float("nan")
            points.append(point("precision", bucket.name, share, None, n_decided))
        return points
