"""The whole chain again: what is the same to the last byte, and what two threads may change."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.robustness.chain import CHAIN

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]

_OWN = {
    "fuse": (
        "--set=strategies=prior,one-hot,prior-offset,late-logistic,retrieval,voted",
        *("--set=epochs=4", "--set=n_members=1", "--device", "cpu"),
    ),
    "ensemble": ("--submit",),
}
"""What commands are given here: more strategies and every stacker."""

# They say when and how fast something was made, or name a folder that says so.
_TIMES = re.compile(r"(meta\.json|log\.jsonl|\.lock.*|fusion\.(csv|md|html)|report\.(md|html))$")
# Caches are named by the times of the drawn files, ensembles by those of their members.
_NAMED_BY_TIMES = re.compile(r"(cache/.*-planes|ensembles/stack)-[0-9a-f]{8}/")


def chain(workspace: Path, *, n_threads: int) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": str(n_threads)}
    for name, words in CHAIN.items():
        command = [sys.executable, "cli.py", name, *_OWN.get(name, words), "-w", str(workspace)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def sums(workspace: Path) -> dict[str, str]:
    found = {}
    for path in sorted(workspace.rglob("*")):
        name = _NAMED_BY_TIMES.sub(r"\1/", str(path.relative_to(workspace)))
        if path.is_file() and not _TIMES.search(name):
            data = path.read_bytes().replace(str(workspace).encode(), b"WORKSPACE")
            found[name] = hashlib.sha256(data).hexdigest()
    return found


def test_a_chain_made_again_has_the_same_bytes_and_two_threads_change_rounding_alone(
    tmp_path: Path,
) -> None:
    one, again, two = (tmp_path / name for name in ("one", "again", "two"))
    chain(one, n_threads=1)
    chain(again, n_threads=1)
    first = sums(one)
    assert len(first) > 200
    assert sums(again) == first
    chain(two, n_threads=2)
    second = sums(two)
    assert second.keys() == first.keys()
    differ = {name for name in first if first[name] != second[name]}
    fitted = {name for name in differ if name.split("/")[0] in ("backbones", "fusion", "ensembles")}
    assert differ == fitted  # corpus, cache, features and statistics are the same
    assert not [name for name in differ if "submission-" in name]
    for name in differ:
        if name.endswith("probs.npy"):
            here, there = (np.load(workspace / name) for workspace in (one, two))
            np.testing.assert_allclose(here, there, atol=1e-5)
