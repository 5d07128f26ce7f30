"""Which device to compute on, what it is, and how its memory is kept."""

import ctypes
import os
import platform
from pathlib import Path

import torch

from core.errors import ConfigError

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1  # M_* of glibc's malloc.h


def find_device(asked: str) -> str:
    """The device asked for; `auto` is a CUDA device where there is one, else the processor.

    Under torchrun `auto` and `cuda` are each process' own device; more processes than devices share
    them.

    Raises:
        ConfigError: it is not there, or is not known.
    """
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    if asked.partition(":")[0] not in ("cpu", "cuda"):
        raise ConfigError(f"--device {asked}: expected cpu, cuda, cuda:N or auto")
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"--device {asked}: no CUDA device is available here")
    if asked == "cuda" and "LOCAL_RANK" in os.environ:
        return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    return asked


def device_name(device: str) -> str:
    """The model of a device; of a processor with the vector instructions that torch uses on it."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor() or platform.machine()
    return f"{model} {torch.backends.cpu.get_cpu_capability()}"


def computes_bf16() -> bool:
    """Whether the processor has instructions that torch takes for bf16; else it is emulated.

    Emulated on AVX2, a step of EfficientNet-Lite0 takes 15 times as long as in fp32.
    """
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def keep_memory() -> bool:
    """Have this process keep freed memory for its next step; whether the system can.

    glibc gives big blocks back to the system as they are freed, and takes them anew, zeroed page by
    page, in the next step. Keeping them made training on two cores faster by 9 % (EfficientNet
    lite0, channels last) to 27 % (ResNet50 in fp32). The cost: the highest use of memory is held
    until the process ends. Only the processor's memory is meant; a GPU's is kept by torch anyway.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    kept = libc.mallopt(_MMAP_MAX, 0)  # no block is a mapping of its own, gone once it is freed
    return bool(kept and libc.mallopt(_TRIM_THRESHOLD, -1))  # -1: the heap never shrinks
