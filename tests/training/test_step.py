"""One optimiser's step: parts, memory, mixed images, smoothed targets."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from core.config import overlay
from core.errors import ConceptError
from training.batches import Examples, split_batch
from training.config import FitConfig
from training.devices.compute import Compute
from training.learner import Learner
from training.losses.registry import LossContext, loss_for
from training.step import Step

N, D, L = 24, 6, 4
FEATURES = torch.from_numpy(np.random.default_rng(1).normal(size=(N, D)).astype(np.float32))
TARGETS = csr_array(FEATURES.numpy() @ np.random.default_rng(2).normal(size=(D, L)) > 0.5)
EXAMPLES = Examples(
    batches=lambda rows: (FEATURES[torch.from_numpy(rows)],), targets=TARGETS, rows=np.arange(N)
)
PLAIN = FitConfig(loss="bce", optimizer="sgd", schedule="constant", weight_decay=0)


class Small(nn.Module):
    """A model on a device with room for so many images, that counts what it takes."""

    def __init__(self, room: int = N) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(D, L)
        self.room = room
        self.taken: list[int] = []

    def forward(self, features: Tensor) -> Tensor:
        if len(features) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.taken.append(len(features))
        logits: Tensor = self.layer(features)
        return logits


def take_step(
    model: nn.Module, settings: dict[str, Any] | None = None, *, n: int = 10, number: int = 0
) -> tuple[float, Tensor, list[dict[str, Any]], Step]:
    """The loss, the first weights after a step on n images, what was noted, and the step."""
    config = overlay(PLAIN, settings or {})
    learner = Learner(model, config, Compute(), steps_per_epoch=3)
    noted: list[dict[str, Any]] = []
    step = Step(learner, EXAMPLES, config=config, note=noted.append)
    loss = loss_for(config.loss, LossContext(positives=torch.ones(L), n_images=N, epoch=1))
    batch = step.load(np.arange(2, 2 + n), seed=4, epoch=1, number=number)
    mean = step(batch, [loss], epoch=1, n_updates=1)
    return float(mean), next(model.parameters()).detach().clone(), noted, step


def test_a_step_in_parts_is_the_step_as_a_whole() -> None:
    whole, weights, _, _ = take_step(Small())
    for micro_batch in (1, 3, 4, 10):
        model = Small()
        loss, parts, noted, _ = take_step(model, {"micro_batch": micro_batch})
        assert loss == pytest.approx(whole, abs=1e-6)
        torch.testing.assert_close(parts, weights, rtol=0, atol=1e-6)
        assert max(model.taken) <= micro_batch
        assert sum(model.taken) == 10
        assert noted == []


def test_where_memory_runs_out_the_step_is_taken_in_halves(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, weights, _, _ = take_step(Small())
    model = Small(room=4)
    _, halves, noted, step = take_step(model)
    torch.testing.assert_close(halves, weights, rtol=0, atol=1e-6)
    assert model.taken == [3, 3, 2, 2]  # 10 and 5 did not fit; four parts of at most 3
    assert noted == [
        {"epoch": 1, "event": "out of memory", "micro_batch": 5},
        {"epoch": 1, "event": "out of memory", "micro_batch": 3},
    ]
    assert step.learner.micro_batch == 3
    assert "out of memory with 10 images at once: going on with 5" in capsys.readouterr().err


def test_a_part_that_failed_leaves_nothing_behind_in_the_gradients() -> None:
    class Failing(Small):
        """The second part of the first try does not fit."""

        def forward(self, features: Tensor) -> Tensor:
            if len(self.taken) == 1:
                self.taken.append(0)
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(features)

    _, weights, _, _ = take_step(Small(), {"micro_batch": 5})
    _, again, noted, _ = take_step(Failing(), {"micro_batch": 5})
    torch.testing.assert_close(again, weights, rtol=0, atol=1e-6)
    assert len(noted) == 1


def test_a_single_image_that_does_not_fit_is_one_line() -> None:
    with pytest.raises(ConceptError, match=r"^out of memory with a single image at once \(CUDA"):
        take_step(Small(room=0))


def test_other_errors_are_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        take_step(nn.Linear(D + 1, L))


def test_absent_concepts_may_be_smoothed_and_true_ones_stay() -> None:
    _, _, _, step = take_step(Small(), {"negative_smoothing": 0.1})
    batch = step.load(np.arange(5), seed=4, epoch=1, number=0)
    truth = TARGETS[:5].toarray()
    expected = np.where(truth, 1.0, 0.1).astype(np.float32)
    np.testing.assert_allclose(step.dense_targets(batch).numpy(), expected, atol=1e-7)


def test_images_are_mixed_as_their_targets_are() -> None:
    _, _, _, step = take_step(Small(), {"mixup": 0.4})
    chosen = np.array([3, 7, 11])
    batch = step.load(chosen, seed=4, epoch=2, number=5)
    a = batch.share
    assert 0 < a < 1
    partners = [11, 3, 7]
    (mixed,) = step.prepared_inputs(batch, epoch=2)
    torch.testing.assert_close(mixed, a * FEATURES[chosen] + (1 - a) * FEATURES[partners])
    dense = TARGETS.toarray().astype(np.float32)
    expected = a * dense[chosen] + (1 - a) * dense[partners]
    np.testing.assert_allclose(step.dense_targets(batch).numpy(), expected, atol=1e-6)
    again = step.load(chosen, seed=4, epoch=2, number=5)
    assert again.share == a
    assert step.load(chosen, seed=4, epoch=2, number=6).share != a


def test_long_gradients_are_cut_to_their_length() -> None:
    model = Small()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    take_step(model, {"clip_norm": 1e-3, "learning_rate": 1.0})
    moved = [now - then for now, then in zip(model.parameters(), before, strict=True)]
    # Nesterov's first step at momentum 0.9 is 1.9 gradients long, and these are longer than 1e-3.
    length = float(torch.cat([part.detach().flatten() for part in moved]).norm())
    assert length == pytest.approx(1.9e-3, rel=1e-4)


@pytest.mark.parametrize("micro_batch", [0, 1, 2, 3, 100])
@pytest.mark.parametrize(("n_images", "n_processes"), [(10, 1), (10, 3), (7, 2), (4, 4)])
def test_parts_hold_every_image_once_and_meet(
    n_images: int, n_processes: int, micro_batch: int
) -> None:
    parts = split_batch(n_images, n_processes=n_processes, micro_batch=micro_batch)
    places = np.concatenate([np.concatenate(part) for part in parts])
    assert sorted(places) == list(range(n_images))
    assert all(len(part) == n_processes for part in parts)
    assert all(len(own) for part in parts for own in part)
    for rank in range(n_processes):
        own = np.concatenate([part[rank] for part in parts])
        expected = np.array_split(np.arange(n_images), n_processes)[rank]
        assert own.tolist() == expected.tolist()
    if micro_batch == 0:
        assert len(parts) == 1
