"""A corpus that names no category: labels tell it to those who learn, to nobody who predicts."""

import csv
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backbones.detectors.plan import detector_names
from backbones.settings.config import BackboneConfig
from backbones.train import train_backbones
from core.config import overlay
from core.images import SPLITS
from core.labels import Concepts
from core.predictions import Predictions
from core.runs.detectors import find_detectors
from core.runs.fused import find_guesses
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from corpus.phantom.write import CONCEPT_LISTS, GROUPS, draw_corpus
from corpus.prepare import PrepareConfig, prepare
from corpus.readers.modality import taught_categories
from ensembles.members import gather_members
from fusion.config import FuseConfig
from fusion.fuse import fuse
from training.devices.compute import Compute

N_IMAGES = 150
TRAIN = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(64,), hidden=(16,),
    epochs=2, patience=2, batch_size=16, n_members=1, probe=False,
)  # fmt: skip
FUSE = FuseConfig(
    strategies=("one-hot", "retrieval", "routed", "prior", "constrained", "masked", "voted"),
    hidden=(16,), epochs=3, patience=3, batch_size=32, n_members=1, k=(5,), temperature=(0.05,),
    support=(0, 5),
)  # fmt: skip
CHOSEN_ON_VALID = {"routed", "voted"}

Answers = Mapping[tuple[str, str], Predictions]
"""By source and split."""


def lay_as_2025(drawn: Path, folder: Path) -> Path:
    """The drawn corpus as releases since 2024 lie on disk: without a word on categories."""
    for split in SPLITS:
        (folder / split).mkdir(parents=True)
        for path in (drawn / split).rglob("*.jpg"):
            shutil.copy(path, folder / split)
        lines = (drawn / CONCEPT_LISTS[split]).read_text().replace("\t", ",")
        (folder / f"{split}_concepts.csv").write_text(f"ID,CUIs\n{lines}")
    with (drawn / GROUPS).open() as file:
        rows = [f"{row['image_id']},{row['group']}\n" for row in csv.DictReader(file)]
    (folder / "groups.csv").write_text("image_id,group\n" + "".join(rows))
    return folder


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn corpus in the layout of 2020."""
    return draw_corpus(tmp_path_factory.mktemp("drawn") / "phantom", n_images=N_IMAGES)


@pytest.fixture(scope="module")
def unnamed(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The same without categories, prepared."""
    home = tmp_path_factory.mktemp("unnamed")
    config = PrepareConfig(protocol="holdout", train_folds=4, valid_folds=3, image_size=64)
    return prepare(lay_as_2025(drawn, home / "release"), Workspace(home / "runs"), config=config)


def train(corpus: Corpus, workspace: Workspace, *names: str, **settings: int) -> list[Path]:
    config = overlay(TRAIN, settings)
    return train_backbones(
        corpus, workspace, names=names, config=config, preset="tiny", compute=Compute()
    )


def answers(corpus: Corpus, workspace: Workspace) -> Answers:
    """What detectors and fusion strategies say of valid and test."""
    homes = {path.parent.name: path for path in train(corpus, workspace, "global", "DRCT", "DRXR")}
    for made in fuse(corpus, workspace, config=FUSE, preset="tiny", device="cpu"):
        homes[made.strategy] = made.folder
    return {
        (name, split): Predictions.load(home / "predictions" / split)
        for name, home in homes.items()
        for split in ("valid", "test")
    }


@pytest.fixture(scope="module")
def plain(unnamed: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Answers, Workspace]:
    workspace = Workspace(tmp_path_factory.mktemp("plain"))
    return answers(unnamed, workspace), workspace


def with_labels(corpus: Corpus, changed: Mapping[str, Concepts], fingerprint: str) -> Corpus:
    """The corpus with other labels for some images, and the categories that these tell."""
    table = corpus.table
    known = zip(table.image_ids, table.concepts, strict=True)
    concepts = tuple(changed.get(image_id, was) for image_id, was in known)
    taught = taught_categories(table.image_ids, table.categories, concepts=concepts, manual={})
    table = replace(table, concepts=concepts, taught_categories=taught)
    return replace(corpus, table=table, fingerprint=fingerprint)


def test_labels_tell_the_category_but_of_combined_images_that_lack_a_label(
    drawn: Path, unnamed: Corpus
) -> None:
    with (drawn / GROUPS).open() as file:
        true = {row["image_id"]: row["category"] for row in csv.DictReader(file)}
    table = unnamed.table
    assert set(table.categories) == {""}
    told = dict(zip(table.image_ids, table.taught_categories, strict=True))
    assert {told[i] for i in table.of(split="test").image_ids} == {""}
    labelled = table.take(table.labelled).image_ids
    odd = [i for i in labelled if told[i] != true[i]]
    assert len(odd) < 0.02 * len(labelled)
    assert {true[i] for i in odd} <= {"DRCO"}


