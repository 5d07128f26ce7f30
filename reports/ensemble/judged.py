"""What an ensemble decided of the scored images, held against what is true of them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.images import ImageTable
from core.labels import LabelSpace, Targets
from core.metrics import Scores
from core.runs.decided import DECIDED, Decided, SetOutcome
from core.runs.ensemble import EnsembleRun

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class JudgedImages:
    """N images with what is true of them and what was decided without their fold.

    Attributes:
        images: the N images.
        labels: the L concepts.
        targets: their true concepts.
        decided: (N, L) boolean CSR.
        f1: (N,) F1 of the decided sets, NaN where an image is left out.
    """

    images: ImageTable
    labels: LabelSpace
    targets: Targets
    decided: csr_array
    f1: Scores

    @classmethod
    def of(cls, run: EnsembleRun) -> "JudgedImages | None":
        """The scored images of a run; None where an earlier version kept no decisions.

        Raises:
            PredictionsError: the table of decisions is not as it was written.
            LabelSpaceError: a concept in it is not in the label space.
        """
        path = run.folder / DECIDED
        if not path.is_file():
            return None
        found = Decided.load(path, labels=run.corpus.labels)
        row_of = {image_id: row for row, image_id in enumerate(found.image_ids)}
        rows = [row_of.get(image_id, -1) for image_id in run.record.image_ids]
        if -1 in rows or not run.scored.labelled.all():
            return None
        return cls(
            images=run.scored,
            labels=run.corpus.labels,
            targets=run.scored.targets(run.corpus.labels),
            decided=csr_array(found.sets[np.array(rows, dtype=np.intp)]),
            f1=run.rungs[-1].image_f1,
        )

    @cached_property
    def outcome(self) -> SetOutcome:
        """The decided sets held against the true ones."""
        return SetOutcome(true=self.targets.matrix, decided=self.decided)

    @cached_property
    def by_concept(self) -> "tuple[Counts, Counts, Counts]":
        """(L,) each: images in which a concept is right, missed, invented."""
        own = self.outcome
        right, missed, invented = map(_columns, (own.right, own.missed, own.invented))
        return right, missed, invented

    def cuis(self, kind: csr_array, row: int) -> list[str]:
        """Concepts of an image in one of these matrices, in the order of the label space."""
        columns = kind.indices[kind.indptr[row] : kind.indptr[row + 1]]
        return [self.labels.cuis[column] for column in sorted(columns.tolist())]

    def outside(self, row: int) -> list[str]:
        """True concepts of an image that are not in the label space, and therefore missed."""
        own = self.images.concepts[row] or ()
        return sorted({cui for cui in own if cui not in self.labels})


def _columns(matrix: csr_array) -> Counts:
    return np.bincount(matrix.indices, minlength=matrix.shape[1]).astype(np.int64)
