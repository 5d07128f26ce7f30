"""What was decided of images, held against what is true: right, missed, invented."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from browser.library import Bools, Library, Rows
from core.categories import CATEGORIES
from core.editions import empty_truth_rule
from core.metrics import Interval, Scores, bootstrap, f1_of_counts
from core.runs.decided import DECIDED, DECIDED_TEST, Decided, SetOutcome, stored
from core.runs.ensemble import EnsembleRun, read_run
from core.storage.folders import asked
from ensembles.submission.own_corpus import read_decided

_RESAMPLES = 500  # of groups, for intervals of means


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What one ensemble or submission decided of the images of a library.

    Attributes:
        name: of the ensemble's folder, or of the submission's file.
        library: the N images.
        known: (N,) whether the image was decided.
        decided: (N, L) CSR: the probability of each decided concept, stored also where it is 0.
        expected_f1, disagreement: (N,) see `core.runs.decided`; NaN where they are not known.
        has_probs: whether the values of `decided` are probabilities; of a submission they are 1.
        run: the ensemble, None of a submission.
    """

    name: str
    library: Library
    known: Bools
    decided: csr_array
    expected_f1: Scores
    disagreement: Scores
    has_probs: bool = True
    run: EnsembleRun | None = None

    @cached_property
    def scores(self) -> dict[str, Interval | None]:
        """Mean F1 with its interval by category, `none` for images without one."""
        return {
            name: interval_of(
                np.where(self.library.is_category(name), self.f1, np.nan), self.library
            )
            for name in (*map(str, CATEGORIES), "none")
        }

    @cached_property
    def is_decided(self) -> csr_array:
        """(N, L) boolean: the decided concepts."""
        return stored(self.decided)

    @cached_property
    def judged(self) -> Bools:
        """(N,) whether the image was decided and its true concepts are known."""
        return self.known & self.library.labelled

    @cached_property
    def _outcome(self) -> SetOutcome:
        """Of judged images; rows of the others are empty."""
        return SetOutcome(
            true=_of(self.library.truth, self.judged), decided=_of(self.is_decided, self.judged)
        )

    @property
    def right(self) -> csr_array:
        """(N, L) boolean: decided and true, of judged images."""
        return self._outcome.right

    @property
    def missed(self) -> csr_array:
        """(N, L) boolean: true and not decided, of judged images."""
        return self._outcome.missed

    @property
    def invented(self) -> csr_array:
        """(N, L) boolean: decided and not true, of judged images."""
        return self._outcome.invented

    @cached_property
    def counts(self) -> dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]]:
        """(N,) concepts of each kind: `right`, `missed`, `invented`, `decided`.

        Missed ones outside the label space are among them.
        """
        missed = np.diff(self.missed.indptr) + np.where(self.judged, self.library.n_outside, 0)
        return {
            "right": np.diff(self.right.indptr).astype(np.int64),
            "missed": missed.astype(np.int64),
            "invented": np.diff(self.invented.indptr).astype(np.int64),
            "decided": np.diff(self.decided.indptr).astype(np.int64),
        }

    @cached_property
    def f1(self) -> Scores:
        """(N,) F1 of each image by the corpus' edition; NaN where it is not judged or left out."""
        counts = self.counts
        n_true = counts["right"] + counts["missed"]
        found = f1_of_counts(
            counts["right"],
            counts["decided"],
            n_true=n_true,
            empty_truth=empty_truth_rule(self.library.corpus.edition),
        )
        return np.where(self.judged, found, np.nan)


def interval_of(scores: Scores, library: Library) -> Interval | None:
    """The mean of images' scores with its interval over groups; None where all are NaN.

    Only groups of scored images are numbered, which takes most of the time.

    Args:
        scores: (N,), NaN where an image is left out.
    """
    there = np.flatnonzero(~np.isnan(scores))
    if not len(there):
        return None
    groups = [library.corpus.table.groups[row] for row in there.tolist()]
    return bootstrap(scores[there], groups=groups, n_resamples=_RESAMPLES)


def _of(matrix: csr_array, images: Bools) -> csr_array:
    """The matrix without the rows of other images."""
    found = csr_array(matrix.multiply(csr_array(images[:, None])))
    found.sort_indices()
    return found


def ensembles_of(library: Library) -> dict[str, Path]:
    """Finished ensembles on the corpus by the name of their folder, the newest first."""
    runs = library.workspace.runs_on(library.workspace.ensembles, library.corpus.fingerprint)
    newest = sorted(runs, key=lambda run: (asked(run[1]), run[0]), reverse=True)
    return {folder.name: folder for folder, _ in newest}


def judgement_of(folder: Path, library: Library) -> Judgement:
    """What a finished ensemble decided: of labelled images out of fold, of test once submitted.

    Of an ensemble of an earlier version nothing is known but that it was made.

    Raises:
        PredictionsError: the run is damaged.
    """
    run = read_run(folder, library.corpus)
    found = [
        Decided.load(path, labels=library.labels)
        for path in (folder / DECIDED, folder / DECIDED_TEST)
        if path.is_file()
    ]
    n = len(library)
    known = np.zeros(n, dtype=np.bool_)
    expected, apart = np.full((2, n), np.nan)
    sizes = np.zeros(n, dtype=np.int64)
    placed: list[tuple[Rows, Decided]] = []
    for each in found:
        rows = library.corpus.table.row_numbers(each.image_ids)
        placed.append((rows, each))
        known[rows] = True
        expected[rows], apart[rows] = each.expected_f1, each.disagreement
        sizes[rows] = np.diff(each.concepts.indptr)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    columns = np.empty(starts[-1], dtype=np.int32)
    probs = np.empty(starts[-1], dtype=np.float32)
    for rows, each in placed:
        lengths = np.diff(each.concepts.indptr)
        into = np.repeat(starts[rows] - each.concepts.indptr[:-1], lengths)
        into = into + np.arange(each.concepts.nnz)
        columns[into], probs[into] = each.concepts.indices, each.concepts.data
    return Judgement(
        name=folder.name,
        library=library,
        known=known,
        decided=_sorted(csr_array((probs, columns, starts), shape=(n, len(library.labels)))),
        expected_f1=expected,
        disagreement=apart,
        run=run,
    )


def _sorted(matrix: csr_array) -> csr_array:
    matrix.sort_indices()
    return matrix


def judgement_of_submission(path: Path, library: Library, *, name: str) -> Judgement:
    """What a submission decided; of images that are not in the corpus nothing is kept.

    Raises:
        SubmissionError: the file is none of the corpus' edition.
    """
    predicted, _ = read_decided(path, edition=library.corpus.edition)
    row_of = library.row_of
    known = np.zeros(len(library), dtype=np.bool_)
    own: dict[int, list[str]] = {}
    for image_id, concepts in predicted.items():
        if (row := row_of.get(image_id)) is not None:
            known[row] = True
            own[row] = [cui for cui in concepts if cui in library.labels]
    targets = library.labels.encode([own.get(row, ()) for row in range(len(library))]).matrix
    unknown = np.full(len(library), np.nan)
    return Judgement(
        name=name,
        library=library,
        known=known,
        decided=csr_array(targets.astype(np.float32)),
        expected_f1=unknown,
        disagreement=unknown,
        has_probs=False,
    )