def test_a_specialist_learns_from_the_images_whose_concepts_tell_its_category(
    unnamed: Corpus, workspace: Workspace
) -> None:
    (folder,) = train(unnamed, workspace, *detector_names("DRCT"))
    table = unnamed.table
    told = zip(table.image_ids, table.splits, table.taught_categories, strict=True)
    scans = {i for i, split, category in told if split == "train" and category == "DRCT"}
    assert len(scans) > 10
    assert read_meta(folder)["n_train"] == len(scans)
    for split in ("valid", "test"):  # what they are is not given, so it is asked about all
        predicted = Predictions.load(folder / "predictions" / split)
        assert predicted.fitted_on == scans
        assert predicted.image_ids == unnamed.images(split).image_ids


def test_whom_a_network_predicts_out_of_fold_does_not_tell_what_they_show(
    unnamed: Corpus, workspace: Workspace
) -> None:
    (folder,) = train(unnamed, workspace, "DRCT", folds=2)
    parts = [Predictions.load(folder / "predictions" / f"train-{k}of2") for k in (1, 2)]
    asked = [set(part.image_ids) for part in parts]
    assert all(part.out_of_sample for part in parts)
    assert not asked[0] & asked[1]
    assert asked[0] | asked[1] == set(unnamed.images("train").image_ids)


def test_labels_of_a_valid_image_change_none_of_its_predictions(
    unnamed: Corpus, plain: tuple[Answers, Workspace], workspace: Workspace
) -> None:
    valid = unnamed.images("valid")
    scans = [
        i for i, c in zip(valid.image_ids, valid.concepts, strict=True) if "C0040405" in (c or ())
    ]
    magnet: Concepts = ("C0024485", "C0006104")
    other = with_labels(unnamed, {scans[0]: magnet}, "other000")
    row = other.table.image_ids.index(scans[0])
    assert (unnamed.table.taught_categories[row], other.table.taught_categories[row]) == (
        "DRCT", "DRMR",
    )  # fmt: skip
    before, after = plain[0], answers(other, workspace)
    assert set(before) == set(after)
    for (name, split), was in before.items():
        now = after[name, split]
        assert now.image_ids == was.image_ids
        if name not in CHOSEN_ON_VALID:
            np.testing.assert_array_equal(now.probs, was.probs)
        elif split == "valid":  # its labels choose for other folds, which is what they are for
            np.testing.assert_array_equal(now.rows(scans[:1]).probs, was.rows(scans[:1]).probs)


def test_labels_of_test_images_change_no_prediction(
    unnamed: Corpus, plain: tuple[Answers, Workspace], workspace: Workspace
) -> None:
    test = unnamed.images("test")
    known: dict[str, Concepts] = dict.fromkeys(test.image_ids, ("C0032743", "C0040405"))
    other = with_labels(unnamed, known, "tested00")
    assert set(other.table.of(split="test").taught_categories) == {"DRCO"}
    after = answers(other, workspace)
    for key, was in plain[0].items():
        np.testing.assert_array_equal(after[key].probs, was.probs)


def test_a_list_of_the_test_truth_changes_nothing_at_all(
    drawn: Path, unnamed: Corpus, tmp_path: Path
) -> None:
    release = lay_as_2025(drawn, tmp_path / "release")
    (release / "test_concepts.csv").unlink()
    config = PrepareConfig(protocol="holdout", train_folds=4, valid_folds=3, image_size=64)
    without = prepare(release, Workspace(tmp_path / "runs"), config=config)
    assert without.fingerprint == unnamed.fingerprint


def test_a_specialist_is_a_member_for_the_images_that_are_guessed_to_be_its_own(
    unnamed: Corpus, plain: tuple[Answers, Workspace], tmp_path: Path
) -> None:
    workspace = Workspace(Path(shutil.copytree(plain[1].root, tmp_path / "copy")))
    guesses = find_guesses(workspace, unnamed)
    valid = unnamed.table.of(split="valid").image_ids
    assert set(valid) <= set(guesses)
    names = [member.name for member in gather_members(unnamed, workspace)]
    assert "DRCT" not in names  # it is in `routed`
    for folder in workspace.fusion.glob("routed-*"):
        shutil.rmtree(folder)
    prior = plain[0]["prior", "valid"]
    np.testing.assert_array_equal(gather_members(unnamed, workspace)[0].scored.probs, prior.probs)
    members = {member.name: member for member in gather_members(unnamed, workspace)}
    assert set(members["DRCT"].scored.image_ids) == {i for i in valid if guesses[i] == "DRCT"}
    assert members["global"].scored.image_ids == valid
    for folder in workspace.fusion.glob("category-*"):
        shutil.rmtree(folder)
    assert "DRCT" not in [member.name for member in gather_members(unnamed, workspace)]
    assert [run.category for run in find_detectors(workspace, unnamed.fingerprint)] == [
        "global", "DRCT", "DRXR",
    ]  # fmt: skip
