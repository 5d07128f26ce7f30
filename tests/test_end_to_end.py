"""The three commands of a user, from files to a submission that the evaluator takes."""

import csv
import re
import shutil
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import cli
from core.categories import MODALITY_CONCEPTS
from core.images import ImageTable
from core.predictions import SparsePredictions
from core.prior import CategoryPrior
from core.runs.ensemble import read_scores
from core.runs.workspace import Corpus, Workspace
from inference.images import find_images
from inference.loaded.workspace import read_ensemble
from inference.stream import decide_images

N_IMAGES = 330
HOLDOUT = ("--protocol", "holdout", "--set", "train_folds=4", "--set", "valid_folds=3")

PREPARE = ("--set", "image_size=64", *HOLDOUT)
TRAIN = tuple(f"--set={s}" for s in ("image_sizes=64", "epochs=3", "n_members=1", "probe=false"))
FUSE = ("--set", "epochs=3", "--set", "n_members=1")


@dataclass(frozen=True)
class Said:
    """What a command printed."""

    out: str
    err: str

    @property
    def last(self) -> Path:
        """The last line of the results, as the path it is."""
        return Path(self.out.splitlines()[-1])


def run(*arguments: str | Path) -> Said:
    """What a command says that must go well; a mistake is raised."""
    result = CliRunner().invoke(cli.app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return Said(result.stdout, result.stderr)


def chain(workspace: Path, *, category: str) -> dict[str, Said]:
    """The three commands in their order, on a prepared corpus."""
    return {
        "train-backbone": run("train-backbone", "--category", category, "-w", workspace, *TRAIN),
        "fuse": run("fuse", "-w", workspace, *FUSE),
        "ensemble": run("ensemble", "--submit", "-w", workspace),
    }


def told_of(path: Path) -> dict[str, set[str]]:
    """Decided concepts by image in a csv of `predict`, or in the one beside a submission."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["CUI"]]
    return {i: {r["CUI"] for r in rows if r["image"] == i} for i in {r["image"] for r in rows}}


def assert_predict_decides_as_submitted(
    workspace: Path, submission: Path, out: Path, *, places: Sequence[str | Path]
) -> Said:
    """Concept for concept as the submission; stacked probabilities to 1e-6, in any order."""
    said = run("predict", *places, "-w", workspace, "--out", out)
    assert told_of(out) == told_of(submission.parent / "concepts.csv")
    saved = SparsePredictions.load(submission.parent / "predictions" / "test")
    row_of = dict(zip(saved.image_ids, saved.probs.toarray(), strict=True))
    ensemble, asked = read_ensemble(Workspace(workspace)), find_images(list(map(str, places)))
    image_of = {image.image_id: image for image in asked.images}
    assert sorted(image_of) == sorted(saved.image_ids)
    for ids in (list(image_of), saved.image_ids, saved.image_ids[::-1]):
        for n_at_once in (128, 13):
            blocks = decide_images(
                ensemble, [image_of[image_id] for image_id in ids], n_at_once=n_at_once
            )
            probs = np.concatenate([block.decisions.probs for block in blocks])
            expected = np.stack([row_of[image_id] for image_id in ids])
            np.testing.assert_allclose(probs, expected, rtol=0, atol=1e-6)
    return said


def corpus_of(workspace: Path) -> Corpus:
    return Workspace(workspace).open_corpus()


def read_submission(path: Path) -> dict[str, set[str]]:
    """Concepts by image of a submission of 2020; an image twice would not go unseen."""
    lines = path.read_text().splitlines()
    rows = dict(line.split("\t") for line in lines)
    assert len(rows) == len(lines)
    return {image_id: set(filter(None, text.split(";"))) for image_id, text in rows.items()}


def files(folder: Path, pattern: str) -> dict[str, bytes]:
    """Contents by name; of a run, not when it was last asked for."""
    contents = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob(pattern))}
    changing = rb',\n  "(?:asked|seal)": ".*"|,\n  "turn": \d+'
    return {name: re.sub(changing, b"", data) for name, data in contents.items()}


@dataclass(frozen=True)
class Finished:
    """A workspace after the three commands, and what they said."""

    workspace: Path
    said: Mapping[str, Said]

    @property
    def submission(self) -> Path:
        return self.said["ensemble"].last


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The phantom corpus with the specialist of CT alone; to be read only."""
    workspace = tmp_path_factory.mktemp("finished")
    run("prepare", "--set", f"phantom_images={N_IMAGES}", "-w", workspace, *PREPARE)
    return Finished(workspace, chain(workspace, category="DRCT"))


def test_one_specialist_is_enough_and_what_is_missing_is_named(finished: Finished) -> None:
    missing = (
        "not trained yet: global, DRAN, DRCO, DRMR, DRPE, DRUS, DRXR;"
        f" to train: python cli.py train-backbone -w {finished.workspace}\n"
    )
    assert missing in finished.said["fuse"].err
    assert missing in finished.said["ensemble"].err
    assert finished.said["train-backbone"].last.parent.name == "DRCT"
    assert finished.said["train-backbone"].last.is_dir()


def test_the_last_line_is_a_submission_that_check_takes(finished: Finished) -> None:
    assert finished.submission.is_file()
    said = run("check", finished.submission, "--edition", "2020", "-w", finished.workspace)
    assert "the 2020 evaluator would take it" in said.out


def test_the_submission_holds_every_test_image_once(finished: Finished) -> None:
    test = corpus_of(finished.workspace).table.of(split="test")
    assert sorted(read_submission(finished.submission)) == sorted(test.image_ids)


def test_the_submission_can_be_scored_against_the_truth(finished: Finished) -> None:
    truth = finished.workspace / "phantom" / "Test-Concepts.txt"
    said = run("score", finished.submission, "--truth", truth, "--edition", "2020")
    f1 = float(said.out.split()[1])
    assert 0.4 < f1 < 1.0  # the category alone reaches about 0.5


def test_every_rung_of_the_ladder_is_printed_with_its_interval(finished: Finished) -> None:
    lines = finished.said["ensemble"].out.splitlines()
    assert lines[0].startswith("cross-fitted on valid")
    assert lines[1].startswith("prior ")
    assert any(line.startswith("decision: ") for line in lines)
    n_valid = len(corpus_of(finished.workspace).table.of(split="valid"))
    assert lines[-3].strip().startswith(f"n = {n_valid} images")
    for what in ("best member: ", "mean of the members ", "stacker: "):
        assert any(line.startswith(what) for line in lines)
    assert all(line.endswith(("  kept", "  not kept")) for line in lines[1:-4])
    assert lines[-4].startswith("submission: ")
    assert lines[-4].endswith("  submitted")


def test_predict_on_the_test_images_is_the_submission(finished: Finished, tmp_path: Path) -> None:
    test = finished.workspace / "phantom" / "test"
    said = assert_predict_decides_as_submitted(
        finished.workspace, finished.submission, tmp_path / "decided.csv", places=[test]
    )
    n_test = len(corpus_of(finished.workspace).table.of(split="test"))
    assert f"decided: {n_test} images; category: by folder {n_test}\n" in said.err
    arguments = ("--format", "submission", "--out", tmp_path / "again.txt")
    run("predict", test, "-w", finished.workspace, *arguments)
    assert read_submission(tmp_path / "again.txt") == read_submission(finished.submission)


def test_predict_skips_broken_images_and_the_others_stay_the_same(
    finished: Finished, tmp_path: Path
) -> None:
    test = Path(shutil.copytree(finished.workspace / "phantom" / "test", tmp_path / "test"))
    whole = sorted(test.rglob("*.jpg"))
    for number in range(10):
        path = test / "DRCT" / f"a_broken_{number}.jpg"
        path.write_bytes(whole[number].read_bytes()[: 10 * number])
    out = tmp_path / "decided.csv"
    arguments = ["predict", str(test), "-w", str(finished.workspace), "--out", str(out)]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 1
    assert f"not read: 10 of {len(whole) + 10} images\n" in result.stderr
    assert f"not read: {test / 'DRCT' / 'a_broken_3.jpg'}: " in result.stderr
    assert told_of(out) == told_of(finished.submission.parent / "concepts.csv")


def test_constant_concepts_are_on_every_image_of_a_large_category(finished: Finished) -> None:
    corpus = corpus_of(finished.workspace)
    submitted = read_submission(finished.submission)
    train, test = (corpus.table.of(split=split) for split in ("train", "test"))
    n_train = Counter(train.categories)
    large = [category for category, n in n_train.items() if n >= 50]
    assert "DRCT" in large
    for category in large:
        sets = [set(c or ()) for c in train.of(category=category).concepts]
        constant = set.intersection(*sets)
        assert constant
        for image_id in test.of(category=category).image_ids:
            assert constant <= submitted[image_id]


def test_concepts_of_valid_that_train_lacks_are_misses(finished: Finished) -> None:
    corpus = corpus_of(finished.workspace)
    [run_folder] = (finished.workspace / "ensembles").iterdir()
    image_ids, scores = read_scores(run_folder / "valid_f1.csv")
    concepts = dict(zip(corpus.table.image_ids, corpus.table.concepts, strict=True))
    n_true = np.array([len(concepts[i] or ()) for i in image_ids])
    n_unseen = np.array([sum(c not in corpus.labels for c in concepts[i] or ()) for i in image_ids])
    assert n_unseen.any()
    # Whoever decides all that train knows and nothing else gets t - u of t and of t - u right:
    # F1 = 2 (t - u) / (t + t - u).
    best = 2 * (n_true - n_unseen) / (2 * n_true - n_unseen)
    for image_f1 in scores.values():
        assert (image_f1 <= best + 1e-12).all()


def test_the_report_has_every_source_with_its_score(finished: Finished, tmp_path: Path) -> None:
    workspace = Path(shutil.copytree(finished.workspace, tmp_path / "runs"))
    said = run("report", "-w", workspace)
    path, page = (Path(line) for line in said.out.splitlines()[-2:])
    assert page.name == "report.html"
    assert page.read_text(encoding="utf-8").count("<svg ") >= 4
    text = path.read_text(encoding="utf-8")
    [run_folder] = (workspace / "ensembles").iterdir()
    _, scores = read_scores(run_folder / "valid_f1.csv")
    assert {"prior", "one-hot", "retrieval", "routed", "submission"} <= set(scores)
    for source, image_f1 in scores.items():
        assert re.search(rf"^\| {re.escape(source)} +\| +{image_f1.mean():.4f} \[", text, re.M)
    valid = corpus_of(workspace).table.of(split="valid")
    for category, n in Counter(valid.categories).items():
        assert f"{category}, n = {n} " in text
    pictures = sorted((workspace / "reports").glob("report_example_*.jpg"))
    assert pictures
    assert all(f"]({picture.name})" in text for picture in pictures)
    assert "- fusion, Python 3" in text
    run("report", "--no-images", "-w", workspace)
    assert not list((workspace / "reports").glob("*.jpg"))
    assert "data:image/jpeg" not in page.read_text(encoding="utf-8")


def test_the_same_commands_again_change_nothing(finished: Finished) -> None:
    before = files(finished.workspace, "*.*")
    again = chain(finished.workspace, category="DRCT")
    assert files(finished.workspace, "*.*") == before
    assert again["ensemble"].out == finished.said["ensemble"].out
    assert "DRCT: already trained, " in again["train-backbone"].err
    for strategy in ("one-hot", "retrieval", "routed", "prior"):
        assert f"{strategy}: already fused, " in again["fuse"].err
    assert "already stacked, " in again["ensemble"].err


def test_the_same_seed_elsewhere_gives_the_same_bits(finished: Finished, tmp_path: Path) -> None:
    run("prepare", "--set", f"phantom_images={N_IMAGES}", "-w", tmp_path, *PREPARE)
    said = chain(tmp_path, category="DRCT")
    assert said["ensemble"].last.read_bytes() == finished.submission.read_bytes()
    for stage in ("backbones", "fusion"):  # an ensemble's folder is named after when it was made
        here, there = (files(home / stage, "probs.npy") for home in (tmp_path, finished.workspace))
        assert len(here) >= 2
        assert here == there
    pooled = [list(files(home, "values.npy").values()) for home in (tmp_path, finished.workspace)]
    assert pooled[0] == pooled[1]


def test_a_corpus_prepared_anew_forgets_what_was_trained_before(
    finished: Finished, tmp_path: Path
) -> None:
    workspace = Path(shutil.copytree(finished.workspace, tmp_path / "runs"))
    run("prepare", finished.workspace / "phantom", "-w", workspace, *PREPARE, "--set", "seed=1")
    for command, named in (("fuse", "train-backbone"), ("report", "ensemble --submit")):
        result = CliRunner().invoke(cli.app, [command, "-w", str(workspace)])
        assert f"run `python cli.py {named} -w {workspace}` first" in str(result.exception)


def test_other_images_under_the_same_names_are_another_corpus(
    finished: Finished, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(finished.workspace / "phantom", tmp_path / "source"))
    first = prepared_as(source, tmp_path / "runs").fingerprint
    assert first == corpus_of(finished.workspace).fingerprint  # wherever it lies
    one, other, *_ = sorted((source / "train" / "DRCT").iterdir())
    one.write_bytes(other.read_bytes())
    assert prepared_as(source, tmp_path / "runs").fingerprint != first


def prepared_as(source: Path, workspace: Path) -> Corpus:
    run("prepare", source, "-w", workspace, *PREPARE)
    return corpus_of(workspace)


# A corpus with everything that can be odd and yet has to go through


@dataclass(frozen=True)
class Odd:
    """A workspace made from a corpus with odd files, and which images they are."""

    finished: Finished
    notes: str
    cut_test: str
    cut_train: str
    unlabelled: tuple[str, ...]
    without: str


@pytest.fixture(scope="module")
def odd(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Odd:
    home = tmp_path_factory.mktemp("odd")
    source = Path(shutil.copytree(finished.workspace / "phantom", home / "source"))
    table = corpus_of(finished.workspace).table
    ct_train = table.of(split="train", category="DRCT").image_ids
    cut_train, without, *unlabelled = ct_train[:5]
    cut_test = table.of(split="test", category="DRCT").image_ids[0]
    for split, image_id in (("train", cut_train), ("test", cut_test)):
        path = source / split / "DRCT" / f"{image_id}.jpg"
        path.write_bytes(path.read_bytes()[:600])
    listed = source / "Training-Concepts.txt"
    lines = [line.split("\t") for line in listed.read_text().splitlines()]
    listed.write_text(
        "".join(f"{i}\t{'' if i == without else c}\n" for i, c in lines if i not in unlabelled)
    )
    notes = run("prepare", source, "-w", home / "runs", *PREPARE).out
    said = chain(home / "runs", category="DRCT")
    return Odd(
        finished=Finished(home / "runs", said),
        notes=notes,
        cut_test=cut_test,
        cut_train=cut_train,
        unlabelled=tuple(unlabelled),
        without=without,
    )


def test_odd_images_are_counted(odd: Odd) -> None:
    assert "2 images cannot be decoded and are left out of training" in odd.notes
    assert f"{odd.cut_train}.jpg" in odd.notes
    n_train = len(corpus_of(odd.finished.workspace).table.of(split="train"))
    assert f"train: 3 of {n_train} images without an entry in Training-Concepts.txt" in odd.notes
    assert f"train: 1 image known to have no concept, kept: ['{odd.without}']" in odd.notes


def test_an_unreadable_test_image_is_submitted_with_what_its_category_says(odd: Odd) -> None:
    corpus = corpus_of(odd.finished.workspace)
    submitted = read_submission(odd.finished.submission)
    assert sorted(submitted) == sorted(corpus.table.of(split="test").image_ids)
    train = corpus.table.of(split="train")
    prior = CategoryPrior.of(train.take(train.labelled), corpus.labels)
    usual = {c for c, p in zip(corpus.labels.cuis, prior.of_category("DRCT"), strict=True) if p > 0}
    assert submitted[odd.cut_test]
    assert submitted[odd.cut_test] <= usual
    assert "would take it" in run("check", odd.finished.submission, "--edition", "2020").out


def test_what_cannot_be_read_or_has_no_labels_is_not_trained_on(odd: Odd) -> None:
    [folder] = (odd.finished.workspace / "backbones" / "DRCT").iterdir()
    fitted_on = (folder / "predictions" / "valid" / "fitted_on.txt").read_text().split()
    assert odd.cut_train not in fitted_on
    assert not set(odd.unlabelled) & set(fitted_on)
    assert odd.without in fitted_on  # known to have none is a label too


# A corpus without categories


def write_manifest(
    path: Path, table: ImageTable, *, n_images: int, without: Container[str] = ()
) -> Path:
    """Every so many-th image with its concepts, as a manifest without categories."""
    step = len(table) // n_images
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", "image_id", "category", "group", "concepts"])
        for row in range(0, len(table), step):
            concepts = ";".join(c for c in table.concepts[row] or () if c not in without)
            image = (table.paths[row], table.splits[row], table.image_ids[row])
            writer.writerow([*image, "", table.groups[row], concepts])
    return path


def by_no_folder(table: ImageTable, folder: Path) -> list[Path]:
    """The images in one folder that tells nothing."""
    folder.mkdir()
    for image_id, path in zip(table.image_ids, table.paths, strict=True):
        shutil.copy(path, folder / f"{image_id}{Path(path).suffix}")
    return [folder]


def test_a_corpus_without_categories_goes_through(finished: Finished, tmp_path: Path) -> None:
    table = corpus_of(finished.workspace).table
    manifest = write_manifest(tmp_path / "images.csv", table, n_images=110)
    workspace = tmp_path / "runs"
    out = run("prepare", manifest, "-w", workspace, *PREPARE).out
    assert "(no category 67, to learn by: DRAN 3, " in out
    said = chain(workspace, category="DRCT")
    assert "have no category: guessed from their features" in said["fuse"].err
    assert "not trained yet: global, DRAN" in said["ensemble"].err
    submission = said["ensemble"].last
    assert submission.name == "submission-2025.zip"
    checked = run("check", submission, "--edition", "2025", "-w", workspace)
    test = corpus_of(workspace).table.of(split="test")
    assert f"(all {len(test)} images)" in checked.out
    asked = assert_predict_decides_as_submitted(
        workspace, submission, tmp_path / "decided.csv", places=by_no_folder(test, tmp_path / "new")
    )
    assert f"category: guessed from the features {len(test)}\n" in asked.err


def test_where_no_concept_tells_a_category_the_global_detector_is_all(
    finished: Finished, tmp_path: Path
) -> None:
    table = corpus_of(finished.workspace).table
    manifest = write_manifest(
        tmp_path / "images.csv", table, n_images=110, without=MODALITY_CONCEPTS
    )
    workspace = tmp_path / "runs"
    assert "to learn by" not in run("prepare", manifest, "-w", workspace, *PREPARE).out
    said = chain(workspace, category="global")
    assert "not trained yet" not in said["ensemble"].err
    result = CliRunner().invoke(
        cli.app, ["train-backbone", "--category=DRCT", "-w", str(workspace)]
    )
    assert "has the category DRCT: nothing to train a specialist on" in str(result.exception)
    every = run("train-backbone", "-w", workspace, *TRAIN)
    assert "not trained: no training image" in every.err
    assert "DRAN, DRCO, DRCT, DRMR, DRPE, DRUS, DRXR" in every.err


def test_the_phantom_corpus_cross_fitted_from_files_to_the_report(tmp_path: Path) -> None:
    settings = ("--set", "phantom_images=200", "--set", "image_size=64", "--set", "folds=3")
    said = run("prepare", "-w", tmp_path, *settings)
    assert "concepts in train and valid, 3 folds of both" in said.out.splitlines()[0]
    said = run("train-backbone", "--category", "DRCT", "-w", tmp_path, *TRAIN)
    assert "DRCT: " in said.err
    assert "out-of-fold F1 0." in said.err
    names = {path.name for path in (said.last / "predictions").iterdir()}
    assert names == {"labelled-1of3", "labelled-2of3", "labelled-3of3", "test"}
    *lines, page = run("fuse", "-w", tmp_path, *FUSE).out.splitlines()
    made = [line.split()[0] for line in lines]
    assert made == ["one-hot", "prior-offset", "retrieval", "voted", "routed", "prior"]
    assert all("  valid 0." in line and "  labelled 0." in line for line in lines)
    corpus = corpus_of(tmp_path)
    n_labelled = len(corpus.table.of(split="labelled"))
    assert f"{n_labelled} images of train and valid" in Path(page).read_text()
    said = run("ensemble", "--submit", "-w", tmp_path)
    headers = [line for line in said.out.splitlines() if line.startswith("cross-fitted on ")]
    assert [line.split()[2] for line in headers] == ["labelled", "valid"]
    counts = [int(n) for n in re.findall(r"n = (\d+) images", said.out)]
    assert counts == [n_labelled, len(corpus.table.of(split="valid"))]
    assert set(read_submission(said.last)) == set(corpus.table.of(split="test").image_ids)
    run_folder = said.last.parent
    image_ids, scores = read_scores(run_folder / "valid_f1.csv")
    assert set(image_ids) == set(corpus.table.of(split="labelled").image_ids)
    assert "submission" in scores
    again = run("ensemble", "--submit", "-w", tmp_path)
    assert again.out == said.out
    assert_predict_decides_as_submitted(
        tmp_path, said.last, tmp_path / "decided.csv", places=[tmp_path / "phantom" / "test"]
    )
    text = run("report", "-w", tmp_path).out.splitlines()[0]
    report = Path(text).read_text()
    assert "labelled images, train and valid together" in report
    assert "## On the validation images alone" in report
