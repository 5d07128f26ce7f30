"""A submission's score without the test images that resemble one that was learnt from.

The official score counts every image. Where a patient or an article stands in train and in test, or
an image was published twice, part of it is recognition: the second number leaves these out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from core.errors import CorpusError, first_few
from core.runs.leakage import concerned_images
from core.runs.workspace import Workspace
from ensembles.submission.score import Pair, mean_f1


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
    def numbers(self) -> dict[str, float | None]:
        """The score by name."""
        return {"f1": self.f1, "n_images": self.n_images}

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


def score_apart(pairs: Mapping[str, Pair], *, workspace: Workspace) -> ScoreApart:
    """The primary score of those images that stand apart from all that was learnt from.

    Args:
        pairs: what was scored, by image, as `score_submission` or `score_own` gives it.
        workspace: with the prepared corpus, and with its near-duplicates where they were looked
            for.

    Raises:
        MissingStageError: nothing is prepared in the workspace.
        CorpusError: what is prepared there has none of the images in its test split.
    """
    corpus = workspace.open_corpus()
    if not pairs.keys() & set(corpus.table.of(split="test").image_ids):
        raise CorpusError(
            f"{workspace.root}: its corpus, {corpus.name}, has none of the scored images in test:"
            f" {first_few(pairs)}; name its own workspace, or leave -w away"
        )
    concerned = concerned_images(corpus, workspace, split="test", learnt_from=("train", "valid"))
    f1, n_images = mean_f1([pair for i, pair in pairs.items() if i not in concerned.image_ids])
    more = concerned.by_likeness
    return ScoreApart(
        f1=f1,
        n_images=n_images,
        n_by_group=len(concerned.by_group & pairs.keys()),
        n_by_likeness=None if more is None else len((more - concerned.by_group) & pairs.keys()),
    )
