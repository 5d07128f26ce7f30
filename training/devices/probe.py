"""The fastest of several ways to do the same work, among those that give the same outcome."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor
from torch.nn.functional import cosine_similarity

from core.errors import first_line

Way = TypeVar("Way")

BUDGET_S = 60.0

_STEP_S = 1.0  # aimed at for a step of the first way
_GLANCE = 2  # images; normalisation over a batch needs two
_N_GLANCES = 3  # before a way counts as hopeless: a busy moment may make one step ten times as long
_N_ROUNDS = 3
_SHORT_S = 0.5  # steps below are cheap, and a busy moment can make them look slow
_HOPELESS = 4.0  # times the first way's seconds on two images; emulated bf16 takes 10 and more
_SLOW = 1.5  # times the fastest way's seconds
_GAIN = 1.03  # less is noise on a shared machine
_LOSS_TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a step gave, on two counts.

    Attributes:
        loss: a number.
        direction: numbers of any shape, compared as one vector by the angle between two of them.
    """

    loss: float
    direction: Tensor


ProbeStep = Callable[[], Outcome]


@dataclass(frozen=True, kw_only=True)
class Probed(Generic[Way]):
    """What a probe found.

    Attributes:
        best: the way to take.
        images_per_s: of the quickest step, by way: other work on the machine only ever adds.
        n_rounds: in which the ways took turns; fewer than three where time ran out.
        losses: by way, of the same images and weights.
        dropped: why a way was not timed, by way.
    """

    best: Way
    images_per_s: Mapping[Way, float]
    n_rounds: int
    losses: Mapping[Way, float]
    dropped: Mapping[Way, str]


def probe(
    ways: Sequence[Way],
    prepare: Callable[[Way, int], ProbeStep],
    *,
    n_images: int,
    least_cosine: float,
    budget_s: float = BUDGET_S,
    glance: int = _GLANCE,
    clock: Callable[[], float] = time.perf_counter,
) -> Probed[Way]:
    """Try some ways to do a step, and find the fastest that agrees with the first.

    Each takes steps of two images, in which what does not work at all shows, and one of all images,
    whose outcome must be that of the first way. Then they take turns, so that a busy moment meets
    all alike; after each round only those near the fastest go on. A way later in the order
    must be faster by 3 % to be chosen: what is first is safe.

    Args:
        ways: the first is what the others are held against.
        prepare: makes a step of so many images the given way; called before each, and not timed.
        n_images: of a step, at most; fewer where the first way takes longer than a second.
        least_cosine: of the angle between a way's direction and the first's.
        budget_s: seconds after which no further round begins; after half of them no further way
            is tried. The steps of a very slow network may go beyond it, and what the first step of
            a way takes longer than the next does not count: libraries that are loaded once.
        glance: images of the very first steps.
        clock: seconds.

    Raises:
        RuntimeError: the first way does not work.
    """
    trials = _Trials(prepare, n_images=n_images, least_cosine=least_cosine, clock=clock)
    for way in ways:
        if trials.losses and trials.spent_s > budget_s / 2:
            trials.dropped[way] = "no time left to try it"
        else:
            trials.enter(way, glance)
    n_rounds = trials.race(budget_s)
    rates = {way: trials.n_images / min(seconds) for way, seconds in trials.seconds.items()}
    best = ways[0]
    for way, rate in rates.items():
        if rate > _GAIN * rates[best]:
            best = way
    return Probed(
        best=best,
        images_per_s=rates,
        n_rounds=n_rounds,
        losses=trials.losses,
        dropped=trials.dropped,
    )


