"""A pair as a member like any other: stacked, left out, asked of new images, bundled, reported."""

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from core.predictions import Predictions
from core.runs.ensemble import newest_ensemble
from core.runs.fused import FusedSource
from core.runs.workspace import Corpus, Workspace
from ensembles.config import EnsembleConfig
from ensembles.ensemble import ensemble
from fusion.config import FuseConfig
from fusion.fuse import fuse
from inference.bundle.bundle import read_bundle, write_bundle
from inference.images import NewImage
from inference.loaded.ensemble import LoadedEnsemble
from inference.loaded.workspace import read_ensemble
from inference.stream import decoded, new_block
from reports.ensemble.page import write_report

pytest.importorskip("open_clip")

MET = "zero-shot: what a pair of image and text towers was trained on is not known here"


@pytest.fixture(scope="module")
def made(
    with_features: tuple[Corpus, Workspace], pair: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Corpus, Workspace]:
    """An ensemble of the pair, votes and what the category says."""
    corpus, home = with_features
    root = tmp_path_factory.mktemp("chain") / "runs"
    workspace = Workspace(Path(shutil.copytree(home.root, root)))
    config = FuseConfig(
        strategies=("zero-shot", "retrieval", "prior"), contrastive=f"open_clip:{pair}", k=(5,),
        temperature=(0.1,),
    )  # fmt: skip
    fuse(corpus, workspace, config=config, preset="quick", device="cpu")
    quick = EnsembleConfig(stackers=("mean",), learning_curve=False)
    ensemble(corpus, workspace, config=quick, submit=True)
    return corpus, workspace


def answers(found: LoadedEnsemble, corpus: Corpus) -> tuple[Predictions, npt.NDArray[np.floating]]:
    """What the pair says of the test images as new ones, and what the ensemble makes of all."""
    table = corpus.table.of(split="test")
    rows = zip(table.image_ids, table.paths, table.categories, strict=True)
    images = [NewImage(image_id=i, path=Path(p), category=c, told_by="folder") for i, p, c in rows]
    block = new_block(found, images, pixels=[decoded(found, image) for image in images])
    (member,) = (member for member in found.members if member.name == "zero-shot")
    return block.ask(member.answer), found.decide(block).probs


def test_a_new_image_gets_what_the_same_test_image_got(made: tuple[Corpus, Workspace]) -> None:
    corpus, workspace = made
    said, _ = answers(read_ensemble(workspace), corpus)
    (folder,) = workspace.fusion.glob("zero-shot-*")
    kept = FusedSource.read(folder).predictions("test").rows(said.image_ids)
    np.testing.assert_allclose(said.probs, kept.probs, atol=1e-5)


def test_a_bundle_says_the_same_without_the_pairs_folder(
    made: tuple[Corpus, Workspace], pair: Path, tmp_path: Path
) -> None:
    corpus, workspace = made
    said, decided = answers(read_ensemble(workspace), corpus)
    out = write_bundle(workspace, tmp_path / "bundle")
    away = pair.rename(pair.with_name("away"))
    try:
        again, decided_again = answers(read_bundle(out), corpus)
    finally:
        away.rename(pair)
    np.testing.assert_array_equal(again.probs, said.probs)
    np.testing.assert_array_equal(decided_again, decided)
    card = (out / "README.md").read_text("utf-8")
    assert MET in card
    (row,) = (line for line in card.splitlines() if "| tiny | mit |" in line)
    assert row.startswith("| `open_clip:local-dir:tiny` |")
    assert "zero-shot" in row
    for path in out.rglob("*"):
        if path.is_file():
            assert str(pair).encode() not in path.read_bytes(), path


def test_the_report_says_what_the_member_is_worth(made: tuple[Corpus, Workspace]) -> None:
    corpus, workspace = made
    worth = {step.name: step for step in newest_ensemble(corpus, workspace).record.worth}
    assert worth["zero-shot"].gain is not None
    text = write_report(corpus, workspace)[0].read_text("utf-8")
    assert MET in text
    assert "zero-shot" in text
