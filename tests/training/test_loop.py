"""The training loop: against a plain one, repeated, overfitted, stopped."""

import copy
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from backbones.networks.build import Detector, build_backbone
from backbones.settings.config import BackboneConfig
from core.errors import ConceptError
from core.runs.workspace import Corpus, Workspace
from corpus.images.batches import CachedImages
from corpus.images.cache import build_cache
from training.batches import Examples, batch_bounds, epoch_order
from training.config import FitConfig
from training.devices.compute import Compute
from training.heads import build_head
from training.loop import (
    Fitted,
    TrainState,
    Watch,
    fit,
    stopping_scores,
)
from training.predict import Batches, Rows, predict

N, D, L = 24, 6, 4


def features() -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(size=(N, D)).astype(np.float32))


def truth() -> csr_array:
    """Concepts that are linear in the features, and an image without any."""
    weights = np.random.default_rng(2).normal(size=(D, L))
    dense = features().numpy() @ weights > 0.5
    dense[3] = False
    return csr_array(dense)


def batches_of(values: Tensor) -> Batches:
    return lambda rows: (values[torch.from_numpy(rows)],)


HERE = Compute()


def without_times(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in e.items() if k not in ("seconds", "images_per_s")} for e in log]


def new_model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, L))


def train(
    model: nn.Module,
    config: FitConfig,
    *,
    seed: int = 7,
    stop: Rows | None = None,
    targets: csr_array | None = None,
    values: Tensor | None = None,
    log: list[dict[str, Any]] | None = None,
) -> Fitted:
    mask = np.zeros(N, dtype=np.bool_)
    mask[np.arange(4) if stop is None else stop] = True
    examples = Examples(
        batches=batches_of(features() if values is None else values),
        targets=truth() if targets is None else targets,
        rows=np.arange(N),
    )
    watch = Watch(log=([] if log is None else log).append)
    return fit(model, examples, stop=mask, config=config, seed=seed, compute=HERE, watch=watch)


