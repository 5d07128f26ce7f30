"""A bundle: the same bits as its workspace, from anywhere, and nothing in it but what is asked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.runs.workspace import Corpus, Workspace
from inference.bundle.bundle import bundle_identity, read_bundle, write_bundle
from inference.images import NewImage
from inference.loaded.ensemble import Decisions, LoadedEnsemble
from inference.loaded.workspace import read_ensemble
from inference.stream import decide_images
from tests.inference.conftest import test_images


@pytest.fixture(scope="module")
def bundle(whole: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(whole, tmp_path_factory.mktemp("bundles") / "whole")


def decided(ensemble: LoadedEnsemble, images: list[NewImage]) -> Decisions:
    (block,) = decide_images(ensemble, images)
    return block.decisions


def assert_same(one: Decisions, other: Decisions) -> None:
    assert one.image_ids == other.image_ids
    assert one.categories == other.categories
    for name in ("guessed", "probs", "calibrated", "expected_f1", "nearest"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert (one.decided != other.decided).nnz == 0
    assert one.because == other.because
    rows = range(len(one))
    assert [[*one.concepts(r, top=9)] for r in rows] == [[*other.concepts(r, top=9)] for r in rows]


def test_a_bundle_says_what_its_workspace_says(
    whole: Workspace, bundle: Path, crossfitted: Corpus
) -> None:
    images = test_images(crossfitted)
    bare = [replace(i, image_id=f"bare-{i.image_id}", category="", told_by="") for i in images]
    found, again = read_ensemble(whole), read_bundle(bundle)
    assert_same(decided(found, images + bare), decided(again, images + bare))
    assert [m.name for m in again.members] == [m.name for m in found.members]
