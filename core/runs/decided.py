"""What an ensemble decided, image by image, and how sure it was.

`decided.csv` in an ensemble's run folder has the images that it was judged on, each decided by a
second stage fitted without the image's fold; `decided-test.csv` has those of test, once there is a
submission. A line an image:

    image_id       as in the image table
    expected_f1    F1 that the decided set is expected to score; empty where that is not known
    disagreement   how far the members are apart: see `Decided`
    concepts       separated by `;`, the most probable first
    probabilities  of these, calibrated, separated by `;`
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from core.errors import AlignmentError
from core.labels import LabelSpace
from core.metrics import Scores
from core.storage.tables import meant_as_written, read_rows, write_rows

DECIDED, DECIDED_TEST = "decided.csv", "decided-test.csv"

_HEADER = ("image_id", "expected_f1", "disagreement", "concepts", "probabilities")


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What was decided of N images.

    Attributes:
        image_ids: N ids.
        concepts: (N, L) CSR: the calibrated probability of each decided concept, stored also where
            it is 0.
        expected_f1: (N,) in [0, 1], NaN where it is not known.
        disagreement: (N,) mean over the concepts that the ensemble gives 0.1 or more of the
            standard deviation of the members' probabilities; 0 where there is none, NaN where it is
            not known.

    Raises:
        AlignmentError: lengths differ.
    """

    image_ids: Sequence[str]
    concepts: csr_array
    expected_f1: Scores
    disagreement: Scores

    def __post_init__(self) -> None:
        lengths = {
            len(self.image_ids),
            self.concepts.shape[0],
            len(self.expected_f1),
            len(self.disagreement),
        }
        if len(lengths) > 1:
            raise AlignmentError(f"decided images: columns of different lengths {sorted(lengths)}")

    @property
    def sets(self) -> csr_array:
        """(N, L) boolean: the decided concepts."""
        return stored(self.concepts)

    def save(self, path: Path, *, labels: LabelSpace) -> None:
        """Write the table; `load` gives it back to six digits.

        Args:
            path: the csv file.
            labels: L concepts.
        """
        rows = [list(_HEADER)]
        starts, columns, probs = self.concepts.indptr, self.concepts.indices, self.concepts.data
        for row, image_id in enumerate(self.image_ids):
            here = slice(starts[row], starts[row + 1])
            order = np.lexsort((columns[here], -probs[here]))
            rows.append(
                [
                    image_id,
                    "" if np.isnan(self.expected_f1[row]) else f"{self.expected_f1[row]:.6f}",
                    "" if np.isnan(self.disagreement[row]) else f"{self.disagreement[row]:.6f}",
                    ";".join(labels.cuis[column] for column in columns[here][order].tolist()),
                    ";".join(f"{prob:.6g}" for prob in probs[here][order].tolist()),
                ]
            )
        write_rows(path, rows)

    @classmethod
    def load(cls, path: Path, *, labels: LabelSpace) -> "Decided":
        """Read what `save` wrote.

        Raises:
            PredictionsError: the file is not as it was written.
            LabelSpaceError: a concept is not in the label space.
        """
        with meant_as_written(path):
            _, *rows = read_rows(path)
            ids, expected, apart, concepts, probs = list(zip(*rows, strict=True)) or [()] * 5
            sets = [cell.split(";") if cell else [] for cell in concepts]
            starts = np.cumsum([0, *map(len, sets)])
            columns = labels.columns([cui for each in sets for cui in each])
            values = [float(value) for cell in probs if cell for value in cell.split(";")]
            shape = (len(ids), len(labels))
            return cls(
                image_ids=ids,
                concepts=csr_array((np.array(values, np.float32), columns, starts), shape=shape),
                expected_f1=np.array([float(value or "nan") for value in expected]),
                disagreement=np.array([float(value or "nan") for value in apart]),
            )


def stored(matrix: csr_array) -> csr_array:
    """Boolean, of the same shape: the cells that are stored, also those whose value is 0."""
    ones = np.ones(matrix.nnz, dtype=np.bool_)
    return csr_array((ones, matrix.indices, matrix.indptr), shape=matrix.shape)


@dataclass(frozen=True, kw_only=True)
class SetOutcome:
    """Decided concepts of N images held against true ones.

    Attributes:
        true, decided: (N, L) boolean CSR.
    """

    true: csr_array
    decided: csr_array

    @cached_property
    def right(self) -> csr_array:
        """(N, L) boolean: true and decided."""
        return csr_array(self.true.multiply(self.decided))

    @cached_property
    def missed(self) -> csr_array:
        """(N, L) boolean: true and not decided."""
        return csr_array(self.true > self.decided)

    @cached_property
    def invented(self) -> csr_array:
        """(N, L) boolean: decided and not true."""
        return csr_array(self.decided > self.true)