def test_the_loop_agrees_with_a_plain_one() -> None:
    config = FitConfig(
        loss="bce", batch_size=6, epochs=5, patience=5, learning_rate=0.02, weight_decay=0.1
    )
    plain = new_model()
    weights = [p for p in plain.parameters() if p.ndim > 1]
    biases = [p for p in plain.parameters() if p.ndim == 1]
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.02, weight_decay=0.1)
    steps = 5 * 4  # 20 images to learn from, 6 a batch: 6 + 6 + 6 + 2
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=steps)
    x, y = features(), torch.from_numpy(truth().toarray()).float()
    losses, states = [], []
    torch.manual_seed(3)  # of the dropout
    for epoch in range(1, 6):
        plain.train()
        order = np.random.default_rng((7, epoch)).permutation(np.arange(4, 24))
        total = 0.0
        for first in range(0, 20, 6):
            chosen = torch.from_numpy(order[first : first + 6])
            loss = binary_cross_entropy_with_logits(plain(x[chosen]), y[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(chosen)
        losses.append(total / 20)
        states.append(copy.deepcopy(plain.state_dict()))

    model, log = new_model(), list[dict[str, Any]]()
    torch.manual_seed(3)
    fitted = train(model, config, log=log)
    assert [entry["epoch"] for entry in log] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose([entry["loss"] for entry in log], losses, rtol=0, atol=1e-6)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, states[fitted.epoch - 1][name], rtol=0, atol=1e-6)


def test_two_runs_are_equal_to_the_last_bit_and_another_seed_is_not() -> None:
    config = FitConfig(batch_size=5, epochs=4, patience=4)
    results = []
    for seed in (7, 7, 8):
        model, log = new_model(), list[dict[str, Any]]()
        train(model, config, seed=seed, log=log)
        results.append(
            (without_times(log), [value.numpy().tobytes() for value in model.state_dict().values()])
        )
    assert results[0] == results[1]
    assert results[0] != results[2]


@pytest.mark.parametrize("loss", ["bce", "f1*bce", "f1+bce"])
def test_eight_images_are_learnt_by_heart(loss: Any) -> None:
    config = FitConfig(loss=loss, batch_size=8, epochs=150, patience=150, learning_rate=0.05)
    model = nn.Sequential(nn.Linear(D, 64), nn.ReLU(), nn.Linear(64, L))
    values, dense = features()[:8], np.random.default_rng(5).random((8, L)) < 0.4
    dense[:, 0] |= ~dense.any(axis=1)  # every image has a concept
    batches, eight = batches_of(values), np.arange(8)
    examples = Examples(batches=batches, targets=csr_array(dense), rows=eight)
    none = np.zeros(8, dtype=np.bool_)
    fit(model, examples, stop=none, config=config, seed=0, compute=HERE)
    probs = predict(model, batches, rows=eight, compute=HERE)
    assert f1_score(dense, probs > 0.5, average="samples") == 1.0
    assert stopping_scores(probs, csr_array(dense), kinds=())[0] == 1.0


def test_eight_images_are_learnt_by_heart_by_a_whole_network(
    corpus: Corpus, workspace: Workspace
) -> None:
    config = BackboneConfig(
        backbone="test_efficientnet", weights="none", image_sizes=(64,), mirror=False,
        regime="full", hidden=(), dropout=0, input_dropout=0, loss="bce", batch_size=4, epochs=30,
        patience=30, learning_rate=5e-3,
    )  # fmt: skip
    eight = corpus.images("train").take(np.arange(0, 40, 5))
    batches = CachedImages.of(build_cache(eight, workspace.cache, size=64), eight.image_ids)
    targets = eight.targets(corpus.labels).matrix
    torch.manual_seed(0)
    backbone = build_backbone(config)
    model = Detector(backbone, build_head(backbone.n_features, len(corpus.labels), config=config))
    examples = Examples(batches=batches, targets=targets, rows=np.arange(8))
    none = np.zeros(8, dtype=np.bool_)
    fit(model, examples, stop=none, config=config, seed=0, compute=HERE)
    probs = predict(model, batches, rows=np.arange(8), compute=HERE)
    assert f1_score(targets.toarray(), probs > 0.5, average="samples") == 1.0


def test_the_weights_of_the_best_epoch_are_kept() -> None:
    # The stopping images' truth is the opposite of what is learnt: the first epochs are the best.
    dense = truth().toarray()
    dense[:4] = ~dense[:4]
    model, states, f1 = new_model(), list[dict[str, Tensor]](), list[float]()

    def keep(entry: dict[str, Any]) -> None:
        states.append(copy.deepcopy(model.state_dict()))
        f1.append(entry["f1"])

    mask = np.arange(N) < 4
    examples = Examples(batches=batches_of(features()), targets=csr_array(dense), rows=np.arange(N))
    config = FitConfig(loss="bce", batch_size=4, epochs=30, patience=3, learning_rate=0.05)
    fitted = fit(
        model, examples, stop=mask, config=config, seed=0, compute=HERE, watch=Watch(log=keep)
    )
    assert fitted.epoch == 1 + int(np.argmax(f1))  # the first of equals
    assert fitted.f1 == max(f1)
    assert fitted.epoch < len(f1) < 30
    assert len(f1) == fitted.epoch + 3  # patience
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, states[fitted.epoch - 1][name], rtol=0, atol=0)
    assert any(
        not torch.equal(value, states[-1][name]) for name, value in model.state_dict().items()
    )


def test_without_images_to_stop_on_training_runs_its_full_length() -> None:
    log: list[dict[str, Any]] = []
    config = FitConfig(batch_size=8, epochs=4, patience=1)
    fitted = train(new_model(), config, stop=np.arange(0), log=log)
    assert fitted == Fitted(epoch=4, f1=None)
    assert [entry["f1"] for entry in log] == [None] * 4


def test_images_to_stop_on_without_concepts_stop_nothing_and_break_nothing() -> None:
    fitted = train(new_model(), FitConfig(epochs=3, patience=2), stop=np.array([3]))
    assert fitted == Fitted(epoch=1, f1=0.0)


def test_stopping_images_are_not_learnt_from() -> None:
    changed = truth().toarray()
    changed[:4] = ~changed[:4]
    states = []
    for targets in (truth(), csr_array(changed)):
        model = new_model()
        train(model, FitConfig(epochs=1, batch_size=8), targets=targets)
        states.append([value.numpy().tobytes() for value in model.state_dict().values()])
    assert states[0] == states[1]


