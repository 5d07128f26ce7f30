"""A handful of the cases of `tests.robustness.damage`, which runs for as long as it is asked to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_damage_is_mended_or_named_with_a_cure(tmp_path: Path) -> None:
    words = ["-m", "tests.robustness.damage", "--out", str(tmp_path), "--cases", "40"]
    ran = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
