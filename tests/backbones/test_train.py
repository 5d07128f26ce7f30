"""`train-backbone` on a small made corpus."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from backbones.detectors.inputs import TRAINING_INPUTS
from backbones.detectors.plan import detector_names
from backbones.networks.weights import start_weights
from backbones.settings.config import BackboneConfig
from backbones.train import train_backbones
from core.config import overlay
from core.embeddings import Embeddings
from core.errors import ConfigError, MissingStageError, PredictionsError
from core.labels import LabelSpace
from core.predictions import Predictions
from core.runs.detectors import find_detectors
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import new_folder, read_meta, write_json
from training.devices.compute import Compute

FROZEN = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(64,), hidden=(16,),
    epochs=3, patience=3, batch_size=16, n_members=2, probe=False,
)  # fmt: skip
FULL = overlay(
    FROZEN,
    {"regime": "full", "augment": "hflip", "hidden": "", "epochs": 1, "n_members": 1, "seed": 3},
)


def train(
    corpus: Corpus, workspace: Workspace, category: str | None, config: BackboneConfig = FROZEN
) -> list[Path]:
    return train_backbones(
        corpus,
        workspace,
        names=detector_names(category),
        config=config,
        preset="tiny",
        compute=Compute(),
    )


def predicted(folder: Path, split: str = "valid") -> Predictions:
    return Predictions.load(folder / "predictions" / split)


def test_without_a_category_the_global_detector_and_every_specialist_are_trained(
    corpus: Corpus, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = train(corpus, workspace, None)
    assert [folder.parent.name for folder in folders] == ["global", "DRCT", "DRXR"]
    assert all(folder.name.startswith("tiny-") for folder in folders)
    said = capsys.readouterr().err
    assert (
        "not trained: no training image of made has the category DRAN, DRCO, DRMR, DRPE, DRUS"
        in said
    )
    assert "DRCT: 20 images, 5 concepts, stopping F1 0." in said
    for run in find_detectors(workspace, corpus.fingerprint):
        files = {path.name for path in run.folder.iterdir()}
        assert files == {
            "config.json", "labels.txt", "log.jsonl", "meta.json", "model.safetensors",
            "predictions",
        }  # fmt: skip
        assert (workspace.embeddings / run.embeddings[0] / "meta.json").is_file()


def test_with_folds_train_is_predicted_by_networks_that_never_met_it(
    corpus: Corpus, workspace: Workspace
) -> None:
    config = overlay(FROZEN, {"folds": 2, "seeds": 2})
    (folder,) = train(corpus, workspace, "DRCT", config)
    parts = [predicted(folder, f"train-{part}of2") for part in (1, 2)]
    table = corpus.images("train", category="DRCT")
    assert all(part.out_of_sample for part in parts)
    asked = [set(part.image_ids) for part in parts]
    assert asked[0] | asked[1] == set(table.image_ids)
    assert not asked[0] & asked[1]
    assert parts[0].fitted_on == asked[1]
    assert predicted(folder).fitted_on == set(table.image_ids)
    assert len(read_meta(folder)["best_epoch"]) == 4


def test_a_specialist_may_start_from_the_global_detector(
    corpus: Corpus, workspace: Workspace
) -> None:
    (general,) = train(corpus, workspace, "global", FULL)
    config = start_weights(FULL, "global", corpus=corpus, workspace=workspace)
    assert config.weights == str(general)
    inputs = TRAINING_INPUTS["full"](corpus, workspace, config=config, compute=Compute())
    rows, labels = np.arange(4), LabelSpace(("C2", "C3", "C99"))
    torch.manual_seed(5)
    model = inputs.new_model(rows, labels).eval()
    with torch.inference_mode():
        logits = model(*inputs.batches(rows)).numpy()
    start = inputs.image_ids.index(corpus.images("valid").image_ids[0])
    valid = predicted(general)
    with torch.inference_mode():
        (row,) = torch.sigmoid(model(*inputs.batches(np.array([start])))).numpy()
    known = [valid.labels.cuis.index(cui) for cui in ("C2", "C3")]
    np.testing.assert_allclose(row[:2], valid.probs[0, known], rtol=0, atol=1e-5)
    assert np.isfinite(logits).all()
    (special,) = train(corpus, workspace, "DRXR", config)
    assert read_meta(special)["weights"] == str(general)


def test_a_start_is_the_newest_of_the_same_network(corpus: Corpus, workspace: Workspace) -> None:
    folders = {}
    for number, backbone in enumerate(("test_vit", "test_vit", "test_resnet", "test_vit")):
        folder = workspace.backbones / ("DRCT" if number == 3 else "global") / f"run-{number}"
        meta = {
            "corpus": corpus.fingerprint, "category": folder.parent.name, "preset": "tiny",
            "regime": "full", "embeddings": [],
        }  # fmt: skip
        with new_folder(folder, meta) as draft:
            write_json(draft / "config.json", {"backbone": backbone})
            (draft / "model.safetensors").touch()
        folders[number] = str(folder)
    for backbone, number in (("test_vit", 1), ("test_resnet", 2)):
        config = replace(FULL, backbone=backbone)
        assert (
            start_weights(config, "global", corpus=corpus, workspace=workspace).weights
            == folders[number]
        )


def test_there_must_be_a_fine_tuned_detector_to_start_from(
    corpus: Corpus, workspace: Workspace, tmp_path: Path
) -> None:
    (frozen,) = train(corpus, workspace, "global", FROZEN)
    with pytest.raises(MissingStageError, match=r"no global detector with test_eff\w+ was fine"):
        start_weights(FULL, "global", corpus=corpus, workspace=workspace)
    with pytest.raises(ConfigError, match="is not the run of a fine-tuned detector"):
        start_weights(FULL, str(frozen), corpus=corpus, workspace=workspace)
    with pytest.raises(PredictionsError, match="no such folder"):
        start_weights(FULL, str(tmp_path / "nowhere"), corpus=corpus, workspace=workspace)


def test_a_specialist_knows_its_category_and_its_concepts_only(
    corpus: Corpus, workspace: Workspace
) -> None:
    (folder,) = train(corpus, workspace, "DRXR")
    assert LabelSpace.load(folder / "labels.txt").cuis == ("C2", "C3", "C4", "C5")
    for split, n_images in (("valid", 8), ("test", 4)):
        predictions = predicted(folder, split)
        images = corpus.images(split, category="DRXR")
        assert predictions.image_ids == images.image_ids
        assert predictions.probs.shape == (n_images, 4)
        assert predictions.source == "DRXR"
        assert predictions.out_of_sample


def test_what_it_was_fitted_on_holds_the_stopping_images_as_well(
    corpus: Corpus, workspace: Workspace
) -> None:
    (folder,) = train(corpus, workspace, "DRCT", overlay(FROZEN, {"n_members": 1}))
    trained = corpus.images("train", category="DRCT")
    stopping = {i for i, fold in zip(trained.image_ids, trained.folds, strict=True) if fold == 0}
    assert predicted(folder).fitted_on == frozenset(trained.image_ids) > stopping


def test_a_run_says_how_it_went(corpus: Corpus, workspace: Workspace) -> None:
    (folder,) = train(corpus, workspace, "global")
    meta = read_meta(folder)
    assert (meta["category"], meta["preset"], meta["corpus"]) == ("global", "tiny", "made0000")
    assert (meta["n_train"], meta["n_concepts"]) == (40, 6)
    assert len(meta["stopping_f1"]) == len(meta["best_epoch"]) == FROZEN.n_members
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [(entry["member"], entry["epoch"]) for entry in log] == [
        (0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)
    ]  # fmt: skip
    best = max(entry["f1"] for entry in log if entry["member"] == 1)
    assert meta["stopping_f1"][1] == best


def test_the_weights_on_disk_give_the_predictions_on_disk(
    corpus: Corpus, workspace: Workspace
) -> None:
    (folder,) = train(corpus, workspace, "global")
    inputs = TRAINING_INPUTS["frozen"](corpus, workspace, config=FROZEN, compute=Compute())
    tensors = load_file(folder / "model.safetensors")
    asked = corpus.images("valid").image_ids
    rows = np.array([inputs.image_ids.index(image_id) for image_id in asked])
    probs = []
    for member in range(FROZEN.n_members):
        model = inputs.new_model(rows, corpus.labels).eval()  # standardised as the file says
        own = {k.removeprefix(f"{member}."): v for k, v in tensors.items() if k[0] == str(member)}
        model.load_state_dict(own, strict=True)
        with torch.inference_mode():
            probs.append(torch.sigmoid(model(*inputs.batches(rows))).numpy())
    np.testing.assert_allclose(predicted(folder).probs, np.mean(probs, axis=0), rtol=0, atol=1e-6)


def test_a_detector_trained_before_is_kept(
    corpus: Corpus, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    (first,) = train(corpus, workspace, "DRCT")
    made = (first / "config.json").stat().st_mtime_ns
    assert train(corpus, workspace, "DRCT") == [first]
    assert (first / "config.json").stat().st_mtime_ns == made
    assert f"DRCT: already trained, {first}" in capsys.readouterr().err
    (other,) = train(corpus, workspace, "DRCT", overlay(FROZEN, {"seed": 1}))
    assert other != first


def test_training_twice_gives_the_same_predictions_to_the_last_bit(
    corpus: Corpus, tmp_path: Path
) -> None:
    twice = [train(corpus, Workspace(tmp_path / name), "DRXR")[0] for name in ("a", "b")]
    np.testing.assert_array_equal(predicted(twice[0]).probs, predicted(twice[1]).probs)


def test_a_fine_tuned_detector_does_not_depend_on_those_trained_before_it(
    corpus: Corpus, tmp_path: Path
) -> None:
    (alone,) = train(corpus, Workspace(tmp_path / "alone"), "DRXR", FULL)
    *_, after = train(corpus, Workspace(tmp_path / "after"), "each", FULL)
    assert after.parent.name == "DRXR"
    np.testing.assert_array_equal(predicted(alone).probs, predicted(after).probs)


def test_the_features_of_a_fine_tuned_global_detector_are_kept_for_fusion(
    corpus: Corpus, workspace: Workspace
) -> None:
    (folder,) = train(corpus, workspace, "global", FULL)
    names = read_meta(folder)["embeddings"]
    assert names == [f"global-{folder.name}"]
    features = Embeddings.load(workspace.embeddings / names[0])
    assert features.image_ids == corpus.table.image_ids
    # Head on the features: the predictions.
    tensors = load_file(folder / "model.safetensors")
    logits = features.values @ tensors["0.head.1.weight"].numpy().T
    logits += tensors["0.head.1.bias"].numpy()
    probs = 1 / (1 + np.exp(-logits[corpus.table.row_numbers(predicted(folder).image_ids)]))
    np.testing.assert_allclose(predicted(folder).probs, probs, rtol=0, atol=1e-5)


def test_features_that_an_interrupted_fine_tuning_left_are_not_used(
    corpus: Corpus, workspace: Workspace
) -> None:
    (folder,) = train(corpus, workspace, "global", FULL)
    left = workspace.embeddings / f"global-{folder.name}"
    expected = np.array(Embeddings.load(left).values)
    (folder / "meta.json").unlink()
    (left / "meta.json").unlink()
    np.save(left / "values.npy", np.zeros_like(expected))  # all marked as done
    (left / "weights.txt").write_text("those of another training")
    train(corpus, workspace, "global", FULL)
    np.testing.assert_array_equal(Embeddings.load(left).values, expected)


def test_unlabelled_and_unreadable_training_images_are_not_learnt_from(
    corpus: Corpus, workspace: Workspace
) -> None:
    concepts = (None, *corpus.table.concepts[1:])
    marks = tuple("0" if row == 1 else "1" for row in range(64))
    table = replace(corpus.table, concepts=concepts, metadata={"readable": marks})
    partly = replace(corpus, table=table, fingerprint="partly00")
    (folder,) = train(partly, workspace, "global")
    assert predicted(folder).fitted_on == frozenset(table.image_ids[2:40])


def test_a_category_without_images_in_a_split_has_no_predictions_there(
    corpus: Corpus, workspace: Workspace
) -> None:
    table = corpus.table
    gone = np.array([s == "test" for s in table.splits]) & np.array(
        [c == "DRXR" for c in table.categories]
    )
    (folder,) = train(replace(corpus, table=table.take(~gone)), workspace, "DRXR")
    assert len(predicted(folder, "test")) == 0


def test_a_category_that_does_not_exist_is_refused(corpus: Corpus, workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match=r"--category CT: expected global, each or one of DRAN"):
        train(corpus, workspace, "CT")


def test_a_category_without_training_images_is_refused(
    corpus: Corpus, workspace: Workspace
) -> None:
    with pytest.raises(
        MissingStageError, match=r"^no training image of made has the category DRUS: nothing to"
    ):
        train(corpus, workspace, "DRUS")


def test_a_corpus_without_categories_has_no_specialists(
    corpus: Corpus, workspace: Workspace
) -> None:
    table = replace(corpus.table, categories=("",) * 64)
    bare = replace(corpus, table=table, fingerprint="bare0000")
    with pytest.raises(MissingStageError, match=r"DRAN, .*: nothing to train a specialist on"):
        train(bare, workspace, "each")
    assert [folder.parent.name for folder in train(bare, workspace, None)] == ["global"]


def test_a_file_of_weights_is_fitted_before_images_are_decoded(
    corpus: Corpus, workspace: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "own.safetensors"
    network = timm.create_model("test_efficientnet", num_classes=3)
    save_file({"model.conv_stem.weight": torch.ones(1)}, path)
    own = replace(FROZEN, weights=str(path))
    with pytest.raises(ConfigError, match=r"own\.safetensors does not fit test_efficientnet: "):
        train(corpus, workspace, "global", own)
    assert not workspace.cache.exists()
    save_file(network.state_dict(), path, metadata={"license": "cc-by-4.0"})
    (folder,) = train(corpus, workspace, "global", own)
    meta = read_meta(folder)
    assert meta["weights_from"].startswith("own.safetensors, sha256 ")
    assert meta["weights_licence"] == "cc-by-4.0"


def test_a_sentence_model_that_is_not_there_is_refused_before_any_work(
    corpus: Corpus, workspace: Workspace
) -> None:
    config = overlay(FULL, {"head": "words", "query_text": "/no/such/model"})
    with pytest.raises(ConfigError, match="query_text: no folder /no/such/model"):
        train(corpus, workspace, "global", config)
    assert not workspace.cache.exists()
    assert not workspace.backbones.exists()


def test_names_are_read_from_what_a_network_learns_from_alone(
    corpus: Corpus, workspace: Workspace
) -> None:
    config = overlay(FULL, {"head": "words"})
    inputs = TRAINING_INPUTS["full"](corpus, workspace, config=config, compute=Compute())
    images = corpus.training_images()
    ids = {image_id: row for row, image_id in enumerate(inputs.image_ids)}
    rows = np.array([ids[image_id] for image_id in images.image_ids])
    of_ct = np.array(images.categories) == "DRCT"
    head = inputs.new_model(rows[of_ct], corpus.labels).get_submodule("head")
    learnt = images.take(of_ct).targets(corpus.labels).matrix.sum(axis=0) > 0
    np.testing.assert_array_equal(np.asarray(head.learnt), np.asarray(learnt).ravel())
    assert 0 < learnt.sum() < len(corpus.labels)
    # Rows of images that are not learnt from, test among them, are of no account.
    asked = np.array([row for i, row in ids.items() if i not in images.image_ids])
    both = inputs.new_model(np.concatenate([rows[of_ct], asked]), corpus.labels)
    both_points = both.get_submodule("head").state_dict()["points"]
    assert torch.equal(both_points, head.state_dict()["points"])
