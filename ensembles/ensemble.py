"""`ensemble`: stacks the members, tunes the decision, and writes the submission."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.config import fingerprint
from core.editions import EmptyTruth, empty_truth_rule, rules_of
from core.errors import ConfigError, MissingStageError
from core.images import ImageTable
from core.predictions import Predictions
from core.progress import say
from core.runs.detectors import find_detectors, untrained
from core.runs.ensemble import DECISION, FALLBACK, FORECAST_RULE, EnsembleRecord, read_run
from core.runs.ladder import LadderStep, describe_rungs
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import META, is_complete, new_folder, read_meta, reuse, write_json
from ensembles.config import EnsembleConfig
from ensembles.decisions.rule import DecisionRule
from ensembles.forecast.forecast import ForecastModel
from ensembles.forecast.shift import Shift
from ensembles.members import Member, gather_members
from ensembles.second_stage import (
    SecondStage,
    candidates_of,
    describe,
    fit_second_stage,
    leave_one_out,
    quick_stacker,
)
from ensembles.stacking.registry import STACKERS
from ensembles.submission.check import check_submission
from ensembles.submission.write import write_submission


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """A finished ensemble.

    Attributes:
        folder: its run folder.
        steps: the ladder, cross-fitted on valid.
        submission: the file to upload, where one was asked for.
    """

    folder: Path
    steps: Sequence[LadderStep]
    submission: Path | None


def ensemble(
    corpus: Corpus,
    workspace: Workspace,
    *,
    config: EnsembleConfig,
    submit: bool,
    edition: int | None = None,
    outside: Sequence[Path] = (),
) -> Ensemble:
    """Choose stacker and decision by cross-fitting on valid, refit on all of it, decide test.

    Args:
        corpus: the prepared corpus.
        workspace: where members are found and the run goes.
        config: settings.
        submit: whether to write a submission of the test images.
        edition: year whose format the submission has; None for the corpus' own.
        outside: folders of members that were made elsewhere, or that would be passed over.

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
    members = gather_members(corpus, workspace, outside=outside)
    detectors = find_detectors(workspace, corpus.fingerprint)
    if line := untrained(detectors, corpus.training_categories):
        say(line)
    rule = empty_truth_rule(edition)
    key = fingerprint(corpus.fingerprint, config, [member.origin for member in members], rule)
    home = workspace.ensembles / f"stack-{key}"
    if is_complete(home):
        reuse(home, what="already stacked")
    else:
        _stack(home, corpus, members, valid, test, config, rule)
    submission = (
        submit_test(home, corpus, valid=valid, test=test, edition=edition) if submit else None
    )
    return Ensemble(folder=home, steps=_ladder(home, corpus), submission=submission)


def _stack(
    home: Path,
    corpus: Corpus,
    members: Sequence[Member],
    valid: ImageTable,
    test: ImageTable,
    config: EnsembleConfig,
    rule: EmptyTruth,
) -> None:
    """Fit the second stage and write its run folder."""
    fitted = fit_second_stage(corpus, members, valid=valid, config=config, empty_truth=rule)
    worth = leave_one_out(corpus, members, valid=valid, config=config, fitted=fitted)
    forecast_model = ForecastModel.of(fitted.choice, fitted.out_of_fold, images=fitted.images)
    record = _record(fitted, forecast_model, image_ids=valid.image_ids, worth=worth)
    meta = {
        "corpus": corpus.fingerprint,
        "worth_to": quick_stacker(fitted),
        "members": {member.name: member.origin for member in members},
        "stacker": fitted.stacker_name,
        "empty_truth": rule,
        "margin": config.margin,
        "decision": describe(fitted.choice),
        "decision_scores": fitted.choice.scores,
        "calibration": model.calibration.kind
        if (model := fitted.choice.calibrated_model)
        else None,
        "calibration_log_loss": dict(model.calibration.log_loss) if model else {},
        "rule": fitted.choice.kept,
        "ladder": describe_rungs(fitted.rungs),
    }
    with new_folder(home, meta) as draft:
        write_json(draft / "config.json", dataclasses.asdict(config))
        (draft / "stacker").mkdir()
        fitted.stacker.save(draft / "stacker")
        fitted.choice.rule.save(draft / DECISION)
        if config.fall_back:
            fitted.choice.fallback.save(draft / FALLBACK)
        if forecast_model:
            forecast_model.rule.save(draft / FORECAST_RULE)
        record.save(draft)
        if len(test):
            candidates = candidates_of(corpus, members, table=test, split="test", config=config)
            Predictions(
                source="ensemble",
                image_ids=test.image_ids,
                labels=corpus.labels,
                probs=candidates.to_dense(fitted.stacker.predict(candidates)),
                fitted_on=frozenset(valid.image_ids).union(*(m.valid.fitted_on for m in members)),
            ).save(draft / "predictions" / "test")