class _Trials(Generic[Way]):
    """Steps of several ways: those that agree with the first have a loss, the others a reason."""

    def __init__(
        self,
        prepare: Callable[[Way, int], ProbeStep],
        *,
        n_images: int,
        least_cosine: float,
        clock: Callable[[], float],
    ) -> None:
        self.prepare = prepare
        self.n_images = n_images
        self.least_cosine = least_cosine
        self.clock = clock
        self.start = clock()
        self.seconds: dict[Way, list[float]] = {}
        self.losses: dict[Way, float] = {}
        self.dropped: dict[Way, str] = {}
        self.expected: Outcome | None = None
        self.most_s = math.inf
        self.discounted_s = 0.0

    @property
    def spent_s(self) -> float:
        return self.clock() - self.start - self.discounted_s

    def enter(self, way: Way, glance: int) -> None:
        """Try a way, first with a few images; the first way sets what the others must give."""
        if self.expected is None:
            # A first step that takes seconds is no sign of a slow network: on a GPU kernels are
            # loaded in it. To take it for one would leave two images to the whole probe.
            step = self.prepare(way, glance)
            cold_s = self._timed(step)[1]
            outcome, seconds = self._timed(step)
            self.discounted_s += max(cold_s - seconds, 0.0)
            self.most_s = max(_HOPELESS * seconds, _SHORT_S)
            self.n_images = max(_GLANCE, min(self.n_images, round(glance * _STEP_S / seconds)))
            if self.n_images > glance:
                outcome, seconds = self._fitting(way)
            self.expected = outcome
            self.losses[way], self.seconds[way] = outcome.loss, [seconds]
            return
        try:
            cold_s = 0.0
            for _ in range(_N_GLANCES):
                outcome, seconds = self._glance(way, glance)
                if seconds <= self.most_s:
                    self.discounted_s += max(cold_s - seconds, 0.0)
                    break
                cold_s = max(cold_s, seconds)
            else:
                self.dropped[way] = f"slower with {glance} images"
                return
            if self.n_images > glance:
                outcome, seconds = self._timed(self.prepare(way, self.n_images))
        except (RuntimeError, TypeError, ValueError, MemoryError) as error:  # what libraries lack
            self.dropped[way] = first_line(error)
            return
        if reason := disagreement(outcome, self.expected, least_cosine=self.least_cosine):
            self.dropped[way] = reason
        else:
            self.losses[way], self.seconds[way] = outcome.loss, [seconds]

    def race(self, budget_s: float) -> int:
        """Note the seconds of steps in turn; in how many rounds."""
        racing = list(self.seconds)
        for n_rounds in range(_N_ROUNDS):
            if n_rounds and self.spent_s > budget_s:
                return n_rounds
            for way in racing:
                self.seconds[way].append(self._timed(self.prepare(way, self.n_images))[1])
            quickest = {way: min(self.seconds[way]) for way in racing}
            most = max(_SLOW * min(quickest.values()), _SHORT_S)
            racing = [way for way in racing if quickest[way] <= most]
        return _N_ROUNDS

    def _glance(self, way: Way, n_images: int) -> tuple[Outcome, float]:
        """A step of a few images, after one in which what is made once is made."""
        step = self.prepare(way, n_images)
        outcome, seconds = self._timed(step)
        return (outcome, seconds) if seconds > _STEP_S else self._timed(step)

    def _fitting(self, way: Way) -> tuple[Outcome, float]:
        """A step of as many images as the memory allows: halved until they fit."""
        while True:
            try:
                return self._timed(self.prepare(way, self.n_images))
            except (RuntimeError, MemoryError):  # a few images did work
                if self.n_images == _GLANCE:
                    raise
            self.n_images = max(_GLANCE, self.n_images // 2)

    def _timed(self, step: ProbeStep) -> tuple[Outcome, float]:
        start = self.clock()
        outcome = step()
        return outcome, max(self.clock() - start, 1e-9)


def disagreement(found: Outcome, expected: Outcome, *, least_cosine: float) -> str:
    """In what an outcome differs from the expected one; empty where it does not.

    The losses may differ by 1 %. Directions that are not numbers, or nothing but zeros, agree with
    none.
    """
    if not math.isclose(found.loss, expected.loss, rel_tol=_LOSS_TOLERANCE):
        return f"its rounding changes the loss, {found.loss:.4g} instead of {expected.loss:.4g}"
    a, b = (outcome.direction.double().flatten() for outcome in (found, expected))
    cosine = float(cosine_similarity(a, b, dim=0, eps=0.0))
    if cosine >= least_cosine:
        return ""
    return (
        f"its rounding changes the result (cosine similarity to the exact one {cosine:.4f}, at"
        f" least {least_cosine} is asked)"
    )
