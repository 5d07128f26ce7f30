import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from core.errors import ConfigError
from training.devices.device import computes_bf16, device_name, find_device, keep_memory

ROOT = Path(__file__).parents[3]

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


def test_bf16_is_computed_where_the_instructions_for_it_are() -> None:
    flags = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not flags.exists():
        pytest.skip("the flags of an x86 processor under Linux are not here")
    words = set(flags.read_text(encoding="utf-8").split())
    if "avx512_bf16" in words:
        assert computes_bf16()
    if not words & {"avx512f", "avx_ne_convert"}:
        assert not computes_bf16()


def test_a_processor_is_named_with_its_instructions() -> None:
    name, _, capability = device_name("cpu").rpartition(" ")
    assert name
    assert capability == torch.backends.cpu.get_cpu_capability()


FAULTS = """
import resource
import numpy as np
from training.devices.device import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(1 << 25, 1, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = min(faults() for _ in range(3))
print(keep_memory(), given_back)
print(min(faults() for _ in range(3)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc's allocator")
def test_kept_memory_is_not_asked_for_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, cwd=ROOT
    )
    kept, given_back, faults = done.stdout.split()
    assert kept == "True"
    # 32 MiB are 8,192 pages of 4 KiB, or 16 of 2 MiB where the system takes big ones.
    assert int(given_back) >= 16
    assert int(faults) <= 2


def test_where_the_allocator_is_another_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert keep_memory() is False