def _record(
    fitted: SecondStage,
    forecast_model: ForecastModel | None,
    *,
    image_ids: tuple[str, ...],
    worth: Sequence[LadderStep],
) -> EnsembleRecord:
    """How the second stage did on valid; without a forecast nothing is said of probabilities."""
    choice = fitted.choice
    record = EnsembleRecord(
        image_ids=image_ids,
        scores={rung.name: rung.image_f1 for rung in (*fitted.tried, fitted.rungs[-1])},
        rules=choice.rungs,
        worth=worth,
        thresholds=choice.levels.to_json(),
    )
    if forecast_model is None or choice.calibrated_model is None:
        return record
    return dataclasses.replace(
        record,
        reliability=choice.calibrated_model.reliability(),
        folds=forecast_model.by_fold(fitted.images.folds),
        forecast=forecast_model.found,
    )


def _ladder(home: Path, corpus: Corpus) -> Sequence[LadderStep]:
    """The ladder of a finished run; its last rung says if test is not decided by it."""
    run = read_run(home, corpus)
    if not run.meta.get("fell_back"):
        return run.steps
    name = f"not used for this test: {run.meta['decision']}"
    return [*run.steps[:-1], dataclasses.replace(run.steps[-1], name=name, state="not kept")]


def submit_test(
    home: Path, corpus: Corpus, *, valid: ImageTable, test: ImageTable, edition: int
) -> Path:
    """Decide the test images, forecast their score, write and check the edition's file.

    Where they differ in kind from valid, what was tuned and calibrated there may not hold: they are
    then decided by the fallback, and that is said. `meta.json` keeps the forecast, and whether this
    was so.

    Args:
        home: a finished run.
    """
    labels = corpus.labels
    probs = Predictions.load(home / "predictions" / "test").rows(test.image_ids).probs
    categories, groups = test.categories, test.groups
    forecast_model = ForecastModel.load(
        home / FORECAST_RULE, EnsembleRecord.load(home), valid=valid
    )
    shift, made = Shift(), None
    if forecast_model:
        shift = forecast_model.shift(probs, categories=categories, groups=groups, labels=labels)
    rule, fell_back = rule_for(home, shift)
    decided = rule.decide(probs, categories=categories, labels=labels)
    sets = labels.decode(decided)
    say(
        f"submission: {len(test):,} images, {decided.nnz / len(test):.2f} concepts an image,"
        f" {sum(not concepts for concepts in sets)} without any"
    )
    if forecast_model:
        made = forecast_model.forecast(
            decided, probs, categories=categories, groups=groups, labels=labels, shift=shift
        )
    say(str(made or "forecast: none, the run holds no calibrated probabilities"))
    said = {"forecast": made.to_json()} if made else {}
    write_json(home / META, {**read_meta(home), **said, "fell_back": fell_back})
    path = home / f"submission-{edition}{rules_of(edition).suffix}"
    upload = write_submission(path, image_ids=test.image_ids, concept_sets=sets, edition=edition)
    for fault in check_submission(upload, edition=edition, expected_ids=test.image_ids):
        say(str(fault))
    return upload


def rule_for(home: Path, shift: Shift) -> tuple[DecisionRule, bool]:
    """What to decide by, and whether that is the fallback, for images that differ in kind."""
    rule = DecisionRule.load(home / DECISION)
    if not (falls_back(rule, shift) and (home / FALLBACK).is_file()):
        return rule, False
    say(
        f"test differs in kind from valid ({', '.join(shift.meaning)}): decided by one threshold,"
        " not by what was chosen on valid; --set fall_back=false keeps that"
    )
    return DecisionRule.load(home / FALLBACK), True


def falls_back(rule: DecisionRule, shift: Shift) -> bool:
    """Whether more than one threshold was tuned, for images to which it may not apply."""
    return bool(shift.meaning) and not rule.is_one_threshold
