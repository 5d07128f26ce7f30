"""What every benchmark tells of the machine: processor, versions and load; memory and time."""

import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

N_THREADS = min(2, os.cpu_count() or 1)
"""Of benchmarks that compute with more than one."""


def cpu_name() -> str:
    """Model of the processor where the system tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def environment(*packages: str, n_threads: int | None = None) -> str:
    """Two lines: versions; hardware, threads where they are given, load where it is known."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    threads = "" if n_threads is None else f", {n_threads} thread{'s' * (n_threads != 1)}"
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"Python {platform.python_version()}, {versions}\n"
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {cpu_name()}"
        f"{threads}{load}"
    )


def memory_of(process: int | str = "self") -> dict[str, float]:
    """MiB of a process by Linux's names: VmRSS now, VmHWM at its highest; {} once it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if line.endswith("kB"))
    return {name: int(value.split()[0]) / 1024 for name, value in pairs}


def peak_mib() -> float:
    """MiB of this process at its highest, libraries and mapped files included."""
    # Linux hands the parent's highest ru_maxrss down to its children, but not VmHWM.
    if "VmHWM" in (sizes := memory_of()):
        return sizes["VmHWM"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def measured(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and MiB at the highest above those before the call; Linux alone tells these."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM becomes VmRSS
    before = memory_of()["VmRSS"]
    start = time.perf_counter()
    call()
    return time.perf_counter() - start, memory_of()["VmHWM"] - before
