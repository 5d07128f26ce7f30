"""What a process that asks an ensemble imports, and what it leaves alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from inference.threads import wait_asleep

ROOT = Path(__file__).parents[2]


def test_new_images_are_decided_without_libraries_that_only_learning_needs() -> None:
    code = (
        "from inference.threads import wait_asleep; wait_asleep()\n"
        "import os, sys, inference.place, inference.predict, timm\n"
        "heavy = ('sklearn', 'pandas', 'scipy.stats', 'lightgbm', 'matplotlib', 'pyarrow',"
        " 'onnx')\n"
        "print(os.environ['OMP_WAIT_POLICY'], [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "PASSIVE []"


def test_what_the_environment_says_of_threads_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    wait_asleep()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
