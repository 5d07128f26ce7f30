"""Progress on stderr: quiet without a terminal, never on stdout."""

import sys

import pytest

from core.progress import overheard, progress, say


def test_without_a_terminal_there_is_no_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with progress("decoding", total=3, unit="images") as advance:
        advance(2)
        advance(1)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_what_is_done_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes any stream for a terminal then
    with progress("decoding", total=8, unit="images", done=5) as advance:
        advance(3)
    out, err = capsys.readouterr()
    assert out == ""
    assert "decoding" in err
    assert "8/8" in err


def test_without_rich_there_is_no_bar_and_work_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setitem(sys.modules, "rich", None)  # as if it were not installed
    with progress("decoding", total=3, unit="images") as advance:
        advance(3)
        advance.note("F1 0.5")
    assert capsys.readouterr() == ("", "")


def test_an_error_passes_through_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with (
        pytest.raises(KeyError, match="gone"),
        progress("decoding", total=1, unit="images"),
    ):
        raise KeyError("gone")


def test_a_line_of_log_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("7 images")
    assert capsys.readouterr() == ("", "7 images\n")


def test_what_is_overheard_stays_off_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with overheard() as lines, progress("decoding", total=1, unit="images") as advance:
        say("7 images")
        advance(1)
    assert lines == ["7 images"]
    assert capsys.readouterr() == ("", "")
    with overheard(bars=True), progress("decoding", total=1, unit="images") as advance:
        advance(1)
    assert "decoding" in capsys.readouterr().err
