"""A submission's score without the test images that resemble one that was learnt from.

The official score counts every image. Where a patient or an article stands in train and in test, or
an image was published twice, part of it is recognition: the second number leaves these out.
"""

from dataclasses import dataclass
from pathlib import Path

from core.editions import rules_of
from core.runs.leakage import concerned_images
from core.runs.workspace import Workspace
from ensembles.submission.check import parse_submission, read_submission
from ensembles.submission.score import summed_f1, upper_cased
from ensembles.submission.truth import read_truth


@dataclass(frozen=True, kw_only=True)
class ScoreApart:
    """The primary score without the images concerned.

    Attributes:
        f1: in [0, 1]; None where no image is left in the mean.
        n_images: number of images in its mean.
        n_by_group: scored images that share a group with a labelled one, left out.
        n_by_likeness: further ones with a near-duplicate among the labelled, left out; None where
            none was looked for.
    """

    f1: float | None
    n_images: int
    n_by_group: int
    n_by_likeness: int | None

    @property
    def sentence(self) -> str:
        """The number and what was left out, for a person."""
        searched = self.n_by_likeness is not None
        alike = " and have no near-duplicate there" if searched else ""
        left_out = [f"{self.n_by_group:,} by group"]
        if self.n_by_likeness is not None:
            left_out.append(f"{self.n_by_likeness:,} more by likeness")
        hint = "" if searched else "; `stats --duplicates` looks for copies too"
        return (
            f"F1 {'-' if self.f1 is None else repr(self.f1)} over the {self.n_images:,} images that"
            f" share no group with train or valid{alike} ({', '.join(left_out)} left out{hint})"
        )


def score_apart(
    path: Path,
    *,
    truth: Path,
    edition: int,
    workspace: Workspace,
    public_script: bool = False,
) -> ScoreApart:
    """The primary score of a submission that was scored before, of the images that stand apart.

    Args:
        path: the submission.
        truth: true concepts in the edition's format.
        edition: year of the task.
        workspace: with the prepared corpus, and with its near-duplicates where they were looked
            for.
        public_script: as in `score_submission`.

    Raises:
        MissingStageError: nothing is prepared in the workspace.
        ConfigError, CorpusError, SubmissionError: as `score_submission`.
    """
    concerned = concerned_images(
        workspace.open_corpus(), workspace, split="test", learnt_from=("train", "valid")
    )
    rules = rules_of(edition)
    true = read_truth(truth, edition=edition)
    data, shown = read_submission(path, rules)
    submission = parse_submission(
        data, path=shown, rules=rules, expected_ids=true.image_ids, public_script=public_script
    )
    pairs = {
        i: (upper_cased(true.concepts[i]), upper_cased(found))
        for i, found in submission.predicted.items()
        if i in true.concepts
    }
    kept = [pair for i, pair in pairs.items() if i not in concerned.image_ids]
    more = concerned.by_likeness
    total, n_without = summed_f1(kept)
    n_images = len(kept) - n_without
    return ScoreApart(
        f1=total / n_images if n_images else None,
        n_images=n_images,
        n_by_group=len(concerned.by_group & pairs.keys()),
        n_by_likeness=None if more is None else len((more - concerned.by_group) & pairs.keys()),
    )
