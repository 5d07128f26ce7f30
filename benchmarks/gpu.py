"""What a GPU makes of radfuse: correct, fast, and sturdy, in one command of 14 minutes.

    python -m benchmarks.gpu [--device cuda] [--tiny] [--out FOLDER] [--sections NAME ...]

Five sections, or those that are named, each a process of its own with its share of the time: a
section that crashes, hangs or runs out of time does not take the others along, and what it had
found stays. Every finding is printed, and written to FOLDER/gpu.json, as soon as it is known; the
table comes last, and as FOLDER/gpu.md. A sixth is not among those 14 minutes, `--sections
encoders`: four minutes for recipes of the task's winners and encoders of every library. Needs no
network, no corpus and no weights; what a missing package keeps from being looked at is said and
counted.
`--device cpu --tiny` runs the same code in two minutes and shows that it works, not how fast
anything is.

The exit code is 1 if something was not as wanted.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # also when this file itself is run

from benchmarks.gpu_sections.findings import MARK  # noqa: E402

SECTIONS = {
    "correctness": 190,
    "networks": 190,
    "chain": 240,
    "memory": 30,
    "processes": 165,
    "encoders": 240,
}
"""Seconds of each, the most valuable first; what one leaves over is there for the next.

On a machine with an H100 a training of 6 s took 25 s as a command.
"""

BY_DEFAULT = tuple(name for name in SECTIONS if name != "encoders")

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "pandas", "scikit-learn", "numba")
_GRACE_S = 5.0
_PATIENCE = 5
"""How many times its seconds a section has with `--tiny`: a processor with other work is slow."""

Row = dict[str, Any]


class Record:
    """All findings, in a file that is whole at any time."""

    def __init__(self, out: Path | None, device: str) -> None:
        self.out, self.rows = out, list[Row]()
        self.about: Row = {"device": device, "command": " ".join(sys.argv), **environment(device)}

    def add(self, section: str, row: Row) -> None:
        """Keep a finding, and show it."""
        self.rows.append({"section": section, **row})
        print(f"[{row['verdict']}] {section}: {row['what']}: {row['result']}", flush=True)
        self.save()

    def save(self) -> None:
        """Write what there is."""
        if self.out is None:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        draft = self.out / "gpu.json.part"
        draft.write_text(json.dumps({**self.about, "findings": self.rows}, indent=1) + "\n")
        draft.replace(self.out / "gpu.json")
        (self.out / "gpu.md").write_text(self.table())

    def table(self) -> str:
        """What was found, in Markdown."""
        counts = Counter(row["verdict"] for row in self.rows)
        lines = [
            "| section | what | verdict | result | wanted | s |",
            "| :-- | :-- | :-- | :-- | :-- | --: |",
        ]
        for row in self.rows:
            cells = (row["section"], row["what"], row["verdict"], row["result"], row["wanted"])
            text = " | ".join(cell.replace("|", "/") for cell in cells)
            lines.append(f"| {text} | {row['seconds']:.1f} |")
        total = ", ".join(f"{counts[name]} {name}" for name in sorted(counts))
        about = [f"{key}: {value}" for key, value in self.about.items()]
        return "\n".join([*lines, "", total, "", *about]) + "\n"


def environment(device: str) -> Row:
    """Versions and hardware."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    asked = "import torch; print(torch.cuda.get_device_name(), torch.version.cuda)"
    card = "none"
    if device.startswith("cuda"):  # in another process: this one must not hold the card
        done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
        card = done.stdout.strip() or "none"
    return {
        "card": card,
        "python": platform.python_version(),
        "versions": ", ".join(f"{name} {version}" for name, version in found.items()),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def run_section(name: str, record: Record, *, device: str, tiny: bool, budget_s: float) -> None:
    """Run a section in a process of its own, and end it when its time is up."""
    program = f"from benchmarks.gpu_sections.{name} import run; run({device!r}, tiny={tiny})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, stdout=subprocess.PIPE,
        text=True, start_new_session=True,
    ) as process:  # fmt: skip
        is_late = threading.Event()

        def cut_off() -> None:
            is_late.set()
            end(process)

        clock = threading.Timer(budget_s, cut_off)
        clock.start()
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith(MARK):
                    record.add(name, json.loads(line.removeprefix(MARK)))
            process.wait()
        finally:  # whoever ends this process ends the section with it
            clock.cancel()
            if process.poll() is None:
                end(process)
    seconds = time.perf_counter() - began
    plain = {"what": "the section", "wanted": "", "seconds": seconds}
    if is_late.is_set():
        result = f"cut off after {budget_s:.0f} s; what comes above was found by then"
        record.add(name, {**plain, "verdict": "skipped", "result": result})
    elif process.returncode:
        result = f"ended with exit code {process.returncode}"
        record.add(name, {**plain, "verdict": "failed", "result": result})


def end(process: subprocess.Popen[str]) -> None:
    """End a section with all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        time.sleep(_GRACE_S if number == signal.SIGTERM else 0)


def main() -> int:
    """Run the sections; 1 if something was not as wanted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--tiny", action="store_true", help="as little as shows that it runs")
    parser.add_argument("--out", type=Path, help="folder for gpu.json and gpu.md")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=BY_DEFAULT)
    given = parser.parse_args()
    if not given.device.startswith(("cpu", "cuda")):
        parser.error(f"--device {given.device}: expected cpu, cuda or cuda:N")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    record = Record(given.out, given.device)
    if given.device.startswith("cuda") and record.about["card"] == "none":
        print(f"--device {given.device}: no CUDA device is available here", file=sys.stderr)
        return 2
    left_over = 0.0
    for name in given.sections:
        own_s = SECTIONS[name] * (_PATIENCE if given.tiny else 1)
        budget_s, began = own_s + left_over, time.perf_counter()
        run_section(name, record, device=given.device, tiny=given.tiny, budget_s=budget_s)
        left_over = max(budget_s - (time.perf_counter() - began), 0.0)
    record.save()
    print(f"\n{record.table()}", flush=True)
    return int(any(row["verdict"] == "failed" for row in record.rows))


if __name__ == "__main__":
    sys.exit(main())
