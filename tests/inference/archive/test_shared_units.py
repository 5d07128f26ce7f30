"""The folder of units that processes share: claims, waiting, joining, and what is told at the end.

Claims are locks of open files, so that two holders within one process stand for two processes.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigError
from inference.archive.units import (
    UnitFolder,
    UnitReport,
    UnitSizes,
    joined_reports,
    shared_units,
)
from inference.predict import notes_of

ASKED = {"--top": 2, "--format": "csv"}


def units_of(out: Path, **changed: Any) -> AbstractContextManager[UnitFolder]:
    """The three units, of 4, 4 and 2 images, that a process shares."""
    return shared_units(
        out, {**ASKED, **changed}, n_images=10, sizes=UnitSizes(unit=4), threads=1,
        anew=lambda _: None,
    )  # fmt: skip


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "decided.csv"


@contextmanager
def beside(work: Any) -> Iterator[threading.Thread]:
    """A thread that does it meanwhile, and has done it when the block ends."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield thread
    thread.join(30)
    assert not thread.is_alive()


def done(units: UnitFolder, number: int) -> None:
    n = units.n_of([number])
    units.finish(number, b"rows", report=UnitReport(n_images=n, n_decided=n))


def test_a_unit_that_one_has_claimed_or_finished_is_given_to_nobody_else(out: Path) -> None:
    with units_of(out) as one, units_of(out) as other:
        assert next(one.claimable()) == 0
        claimed = other.claimable()
        assert next(claimed) == 1
        done(other, 1)
        done(one, 0)
        assert list(one.claimable()) == [2]
        assert list(claimed) == []
        assert other.look() == one.look() == 4  # images of the unit that the other has done
        assert other.left == one.left == [2]
        assert list(other.claimable()) == []


def test_a_unit_that_is_finished_between_a_look_and_the_claim_is_not_done_again(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with units_of(out) as one, units_of(out) as other:
        looked = other.is_done
        assert next(one.claimable()) == 0

        def finished_after_the_look(number: int) -> bool:
            found = looked(number)
            if number in one.left and number == 0:
                done(one, 0)
            return found

        monkeypatch.setattr(other, "is_done", finished_after_the_look)
        assert list(other.claimable()) == [1, 2]
        monkeypatch.undo()
        other.give_all_back()
        assert list(one.claimable()) == [1, 2]


def test_claims_of_a_process_that_ends_early_are_left_to_others(out: Path) -> None:
    def interrupted() -> None:
        with units_of(out) as one:
            assert list(one.claimable()) == [0, 1, 2]
            done(one, 1)
            raise KeyboardInterrupt

    with units_of(out) as other:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert list(other.claimable()) == [0, 2]
        assert other.report(1) == UnitReport(n_images=4, n_decided=4)


def test_who_waits_goes_on_once_a_unit_is_finished(out: Path) -> None:
    with units_of(out) as one, units_of(out) as other:
        assert list(one.claimable()) == [0, 1, 2]
        with beside(other.wait) as waiting:
            waiting.join(0.3)
            assert waiting.is_alive()
            done(one, 0)
        assert other.look() == 4


def test_units_are_joined_once_and_the_last_one_takes_the_folder_along(out: Path) -> None:
    with units_of(out) as one:
        with units_of(out) as other:
            for number in one.claimable():
                done(one, number)
            assert other.look() == 10
            with other.joining() as mine:
                assert mine
            with one.joining() as mine:
                assert not mine
        assert one.reports() == UnitReport(n_images=10, n_decided=10)
    assert not list(out.parent.iterdir())


def test_the_first_of_two_under_torchrun_waits_for_the_second_before_it_joins(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = threading.Event()

    def join() -> None:
        with one.joining() as mine:
            assert mine
            joined.set()

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with units_of(out) as one:
        for number in one.claimable():
            done(one, number)
        with beside(join):
            assert not joined.wait(0.5)
            monkeypatch.setenv("RANK", "1")
            with units_of(out) as other:
                assert joined.wait(30)
                with other.joining() as mine:
                    assert not mine


def test_a_request_that_may_not_begin_leaves_no_folder(out: Path) -> None:
    def refuse(again: bool) -> None:
        assert not again
        raise ConfigError("the table is there")

    with (
        pytest.raises(ConfigError, match="the table is there"),
        shared_units(out, ASKED, n_images=1, sizes=UnitSizes(), threads=1, anew=refuse),
    ):
        pass
    assert not list(out.parent.iterdir())
    with units_of(out) as units:  # and holds no lock
        assert units.left == [0, 1, 2]


def test_another_request_for_the_same_file_is_refused_by_what_differs(out: Path) -> None:
    with (
        units_of(out),
        pytest.raises(ConfigError, match="with other --top and --format; wait for it"),
        units_of(out, **{"--top": 3, "--format": "jsonl"}),
    ):
        pass


def test_reports_of_units_are_one_report_in_their_order() -> None:
    one = UnitReport(
        n_images=4, n_decided=3, ways={"guess": 1, "folder": 2}, skipped=(("a", "broken"),),
        wanted=("age", "sex"), columns=("age",), edition=2020, n_headers=2, unread=("x",),
    )  # fmt: skip
    other = UnitReport(
        n_images=2, n_decided=2, ways={"guess": 2}, wanted=("sex", "view"), columns=("view",),
        edition=2020, n_headers=1, notes=("strange",),
    )  # fmt: skip
    assert joined_reports([one, other]) == UnitReport(
        n_images=6, n_decided=5, ways={"guess": 3, "folder": 2}, skipped=(("a", "broken"),),
        wanted=("age", "sex", "view"), columns=("age", "view"), edition=2020, n_headers=3,
        unread=("x",), notes=("strange",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("report", "notes"),
    [
        (UnitReport(), []),
        (
            UnitReport(wanted=("age", "sex", "view"), columns=("sex",)),
            ["no image has ['age', 'view'], which the heads take: seen as missing"],
        ),
        (UnitReport(n_headers=1), ["DICOM: 1 header read"]),
        (
            UnitReport(n_headers=1200, unread=("b", "a")),
            ["DICOM: 1,200 headers read, 2 cannot be: ['b', 'a']"],
        ),
        (UnitReport(n_headers=3, notes=("pydicom is missing",)), ["pydicom is missing"]),
    ],
)
def test_what_was_strange_of_images_is_told(report: UnitReport, notes: list[str]) -> None:
    assert list(notes_of(report)) == notes
