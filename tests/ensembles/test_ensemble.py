"""`ensemble` from generated members to an accepted submission."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.categories import CATEGORIES
from core.errors import ConfigError, MissingStageError
from core.predictions import Predictions, SparsePredictions
from core.prior import CategoryPrior
from core.runs.decided import Decided
from core.runs.ensemble import read_scores
from core.runs.ladder import ladder_table, read_steps
from core.runs.out_of_fold import read_folds
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from ensembles.config import EnsembleConfig
from ensembles.decisions.rule import DecisionRule
from ensembles.ensemble import Ensemble, ensemble
from ensembles.stacking.registry import load_stacker
from ensembles.submission.check import check_submission
from ensembles.submission.score import score_submission
from tests.core.storage.unlisted import forget_files

SaveRun = Callable[..., Path]

QUICK = EnsembleConfig(stackers=("mean", "logistic"), constant_from=15)


def run(corpus: Corpus, workspace: Workspace, **given: Any) -> Ensemble:
    return ensemble(corpus, workspace, **{"config": QUICK, "submit": True, **given})


@pytest.fixture
def members(detector: SaveRun, fused: SaveRun) -> None:
    """A global detector, a specialist, and a fused source."""
    detector("global", noise=2.0)
    detector("DRCT", noise=1.5)
    fused("one-hot", noise=1.5)


@pytest.mark.usefixtures("members")
def test_a_run_holds_everything_that_was_made(generated: Corpus, workspace: Workspace) -> None:
    made = run(generated, workspace)
    assert {path.name for path in made.folder.iterdir()} == {
        "belief.json", "concepts.csv", "config.json", "decided.csv", "decided-test.csv",
        "decision.json", "fallback.json", "forecast.csv", "forecast_images.csv",
        "learning_curve.csv", "members.csv", "meta.json", "predictions",
        "prior_adjustment.csv", "reliability.csv",
        "review.csv", "rules_f1.csv", "stacker", "submission-2020.txt", "test_disagreement.npy",
        "thresholds.json", "valid_f1.csv",
    }  # fmt: skip
    meta = read_meta(made.folder)
    assert list(meta["members"]) == ["prior", "one-hot", "global", "DRCT"]
    assert meta["corpus"] == "gen00000"
    assert workspace.finished_runs(workspace.ensembles) == [made.folder]
    assert json.loads((made.folder / "config.json").read_text())["margin"] == QUICK.margin
    DecisionRule.load(made.folder / "decision.json")


@pytest.mark.usefixtures("members")
def test_what_was_decided_is_kept_with_what_it_was_decided_by(
    generated: Corpus, workspace: Workspace
) -> None:
    made = run(generated, workspace)
    scored, labels = generated.table.of(split="valid"), generated.labels
    decided = Decided.load(made.folder / "decided.csv", labels=labels)
    assert tuple(decided.image_ids) == scored.image_ids
    # The sets are those that the submission was judged by on these images.
    truth = [set(concepts or ()) for concepts in scored.concepts]
    sets = list(map(set, labels.decode(decided.concepts)))
    f1 = [2 * len(t & d) / (len(t) + len(d)) for t, d in zip(truth, sets, strict=True)]
    _, scores = read_scores(made.folder / "valid_f1.csv")
    np.testing.assert_allclose(f1, scores["submission"], atol=1e-12)
    assert np.all((decided.disagreement > 0) & (decided.disagreement < 0.5))
    out_of_fold = read_folds(made.folder / "predictions", "valid")
    assert isinstance(out_of_fold, SparsePredictions)
    out_of_fold.require_out_of_sample()
    rows = [out_of_fold.image_ids.index(image_id) for image_id in scored.image_ids]
    likely = out_of_fold.probs[rows].toarray() > 0.5
    assert np.mean(likely == (decided.concepts.toarray() > 0)) > 0.9
    of_test = Decided.load(made.folder / "decided-test.csv", labels=labels)
    assert made.submission is not None
    written = dict(line.split("\t") for line in made.submission.read_text().splitlines())
    assert {
        image_id: set(concepts)
        for image_id, concepts in zip(
            of_test.image_ids, labels.decode(of_test.concepts), strict=True
        )
    } == {image_id: set(cell.split(";")) - {""} for image_id, cell in written.items()}


@pytest.mark.parametrize("fall_back", [True, False])
@pytest.mark.usefixtures("members")
def test_images_of_another_kind_are_decided_by_one_threshold(
    generated: Corpus,
    workspace: Workspace,
    capsys: pytest.CaptureFixture[str],
    fall_back: bool,
) -> None:
    """The members are sure of three concepts on an image of valid, and of hardly one on test."""
    config = replace(QUICK, fall_back=fall_back)
    made = run(generated, workspace, config=config)
    forget_files(made.folder)
    chosen = DecisionRule.load(made.folder / "belief.json")
    chosen.save(made.folder / "decision.json")  # as if expected F1 had been the best on valid
    assert chosen.kind == "expected-f1"
    again = run(generated, workspace, config=config)
    line = "test differs in kind from the images that the decision was chosen on (1.2 expected"
    line += " concepts an image against 3.9)"
    assert (line in capsys.readouterr().err) == fall_back
    assert read_meta(made.folder)["fell_back"] == fall_back
    assert again.ladders["valid"][-1].name.startswith(
        "not used for this test" if fall_back else "submission"
    )
    assert again.submission is not None
    rule = DecisionRule.load(made.folder / "fallback.json") if fall_back else chosen
    test = generated.table.of(split="test")
    predictions = SparsePredictions.load(made.folder / "predictions" / "test")
    assert predictions.image_ids == test.image_ids
    probs = predictions.probs
    decided = rule.decide(probs, categories=test.categories, labels=generated.labels)
    written = [row.split("\t")[-1] for row in again.submission.read_text().splitlines()]
    sets = [";".join(sorted(concepts)) for concepts in generated.labels.decode(decided)]
    assert [";".join(sorted(row.split(";"))) for row in written] == sets


@pytest.mark.usefixtures("members")
def test_a_submission_says_what_it_will_score(
    generated: Corpus, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run(generated, workspace)
    found = read_meta(made.folder)["forecast"]
    line = f"forecast: F1 {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
    assert line in capsys.readouterr().err
    assert found["low"] <= found["value"] <= found["high"]
    assert found["n"] == len(generated.table.of(split="test"))
    with (made.folder / "forecast.csv").open(newline="") as file:
        folds = list(csv.DictReader(file))
    assert sum(int(row["n"]) for row in folds) == 80
    off = sum(int(r["n"]) * (float(r["forecast"]) - float(r["truth"])) for r in folds) / 80
    assert off == pytest.approx(found["error"]["value"], abs=1e-5)
    forget_files(made.folder)
    (made.folder / "belief.json").unlink()  # as in a run of an earlier version
    run(generated, workspace)
    assert "forecast: none" in capsys.readouterr().err


@pytest.mark.usefixtures("members")
@pytest.mark.parametrize("edition", [2020, 2022, 2023, 2025, 2026])
def test_the_submission_would_be_taken(
    generated: Corpus, workspace: Workspace, edition: int, tmp_path: Path
) -> None:
    made = run(generated, workspace, edition=edition)
    assert made.submission is not None
    expected = generated.table.of(split="test").image_ids
    assert made.submission.parent == made.folder
    assert check_submission(made.submission, edition=edition, expected_ids=expected) == []


@pytest.mark.usefixtures("members")
def test_the_submission_is_what_rule_and_probabilities_on_disk_decide(
    generated: Corpus, workspace: Workspace
) -> None:
    made = run(generated, workspace)
    assert made.submission is not None
    test = generated.table.of(split="test")
    predictions = SparsePredictions.load(made.folder / "predictions" / "test")
    assert predictions.image_ids == test.image_ids
    probs = predictions.probs
    rule = DecisionRule.load(made.folder / "decision.json")
    decided = rule.decide(probs, categories=test.categories, labels=generated.labels)
    sets = [set(concepts) for concepts in generated.labels.decode(decided)]
    lines = made.submission.read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == list(test.image_ids)
    assert [set(line.split("\t")[1].split(";")) for line in lines] == sets
    constant = {"DRCT": "C00", "DRXR": "C01", "DRUS": "C02"}
    assert all(constant[c] in own for c, own in zip(test.categories, sets, strict=True))


@pytest.mark.usefixtures("members")
def test_the_submission_scores_what_the_truth_says(
    generated: Corpus, workspace: Workspace, tmp_path: Path
) -> None:
    made = run(generated, workspace)
    assert made.submission is not None
    truth = tmp_path / "truth.txt"
    truth.write_text(made.submission.read_text())
    assert score_submission(made.submission, truth=truth, edition=2020).f1 == 1.0


@pytest.mark.usefixtures("members")
def test_test_predictions_remember_every_image_that_had_a_part_in_them(
    generated: Corpus, workspace: Workspace
) -> None:
    made = run(generated, workspace)
    predictions = SparsePredictions.load(made.folder / "predictions" / "test")
    table = generated.table
    expected = {i for i, s in zip(table.image_ids, table.splits, strict=True) if s != "test"}
    assert predictions.fitted_on == expected
    predictions.require_out_of_sample()


@pytest.mark.usefixtures("members")
def test_the_scores_of_every_image_are_kept_for_reports(
    generated: Corpus, workspace: Workspace
) -> None:
    made = run(generated, workspace)
    with (made.folder / "valid_f1.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "image_id", "prior", "one-hot", "global", "DRCT", "mean", "logistic", "submission",
    ]  # fmt: skip
    assert [row["image_id"] for row in rows] == list(generated.table.of(split="valid").image_ids)
    submitted = np.mean([float(row["submission"]) for row in rows])
    assert submitted == pytest.approx(made.ladders["valid"][-1].f1.value)
    assert "n = 80 images" in ladder_table(made.ladders["valid"], images="valid")[-1]


@pytest.mark.usefixtures("members")
def test_an_image_that_is_left_out_of_the_mean_has_an_empty_score(
    generated: Corpus, workspace: Workspace
) -> None:
    concepts = tuple(() if i == "valid_004" else c for i, c in zip(
        generated.table.image_ids, generated.table.concepts, strict=True
    ))  # fmt: skip
    corpus = replace(generated, table=replace(generated.table, concepts=concepts))
    made = run(corpus, workspace, submit=False)
    with (made.folder / "valid_f1.csv").open(newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row["image_id"] == "valid_004"]
    assert set(row.values()) == {"valid_004", ""}
    assert made.ladders["valid"][0].f1.n == 79


@pytest.mark.usefixtures("members")
def test_two_runs_are_equal_to_the_last_bit(generated: Corpus, workspace: Workspace) -> None:
    config = EnsembleConfig(margin=0.0)  # LightGBM as well
    contents = []
    for _ in range(2):
        made = run(generated, workspace, config=config)
        assert made.submission is not None
        contents.append(
            [
                (made.folder / name).read_bytes()
                for name in ("predictions/test/values.npy", "decision.json", made.submission.name)
            ]
        )
        shutil.rmtree(made.folder)
    assert contents[0] == contents[1]


@pytest.mark.usefixtures("members")
def test_a_finished_run_is_kept_and_submitted_in_every_edition_of_its_rule(
    generated: Corpus, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(generated, workspace)
    time = (first.folder / "config.json").stat().st_mtime_ns
    again = run(generated, workspace, edition=2019)
    assert f"already stacked, {first.folder}" in capsys.readouterr().err
    assert again.folder == first.folder
    assert (first.folder / "config.json").stat().st_mtime_ns == time
    assert (
        again.ladders["valid"] == first.ladders["valid"]
    )  # the ladder is read back from the scores of the images
    assert first.submission is not None
    assert again.submission is not None
    assert first.submission.is_file()
    assert again.submission != first.submission
    # since 2022 an image without true concepts counts: thresholds are tuned for that
    assert run(generated, workspace, edition=2025).folder != first.folder


@pytest.mark.usefixtures("members")
def test_other_settings_and_members_have_runs_of_their_own(
    generated: Corpus, workspace: Workspace, fused: SaveRun
) -> None:
    folders = {run(generated, workspace, submit=False).folder}
    folders.add(run(generated, workspace, submit=False, config=replace(QUICK, top=9)).folder)
    fused("retrieval")
    folders.add(run(generated, workspace, submit=False).folder)
    assert len(folders) == 3


def test_a_kept_stacker_can_be_loaded_again(
    generated: Corpus, workspace: Workspace, fused: SaveRun
) -> None:
    fused("one-hot")
    fused("retrieval")
    for margin in (0.0, 1_000):  # a stacker that learns, then a single member
        made = run(generated, workspace, config=replace(QUICK, margin=margin), submit=False)
        assert load_stacker(made.folder / "stacker") is not None


def test_a_specialist_without_images_in_test_or_valid_does_no_harm(
    generated: Corpus,
    workspace: Workspace,
    detector: SaveRun,
    capsys: pytest.CaptureFixture[str],
) -> None:
    detector("global")
    for category, split in (("DRUS", "test"), ("DRXR", "valid")):
        home = detector(category)
        whole = Predictions.load(home / "predictions" / split)
        none = replace(whole, image_ids=(), probs=whole.probs[:0])
        none.save(home / "predictions" / split)
    made = run(generated, workspace)
    assert list(read_meta(made.folder)["members"]) == ["prior", "global", "DRUS"]
    assert "left out, no labelled image to weigh it by: DRXR" in capsys.readouterr().err
    expected = generated.table.of(split="test").image_ids
    assert made.submission is not None
    assert check_submission(made.submission, edition=2020, expected_ids=expected) == []


def test_several_networks_of_a_category_and_an_older_run_stack(
    generated: Corpus, workspace: Workspace, detector: SaveRun
) -> None:
    for preset, noise in (("quick", 2.5), ("finetune", 2.0), ("swin", 2.1)):
        detector("global", name=f"{preset}-1", noise=noise)
    detector("DRCT", name="swin-1", noise=4.0)
    older = detector("global", name="quick-0", made="2026-01-01", noise=2.2)
    made = run(generated, workspace, config=replace(QUICK, stackers=("mean",)), outside=[older])
    names = [
        "prior", "global/finetune", "global/quick", "global/swin", "DRCT", "global/quick-0"
    ]  # fmt: skip
    assert list(read_meta(made.folder)["members"]) == names
    with (made.folder / "valid_f1.csv").open(newline="") as file:
        assert next(csv.reader(file))[1:] == [*names, "mean", "submission"]
    assert [step.name for step in read_steps(made.folder / "members.csv")] == names
    (best, stacked) = made.ladders["valid"][1:3]
    assert best.name.startswith("best member: global/")
    assert stacked.gain is not None
    assert stacked.gain.low > 0
    again = run(generated, workspace, config=replace(QUICK, stackers=("mean",)), outside=[older])
    assert again.folder == made.folder


def test_an_image_that_no_member_saw_gets_what_its_category_says(
    generated: Corpus, workspace: Workspace, fused: SaveRun
) -> None:
    home = fused("one-hot")
    whole = Predictions.load(home / "predictions" / "test")
    whole.rows(whole.image_ids[1:]).save(home / "predictions" / "test")  # test_000 is unreadable
    made = run(generated, workspace, config=EnsembleConfig(stackers=("mean",)))
    found = SparsePredictions.load(made.folder / "predictions" / "test").probs[[0]].toarray()[0]
    test = generated.table.of(split="test")
    train = generated.table.of(split="train")
    prior = CategoryPrior.of(train, generated.labels).of_category(test.categories[0])
    np.testing.assert_allclose(found[prior > 0], prior[prior > 0], rtol=1e-3)
    assert not found[prior == 0].any()


def test_a_corpus_without_categories_has_an_ensemble_as_well(
    generated: Corpus, workspace: Workspace, fused: SaveRun
) -> None:
    fused("one-hot")
    table = generated.table
    bare = replace(generated, table=replace(table, categories=("",) * len(table)))
    made = run(bare, workspace, edition=2025)
    assert made.submission is not None
    assert DecisionRule.load(made.folder / "decision.json").always == {}
    assert set(table.categories) < set(CATEGORIES)


@pytest.mark.usefixtures("members")
def test_without_test_images_there_is_a_run_but_no_submission(
    generated: Corpus, workspace: Workspace
) -> None:
    table = generated.table
    partly = replace(generated, table=table.take(np.array([s != "test" for s in table.splits])))
    for folder in workspace.root.rglob("predictions/test"):
        whole = Predictions.load(folder)
        replace(whole, image_ids=(), probs=whole.probs[:0]).save(folder)
    made = run(partly, workspace, submit=False)
    assert made.submission is None
    assert not (made.folder / "predictions" / "test").exists()
    assert not (made.folder / "decided-test.csv").exists()
    with pytest.raises(MissingStageError, match="generated: no image in test to submit"):
        run(partly, workspace, submit=True)


@pytest.mark.usefixtures("members")
def test_without_labelled_images_in_valid_nothing_can_be_fitted(
    generated: Corpus, workspace: Workspace
) -> None:
    table = generated.table
    concepts = tuple(
        None if s == "valid" else c for s, c in zip(table.splits, table.concepts, strict=True)
    )
    blind = replace(generated, table=replace(table, concepts=concepts))
    with pytest.raises(MissingStageError, match="no labelled image in valid to fit an ensemble on"):
        run(blind, workspace)


def test_without_members_the_commands_are_named(generated: Corpus, workspace: Workspace) -> None:
    with pytest.raises(MissingStageError, match="neither a detector nor a fused source"):
        run(generated, workspace)


def test_an_unknown_stacker_is_named_with_the_known_ones(
    generated: Corpus, workspace: Workspace
) -> None:
    with pytest.raises(
        ConfigError, match="unknown 'svm'; known: mean, greedy, votes, logistic, log"
    ):
        run(generated, workspace, config=EnsembleConfig(stackers=("mean", "svm")))


@pytest.mark.parametrize("edition", [2021, 2024, 1999])
def test_an_edition_without_a_known_evaluator_is_refused_before_anything_is_fitted(
    generated: Corpus, workspace: Workspace, edition: int
) -> None:
    with pytest.raises(ConfigError, match=str(edition)):
        run(generated, workspace, edition=edition)
