"""For a corpus of one's own: what was decided, with names and probabilities, and its own score.

The task's files are made for its evaluators: concepts by number, no probability, ids that may be
taken for a header. What is written here is for people and their tables, and scores are held against
labels that the corpus itself has.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from core.editions import rules_of
from core.errors import CorpusError, SubmissionError, first_few
from core.labels import LabelSpace
from core.metrics import Scores
from core.runs.decided import Decided
from core.storage.drafts import draft_file
from core.storage.tables import write_rows
from ensembles.submission.check import BYTE_ORDER_MARK, parse_submission, read_submission
from ensembles.submission.score import Pair, mean_f1, upper_cased

CONCEPTS = "concepts.csv"
"""Every decided concept with its name and probability, beside the submission."""

REVIEW = "review.csv"
"""The decided images in the order in which they are worth a look, beside the submission."""

_HEADER = ("image", "CUI", "name", "probability")
_REVIEW_HEADER = (
    *("place", "image", "category", "expected_f1", "distance", "disagreement", "concepts"),
)


@dataclass(frozen=True, kw_only=True)
class OwnScore:
    """The score of a submission on labels of one's own.

    Attributes:
        f1: sample F1, in [0, 1].
        n_images: labelled images, the number in its mean.
        n_unlabelled: images of the submission without labels, left out.
        truth: what the labels are taken from, in words.
        pairs: what is compared, by image.
    """

    f1: float
    n_images: int
    n_unlabelled: int
    truth: str
    pairs: Mapping[str, Pair]

    @property
    def lines(self) -> list[str]:
        """The score, for a person."""
        left = f"; {self.n_unlabelled:,} without labels left out" if self.n_unlabelled else ""
        return [f"F1 {self.f1!r} over {self.n_images:,} test images of {self.truth}{left}"]

    @property
    def numbers(self) -> dict[str, float]:
        """The score by name."""
        return {"f1": self.f1, "n_images": self.n_images}


def write_review(
    path: Path,
    decided: Decided,
    *,
    categories: Sequence[str],
    distances: Scores,
    labels: LabelSpace,
    names: Mapping[str, str],
) -> None:
    """Write an image a row, the one that is expected to score least first.

    Args:
        path: the csv file; one of that name is replaced whole.
        decided: N images.
        categories: N of them, given or guessed.
        distances: (N,) how far each lies from what was learnt, NaN where that is not known.
        labels: L concepts.
        names: by CUI; a concept without one stands as its CUI.
    """
    sets = labels.decode(decided.sets)
    rows: list[Sequence[object]] = [_REVIEW_HEADER]
    order = np.argsort(decided.expected_f1, kind="stable").tolist()  # not known comes last
    for place, row in enumerate(order, start=1):
        numbers = (decided.expected_f1[row], distances[row], decided.disagreement[row])
        told = "; ".join(names.get(cui, cui) for cui in sets[row])
        cells = ["" if np.isnan(number) else f"{number:.3f}" for number in numbers]
        rows.append([place, decided.image_ids[row], categories[row], *cells, told])
    with draft_file(path) as draft:
        write_rows(draft, rows, for_people=True)


def write_concepts(
    path: Path,
    decided: csr_array,
    *,
    image_ids: Sequence[str],
    labels: LabelSpace,
    names: Mapping[str, str],
) -> None:
    """Write each decided concept as a row: image, CUI, name, calibrated probability.

    Images stand in the order given, the concepts of an image from the most probable on. An image
    without a concept has no row.

    Args:
        path: the csv file; one of that name is replaced whole.
        decided: (N, L) CSR: the probability of each decided concept.
        image_ids: N ids.
        labels: L concepts.
        names: by CUI; a concept without one has an empty cell.
    """
    rows = np.repeat(np.arange(len(image_ids)), np.diff(decided.indptr))
    columns, probs = decided.indices, decided.data
    table = [_HEADER]
    for pair in np.lexsort((columns, -probs, rows)):
        cui = labels.cuis[columns[pair]]
        table.append((image_ids[rows[pair]], cui, names.get(cui, ""), f"{probs[pair]:.4f}"))
    with draft_file(path) as draft:
        write_rows(draft, table, for_people=True)


def read_decided(path: Path, *, edition: int) -> tuple[Mapping[str, Sequence[str]], Path]:
    """Concepts by image of a submission in the edition's format, and the path to name in messages.

    No id is taken for a header, and any order will do.

    Raises:
        ConfigError: no such edition.
        SubmissionError: a fault of the file, or it is the list for people.
    """
    rules = replace(rules_of(edition), strict=False, id_marks_header=False)
    data, shown = read_submission(path, rules)
    if data.startswith(",".join(_HEADER).encode()):
        raise SubmissionError(f"{shown}: the list for people; score the submission beside it")
    submission = parse_submission(data, path=shown, rules=rules, expected_ids=None)
    if rejected := submission.rejected:
        raise SubmissionError(str(rejected[0]))
    return submission.predicted, shown


def score_own(
    path: Path, *, truth: Mapping[str, Collection[str]], edition: int, named: str = "the corpus"
) -> OwnScore:
    """Sample F1 of a submission on labels of one's own, by the edition's mean.

    The submission is read in the edition's format, but no id is taken for a header and any order
    will do. Images without labels are left out.

    Args:
        path: the submission, or its zip.
        truth: concepts of each labelled image; none where it is known to have none.
        edition: year whose format the file has, and whose rule for images without true concepts
            applies.
        named: what the labels are taken from, in words.

    Raises:
        ConfigError: no such edition.
        SubmissionError: a fault of the file, or labelled images that are not in it.
        CorpusError: no image is labelled, or none counts.
    """
    if not truth:
        raise CorpusError(
            "no test image has labels to score by; give them concepts in the manifest"
        )
    predicted, shown = read_decided(path, edition=edition)
    rules = rules_of(edition)
    decided = {i.lstrip(BYTE_ORDER_MARK): upper_cased(c) for i, c in predicted.items()}
    if "ID" not in truth:
        decided.pop("ID", None)  # the header
    if missing := [image_id for image_id in truth if image_id not in decided]:
        raise SubmissionError(
            f"{shown}: {len(missing)} of {len(truth)} labelled test images are not in it:"
            f" {first_few(missing)}; in it are {first_few(decided, n=2)}"
        )
    nothing = upper_cased(rules.split(""))
    pairs = {i: (upper_cased(truth[i]) or nothing, decided[i]) for i in decided if i in truth}
    f1, n_images = mean_f1(pairs.values())
    if f1 is None:
        raise CorpusError(f"no labelled test image has a concept, and {edition} scores no others")
    n_unlabelled = len(decided) - len(pairs)
    return OwnScore(f1=f1, n_images=n_images, n_unlabelled=n_unlabelled, truth=named, pairs=pairs)
