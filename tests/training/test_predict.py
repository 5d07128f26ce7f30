"""Probabilities: of an image whatever its batch, mirrored, in less memory."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.errors import ConceptError, is_out_of_memory
from training.devices.compute import Compute
from training.predict import predict

N, D, L = 24, 6, 4
FEATURES = torch.from_numpy(np.random.default_rng(1).normal(size=(N, D)).astype(np.float32))
HERE = Compute()


def batches(rows: np.ndarray[tuple[int], np.dtype[np.intp]]) -> tuple[Tensor]:
    return (FEATURES[torch.from_numpy(rows)],)


def new_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, L))


class Small(nn.Module):
    """A model on a device with room for so many images."""

    def __init__(self, room: int, error: Exception) -> None:
        super().__init__()
        self.layers = new_model()
        self.room, self.error = room, error
        self.taken: list[int] = []

    def forward(self, features: Tensor) -> Tensor:
        if len(features) > self.room:
            raise self.error
        self.taken.append(len(features))
        logits: Tensor = self.layers(features)
        return logits


def test_probabilities_do_not_depend_on_the_batches_and_need_no_dropout() -> None:
    model, rows = new_model(), np.array([5, 0, 23, 5])
    whole = predict(model, batches, rows=rows, compute=HERE)
    single = predict(model, batches, rows=rows, compute=HERE, batch_size=1)
    assert whole.shape == (4, L)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, single, rtol=0, atol=1e-6)
    np.testing.assert_allclose(whole[0], whole[3], rtol=0, atol=1e-6)
    with torch.inference_mode():
        logits = model.eval()(FEATURES[torch.from_numpy(rows)])
    np.testing.assert_allclose(whole, 1 / (1 + np.exp(-logits.numpy())), rtol=0, atol=1e-6)


def test_an_image_asked_alone_has_the_probabilities_that_it_has_among_others() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(640, 300), nn.ReLU(), nn.Linear(300, L))
    features = torch.randn(40, 640)

    def asked(rows: list[int]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        return predict(
            model,
            lambda rows: (features[torch.from_numpy(rows)],),
            rows=np.array(rows),
            compute=HERE,
        )

    whole = asked(list(range(40)))
    for rows in ([7], [39, 0], [3, 5, 9], list(range(11))):
        np.testing.assert_array_equal(asked(rows), whole[rows])


def test_no_rows_have_no_probabilities() -> None:
    assert predict(new_model(), batches, rows=np.arange(0), compute=HERE).shape == (0, L)


def test_mirrored_probabilities_are_the_mean_of_both_sides() -> None:
    images = torch.from_numpy(np.random.default_rng(0).random((3, 3, 8, 8)).astype(np.float32))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, L))
    rows = np.arange(3)

    def given(side: Tensor) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        return predict(model, lambda rows: (side[torch.from_numpy(rows)],), rows=rows, compute=HERE)

    both = predict(
        model, lambda rows: (images[torch.from_numpy(rows)],), rows=rows, compute=HERE, mirror=True
    )
    np.testing.assert_allclose(both, (given(images) + given(images.flip(3))) / 2, atol=1e-7)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't"
                     " allocate memory: you tried to allocate 4000000000000 bytes."),
        MemoryError("Unable to allocate 12.0 GiB for an array"),  # numpy
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("could not create a primitive"),  # oneDNN
        RuntimeError("GET was unable to find an engine to execute this computation"),  # cuDNN
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)  # fmt: skip
def test_where_memory_runs_out_the_batches_are_halved(error: Exception) -> None:
    model = Small(7, error)
    probs = predict(model, batches, rows=np.arange(N), compute=HERE, batch_size=16)
    assert model.taken == [4] * 6  # 16 and 8 did not fit
    np.testing.assert_allclose(
        probs, predict(model.layers, batches, rows=np.arange(N), compute=HERE), rtol=0, atol=1e-6
    )
    with pytest.raises(ConceptError, match="out of memory with a single image at once"):
        predict(Small(0, error), batches, rows=np.arange(N), compute=HERE)


def test_the_processors_own_refusal_is_known_and_other_errors_pass() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**55)
    assert is_out_of_memory(refused.value)
    with pytest.raises(RuntimeError, match="mat1 and mat2") as other:
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    assert not is_out_of_memory(other.value)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        predict(nn.Linear(D + 1, L), batches, rows=np.arange(N), compute=HERE)


def test_after_each_batch_the_caller_is_told() -> None:
    told = []
    predict(
        new_model(), batches, rows=np.arange(10), compute=HERE, batch_size=4,
        between=lambda: told.append(1),
    )  # fmt: skip
    assert len(told) == 3
