"""From a finished ensemble to the file that is uploaded."""

from pathlib import Path

from core.editions import rules_of
from core.images import ImageTable
from core.predictions import Predictions
from core.progress import say
from core.runs.workspace import Corpus
from core.storage.folders import META, read_meta, write_json
from ensembles.decisions.rule import DecisionRule
from ensembles.forecast.shift import Shift
from ensembles.outlook import Outlook
from ensembles.submission.check import check_submission
from ensembles.submission.write import write_submission

DECISION = "decision.json"
FALLBACK = "fallback.json"
"""The rule that was chosen, and the one for images that differ in kind from valid."""


def submit_test(
    home: Path, corpus: Corpus, valid: ImageTable, test: ImageTable, *, edition: int
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
    outlook = Outlook.load(home, valid=valid)
    shift, made = Shift(), None
    if outlook:
        shift = outlook.shift(probs, categories=categories, groups=groups, labels=labels)
    rule, fell_back = rule_for(home, shift)
    decided = rule.decide(probs, categories=categories, labels=labels)
    sets = labels.decode(decided)
    say(
        f"submission: {len(test):,} images, {decided.nnz / len(test):.2f} concepts an image,"
        f" {sum(not concepts for concepts in sets)} without any"
    )
    if outlook:
        made = outlook.forecast(
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
