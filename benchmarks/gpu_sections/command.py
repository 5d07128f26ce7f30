"""The command line as a user types it, from another process."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


def start(*arguments: str | Path, before: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start `python cli.py ARGUMENTS`.

    Args:
        arguments: the command and its options.
        before: what stands between python and cli.py, torchrun's say.
    """
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *before, str(ROOT / "cli.py"), *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process printed on stdout and on stderr.

    Raises:
        RuntimeError: it ended with an error.
    """
    out, err = process.communicate()
    print(err[-4000:], file=sys.stderr)
    if process.returncode:
        last = next(iter(err.strip().splitlines()[-1:]), "nothing said")
        raise RuntimeError(f"exit {process.returncode}: {last}")
    return out, err


def run(*arguments: str | Path, before: Sequence[str] = ()) -> tuple[str, str]:
    """What a command prints on stdout and on stderr, when it has ended well."""
    return finish(start(*arguments, before=before))


def settings(**values: object) -> list[str]:
    """`--set` options."""
    return [f"--set={key}={value}" for key, value in values.items()]