def test_a_loss_that_is_not_a_number_is_one_line_that_says_what_to_do() -> None:
    values = features()
    values[10, 0] = float("nan")
    with pytest.raises(
        ConceptError, match=r"^the loss f1\*bce became nan in epoch 1; lower learning_rate \(now 0"
    ):
        train(new_model(), FitConfig(), values=values)


def test_bce_comes_first_where_epochs_of_it_are_asked_for() -> None:
    log: list[dict[str, Any]] = []
    plain: list[dict[str, Any]] = []
    config = FitConfig(loss="bce", epochs=3, patience=3, schedule="constant", batch_size=8)
    train(new_model(), config, log=plain)
    train(new_model(), replace(config, loss="soft-f1", bce_epochs=2), log=log)
    assert [e["loss"] for e in log[:2]] == [e["loss"] for e in plain[:2]]
    assert log[2]["loss"] != plain[2]["loss"]


def test_training_starts_at_the_prior_of_what_is_learnt_from() -> None:
    model = new_model()
    config = FitConfig(prior_bias=True, learning_rate=1e-12, epochs=1, schedule="constant")
    train(model, config)
    counts = truth().toarray()[4:].sum(axis=0)
    expected = torch.logit(torch.from_numpy((counts + 0.5) / (N - 4 + 1)).float())
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    torch.testing.assert_close(last.bias.detach(), expected, atol=1e-5, rtol=0)


def test_the_log_has_the_loss_of_the_stopping_images() -> None:
    log: list[dict[str, Any]] = []
    model = new_model()
    config = FitConfig(loss="bce", epochs=1, schedule="constant", batch_size=8)
    train(model, config, log=log)
    model.eval()
    with torch.inference_mode():
        logits = model(features()[:4])
    expected = binary_cross_entropy_with_logits(
        logits, torch.from_numpy(truth().toarray()[:4] * 1.0).float()
    )
    assert log[0]["stop_loss"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(("n", "size"), [(10, 4), (8, 4), (3, 8), (1, 1), (9, 4), (1, 4), (5, 1)])
def test_batches_hold_every_row_exactly_once(n: int, size: int) -> None:
    rows = np.arange(100, 100 + n)
    order = epoch_order(rows, seed=0, epoch=1)
    drawn = [order[start:end] for start, end in batch_bounds(n, size=size)]
    assert sorted(np.concatenate(drawn)) == rows.tolist()


def test_a_single_image_left_over_joins_the_batch_before() -> None:
    def lengths(n: int, size: int) -> list[int]:
        return [end - start for start, end in batch_bounds(n, size=size)]

    assert lengths(10, 4) == [4, 4, 2]
    assert lengths(9, 4) == [4, 5]
    assert lengths(5, 4) == [5]
    assert lengths(1, 4) == [1]  # there is none before
    assert lengths(3, 1) == [1, 1, 1]  # as asked for


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [int(row) for row in epoch_order(np.arange(50), seed=seed, epoch=epoch)]

    assert order(3, 2) == order(3, 2)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (1, 2, 3)}) == 6


def test_a_course_goes_through_a_file_unchanged() -> None:
    train_state = TrainState(
        total=torch.tensor(0.1) * 3, epoch=4, step=7, seconds=1.5, best=Fitted(epoch=2, f1=0.5),
        best_state={"weight": torch.tensor([1.0, 2.0])}, entries=[{"epoch": 1, "f1": None}],
    )  # fmt: skip
    file = io.BytesIO()
    torch.save(train_state.state(), file)
    file.seek(0)
    other = TrainState(total=torch.zeros(()))
    other.restore(torch.load(file, weights_only=True))
    assert other.best == train_state.best
    assert (other.epoch, other.step, other.seconds) == (4, 7, 1.5)
    assert other.entries == train_state.entries
    assert torch.equal(other.total, train_state.total)
    assert torch.equal(other.best_state["weight"], train_state.best_state["weight"])


