"""What fusion starts from."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from core.embeddings import Embeddings
from core.errors import DamageError, MissingStageError
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import now, read_meta, write_json
from core.storage.sums import sealed
from fusion.inputs.category import one_hot
from fusion.inputs.gather import gather_inputs


def test_detectors_and_the_features_of_the_newest_are_found(
    corpus: Corpus, trained: Workspace
) -> None:
    given = gather_inputs(corpus, trained, embeddings=(), device="cpu")
    assert [run.category for run in given.detectors] == ["global", "DRCT", "DRXR"]
    assert given.names == given.detectors[0].embeddings
    assert given.embeddings.values.shape == (64, 256)


def test_features_that_are_named_are_joined_in_that_order(
    corpus: Corpus, trained: Workspace
) -> None:
    values = np.arange(64, dtype=np.float32)[:, None]
    Embeddings(source="own", image_ids=corpus.readable_ids, values=values).save(
        trained.embeddings / "own"
    )
    (name,) = gather_inputs(corpus, trained, embeddings=(), device="cpu").names
    given = gather_inputs(corpus, trained, embeddings=("own", name), device="cpu")
    assert given.embeddings.values.shape == (64, 257)
    assert given.embeddings.values[5, 0] == 5


def test_without_detectors_the_command_that_makes_features_is_named(
    corpus: Corpus, workspace: Workspace
) -> None:
    with pytest.raises(
        MissingStageError,
        match=rf"pooled features of this corpus not found in .*; run `python cli\.py"
        rf" train-backbone -w {workspace.root}` first",
    ):
        gather_inputs(corpus, workspace, embeddings=(), device="cpu")


def test_features_of_another_corpus_are_not_taken(corpus: Corpus, trained: Workspace) -> None:
    with pytest.raises(MissingStageError, match="pooled features of this corpus not found"):
        gather_inputs(replace(corpus, fingerprint="other000"), trained, embeddings=(), device="cpu")


def test_features_that_are_gone_or_unfinished_are_named(corpus: Corpus, trained: Workspace) -> None:
    with pytest.raises(MissingStageError, match="pooled features lite9 not found"):
        gather_inputs(corpus, trained, embeddings=("lite9",), device="cpu")
    (folder,) = trained.embeddings.iterdir()
    (folder / "meta.json").unlink()
    with pytest.raises(DamageError, match=f"{folder.name}: not finished .* `.*train-backbone"):
        gather_inputs(corpus, trained, embeddings=(), device="cpu")


def test_a_detector_alone_brings_its_features(corpus: Corpus, trained: Workspace) -> None:
    shutil.rmtree(trained.backbones / "global")
    given = gather_inputs(corpus, trained, embeddings=(), device="cpu")
    assert given.names == given.detectors[0].embeddings


def test_detectors_without_features_leave_those_of_the_runs_before_them(
    corpus: Corpus, trained: Workspace
) -> None:
    shutil.rmtree(trained.backbones / "global")
    names = gather_inputs(corpus, trained, embeddings=(), device="cpu").names
    for category in ("DRCT", "DRXR"):
        (frozen,) = (trained.backbones / category).iterdir()
        tuned = shutil.copytree(frozen, frozen.with_name("finetune-1"))
        meta = {**read_meta(frozen), "preset": "finetune", "embeddings": [], "asked": now()}
        write_json(tuned / "meta.json", sealed(meta))
    given = gather_inputs(corpus, trained, embeddings=(), device="cpu")
    assert [run.name for run in given.detectors] == ["DRCT/finetune-1", "DRXR/finetune-1"]
    assert given.names == names


def test_only_readable_labelled_images_are_learnt_from(corpus: Corpus, trained: Workspace) -> None:
    table = replace(
        corpus.table,
        concepts=(None, *corpus.table.concepts[1:]),
        metadata={"readable": tuple("0" if row == 1 else "1" for row in range(64))},
    )
    given = gather_inputs(replace(corpus, table=table), trained, embeddings=(), device="cpu")
    assert given.training_images().image_ids == table.image_ids[2:40]


def test_what_labels_tell_of_the_category_is_counted_by_and_no_input(
    corpus: Corpus, trained: Workspace
) -> None:
    table = corpus.table
    told = tuple(
        category if known is not None else ""
        for category, known in zip(table.categories, table.concepts, strict=True)
    )
    unnamed = replace(table, categories=("",) * len(table), taught_categories=told)
    given = gather_inputs(replace(corpus, table=unnamed), trained, embeddings=(), device="cpu")
    assert given.guess is not None
    np.testing.assert_array_equal(given.network_inputs.category, given.guess.posterior)
    assert given.without_category is None  # every image is guessed anyway
    train = given.training_images()
    rows = given.rows(train)[[3, 0, 39]]
    expected = one_hot([corpus.table.categories[row] for row in (3, 0, 39)])
    np.testing.assert_array_equal(given.known_category(rows), expected)
    assert train.categories == table.categories[:40]
    np.testing.assert_array_equal(
        given.likely(corpus.images("train")), given.guess.posterior[given.rows(train)]
    )


def test_a_given_category_is_counted_by_as_it_is_seen(corpus: Corpus, trained: Workspace) -> None:
    given = gather_inputs(corpus, trained, embeddings=(), device="cpu")
    rows = given.rows(given.training_images())
    np.testing.assert_array_equal(given.known_category(rows), given.network_inputs.category[rows])
