"""The order of review: curves and areas against loops."""

import numpy as np
import numpy.typing as npt
import pytest

from reports.review_order import ReviewOrder, area_gain

Values = npt.NDArray[np.float64]


def drawn(n: int = 60, *, seed: int = 0) -> tuple[Values, Values, list[str]]:
    rng = np.random.default_rng(seed)
    scores = rng.random(n)
    scores[[3, 9]] = np.nan
    sureness = np.round(np.nan_to_num(scores) + 0.3 * rng.standard_normal(n), 1)  # some are equal
    sureness[5] = np.nan
    return sureness, scores, [f"g{i // 3}" for i in range(n)]


def slow_order(sureness: Values, scores: Values) -> list[int]:
    kept = [i for i in range(len(scores)) if not np.isnan(scores[i] + sureness[i])]
    return sorted(kept, key=lambda i: (sureness[i], i))


def test_curve_area_and_shares_are_those_of_a_loop() -> None:
    sureness, scores, groups = drawn()
    order = ReviewOrder.of(sureness, scores, groups=groups)
    rows = slow_order(sureness, scores)
    assert len(rows) == 57
    in_order = [float(scores[row]) for row in rows]
    assert order.scores.tolist() == in_order
    shares, rest = order.curve()
    for place in range(57):
        assert shares[place] == place / 57
        assert rest[place] == pytest.approx(np.mean(in_order[place:]))
    assert order.area == pytest.approx(np.mean([np.mean(in_order[k:]) for k in range(57)]))
    for share, n in ((0.05, 3), (0.1, 6), (0.2, 11)):
        found = order.reviewed(share)
        assert (found.share, found.n) == (share, n)
        assert found.found == pytest.approx(np.mean(in_order[:n]))
        assert found.rest == pytest.approx(np.mean(in_order[n:]))
        assert found.after == pytest.approx((n + sum(in_order[n:])) / 57)
    nothing = order.reviewed(0.0)
    assert nothing.n == 0
    assert nothing.rest == pytest.approx(np.mean(in_order))
    assert np.isnan(nothing.found)


def test_no_order_has_a_larger_area_than_that_by_the_scores() -> None:
    sureness, scores, groups = drawn()
    best = ReviewOrder.of(np.where(np.isnan(sureness), np.nan, scores), scores, groups=groups)
    worst = ReviewOrder.of(np.where(np.isnan(sureness), np.nan, -scores), scores, groups=groups)
    own = ReviewOrder.of(sureness, scores, groups=groups)
    assert worst.area < np.nanmean(scores) < own.area < best.area


def test_the_gain_of_a_better_order_is_above_nothing() -> None:
    rng = np.random.default_rng(1)
    scores, groups = rng.random(400), [f"g{i // 2}" for i in range(400)]
    good = ReviewOrder.of(scores + 0.2 * rng.standard_normal(400), scores, groups=groups)
    poor = ReviewOrder.of(rng.standard_normal(400), scores, groups=groups)
    gain, loss = area_gain(good, poor), area_gain(poor, good)
    assert gain.value == pytest.approx(good.area - poor.area)
    assert 0 < gain.low < gain.value < gain.high
    assert (loss.low, loss.high) == pytest.approx((-gain.high, -gain.low))
    same = area_gain(good, good)
    assert (same.value, same.low, same.high, same.n) == (0.0, 0.0, 0.0, 400)


def test_the_gain_resamples_groups_of_images_that_count() -> None:
    sureness, scores, groups = drawn(30)
    scores[12:21] = np.nan  # three groups without a score
    other = np.random.default_rng(2).permutation(30).astype(float)
    other[np.isnan(sureness)] = np.nan
    orders = [ReviewOrder.of(own, scores, groups=groups) for own in (sureness, other)]
    found = area_gain(*orders)
    present = sorted({int(number) for number in orders[0].groups})
    assert len(present) == 7
    drawing, gains = np.random.default_rng(0), []
    for _ in range(500):
        times = np.bincount(drawing.integers(7, size=7), minlength=7)
        areas = []
        for order in orders:
            # Each image as often as its group was drawn, and the mean of the curve over these.
            often = [int(times[present.index(int(number))]) for number in order.groups]
            total = sum(often)
            area = 0.0
            for place, n in enumerate(often):
                left = sum(often[place:])
                if n:
                    rest = sum(
                        o * s for o, s in zip(often[place:], order.scores[place:], strict=True)
                    )
                    area += n * rest / left / total
            areas.append(area)
        gains.append(areas[0] - areas[1])
    assert [found.low, found.high] == pytest.approx(np.quantile(gains, (0.025, 0.975)))
