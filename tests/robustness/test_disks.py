"""A small round of each attack on the disk; the scripts beside this file go on for an hour."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.robustness.chain import try_containers
from tests.robustness.containers import KINDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[2]


def attack(script: str, home: Path, *words: str) -> dict[str, Any]:
    """The counts of a script, run by itself: it forks, and pytest has threads."""
    command = [sys.executable, "-m", f"tests.robustness.{script}", str(home), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    counts: dict[str, Any] = json.loads(done.stdout[done.stdout.index("\n{") :])
    assert not {name: n for name, n in counts.items() if "loss" in name and n}, done.stdout
    return counts


@pytest.mark.parametrize("name", ["KILL", "TERM", "INT"])
def test_commands_that_are_ended_at_any_moment_go_on(name: str, tmp_path: Path) -> None:
    counts = attack("kill", tmp_path / "kill", "--kills", "4", "--signal", name)
    assert counts["killed"] >= 4


@pytest.mark.parametrize("kind", list(KINDS))
def test_two_containers_or_machines_share_a_workspace(kind: str, tmp_path: Path) -> None:
    if reason := next(filter(None, map(try_containers, KINDS[kind])), ""):
        pytest.skip(f"no such containers here: {reason}")
    counts = attack("containers", tmp_path / "both", "--rounds", "1", "--kinds", kind)
    assert counts[f"{kind}: drafts left"] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="disks are mounted by root alone")
def test_full_and_read_only_disks_are_named(tmp_path: Path) -> None:
    counts = attack("full_disk", tmp_path / "full", "--rounds", "1")
    assert counts["full: refused"] + counts["read-only: refused"] > 0
