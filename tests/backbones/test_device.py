import pytest
import torch

from backbones.device import find_device
from core.errors import ConfigError

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


def test_the_processor_is_always_there() -> None:
    assert find_device("cpu") == "cpu"


def test_auto_takes_a_cuda_device_where_there_is_one() -> None:
    assert find_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


@without_cuda
@pytest.mark.parametrize("asked", ["cuda", "cuda:0"])
def test_a_device_that_is_not_there_is_refused(asked: str) -> None:
    with pytest.raises(ConfigError, match=rf"--device {asked}: no CUDA device is available here"):
        find_device(asked)


@pytest.mark.parametrize("asked", ["gpu", "", "tpu:0"])
def test_a_device_that_is_not_known_is_refused(asked: str) -> None:
    with pytest.raises(ConfigError, match=rf"--device {asked}: expected cpu, cuda, cuda:N or auto"):
        find_device(asked)
