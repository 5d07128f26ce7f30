"""`ensemble`: stacks the members, tunes the decision, and writes the submission."""

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.config import fingerprint
from core.errors import ConfigError, MissingStageError
from core.images import ImageTable
from core.ladder import Step, climb
from core.predictions import Predictions
from core.progress import say
from core.runs import new_folder, write_json
from core.workspace import Corpus, Workspace
from ensembles.config import EnsembleConfig
from ensembles.editions import rules_of
from ensembles.gather import Member, gather
from ensembles.second_stage import SecondStage, candidates_of, describe, fit_second_stage
from ensembles.stackers import STACKERS
from ensembles.submission import write_submission


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """A finished ensemble.

    Attributes:
        folder: its run folder.
        steps: the ladder, cross-fitted on valid.
        submission: the file to upload, where one was asked for.
    """

    folder: Path
    steps: Sequence[Step]
    submission: Path | None


def ensemble(
    corpus: Corpus,
    workspace: Workspace,
    *,
    config: EnsembleConfig,
    submit: bool,
    edition: int | None = None,
) -> Ensemble:
    """Choose stacker and decision by cross-fitting on valid, refit on all of it, decide test.

    Args:
        corpus: the prepared corpus.
        workspace: where members are found and the run goes.
        config: settings.
        submit: whether to write a submission of the test images.
        edition: year whose format the submission has; None for the corpus' own.

    Raises:
        MissingStageError: there are no members, no labelled valid images, or no test images to
            submit.
        ConfigError: a stacker or the edition is not known.
    """
    if unknown := [name for name in config.stackers if name not in STACKERS]:
        raise ConfigError(f"stackers: unknown {unknown[0]!r}; known: {', '.join(STACKERS)}")
    edition = edition or corpus.edition
    rules_of(edition)
    valid, test = corpus.table.of(split="valid"), corpus.table.of(split="test")
    valid = valid.take(valid.labelled)
    if not len(valid):
        raise MissingStageError(f"{corpus.name}: no labelled image in valid to fit an ensemble on")
    if submit and not len(test):
        raise MissingStageError(f"{corpus.name}: no image in test to submit")
    members = gather(corpus, workspace)
    say(f"members: {', '.join(member.name for member in members)}")
    fitted = fit_second_stage(corpus, members, valid, config)
    key = fingerprint(corpus.fingerprint, config, [member.origin for member in members], edition)
    home = workspace.ensembles / f"stack-{key}"
    meta = {
        "corpus": corpus.fingerprint,
        "edition": edition,
        "members": {member.name: member.origin for member in members},
        "stacker": fitted.stacker_name,
        "decision": describe(fitted.choice),
        "decision_scores": dict(fitted.choice.scores),
        "ladder": [[rung.name, rung.title] for rung in fitted.rungs],
    }
    with new_folder(home, meta) as draft:
        write_json(draft / "config.json", dataclasses.asdict(config))
        (draft / "stacker").mkdir()
        fitted.stacker.save(draft / "stacker")
        fitted.choice.rule.save(draft / "decision.json")
        _write_scores(draft / "valid_f1.csv", fitted, valid)
        if len(test):
            probs = _predict(corpus, members, fitted, test, config)
            seen = frozenset(valid.image_ids).union(*(m.valid.fitted_on for m in members))
            Predictions(
                source="ensemble",
                image_ids=test.image_ids,
                labels=corpus.labels,
                probs=probs,
                fitted_on=seen,
            ).save(draft / "predictions" / "test")
        submission = _submit(draft, corpus, fitted, test, probs, edition) if submit else None
    if submission is not None:
        submission = home / submission.name
    return Ensemble(
        folder=home, steps=climb(fitted.rungs, groups=valid.groups), submission=submission
    )


def _predict(
    corpus: Corpus,
    members: Sequence[Member],
    fitted: SecondStage,
    test: ImageTable,
    config: EnsembleConfig,
) -> np.ndarray:
    candidates = candidates_of(corpus, members, test, split="test", config=config)
    return candidates.to_dense(fitted.stacker.predict(candidates))


def _submit(
    draft: Path,
    corpus: Corpus,
    fitted: SecondStage,
    test: ImageTable,
    probs: np.ndarray,
    edition: int,
) -> Path:
    decided = fitted.choice.rule.decide(probs, categories=test.categories, labels=corpus.labels)
    sets = corpus.labels.decode(decided)
    say(
        f"submission: {len(test):,} images, {decided.nnz / len(test):.2f} concepts an image,"
        f" {sum(not concepts for concepts in sets)} without any"
    )
    name = f"submission-{edition}{'.csv' if edition >= 2025 else '.txt'}"
    return write_submission(
        draft / name, image_ids=test.image_ids, concept_sets=sets, edition=edition
    )


def _write_scores(path: Path, fitted: SecondStage, valid: ImageTable) -> None:
    """F1 of each validation image under everything that was tried: what reports are made from."""
    columns = {rung.name: rung.image_f1 for rung in (*fitted.tried, fitted.rungs[-1])}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image_id", *columns])
        for row, image_id in enumerate(valid.image_ids):
            values = ["" if np.isnan(f1[row]) else repr(float(f1[row])) for f1 in columns.values()]
            writer.writerow([image_id, *values])
