"""Which images a submission must hold."""

from pathlib import Path

from core.runs.workspace import Workspace
from ensembles.submission.truth import read_truth


def expected_ids(
    truth: Path | None, *, edition: int, workspace: Workspace | None
) -> tuple[str, ...] | None:
    """Images of a truth file, else of the test split of a workspace; None where neither is given.

    Raises:
        ConfigError: no evaluator of that year is public.
        CorpusError: the truth is missing or malformed.
        MissingStageError: nothing is prepared in the workspace.
    """
    if truth is not None:
        return read_truth(truth, edition=edition).image_ids
    if workspace is not None:
        return workspace.open_corpus().table.of(split="test").image_ids
    return None