def test_training_ends_with_the_epochs_or_with_patience() -> None:
    config = FitConfig(epochs=9, patience=3)

    def over(*, done: int, best: int) -> bool:
        train_state = TrainState(
            total=torch.zeros(()), epoch=done + 1, best=Fitted(epoch=best, f1=0.5)
        )
        return train_state.is_over(config)

    assert not over(done=0, best=0)
    assert not over(done=8, best=6)
    assert over(done=9, best=9)
    assert over(done=5, best=2)
    assert not over(done=4, best=2)


def test_a_new_epoch_starts_at_nothing() -> None:
    train_state = TrainState(total=torch.ones(()), epoch=2, step=5, seconds=3.0)
    train_state.begin_epoch()
    assert (float(train_state.total), train_state.epoch, train_state.step, train_state.seconds) == (
        0.0,
        3,
        0,
        0.0,
    )


def test_the_stopping_score_is_the_best_f1_of_a_single_threshold() -> None:
    probs = np.array([[0.9, 0.6, 0.1], [0.7, 0.2, 0.3], [0.5, 0.5, 0.5]], dtype=np.float32)
    targets = csr_array(np.array([[1, 1, 0], [1, 0, 1], [0, 0, 0]], dtype=np.bool_))
    # From 0.22 to 0.3: images 1 and 2 are right, F1 1; the third has no concept and is left out.
    assert stopping_scores(probs, targets, kinds=())[0] == 1.0
    # Below, image 2 gets C2 as well, 2*2/(2+3); above 0.3 it loses C3, 2*1/(2+1).
    only = csr_array(np.array([[True, False]]))
    assert stopping_scores(probs[1:2, [0, 2]], only, kinds=())[0] == 1.0
    assert stopping_scores(probs, csr_array((3, 3), dtype=np.bool_), kinds=()) == (0.0, {})


def test_categories_are_scored_at_the_threshold_of_all() -> None:
    # One threshold for both: CT is right from 0.42 to 0.5, X-ray at any below 0.9; of the best ones
    # the score of CT alone would not differ, but that of ultrasound (no concepts) is left out.
    probs = np.array([[0.5, 0.4], [0.2, 0.9], [0.9, 0.9]], dtype=np.float32)
    targets = csr_array(np.array([[1, 0], [0, 1], [0, 0]], dtype=np.bool_))
    f1, by_kind = stopping_scores(probs, targets, kinds=("DRCT", "DRXR", "DRUS"))
    assert f1 == 1.0
    assert by_kind == {"DRCT": 1.0, "DRXR": 1.0}


def test_the_mean_over_images_is_the_weighted_mean_over_categories() -> None:
    rng = np.random.default_rng(0)
    probs = rng.random((30, 6)).astype(np.float32)
    targets = csr_array(rng.random((30, 6)) < 0.4)
    kinds = tuple(rng.choice(["DRCT", "DRMR", "DRXR"], 30))
    f1, by_kind = stopping_scores(probs, targets, kinds=kinds)
    known = np.diff(targets.indptr) > 0
    weights = {kind: np.sum(known & (np.array(kinds) == kind)) for kind in by_kind}
    mean = sum(by_kind[kind] * weights[kind] for kind in by_kind) / known.sum()
    assert mean == pytest.approx(f1, abs=1e-12)
    assert stopping_scores(probs, targets, kinds=()) == (f1, {})


def test_a_threshold_that_is_given_is_kept_to() -> None:
    probs = np.array([[0.9, 0.6, 0.1], [0.7, 0.2, 0.3], [0.5, 0.5, 0.5]], dtype=np.float32)
    targets = csr_array(np.array([[1, 1, 0], [1, 0, 1], [0, 0, 0]], dtype=np.bool_))
    # At 0.5 image 1 is right; image 2 lacks C3, 2*1/(1+2); the third has no concept.
    assert stopping_scores(probs, targets, kinds=(), threshold=0.5)[0] == pytest.approx(
        (1 + 2 / 3) / 2
    )
    # From 0.6 on is decided: image 1 keeps C2, and image 2 is as before.
    assert stopping_scores(probs, targets, kinds=(), threshold=0.6)[0] == pytest.approx(
        (1 + 2 / 3) / 2
    )
    assert stopping_scores(probs, targets, kinds=(), threshold=0.7)[0] == pytest.approx(
        (2 / 3 + 2 / 3) / 2
    )
