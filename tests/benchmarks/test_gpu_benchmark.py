"""The GPU benchmark runs from end to end on a processor, so that it runs where there is a card."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import SECTIONS, Record, main, run_section
from benchmarks.gpu_sections.findings import MARK, Outcome, SkippedError, check

ROOT = Path(__file__).parents[2]


AT_LEAST = {
    "correctness": 9,
    "networks": 2,
    "chain": 6,
    "memory": 2,
    "processes": 3,
    "encoders": 5,
}
"""Findings of each section that are as wanted."""

TOGETHER = (("correctness", "networks"), ("chain",), ("memory",), ("processes",), ("encoders",))
"""Each by a command of its own, so that processes that share the tests share them too."""


def test_all_sections_are_run() -> None:
    assert [name for names in TOGETHER for name in names] == list(SECTIONS) == list(AT_LEAST)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "names",
    [
        # What it starts side by side takes a minute; tests of torchrun run every time.
        pytest.param(names, marks=[pytest.mark.slow] if names == ("processes",) else [])
        for names in TOGETHER
    ],
    ids="-".join,
)
def test_every_section_finds_what_it_wants(names: tuple[str, ...], tmp_path: Path) -> None:
    command: list[str | Path] = [
        sys.executable,
        ROOT / "benchmarks" / "gpu.py",
        "--device",
        "cpu",
        "--tiny",
        "--sections",
        *names,
    ]
    done = subprocess.run(
        [*command, "--out", tmp_path], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    kept = json.loads((tmp_path / "gpu.json").read_text())
    rows = kept["findings"]
    assert {row["section"] for row in rows} == set(names)
    assert {row["what"] for row in rows if row["verdict"] == "skipped"} <= {
        "the tests marked gpu",
        "--seeds 2 --engine ray, half a device each",
        "open_clip: loop over bare network",  # where the package is not installed
        "transformers: loop over bare network",
    }
    found_well = Counter(row["section"] for row in rows if row["verdict"] == "ok")
    assert all(found_well[name] >= AT_LEAST[name] for name in names)
    table = (tmp_path / "gpu.md").read_text()
    assert table in done.stdout
    assert table.count("\n| ") == 2 + len(rows) - 1  # its header, a line a finding
    assert kept["device"] == "cpu"


def test_one_command_of_the_makefile_calls_it() -> None:
    assert "-m benchmarks.gpu" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_without_a_card_it_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cuda:7"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main() == 2
    assert capsys.readouterr().err == "--device cuda:7: no CUDA device is available here\n"


def found(capsys: pytest.CaptureFixture[str]) -> Any:
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith(MARK)]
    return json.loads(line.removeprefix(MARK))


def test_a_check_that_breaks_is_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> Outcome:
        raise RuntimeError("CUDA error: an illegal memory access")

    check("a kernel", broken)
    row = found(capsys)
    assert row["verdict"] == "failed"
    assert row["result"] == "RuntimeError: CUDA error: an illegal memory access"


def test_what_a_missing_package_keeps_from_being_looked_at_is_skipped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    check("forests", lambda: Outcome(ok=True, result=""), needs=("numpy", "no_such_package"))
    row = found(capsys)
    assert (row["verdict"], row["result"]) == ("skipped", "not installed: no_such_package")

    def elsewhere() -> Outcome:
        raise SkippedError("needs a card")

    check("a card", elsewhere)
    assert found(capsys)["verdict"] == "skipped"


@pytest.mark.parametrize(("ok", "verdict"), [(True, "ok"), (False, "failed"), (None, "measured")])
def test_a_verdict_is_what_was_wanted(
    ok: bool | None, verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check("a ratio", lambda: Outcome(ok=ok, result="0.9"), wanted="0.95 or more")
    assert found(capsys)["verdict"] == verdict


def test_a_section_that_takes_too_long_is_cut_off_and_what_it_had_stays(tmp_path: Path) -> None:
    record = Record(tmp_path, "cpu")
    run_section("correctness", record, device="cpu", tiny=True, budget_s=0.2)
    (row,) = record.rows
    assert row["verdict"] == "skipped"
    assert row["result"].startswith("cut off after 0 s")
    assert json.loads((tmp_path / "gpu.json").read_text())["findings"] == record.rows


def test_a_section_that_crashes_is_a_finding(tmp_path: Path) -> None:
    record = Record(None, "cpu")
    run_section("no_such_section", record, device="cpu", tiny=True, budget_s=60)
    (row,) = record.rows
    assert (row["verdict"], row["result"]) == ("failed", "ended with exit code 1")
