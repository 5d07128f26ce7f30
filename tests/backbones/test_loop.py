"""The training loop: against a plain one, repeated, overfitted, stopped."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from backbones.build import Detector, build_backbone, build_head
from backbones.config import BackboneConfig
from backbones.fit_config import FitConfig
from backbones.loop import Batches, Fitted, Rows, epoch_batches, fit, predict, stopping_f1
from core.errors import ConceptError
from core.workspace import Corpus, Workspace
from corpus.cache import build_cache
from corpus.loading import CachedImages

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


def say_nothing(entry: dict[str, Any]) -> None:
    """For tests that do not look at the log."""


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
    batches = batches_of(features() if values is None else values)
    return fit(
        model,
        batches,
        truth() if targets is None else targets,
        rows=np.arange(N),
        stop=mask,
        config=config,
        seed=seed,
        evaluate=batches,
        log=([] if log is None else log).append,
        device="cpu",
    )


def test_the_loop_agrees_with_a_plain_one() -> None:
    config = FitConfig(
        loss="bce", batch_size=6, epochs=5, patience=5, learning_rate=0.02, weight_decay=0.1
    )
    plain = new_model()
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.02, weight_decay=0.1)
    steps = 5 * 4  # 20 images to learn from, 6 a batch: 6 + 6 + 6 + 2
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=steps)
    rng, x, y = np.random.default_rng(7), features(), torch.from_numpy(truth().toarray()).float()
    losses, states = [], []
    torch.manual_seed(3)  # of the dropout
    for _ in range(5):
        plain.train()
        order = rng.permutation(np.arange(4, 24))
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
        results.append((log, [value.numpy().tobytes() for value in model.state_dict().values()]))
    assert results[0] == results[1]
    assert results[0] != results[2]


@pytest.mark.parametrize("loss", ["bce", "f1*bce", "f1+bce"])
def test_eight_images_are_learnt_by_heart(loss: Any) -> None:
    config = FitConfig(loss=loss, batch_size=8, epochs=150, patience=150, learning_rate=0.05)
    model = nn.Sequential(nn.Linear(D, 64), nn.ReLU(), nn.Linear(64, L))
    values, dense = features()[:8], np.random.default_rng(5).random((8, L)) < 0.4
    dense[:, 0] |= ~dense.any(axis=1)  # every image has a concept
    batches, eight = batches_of(values), np.arange(8)
    fit(
        model, batches, csr_array(dense), rows=eight, stop=np.zeros(8, dtype=np.bool_),
        config=config, seed=0, evaluate=batches, log=say_nothing, device="cpu",
    )  # fmt: skip
    probs = predict(model, batches, eight, device="cpu")
    assert f1_score(dense, probs > 0.5, average="samples") == 1.0
    assert stopping_f1(probs, csr_array(dense)) == 1.0


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
    model = Detector(backbone, build_head(backbone.n_features, len(corpus.labels), config))
    fit(
        model, batches, targets, rows=np.arange(8), stop=np.zeros(8, dtype=np.bool_),
        config=config, seed=0, evaluate=batches, log=say_nothing, device="cpu",
    )  # fmt: skip
    probs = predict(model, batches, np.arange(8), device="cpu")
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
    batches = batches_of(features())
    fitted = fit(
        model, batches, csr_array(dense), rows=np.arange(N), stop=mask,
        config=FitConfig(loss="bce", batch_size=4, epochs=30, patience=3, learning_rate=0.05),
        seed=0, evaluate=batches, log=keep, device="cpu",
    )  # fmt: skip
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


@pytest.mark.parametrize(("n", "size"), [(10, 4), (8, 4), (3, 8), (1, 1)])
def test_batches_hold_every_row_exactly_once(n: int, size: int) -> None:
    rows = np.arange(100, 100 + n)
    drawn = list(epoch_batches(rows, size=size, rng=np.random.default_rng(0)))
    assert sorted(np.concatenate(drawn)) == rows.tolist()
    assert [len(batch) for batch in drawn] == [min(size, n - i) for i in range(0, n, size)]


def test_every_epoch_has_an_order_of_its_own() -> None:
    rng = np.random.default_rng(0)
    first, second = (list(epoch_batches(np.arange(50), size=50, rng=rng)) for _ in range(2))
    assert first[0].tolist() != second[0].tolist()


def test_probabilities_do_not_depend_on_the_batches_and_need_no_dropout() -> None:
    model, rows = new_model(), np.array([5, 0, 23, 5])
    whole = predict(model, batches_of(features()), rows, device="cpu")
    single = predict(model, batches_of(features()), rows, device="cpu", batch_size=1)
    assert whole.shape == (4, L)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, single, rtol=0, atol=1e-6)
    np.testing.assert_allclose(whole[0], whole[3], rtol=0, atol=1e-6)
    with torch.inference_mode():
        logits = model.eval()(features()[torch.from_numpy(rows)])
    np.testing.assert_allclose(whole, 1 / (1 + np.exp(-logits.numpy())), rtol=0, atol=1e-6)


def test_the_stopping_score_is_the_best_f1_of_a_single_threshold() -> None:
    probs = np.array([[0.9, 0.6, 0.1], [0.7, 0.2, 0.3], [0.5, 0.5, 0.5]], dtype=np.float32)
    targets = csr_array(np.array([[1, 1, 0], [1, 0, 1], [0, 0, 0]], dtype=np.bool_))
    # From 0.22 to 0.3: images 1 and 2 are right, F1 1; the third has no concept and is left out.
    assert stopping_f1(probs, targets) == 1.0
    # Below, image 2 gets C2 as well, 2*2/(2+3); above 0.3 it loses C3, 2*1/(2+1).
    assert stopping_f1(probs[1:2, [0, 2]], csr_array(np.array([[True, False]]))) == 1.0
    assert stopping_f1(probs, csr_array((3, 3), dtype=np.bool_)) == 0.0
