"""What a process that asks an ensemble imports, and what it leaves alone."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

START = "from inference.starting import start_quickly; start_quickly()\n"


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_new_images_are_decided_without_libraries_that_only_learning_needs() -> None:
    code = START + (
        "import os, sys, inference.place, inference.predict, timm\n"
        "heavy = ('torch._dynamo', 'sympy', 'sklearn', 'pandas', 'scipy.stats', 'lightgbm',"
        " 'matplotlib', 'pyarrow', 'onnx')\n"
        "print(os.environ['OMP_WAIT_POLICY'], [name for name in heavy if name in sys.modules])"
    )
    assert run(code) == "PASSIVE []"


def test_the_compiler_is_there_for_whoever_asks_for_it_later() -> None:
    code = START + (
        "import torch\n"
        "compiled = torch.compile(lambda x: x + 1, backend='eager')\n"
        "print(compiled(torch.ones(1)).item(), torch._dynamo.utils.is_compile_supported('meta'))"
    )
    assert run(code) == "2.0 False"


def test_a_library_that_asks_the_compiler_for_more_gets_it(tmp_path: Path) -> None:
    for asked in ("import torch._dynamo as d; d.reset()", "import torch._dynamo.config"):
        (tmp_path / "timm.py").write_text(f"{asked}\n", encoding="utf-8")
        code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{START}" + (
            "import timm; print(sys.modules['torch._dynamo'].__spec__.name)"
        )
        assert run(code) == "torch._dynamo"


def test_what_the_environment_says_of_threads_is_kept() -> None:
    code = "import os; os.environ['OMP_WAIT_POLICY'] = 'ACTIVE'\n" + START
    assert run(code + "print(os.environ['OMP_WAIT_POLICY'])") == "ACTIVE"
