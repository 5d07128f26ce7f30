"""Recall of rare and of hidden concepts: by hand, and from a small workspace to page and figure."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logit

from backbones.settings.config import BackboneConfig
from backbones.train import train_backbones
from benchmarks.quality import hidden_concepts, rare_concepts
from benchmarks.quality.hidden_concepts import Found, first_ten, hidden_draws, summary_of
from benchmarks.quality.tail import STRENGTHS, Comparison, Tail, rows_of
from benchmarks.quality.tail_heads import images_of, nearest_mean, remade_last_layers
from core.errors import ConfigError
from core.labels import LabelSpace
from core.metrics import ScoredImages, bootstrap
from core.runs.fused import FusedSource
from core.runs.workspace import Corpus, Workspace
from fusion.config import PRESETS, FuseConfig
from fusion.fuse import fuse
from fusion.inputs.gather import gather_inputs
from tests.conftest import save_prepared
from training.devices.compute import Compute

TINY = FuseConfig(
    hidden=(16,), epochs=3, batch_size=16, k=(3, 5), temperature=(0.05, 0.5), support=(0, 5),
    n_members=3,
)  # fmt: skip


def small_tail() -> Tail:
    """Six images of two folds; C0 on five, C1 on two, C2 on one."""
    labels = LabelSpace(("C0", "C1", "C2"))
    concepts = [("C0",), ("C0", "C1"), ("C0",), ("C0", "C1"), ("C0",), ("C2",)]
    images = ScoredImages(
        targets=labels.encode(concepts),
        labels=labels,
        categories=["DRCT"] * 6,
        groups=["a", "a", "b", "c", "c", "d"],
        folds=np.array([0, 0, 0, 1, 1, 1]),
        empty_truth="left out",
    )
    return Tail(images=images, least=1, most=1)


def test_a_concept_is_rare_by_the_images_of_the_other_folds() -> None:
    tail = small_tail()
    # Fold 0 is answered by what fold 1 teaches: C0 twice, C1 once, C2 once. Fold 1 likewise.
    np.testing.assert_array_equal(tail.n_learnt, [[2, 1, 1]] * 3 + [[3, 1, 0]] * 3)
    assert tail.n_rare == [2, 1]
    np.testing.assert_array_equal(np.argwhere(tail.rare_pairs), [[1, 1], [3, 1]])


def test_an_adjustment_takes_the_log_share_off_the_log_odds() -> None:
    tail, probs = small_tail(), np.full((6, 3), 0.3, dtype=np.float32)
    np.testing.assert_array_equal(tail.adjusted(probs, 0), probs)
    found = logit(tail.adjusted(probs, 0.5).astype(np.float64))
    # In fold 0, of three training images, C0 stands on 2 and C1 on 1: shares 2.5 / 4 and 1.5 / 4.
    np.testing.assert_allclose(found[0, 1] - found[0, 0], 0.5 * np.log(2.5 / 1.5), atol=1e-5)
    assert (found[:, 2] > found[:, 0]).all()


def test_recall_is_of_the_rare_pairs_and_its_gain_is_paired() -> None:
    tail = small_tail()
    truth = tail.images.targets.matrix.toarray()
    right = np.where(truth, 0.9, 0.1).astype(np.float32)
    blind = right.copy()
    blind[:, 1] = 0.05  # never decides C1
    half = right.copy()
    half[3, 1] = 0.05
    rows = rows_of(tail, [("blind", blind), ("right", right), ("half", half)], strengths=(0.0,))
    assert [row.recall for row in rows] == [0.0, 1.0, 0.5]
    assert [row.recall_gain.value for row in rows] == [0.0, 1.0, 0.5]
    assert (rows[1].recall_gain.low, rows[1].recall_gain.high) == (1.0, 1.0)
    assert rows[2].recall_gain.low == 0.0
    assert rows[2].recall_gain.high == 1.0
    assert rows[1].f1 == 1.0
    # Of images 1 and 3 one of two concepts is missed: F1 2/3 each.
    assert rows[0].f1 == pytest.approx((4 + 2 * 2 / 3) / 6)
    assert rows[1].f1_gain.value == pytest.approx(2 * (1 / 3) / 6)
    # C2 on image 5 is decided, and no training image of its view has it: not rare, not counted.
    assert [row.precision for row in rows] == [0.0, 1.0, 1.0]


def test_a_row_beside_itself_differs_by_nothing() -> None:
    tail = small_tail()
    point = tail.point(np.random.default_rng(0).random((6, 3), dtype=np.float32))
    row = Comparison(tail, point).row("same", 0.0, point)
    assert row.f1_gain.signed() == row.recall_gain.signed() == "+0.0000 [+0.0000, +0.0000]"


def test_a_corpus_that_is_not_cross_fitted_is_refused(corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match="expected a corpus that is cross-fitted"):
        Tail.of(corpus)


def test_of_equal_scores_the_first_concepts_are_the_first_ten() -> None:
    first = first_ten(np.zeros((2, 13)))
    assert first[:, :10].all()
    assert not first[:, 10:].any()


def test_draws_hide_a_fifth_and_every_draw_another() -> None:
    draws = hidden_draws(52)
    assert [len(set(draw.tolist())) for draw in draws] == [10] * 5
    assert len({tuple(draw.tolist()) for draw in draws}) == 5


def test_images_and_concepts_without_a_hidden_pair_do_not_count() -> None:
    share = np.full((2, 4), np.nan)
    share[0, :2], share[1, 1] = (1.0, 0.5), 0.0
    found = Found(
        share=share, n_hit=np.array([[1.0, 0.0], [0.0, 0.0]]),
        n_true=np.array([[2.0, 0.0], [1.0, 0.0]]), exchanged=[[0.25, 0.75], [0.5, 0.0]],
    )  # fmt: skip
    summary = summary_of(found, ["a", "b", "c", "d"])
    assert [draw.value for draw in summary.by_draw] == [0.75, 0.0]
    assert (summary.all_draws.value, summary.all_draws.n) == (0.625, 2)  # 1 and 1/4
    assert summary.exchanged.value == 0.375
    assert (summary.by_concept.value, summary.by_concept.n) == (0.25, 2)


@pytest.fixture(scope="module")
def base_once(crossfitted: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The cross-fitted corpus with its features and a detector; to be read only."""
    workspace = save_prepared(crossfitted, tmp_path_factory.mktemp("base") / "runs")
    config = BackboneConfig(
        backbone="test_efficientnet", weights="none", image_sizes=(64,), probe=False, hidden=(16,),
        epochs=2, patience=40, batch_size=16, n_members=1,
    )  # fmt: skip
    train_backbones(
        workspace.open_corpus(), workspace, names=("global",), config=config, preset="tiny",
        compute=Compute(),
    )  # fmt: skip
    return workspace


