"""What benchmarks tell of the machine."""

import multiprocessing
import re
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from benchmarks.machine import cpu_name, environment, measured, memory_of, peak_mib

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux alone")


def test_the_environment_names_versions_processor_and_threads() -> None:
    first, second = environment("numpy", "scipy", n_threads=1).split("\n")
    assert f"numpy {metadata.version('numpy')}, scipy {metadata.version('scipy')}" in first
    assert f"Python {sys.version_info.major}.{sys.version_info.minor}." in first
    assert cpu_name() in second
    assert ", 1 thread" in second
    assert "2 threads" in environment("numpy", n_threads=2)
    assert "thread" not in environment("numpy").replace(cpu_name(), "")
    assert re.search(r"\d+ cores", second)


def test_a_package_that_is_not_there_is_an_error() -> None:
    with pytest.raises(metadata.PackageNotFoundError):
        environment("no-such-package")


@needs_proc
def test_memory_that_was_given_back_still_counts_at_its_highest() -> None:
    # In a process of its own: in a large one, pages that are reclaimed meanwhile are taken off.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (seconds, mib), (_, nothing), peak, now = pool.apply(_measures)
    assert 230 < mib < 290
    assert 0 < seconds < 60
    assert nothing < 30
    assert peak >= now


def _measures() -> tuple[tuple[float, float], tuple[float, float], float, float]:
    many = measured(lambda: np.ones(256 * 2**20, dtype=np.uint8).max())
    return many, measured(lambda: None), peak_mib(), memory_of()["VmRSS"]


@needs_proc
def test_a_process_that_has_ended_has_no_memory() -> None:
    highest = int(Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii"))
    assert memory_of(highest + 1) == {}
