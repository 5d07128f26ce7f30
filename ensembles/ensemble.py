"""`ensemble`: stacks the members, tunes the decision, and writes the submission."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from core.config import fingerprint
from core.editions import EmptyTruth, empty_truth_rule, rules_of
from core.errors import ConfigError, MissingStageError
from core.images import ImageTable
from core.predictions import SparsePredictions, read_predictions, row_numbers
from core.progress import say
from core.runs.decided import DECIDED, DECIDED_TEST, Decided
from core.runs.detectors import find_detectors, untrained
from core.runs.ensemble import DECISION, FALLBACK, FORECAST_RULE, EnsembleRecord, read_run
from core.runs.fused import find_guesses, with_guesses
from core.runs.ladder import LadderStep, describe_rungs
from core.runs.out_of_fold import fold_name
from core.runs.workspace import Corpus, Workspace
from core.storage.arrays import load_array, save_array
from core.storage.folders import (
    TURN,
    is_complete,
    is_whole,
    locked_run,
    new_folder,
    next_turn,
    note_product,
    reuse,
    write_json,
)
from ensembles.config import EnsembleConfig
from ensembles.decisions.rule import DecisionRule
from ensembles.distance.corpus_points import fit_distances, points_of
from ensembles.distance.model import FOLDER as DISTANCE
from ensembles.distance.model import DistanceModel
from ensembles.forecast.forecast import ForecastModel
from ensembles.forecast.interval import Lie
from ensembles.forecast.shift import Shift
from ensembles.learning_curve import learning_curve
from ensembles.members import Member, gather_members
from ensembles.pairs import as_csr
from ensembles.prior_frontier import prior_frontier
from ensembles.second_stage import (
    SecondStage,
    candidates_of,
    describe,
    fit_second_stage,
    leave_one_out,
    quick_stacker,
)
from ensembles.stacking.registry import STACKERS
from ensembles.submission.check import check_submission, first_lines
from ensembles.submission.own_corpus import CONCEPTS, REVIEW, write_concepts, write_review
from ensembles.submission.write import write_submission

_APART = "test_disagreement.npy"
"""Of each image of test how far the members are apart, in a run folder."""


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """A finished ensemble.

    Attributes:
        folder: its run folder.
        ladders: the ladder, cross-fitted; by name of the images, all that were scored first.
        submission: the file to upload, where one was asked for.
    """

    folder: Path
    ladders: Mapping[str, Sequence[LadderStep]]
    submission: Path | None

    @property
    def concepts(self) -> Path | None:
        """Beside the submission, its concepts with names and probabilities."""
        return self.folder / CONCEPTS if self.submission else None


def ensemble(
    corpus: Corpus,
    workspace: Workspace,
    *,
    config: EnsembleConfig,
    submit: bool,
    edition: int | None = None,
    outside: Sequence[Path] = (),
) -> Ensemble:
    """Choose stacker and decision by cross-fitting on labelled images, refit on all, decide test.

    Those are the images that every source predicts out of sample: `Corpus.scored`. An image whose
    category is not given goes by the one that `fuse` guessed, if it did.

    Args:
        corpus: the prepared corpus.
        workspace: where members are found and the run goes.
        config: settings.
        submit: whether to write a submission of the test images.
        edition: year whose format the submission has; None for the corpus' own.
        outside: folders of members that were made elsewhere, or that would be passed over.

    Raises:
        MissingStageError: there are no members, no labelled images to fit on, or no test images to
            submit.
        ConfigError: a stacker or the edition is not known.
    """
    if unknown := [name for name in config.stackers if name not in STACKERS]:
        raise ConfigError(f"stackers: unknown {unknown[0]!r}; known: {', '.join(STACKERS)}")
    edition = edition or corpus.edition
    rules_of(edition)
    guesses = find_guesses(workspace, corpus)
    scored, test = (
        with_guesses(corpus.table.of(split=split), guesses) for split in (corpus.scored, "test")
    )
    scored = scored.take(scored.labelled)
    if not len(scored):
        raise MissingStageError(f"{corpus.name}: no labelled image in valid to fit an ensemble on")
    if submit and not len(test):
        raise MissingStageError(
            f"{corpus.name}: no image in test to submit; without --submit there"
            " is an ensemble all the same, and its report"
        )
    members = gather_members(corpus, workspace, outside=outside)
    detectors = find_detectors(workspace, corpus.fingerprint)
    if line := untrained(detectors, corpus.training_categories, workspace=workspace):
        say(line)
    rule = empty_truth_rule(edition)
    origins = [member.origin for member in members]
    decided_by = [sorted(guesses.items())] if guesses else []
    key = fingerprint(corpus.fingerprint, config, origins, rule, *decided_by)
    home = workspace.ensembles / f"stack-{key}"
    submission = None
    with locked_run(home, what="ensemble"):
        if is_whole(home):
            reuse(home, what="already stacked", among=workspace.ensembles)
        else:
            distance = fit_distances(
                corpus,
                workspace,
                folders=[member.folder for member in members if member.folder],
                guesses=guesses,
                empty_truth=rule,
            )
            _stack(home, corpus, members, scored, test, config, rule, distance)
        if submit:
            submission = submit_test(
                home, corpus, workspace=workspace, scored=scored, test=test, edition=edition
            )
    return Ensemble(folder=home, ladders=_ladders(home, corpus), submission=submission)


def _stack(
    home: Path,
    corpus: Corpus,
    members: Sequence[Member],
    scored: ImageTable,
    test: ImageTable,
    config: EnsembleConfig,
    rule: EmptyTruth,
    distance: DistanceModel | None,
) -> None:
    """Fit the second stage and write its run folder."""
    fitted = fit_second_stage(corpus, members, scored=scored, config=config, empty_truth=rule)
    worth = leave_one_out(corpus, members, scored=scored, config=config, fitted=fitted)
    learning = learning_curve(corpus, members, scored=scored, config=config, fitted=fitted)
    forecast_model = ForecastModel.of(fitted.choice, fitted.out_of_fold, images=fitted.images)
    record = _record(fitted, forecast_model, image_ids=scored.image_ids)
    record = replace(
        record,
        worth=worth,
        learning=learning,
        prior=prior_frontier(corpus, fitted, config=config),
    )
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
        TURN: next_turn(home.parent),
    }
    if config.prior_adjustment:
        meta["prior_adjustment"] = config.prior_adjustment
    with new_folder(home, meta) as draft:
        write_json(draft / "config.json", asdict(config))
        (draft / "stacker").mkdir()
        fitted.stacker.save(draft / "stacker")
        fitted.choice.rule.save(draft / DECISION)
        if config.fall_back:
            fitted.choice.fallback.save(draft / FALLBACK)
        if forecast_model:
            forecast_model.rule.save(draft / FORECAST_RULE)
        if distance:
            if forecast_model:
                distance = distance.with_usual_f1(forecast_model.found["forecast"])
            (draft / DISTANCE).mkdir()
            distance.save(draft / DISTANCE)
        record.save(draft)
        _save_decided(draft, corpus, fitted, record=record, scored=scored)
        if len(test):
            candidates = candidates_of(corpus, members, table=test, split="test", config=config)
            probs = fitted.stacker.predict(candidates)
            SparsePredictions.of_pairs(
                "ensemble",
                test.image_ids,
                labels=corpus.labels,
                probs=candidates.to_sparse(probs),
                fitted_on=frozenset(scored.image_ids).union(*(m.scored.fitted_on for m in members)),
            ).save(draft / "predictions" / "test")
            save_array(draft / _APART, candidates.disagreement(probs))


def _save_decided(
    folder: Path, corpus: Corpus, fitted: SecondStage, *, record: EnsembleRecord, scored: ImageTable
) -> None:
    """Keep what was decided of the scored images without their fold, and by which probabilities."""
    choice, images = fitted.choice, fitted.images
    model = choice.calibrated_model
    Decided(
        image_ids=scored.image_ids,
        concepts=choice.rule.probs_of(
            choice.decided,
            fitted.out_of_fold,
            categories=images.categories,
            labels=images.labels,
            calibrated_by=model.rule if model else None,
        ),
        expected_f1=record.forecast.get("forecast", np.full(len(scored), np.nan)),
        disagreement=fitted.disagreement,
    ).save(folder / DECIDED, labels=corpus.labels)
    ids = np.array(scored.image_ids, dtype=np.str_)
    n_folds = int(images.folds.max()) + 1
    for fold in np.unique(images.folds).tolist():
        held_out = images.folds == fold
        SparsePredictions.of_pairs(
            "ensemble",
            ids[held_out].tolist(),
            labels=corpus.labels,
            probs=fitted.out_of_fold[held_out],
            fitted_on=frozenset(ids[~held_out].tolist()),
        ).save(folder / "predictions" / fold_name(corpus.scored, fold, n_parts=n_folds))


def _record(
    fitted: SecondStage, forecast_model: ForecastModel | None, *, image_ids: tuple[str, ...]
) -> EnsembleRecord:
    """How the second stage did; without a forecast nothing is said of probabilities."""
    choice = fitted.choice
    record = EnsembleRecord(
        image_ids=image_ids,
        scores={rung.name: rung.image_f1 for rung in (*fitted.tried, fitted.rungs[-1])},
        rules=choice.rungs,
        thresholds=choice.levels.to_json(),
    )
    if forecast_model is None or choice.calibrated_model is None:
        return record
    return replace(
        record,
        reliability=choice.calibrated_model.reliability(),
        folds=forecast_model.by_fold(fitted.images.folds),
        forecast=forecast_model.found,
    )


def _ladders(home: Path, corpus: Corpus) -> dict[str, Sequence[LadderStep]]:
    """The ladders of a finished run; the last rung says if test is not decided by it."""
    run = read_run(home, corpus)
    ladders = run.ladders
    if run.meta.get("fell_back"):
        name = f"not used for this test: {run.meta['decision']}"
        for images, (*steps, last) in ladders.items():
            last = replace(last, name=name, state="not kept")
            ladders[images] = [*steps, last]
    return ladders


def submit_test(
    home: Path,
    corpus: Corpus,
    *,
    workspace: Workspace,
    scored: ImageTable,
    test: ImageTable,
    edition: int,
) -> Path:
    """Decide the test images, forecast their score, write and check the edition's file.

    Beside it go `concepts.csv`, the same with names and probabilities, `decided-test.csv`, a line
    an image, and `review.csv`, these in the order in which they are worth a look.

    Of images that lie far from what was learnt less is expected, and the forecast says so.

    Where they differ in kind from the scored images, what was tuned and calibrated there may not
    hold: they are then decided by the fallback, and that is said. `meta.json` keeps the forecast,
    and whether this was so.

    Args:
        home: a finished run.
    """
    labels = corpus.labels
    found = read_predictions(home / "predictions" / "test")  # not sparse in earlier versions
    rows = row_numbers(found.source, found.image_ids, wanted=test.image_ids)
    probs = as_csr(found.probs)[rows]
    categories, groups = test.categories, test.groups
    forecast_model = ForecastModel.load(
        home / FORECAST_RULE, EnsembleRecord.load(home), scored=scored
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
    expected_f1, lie = np.full(len(test), np.nan), lie_of(home, test, workspace=workspace)
    if forecast_model:
        expected = forecast_model.expected(decided, probs, categories=categories, labels=labels)
        expected_f1 = expected.f1
        if lie:
            expected_f1 = lie.of_each(expected.f1)
            expected = replace(expected, f1=lie.expected(expected.f1))
        made = forecast_model.forecast(
            expected, categories=categories, groups=groups, shift=shift, lie=lie
        )
    say(str(made or "forecast: none, the run holds no calibrated probabilities"))
    said = {"forecast": made.to_json()} if made else {}
    concepts = rule.probs_of(
        decided,
        probs,
        categories=categories,
        labels=labels,
        calibrated_by=forecast_model.rule if forecast_model else None,
    )
    write_concepts(
        home / CONCEPTS,
        concepts,
        image_ids=test.image_ids,
        labels=labels,
        names=corpus.names,
    )
    apart = home / _APART
    told = Decided(
        image_ids=test.image_ids,
        concepts=concepts,
        expected_f1=expected_f1,
        disagreement=load_array(apart) if apart.is_file() else np.full(len(test), np.nan),
    )
    told.save(home / DECIDED_TEST, labels=labels)
    write_review(
        home / REVIEW,
        told,
        categories=categories,
        distances=lie.distances if lie else np.full(len(test), np.nan),
        labels=labels,
        names=corpus.names,
    )
    path = home / f"submission-{edition}{rules_of(edition).suffix}"
    upload = write_submission(path, image_ids=test.image_ids, concept_sets=sets, edition=edition)
    note_product(home, upload, **said, fell_back=fell_back)
    faults = check_submission(upload, edition=edition, expected_ids=test.image_ids)
    if faults:
        for line in first_lines(faults):
            say(line)
    return upload


def lie_of(home: Path, images: ImageTable, *, workspace: Workspace) -> Lie | None:
    """How images lie to those that were learnt from; None where a run or features do not tell.

    Args:
        home: a finished run.
        images: with their categories, given or guessed.
        workspace: where features lie.
    """
    if not (home / DISTANCE).is_dir():
        return None
    model = DistanceModel.load(home / DISTANCE)
    if lost := [name for name in model.features if not is_complete(workspace.embeddings / name)]:
        say(f"forecast by probabilities alone: features {lost[0]} are not there any more")
        return None
    points, there = points_of(model.features, images.image_ids, workspace=workspace)
    return Lie.of(model, points, there=there, categories=images.categories, groups=images.groups)


def rule_for(home: Path, shift: Shift) -> tuple[DecisionRule, bool]:
    """What to decide by, and whether that is the fallback, for images that differ in kind."""
    rule = DecisionRule.load(home / DECISION)
    if not (falls_back(rule, shift) and (home / FALLBACK).is_file()):
        return rule, False
    say(
        f"test differs in kind from the images that the decision was chosen on"
        f" ({', '.join(shift.meaning)}): decided by one threshold instead; --set fall_back=false"
        " keeps what was chosen"
    )
    return DecisionRule.load(home / FALLBACK), True


def falls_back(rule: DecisionRule, shift: Shift) -> bool:
    """Whether more than one threshold was tuned, for images to which it may not apply."""
    return bool(shift.meaning) and not rule.is_one_threshold