@pytest.fixture
def base(base_once: Workspace, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base_once.root, tmp_path / "base"))


def test_one_command_compares_every_loss_and_writes_nothing_to_the_workspace(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    before = sorted(path.relative_to(base) for path in base.rglob("*"))
    tail = replace(Tail.of(Workspace(base).open_corpus()), least=1, most=21)
    folder = tmp_path / "found"
    page, rows, figure = rare_concepts.run(base, folder, preset="tiny", tail=tail)
    assert sorted(path.relative_to(base) for path in base.rglob("*")) == before
    assert figure.stat().st_size > 10_000
    with rows.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    names = list(dict.fromkeys(row["name"] for row in found))
    assert names[0] == "default head: `prior-offset`, f1*bce"
    assert len(names) == 10 + 1 + 2 + 3 + 1  # losses, draws, remade heads, further ones, means
    assert len(found) == len(names) * len(STRENGTHS)
    text = page.read_text(encoding="utf-8")
    assert all(f"loss {name}" in text for name in ("hill", "splc", "sigmoid-f1", "soft-f1"))
    assert "56 labelled images of 28 groups" in text
    # Each run keeps its own loss, and a run that is there is not made again.
    folders = sorted((folder / "workspace" / "fusion").glob("prior-offset-*/meta.json"))
    assert len(folders) == 11
    times = [path.parent.joinpath("model.safetensors").stat().st_mtime_ns for path in folders]
    rare_concepts.run(base, folder, preset="tiny", tail=tail)
    assert times == [
        path.parent.joinpath("model.safetensors").stat().st_mtime_ns for path in folders
    ]
    assert page.read_text(encoding="utf-8").partition("Python")[0] == text.partition("Python")[0]


def test_hidden_concepts_are_found_by_name_from_a_workspace(base: Path, tmp_path: Path) -> None:
    page, figure = hidden_concepts.run(base, tmp_path / "found")
    assert figure.stat().st_size > 10_000
    text = page.read_text(encoding="utf-8")
    assert "1 of 7 concepts hidden from training, 5 draws" in text
    assert "| hashed n-grams | 1.000 |" in text  # the only hidden one is the first


def test_heads_made_anew_answer_out_of_fold(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(base)
    corpus = workspace.open_corpus()
    config = replace(TINY, strategies=("prior-offset",))
    made = fuse(corpus, workspace, config=config, preset="tiny", device="cpu")
    run = FusedSource.read(made[0].folder)
    tail, table = Tail.of(corpus), corpus.labelled_images("labelled")
    inputs = gather_inputs(corpus, workspace, embeddings=(), device="cpu")
    features = inputs.network_inputs.features[torch.from_numpy(inputs.rows(table))]
    images = images_of(tail, features, inputs.network_inputs.widths)
    answers = remade_last_layers(images, run) | {"mean": nearest_mean(images)}
    truth = tail.images.targets
    for probs in answers.values():
        assert probs.shape == truth.matrix.shape
        assert ((probs >= 0) & (probs <= 1)).all()
        # Better than one answer for all images: the categories' concepts are found.
        assert bootstrap(tail.point(probs).f1, groups=table.groups).value > 0.5
    # With no step of training the last layer stays, and with it the run's own answer.
    monkeypatch.setattr("benchmarks.quality.tail_heads.N_STEPS", 0)
    same = remade_last_layers(images, run)["last layer retrained on balanced draws"]
    own = run.predictions("labelled").rows(table.image_ids).probs
    np.testing.assert_allclose(same, own, atol=1e-5)
