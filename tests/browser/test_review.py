"""Marks that outlive the browser."""

import re
from pathlib import Path

import pytest

from browser.review import Review
from core.errors import ConfigError, PredictionsError


def test_marks_are_kept_taken_back_and_read_again(tmp_path: Path) -> None:
    review = Review.open(tmp_path / "runs" / "review.csv")
    review.set("a,1", mark="look", note=' side\r\nmarker   "L"\r\n')
    review.set("b", mark="fine")
    review.set("b", mark="")
    again = Review.open(tmp_path / "runs" / "review.csv")
    assert {i: (m.mark, m.note) for i, m in again.marks.items()} == {
        "a,1": ("look", 'side\nmarker "L"')
    }


def test_two_browsers_keep_each_others_marks(tmp_path: Path) -> None:
    one, other = (Review.open(tmp_path / "review.csv") for _ in range(2))
    one.set("a", mark="look")
    other.set("b", mark="label")
    assert list(Review.open(tmp_path / "review.csv").marks) == ["a", "b"]


def test_the_table_for_people_holds_no_formula(tmp_path: Path) -> None:
    review = Review.open(tmp_path / "review.csv")
    review.set("=1+1", mark="look", note="@x")
    lines = review.as_csv({"split": {"=1+1": "train"}}).splitlines()
    assert lines[0] == "image_id,mark,note,marked_at_utc,split"
    assert re.match(r"'=1\+1,look again,'@x,20\d\d-\d\d-\d\d \d\d:\d\d:\d\d,train$", lines[1])


def test_strange_marks_and_long_notes_are_refused(tmp_path: Path) -> None:
    review = Review.open(tmp_path / "review.csv")
    with pytest.raises(ConfigError, match="mark=good: expected one of look"):
        review.set("a", mark="good")
    with pytest.raises(ConfigError, match=r"note: 2,001 characters"):
        review.set("a", mark="look", note="x" * 2001)


def test_a_damaged_table_is_refused_and_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "review.csv"
    path.write_text("image_id,mark,note,marked\na,look\n")
    with pytest.raises(PredictionsError, match=r"review\.csv"):
        Review.open(path)
    assert path.read_text().endswith("a,look\n")
