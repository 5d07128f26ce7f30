import math

import numpy as np
import pytest

from corpus.phantom.canvas import blend, canvas, cloud, edge, grain, letters, path, union
from corpus.phantom.scenes import Look

PLAIN = Look(
    shape=(200, 300),
    tilt=0.0,
    dx=0.0,
    dy=0.0,
    zoom=1.0,
    level=0.0,
    window=0.5,
    grain=0.0,
    colour=False,
    seed=0,
)


def test_half_the_shorter_side_is_one() -> None:
    c = canvas(PLAIN)
    assert c.half == (1.5, 1.0)
    assert c.px == pytest.approx(0.01)
    # Centres of the outer pixels lie half a pixel inside.
    assert (c.x.min(), c.x.max()) == pytest.approx((-1.495, 1.495))
    assert (c.y.min(), c.y.max()) == pytest.approx((-0.995, 0.995))


def test_an_ellipse_covers_its_area_wherever_it_lies() -> None:
    # pi * 0.5 * 0.3 = 0.471 square units, of 100 * 100 pixels each.
    c = canvas(PLAIN)
    for center, tilt in (((0.0, 0.0), 0.0), ((0.6, -0.3), 0.7)):
        area = c.ellipse(center, (0.5, 0.3), tilt=tilt).sum() / 100**2
        assert area == pytest.approx(math.pi * 0.15, rel=0.01)


def test_a_tilted_ellipse_leans_clockwise() -> None:
    c = canvas(PLAIN)
    mask = c.ellipse((0.0, 0.0), (0.8, 0.1), tilt=math.pi / 4)
    # y runs downwards: clockwise from the right is down.
    assert mask[100 + 35, 150 + 35] == 1
    assert mask[100 - 35, 150 + 35] == 0


def test_a_capsule_covers_a_rectangle_and_two_half_discs() -> None:
    c = canvas(PLAIN)
    area = c.capsule((-0.5, 0.0), (0.5, 0.0), radii=(0.2, 0.2)).sum() / 100**2
    assert area == pytest.approx(1.0 * 0.4 + math.pi * 0.04, rel=0.01)


def test_strokes_follow_the_canvas_as_shapes_do() -> None:
    look = Look(**{**PLAIN.__dict__, "tilt": 0.4, "dx": 0.2, "dy": -0.1, "zoom": 0.9})
    c = canvas(look)
    stroke = c.strokes([((-0.5, 0.1), (0.4, -0.2), 0.2)])
    shape = c.capsule((-0.5, 0.1), (0.4, -0.2), radii=(0.1, 0.1))
    both, either = np.minimum(stroke, shape).sum(), np.maximum(stroke, shape).sum()
    # Strokes have no round cap at their start: half a disc of 0.0157 in 0.22 square units.
    assert both / either > 0.88


def test_a_polygon_covers_its_area() -> None:
    c = canvas(PLAIN)
    square = c.polygon([(-0.4, -0.4), (0.4, -0.4), (0.4, 0.4), (-0.4, 0.4)])
    assert square.sum() / 100**2 == pytest.approx(0.64, rel=0.02)


def test_a_part_of_a_canvas_draws_what_the_whole_draws() -> None:
    c = canvas(PLAIN, warp=0.02, seed=4)
    start, end = (0.1, 0.1), (0.5, -0.2)
    whole = c.capsule(start, end, radii=(0.1, 0.06))
    box = c.around((start, end), 0.15)
    assert np.array_equal(whole[box], c.part(box).capsule(start, end, radii=(0.1, 0.06)))
    assert whole[box].sum() == pytest.approx(whole.sum())


def test_a_ball_is_thickest_in_the_middle() -> None:
    c = canvas(PLAIN)
    ball = c.ball((0.005, 0.005), 0.5)
    assert ball[100, 150] == pytest.approx(1.0)
    # At 0.3 of a radius of 0.5 the thickness is sqrt(1 - 0.36) = 0.8 of the middle's.
    assert ball[100, 180] == pytest.approx(0.8, abs=1e-3)
    assert ball[100, 205] == 0


def test_an_edge_is_a_ramp_around_zero_depth() -> None:
    depth = np.array([-1.0, -0.05, 0.0, 0.05, 1.0])
    assert edge(depth, 0.2) == pytest.approx(np.array([0.0, 0.25, 0.5, 0.75, 1.0]))


def test_the_last_width_goes_for_the_rest_of_a_path() -> None:
    points = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (2.0, 1.0)]
    assert [piece[2] for piece in path(points, 0.3, 0.1)] == [0.3, 0.1, 0.1]


def test_blend_and_union_work_pixel_by_pixel() -> None:
    image, mask = np.array([[1.0, 1.0, 1.0]]), np.array([[0.0, 0.5, 1.0]])
    assert blend(image, 3.0, mask=mask).tolist() == [[1.0, 2.0, 3.0]]
    assert union(image, 2 * mask, np.array([[0.0, 1.5, 0.0]])).tolist() == [[1.0, 1.5, 2.0]]


def test_clouds_are_the_same_at_every_size_of_one_aspect() -> None:
    large = cloud(np.random.default_rng(1), (200, 300), cells=5)
    small = cloud(np.random.default_rng(1), (100, 150), cells=5)
    assert large.std() == pytest.approx(1.0, abs=0.4)
    shrunk = large.reshape(100, 2, 150, 2).mean(axis=(1, 3))
    assert np.abs(shrunk - small).max() < 0.05


@pytest.mark.parametrize("size", [0.0, 1.5])
def test_grain_has_unit_spread(size: float) -> None:
    noise = grain(np.random.default_rng(2), (120, 120), size=size)
    assert noise.std() == pytest.approx(1.0, abs=0.03)


def test_letters_brighten_only_their_place() -> None:
    image = np.zeros((60, 100), dtype=np.float32)
    written = letters(image, "R", place=(0.1, 0.1), size=20)
    assert written[:35, 10:35].max() == 1.0
    assert written[40:].max() == written[:, 50:].max() == 0.0
    assert image.max() == 0.0
