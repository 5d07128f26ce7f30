"""A server as its users start it: a process of its own, asked over its socket."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from core.runs.workspace import Corpus, Workspace

ROOT = Path(__file__).parents[3]

SMALL = (
    *("--max-mb", "2", "--max-files", "4", "--max-megapixels", "1", "--max-memory-mb", "4"),
    *("--max-queue", "32", "--max-connections", "24", "--read-seconds", "1"),
    *("--request-seconds", "30", "--stop-seconds", "10", "--threads", "1"),
)
"""Limits that tests reach quickly."""


@dataclass(kw_only=True)
class Served:
    """A server that is ready."""

    process: subprocess.Popen[str]
    port: int
    lines: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def memory(self) -> int:
        """Bytes that it holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        (found,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
        return int(found) * 1024

    def predict(self, *names: str | tuple[str, bytes], **more: Any) -> httpx.Response:
        """The answer to images, by path or as name and bytes."""
        read = [(Path(n).name, Path(n).read_bytes()) if isinstance(n, str) else n for n in names]
        files = [("images", one) for one in read]
        return httpx.post(f"{self.url}/predict", files=files, timeout=60, **more)

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.text_of_metrics(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def text_of_metrics(self) -> str:
        return httpx.get(f"{self.url}/metrics").text


@contextmanager
def serving(
    workspace: Workspace, *options: str, environment: dict[str, str] | None = None
) -> Iterator[Served]:
    """A server, ready; ended at the end."""
    command = [sys.executable, str(ROOT / "cli.py"), "serve", "-w", str(workspace.root)]
    command += ["--port", "0", "--device", "cpu", *options]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
    )
    assert process.stderr is not None
    lines: list[str] = []
    stream = process.stderr
    reading = threading.Thread(target=_hear, args=(stream, lines), daemon=True)
    reading.start()
    try:
        until = monotonic() + 120
        while "ready" not in lines:
            assert process.poll() is None, lines
            assert monotonic() < until, lines
            sleep(0.05)
        (port,) = re.findall(r"listening on http://\S+:(\d+)", "\n".join(lines))
        yield Served(process=process, port=int(port), lines=lines)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)
        reading.join()
        stream.close()


def _hear(stream: Any, lines: list[str]) -> None:
    lines.extend(line.rstrip("\n") for line in stream)


@pytest.fixture(scope="session")
def served(whole: Workspace) -> Iterator[Served]:
    """A server of the small ensemble with small limits."""
    with serving(whole, *SMALL) as server:
        yield server


@pytest.fixture(scope="session")
def paths(crossfitted: Corpus) -> list[str]:
    """Of the eight test images."""
    return list(crossfitted.table.of(split="test").paths)
