"""Texts that teach: what is fitted on which, the loss by hand, and a network as it was after."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from core.errors import ConfigError
from training.batches import Examples, with_mirrors
from training.config import FitConfig
from training.devices.compute import Compute
from training.heads import build_head
from training.learner import Learner
from training.loop import Watch, fit
from training.losses.registry import LossContext, loss_for
from training.members import fit_members
from training.predict import Rows
from training.stack import fit_stack
from training.step import Step
from training.texts.spaces import hashed_space
from training.texts.teacher import Teacher, counted, last_layer, lessons_of, narrow, widen

N, D, L = 24, 6, 4
FEATURES = torch.from_numpy(np.random.default_rng(1).normal(size=(N, D)).astype(np.float32))
TARGETS = csr_array(FEATURES.numpy() @ np.random.default_rng(2).normal(size=(D, L)) > 0.5)
WORDS = ("chest", "effusion", "left", "right", "fracture", "spine")
TEXTS = tuple(
    "" if row % 5 == 4 else " ".join(w for w, x in zip(WORDS, own, strict=True) if x > 0)
    for row, own in enumerate(FEATURES.tolist())
)
CONFIG = FitConfig(
    hidden=(8,), dropout=0, input_dropout=0, batch_size=5, epochs=4, patience=4, n_members=3,
    learning_rate=0.02,
)  # fmt: skip
HERE = Compute()


def examples(texts: tuple[str, ...] = TEXTS, *, weight: float = 1.0) -> Examples:
    return Examples(
        batches=lambda rows: (FEATURES[torch.from_numpy(rows)],),
        targets=TARGETS,
        rows=np.arange(N),
        teacher=Teacher.hashed(texts, weight=weight, seed=0),
    )


def learnt(taught: Examples, config: FitConfig = CONFIG) -> tuple[nn.Module, list[dict[str, Any]]]:
    """A head that learns from images 6 to 23 and stops on the first six; its log."""
    torch.manual_seed(0)
    model = build_head(D, L, config=config)
    log: list[dict[str, Any]] = []
    stop = np.arange(N) < 6
    fit(model, taught, stop=stop, config=config, seed=3, compute=HERE, watch=Watch(log=log.append))
    return model, log


def assert_equal(model: nn.Module, other: nn.Module) -> None:
    state, expected = model.state_dict(), other.state_dict()
    assert list(state) == list(expected)
    for name, value in state.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_the_space_is_fitted_on_the_texts_that_are_learnt_from_and_on_no_other() -> None:
    teacher = Teacher.hashed(TEXTS, weight=1, seed=0)
    own = np.arange(6, N)
    points = teacher.points(own)
    told = [row for row in own if TEXTS[row]]
    distinct = sorted({TEXTS[row] for row in told})
    expected = hashed_space(distinct, n_numbers=128, seed=0, in_at_least=2)
    for row in range(N):
        place = points[row, : expected.shape[1]]
        if row in told:
            np.testing.assert_allclose(place, expected[distinct.index(TEXTS[row])], atol=1e-6)
        else:
            assert not points[row].any()
    other = replace(teacher, texts=(*("pellet of metal",) * 6, *TEXTS[6:]))
    torch.testing.assert_close(other.points(own), points, rtol=0, atol=0)


def test_images_that_stop_a_training_teach_nothing() -> None:
    model, _ = learnt(examples())
    other, _ = learnt(examples((*TEXTS[3:6], *("",) * 3, *TEXTS[6:])))
    assert_equal(model, other)


def test_texts_of_images_that_are_learnt_from_change_what_is_learnt() -> None:
    model, _ = learnt(examples())
    other, _ = learnt(examples((*TEXTS[:6], *reversed(TEXTS[6:]))))
    weights = [m.state_dict()["1.weight"] for m in (model, other)]
    assert not torch.equal(*weights)


def test_the_loss_is_the_mean_over_the_images_that_have_a_text() -> None:
    points = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    told = torch.tensor([[2.0, 0.0], [3.0, 5.0], [1.0, 1.0]])
    teacher = Teacher.hashed(("a", "", "b"), weight=7, seed=0)
    # 1 - 1 of the first, none of the second, 1 - 1/sqrt(2) of the third; weights come later.
    mean = teacher.mean_loss(told, counted(lessons_of(points)))
    assert float(mean) == pytest.approx((1 - 0.5**0.5) / 2, abs=1e-6)
    nothing = teacher.mean_loss(told, counted(lessons_of(torch.zeros(3, 2))))
    assert float(nothing) == 0


def test_a_step_by_hand_weighs_what_texts_teach() -> None:
    taught = examples(weight=3.0)
    assert taught.teacher is not None
    points = taught.teacher.points(np.arange(N))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, L))
    widen(model, taught.teacher.n_numbers, n_targets=L, seed=1)
    copied = nn.Linear(D, L + 128)
    copied.load_state_dict(model[0].state_dict())
    config = FitConfig(loss="bce")
    step = Step(
        Learner(model, config, HERE, steps_per_epoch=1), taught, config=config,
        note=lambda _: None,
    )  # fmt: skip
    loss = loss_for("bce", LossContext(positives=torch.ones(L), n_images=N, epoch=1))
    rows = np.arange(2, 12)
    batch = step.load(rows, seed=0, epoch=1, number=0, points=points)
    found = step(batch, [loss], epoch=1, n_updates=1)
    logits = copied(FEATURES[2:12])
    truth = torch.from_numpy(TARGETS[rows].toarray()).float()
    bce = nn.functional.binary_cross_entropy_with_logits(logits[:, :L], truth)
    told = [k for k, row in enumerate(rows) if TEXTS[row]]
    near = nn.functional.cosine_similarity(logits[told, L:], points[rows][told], dim=1)
    (bce + 3 * (1 - near).mean()).backward()  # type: ignore[no-untyped-call]
    assert found.tolist() == pytest.approx([bce.item(), (1 - near).mean().item()], abs=1e-6)
    torch.testing.assert_close(model[0].weight.grad, copied.weight.grad, rtol=0, atol=1e-6)


def gradient(micro_batch: int) -> Tensor:
    """Of a step on ten images, taken in parts."""
    taught = examples()
    torch.manual_seed(0)
    model = build_head(D, L, config=CONFIG)
    widen(model, 128, n_targets=L, seed=1)
    config = replace(CONFIG, micro_batch=micro_batch, loss="bce", mixup=0.4)
    step = Step(
        Learner(model, config, HERE, steps_per_epoch=1), taught, config=config,
        note=lambda _: None,
    )  # fmt: skip
    assert taught.teacher is not None
    points = taught.teacher.points(np.arange(N))
    batch = step.load(np.arange(2, 12), seed=0, epoch=1, number=0, points=points)
    loss = loss_for("bce", LossContext(positives=torch.ones(L), n_images=N, epoch=1))
    step(batch, [loss], epoch=1, n_updates=1)
    found = model[1].weight.grad
    assert isinstance(found, Tensor)
    return found


def test_a_step_in_parts_is_the_step_as_a_whole_however_texts_are_spread() -> None:
    whole = gradient(0)
    for micro_batch in (1, 3, 4):
        torch.testing.assert_close(gradient(micro_batch), whole, rtol=0, atol=1e-6)


def test_a_network_is_afterwards_what_it_would_be_without_a_teacher() -> None:
    taught, log = learnt(examples())
    plain, plain_log = learnt(replace(examples(), teacher=None))
    shapes = [{n: t.shape for n, t in m.state_dict().items()} for m in (taught, plain)]
    assert shapes[0] == shapes[1]
    assert last_layer(taught).out_features == L
    assert set(log[0]) == {*plain_log[0], "text_loss"}
    # The first epoch's loss is of the concepts in both, and the network starts at the same weights.
    assert log[0]["loss"] == pytest.approx(plain_log[0]["loss"], rel=0.2)


def test_where_no_image_has_a_text_nothing_is_taught() -> None:
    taught, log = learnt(examples(("",) * N))
    plain, plain_log = learnt(replace(examples(), teacher=None))
    assert [entry["text_loss"] for entry in log] == [0] * len(log)
    assert [e["loss"] for e in log] == pytest.approx([e["loss"] for e in plain_log], rel=1e-5)
    for name, value in taught.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_texts_are_learnt() -> None:
    _, log = learnt(examples(), replace(CONFIG, hidden=(64,), epochs=150, patience=150))
    assert log[0]["text_loss"] > 0.5
    assert log[-1]["text_loss"] < 0.05


@pytest.mark.parametrize("settings", [{}, {"mixup": 0.4, "negative_smoothing": 0.1, "ema": 0.8}])
def test_networks_at_once_learn_what_each_learns_alone(settings: dict[str, Any]) -> None:
    config = replace(CONFIG, **settings)
    folds = (np.arange(N) % 3).astype(np.int16)

    def new_model(rows: Rows) -> nn.Module:
        return build_head(D, L, config=config)

    log: list[dict[str, Any]] = []
    told: dict[str, Any] = {"folds": folds, "config": config, "compute": HERE, "log": log.append}
    together = fit_stack(new_model, examples(weight=0.5), **told)
    alone = fit_members(new_model, examples(weight=0.5), **told)
    for (model, fitted), (other, expected) in zip(together, alone, strict=True):
        assert fitted.epoch == expected.epoch
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-4, atol=2e-5)
    by_member = [
        [entry["text_loss"] for entry in part if entry["member"] == 1]
        for part in (log[: len(log) // 2], log[len(log) // 2 :])
    ]
    assert by_member[0] == pytest.approx(by_member[1], rel=1e-4)


def test_mirrors_have_the_texts_of_their_images() -> None:
    stop = np.arange(N) < 6
    doubled, _ = with_mirrors(examples(), stop, n_inputs=N)
    assert doubled.teacher is not None
    assert doubled.teacher.texts == (*TEXTS, *TEXTS[6:])
    points = doubled.teacher.points(np.arange(6, N + 18))
    torch.testing.assert_close(points[N:], points[6:N])


def test_points_that_are_known_are_taken_as_they_are() -> None:
    known = {"a": np.array([1.0, 0.0, 0.0]), "b": np.array([0.0, 1.0, 0.0])}
    teacher = Teacher.placed(("b", "", "a", "a"), known, weight=1)
    expected = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(teacher.points(np.arange(3)), expected)


def test_a_layer_without_an_output_a_concept_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"an output a concept \(5\); this one has 4"):
        widen(nn.Sequential(nn.Linear(D, L)), 3, n_targets=5, seed=0)


def test_further_outputs_change_no_random_number_and_go_as_they_came() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, L))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    widen(model, 3, n_targets=L, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert model(FEATURES).shape == (N, L + 3)
    narrow(model, n_targets=L)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
