"""A probe on a clock of its own: every second is decided by the test."""

import math
from collections.abc import Callable, Mapping

import pytest
import torch

from training.devices.probe import Outcome, Probed, disagreement, probe


def far(cosine: str) -> str:
    """What is said of a result in another direction."""
    return (
        f"its rounding changes the result (cosine similarity to the exact one {cosine},"
        " at least 0.99 is asked)"
    )


def outcome(loss: float = 1.0, *direction: float) -> Outcome:
    return Outcome(loss=loss, direction=torch.tensor(direction or (1.0, 0.0)))


class Workshop:
    """Ways to work that take so many seconds an image; counts what is done."""

    def __init__(
        self, seconds: Mapping[str, float], outcomes: Mapping[str, Outcome] | None = None
    ) -> None:
        self.seconds = dict(seconds)
        self.outcomes = outcomes or {}
        self.now = 0.0
        self.steps: list[tuple[str, int]] = []
        self.memory = math.inf
        self.busy_step = -1
        self.cold_s = 0.0  # more, of each way's very first step

    def prepare(self, way: str, n_images: int) -> Callable[[], Outcome]:
        def step() -> Outcome:
            if n_images > self.memory:
                raise torch.OutOfMemoryError("no memory left")
            if way == "unsupported":
                raise RuntimeError("not implemented\nfor this device")
            factor = 50 if len(self.steps) == self.busy_step else 1
            if way not in dict(self.steps):
                self.now += self.cold_s
            self.steps.append((way, n_images))
            self.now += factor * n_images * self.seconds[way]
            return self.outcomes.get(way, outcome())

        return step

    def probe(self, n_images: int = 16, budget_s: float = 1e9) -> Probed[str]:
        return probe(
            list(self.seconds),
            self.prepare,
            n_images=n_images,
            least_cosine=0.99,
            budget_s=budget_s,
            clock=lambda: self.now,
        )


def test_the_fastest_way_is_chosen_with_its_rate() -> None:
    probed = Workshop({"safe": 1 / 16, "faster": 1 / 20, "fastest": 1 / 40}).probe()
    assert probed.best == "fastest"
    assert probed.images_per_s == pytest.approx({"safe": 16, "faster": 20, "fastest": 40})
    assert probed.losses == {"safe": 1.0, "faster": 1.0, "fastest": 1.0}
    assert probed.dropped == {}


@pytest.mark.parametrize(("seconds", "best"), [(0.1 / 1.02, "safe"), (0.1 / 1.04, "other")])
def test_a_gain_of_three_percent_is_needed(seconds: float, best: str) -> None:
    assert Workshop({"safe": 0.1, "other": seconds}).probe().best == best


def test_a_busy_moment_in_the_timed_steps_does_not_matter() -> None:
    workshop = Workshop({"safe": 0.1, "fast": 0.08})
    workshop.busy_step = 9  # after 3 steps each to enter, the fast way's second of three
    assert workshop.probe().images_per_s == pytest.approx({"safe": 10.0, "fast": 12.5})
    assert workshop.steps[9] == ("fast", 10)  # a second of the safe way


def test_all_take_turns_and_the_clearly_slower_only_once() -> None:
    workshop = Workshop({"safe": 0.1, "slow": 0.16, "near": 0.14})  # 1.6 and 1.4 times as long
    workshop.probe()
    rounds = [way for way, _ in workshop.steps[9:]]  # 2 with two images and 1 with all, each
    assert rounds == ["safe", "slow", "near", *["safe", "near"] * 2]


def test_a_hopeless_way_is_not_tried_with_all_images() -> None:
    workshop = Workshop({"safe": 0.1, "emulated": 0.5})
    assert workshop.probe().dropped == {"emulated": "slower with 2 images"}
    assert {n for way, n in workshop.steps if way == "emulated"} == {2}


def test_short_steps_are_all_timed_to_the_end_however_slow() -> None:
    workshop = Workshop({"safe": 0.001, "slow": 0.03})  # 30 times as long, 0.48 s at most
    assert workshop.probe().dropped == {}
    assert [way for way, _ in workshop.steps[6:]] == ["safe", "slow"] * 3


def test_a_slow_network_takes_fewer_images_a_step() -> None:
    workshop = Workshop({"safe": 0.25, "other": 0.2})  # 1 s is 4 images
    workshop.probe()
    assert {n for _, n in workshop.steps} == {2, 4}


