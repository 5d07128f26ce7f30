"""The five runs that the paper submitted (Table 5), as files in the edition's format."""

from collections.abc import Mapping
from pathlib import Path

from core.editions import rules_of
from core.errors import CorpusError, first_few
from core.progress import say
from core.runs.paper import TABLE_5, THRESHOLD, Run, Trial, find_trials
from core.runs.workspace import Corpus, Workspace
from ensembles.decisions.rule import DecisionRule
from ensembles.decisions.thresholds import Thresholds
from ensembles.submission.score import score_submission
from ensembles.submission.truth import read_truth
from ensembles.submission.write import write_submission


def write_paper_runs(corpus: Corpus, workspace: Workspace, *, scale: str) -> dict[str, Path]:
    """Write the submissions whose networks are trained, and give the files by run.

    As in the paper, a run is that of the network which val1 stopped, decided at 0.5. Test images
    that cannot be decoded get no concept.
    """
    test = corpus.table.of(split="test")
    if not len(test):
        return {}
    trials = find_trials(corpus, workspace, scale=scale)
    suffix = rules_of(corpus.edition).suffix
    files = {}
    for name, run in TABLE_5.items():
        trial = trials.get((run.experiment, "val1"))
        if trial is None or not trial.meta:
            continue
        decided = _decided(trial, run, corpus)
        files[name] = write_submission(
            workspace.reproduced / scale / f"{name}{suffix}",
            image_ids=test.image_ids,
            concept_sets=[decided.get(image_id, ()) for image_id in test.image_ids],
            edition=corpus.edition,
        )
        n_empty = sum(not decided.get(image_id) for image_id in test.image_ids)
        say(f"{files[name]}: {len(test):,} images, {n_empty:,} without a concept")
    return files


def check_truth(corpus: Corpus, truth: Path) -> None:
    """Refuse a truth that the runs cannot be scored by, hours before it is needed.

    Raises:
        CorpusError: it cannot be read, or its images are not the test images of the corpus.
    """
    known = set(read_truth(truth, edition=corpus.edition).concepts)
    test = set(corpus.table.of(split="test").image_ids)
    if strange := sorted(known ^ test):
        raise CorpusError(
            f"{truth}: its {len(known):,} images are not the {len(test):,} test images of"
            f" {corpus.name}: {first_few(strange)}"
        )


def score_paper_runs(files: Mapping[str, Path], *, truth: Path, edition: int) -> dict[str, float]:
    """The official F1 of each run.

    Raises:
        ConceptError: the truth cannot be read.
    """
    return {
        name: score_submission(path, truth=truth, edition=edition).f1
        for name, path in files.items()
    }


def _decided(trial: Trial, run: Run, corpus: Corpus) -> dict[str, tuple[str, ...]]:
    """Concepts by test image."""
    predictions = trial.predictions("test")
    rule = DecisionRule(
        kind="thresholds", thresholds=Thresholds(global_=THRESHOLD), nomissing=run.nomissing
    )
    images = corpus.table.take(corpus.table.row_numbers(predictions.image_ids))
    decided = rule.decide(
        predictions.probs, categories=images.categories, labels=predictions.labels
    )
    sets = predictions.labels.decode(decided)
    return dict(zip(predictions.image_ids, sets, strict=True))
