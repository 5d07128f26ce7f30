"""A few thousand broken files a run; `python -m tests.robustness.fuzz_files` goes on for hours."""

from pathlib import Path

import pytest

from tests.robustness.fuzz_files import main


def test_broken_files_are_read_or_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--count", "1200", "--faults", str(tmp_path)]) == 0
    assert "1,200 inputs, 0 faults" in capsys.readouterr().out


@pytest.mark.slow
def test_very_many_broken_files_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    arguments = ("--count", "100000", "--seconds", "250", "--seed", "7")
    assert main([*arguments, "--faults", str(tmp_path)]) == 0