def test_a_very_slow_network_takes_two_images_and_only_the_first_way_a_second_step() -> None:
    workshop = Workshop({"safe": 3.0, "other": 3.0})
    workshop.probe()
    assert workshop.steps == [("safe", 2), *[("safe", 2), ("other", 2)] * 4]


def test_what_is_loaded_once_makes_no_network_slow_and_takes_no_time_from_the_probe() -> None:
    workshop = Workshop({"safe": 1 / 16, "fast": 1 / 32, "fastest": 1 / 64})
    workshop.cold_s = 20.0
    probed = workshop.probe(budget_s=30)
    assert probed.best == "fastest"
    assert probed.images_per_s == pytest.approx({"safe": 16, "fast": 32, "fastest": 64})
    assert probed.dropped == {}
    assert probed.n_rounds == 3
    assert workshop.now > 60


def test_within_the_budget_there_are_fewer_rounds_and_ways() -> None:
    workshop = Workshop({"safe": 5.0, "second": 5.0, "third": 5.0, "fourth": 5.0})
    probed = workshop.probe(budget_s=60)
    # 10 s a step, two for the first way: three ways enter, until 40 s are over ("spent > 30" holds
    # only then), and the fourth does not; the first round is over at 70 s, and no other begins.
    assert len(workshop.steps) == 7
    assert workshop.now == 70
    assert probed.best == "safe"
    assert probed.dropped == {"fourth": "no time left to try it"}
    assert Workshop({"a": 6.0, "b": 6.0, "c": 6.0}).probe(budget_s=60).dropped == {
        "c": "no time left to try it"  # 36 s were over
    }


def test_a_way_that_fails_is_dropped_with_the_first_line_of_its_reason() -> None:
    probed = Workshop({"safe": 0.1, "unsupported": 0.01}).probe()
    assert probed.best == "safe"
    assert probed.dropped == {"unsupported": "not implemented"}
    assert "unsupported" not in probed.images_per_s


def test_where_the_first_way_fails_there_is_nothing_to_hold_others_against() -> None:
    with pytest.raises(RuntimeError, match="not implemented"):
        Workshop({"unsupported": 0.1, "other": 0.1}).probe()


def test_images_are_halved_until_the_memory_suffices() -> None:
    workshop = Workshop({"safe": 0.01, "fast": 0.005})
    workshop.memory = 5
    probed = workshop.probe(n_images=16)
    assert workshop.steps[-1] == ("fast", 4)  # 16, 8, 4
    assert probed.images_per_s == pytest.approx({"safe": 100.0, "fast": 200.0})


def test_memory_that_suffices_for_two_images_alone_is_an_error_only_below() -> None:
    workshop = Workshop({"safe": 0.01})
    workshop.memory = 2
    assert workshop.probe().best == "safe"
    workshop.memory = 1
    with pytest.raises(RuntimeError, match="no memory left"):
        workshop.probe()


def test_a_fast_way_with_another_outcome_is_dropped() -> None:
    wrong = {"loss": outcome(1.02), "angle": outcome(1.0, 1.0, 1.0)}
    probed = Workshop({"safe": 0.1, "loss": 0.01, "angle": 0.01}, wrong).probe()
    assert probed.best == "safe"
    assert probed.dropped == {
        "loss": "its rounding changes the loss, 1.02 instead of 1",
        "angle": far("0.7071"),  # 45 degrees
    }


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (outcome(1.009, 2.0, 0.0), ""),  # the length of a direction does not count
        (outcome(0.991, 1.0, 0.1), ""),  # cos = 1 / sqrt(1.01) = 0.9950
        (
            outcome(1.0, 1.0, 0.2),
            far("0.9806"),
        ),  # 1 / sqrt(1.04)
        (outcome(math.nan), "its rounding changes the loss, nan instead of 1"),
        (outcome(math.inf), "its rounding changes the loss, inf instead of 1"),
        (
            outcome(1.0, math.nan, 0.0),
            far("nan"),
        ),
        (
            outcome(1.0, 0.0, 0.0),
            far("nan"),
        ),
    ],
)
def test_outcomes_agree_on_loss_and_direction(found: Outcome, reason: str) -> None:
    assert disagreement(found, outcome(), least_cosine=0.99) == reason
