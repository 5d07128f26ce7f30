"""Angiograms of head, leg and heart: vessels filled with contrast, dark on a grey background."""

from collections.abc import Sequence

import numpy as np

from corpus.phantom.canvas import (
    Canvas,
    Grey,
    Piece,
    Point,
    blur,
    canvas,
    cloud,
    edge,
    grain,
    path,
    spread,
    union,
)
from corpus.phantom.scenes import Finding, Scene

N_STEPS = 24


def curve(points: Sequence[Point], *, rng: np.random.Generator, wave: float = 0.015) -> list[Point]:
    """A smooth, slightly wavy line through points: a Catmull-Rom spline."""
    knots = np.array([points[0], *points, points[-1]], dtype=np.float64)
    t = np.linspace(0, 1, max(2, N_STEPS // (len(points) - 1)))[:, None]
    parts = []
    for p0, p1, p2, p3 in zip(knots, knots[1:], knots[2:], knots[3:], strict=False):
        parts.append(
            0.5
            * (
                2 * p1
                + (p2 - p0) * t
                + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
                + (3 * p1 - p0 - 3 * p2 + p3) * t**3
            )
        )
    line = np.concatenate(parts)
    phase = rng.uniform(0, 6, size=2)
    along = np.linspace(0, 9, len(line))
    line += wave * np.stack([np.sin(along + phase[0]), np.cos(along + phase[1])], axis=1)
    return [(float(x), float(y)) for x, y in line]


def taper(points: Sequence[Point], *, first: float, last: float) -> list[Piece]:
    """The pieces of a vessel that narrows from its first width to its last."""
    return path(points, *np.linspace(first, last, max(1, len(points) - 1)).tolist())


def film(scene: Scene, c: Canvas, *, back: Grey, vessels: Grey, strength: float = 0.72) -> Grey:
    """The background seen through the vessels, within the round corners of the detector."""
    look = scene.look
    rng = np.random.default_rng(look.seed)
    image = back * (1 - np.float32(strength) * blur(vessels, 0.8))
    image = image * np.float32(0.85 + 0.25 * look.window)
    image = image + np.float32(0.012 + 0.03 * look.grain) * grain(rng, look.shape, size=0.7)
    half_x, half_y = c.half
    height, width = look.shape
    x = np.abs(np.linspace(-half_x, half_x, width, dtype=np.float32))[None, :] / half_x
    y = np.abs(np.linspace(-half_y, half_y, height, dtype=np.float32))[:, None] / half_y
    corner = (x**6 + y**6) ** np.float32(1 / 6)
    round_field: Grey = image * edge(0.985 - corner, 0.03)
    return round_field


def an_brain(scene: Scene) -> Grey:
    """The internal carotid artery and its tree, from the side."""
    body = scene.anatomy
    c = canvas(scene.look)
    rng = np.random.default_rng(body.seed)
    siphon = curve(
        ((0.05, 1.3), (0.02, 0.75), (0.1, 0.5), (-0.12, 0.36), (-0.16, 0.2), (0.02, 0.12)), rng=rng
    )
    pieces = taper(siphon, first=0.13, last=0.09)
    fork = siphon[-1]
    for angle in (-2.3, -1.75, -1.2, -0.6):
        pieces += _tree(fork, angle + rng.normal(0, 0.1), 0.075, 0.36, rng, depth=4)
    mask = c.strokes(pieces)
    if f := scene.finding("aneurysm"):
        r = 0.11 + 0.07 * f.size
        place = (fork[0] - 0.09 * f.side, fork[1] - 0.10)
        mask = union(mask, c.ellipse(place, (r, r * 0.9)))
    if f := scene.finding("malformation"):
        mask = union(mask, _tangle(c, f))
    if scene.finding("subtraction"):
        back = c.empty(0.80) + 0.015 * cloud(rng, c.shape, cells=10)
        return film(scene, c, back=back, vessels=mask, strength=0.85)
    skull = c.depth((0.05, -0.08), (0.93, 0.86))
    back = 0.72 - 0.34 * spread(skull, bone=0.05) + 0.04 * cloud(rng, c.shape, cells=6)
    back = back - 0.18 * c.ellipse((-0.2, 0.42), (0.7, 0.14), tilt=-0.15, soft=12)
    return film(scene, c, back=back, vessels=mask)


def _tree(
    start: Point,
    angle: float,
    width: float,
    length: float,
    rng: np.random.Generator,
    *,
    depth: int,
) -> list[Piece]:
    """A branch and the branches that leave its end, narrower each time."""
    turn = angle + rng.normal(0, 0.25)
    middle = (
        start[0] + 0.5 * length * np.cos(angle),
        start[1] + 0.5 * length * np.sin(angle),
    )
    end = (middle[0] + 0.5 * length * np.cos(turn), middle[1] + 0.5 * length * np.sin(turn))
    pieces = path((start, middle, end), width, width * 0.85)
    if depth > 1:
        for side in (-1, 1):
            further = turn + side * rng.uniform(0.25, 0.6)
            pieces += _tree(
                end, further, width * 0.66, length * rng.uniform(0.6, 0.85), rng, depth=depth - 1
            )
    return pieces


def _tangle(c: Canvas, f: Finding) -> Grey:
    rng = np.random.default_rng(int(1e6 * f.u))
    center = np.array((f.side * 0.4, -0.35 - 0.2 * f.v))
    walk = center + np.cumsum(rng.normal(0, 0.07, size=(60, 2)), axis=0) * 0.6
    walk = np.clip(walk, center - 0.28, center + 0.28)
    points = [(float(x), float(y)) for x, y in walk]
    vein = path((points[-1], (points[-1][0] + 0.2, points[-1][1] - 0.2), (0.9, -0.1)), 0.09)
    return c.strokes(path(points, 0.045) + vein)


def an_leg(scene: Scene) -> Grey:
    """Arteries of a leg around the knee."""
    body = scene.anatomy
    c = canvas(scene.look)
    rng = np.random.default_rng(body.seed)
    half = c.half[1]
    main = curve(((-0.12, -half - 0.2), (-0.05, -0.5), (0.06, 0.15)), rng=rng)
    pieces = taper(main, first=0.13, last=0.10)
    if f := scene.finding("obstruction"):
        cut = 6 + int(4 * f.u)
        pieces = pieces[:cut] + pieces[cut + 9 :]
        for side in (-1, 1):
            start, end = main[cut - 2], main[min(cut + 11, len(main) - 1)]
            way = (start, (side * 0.35, (start[1] + end[1]) / 2), end)
            pieces += path(curve(way, rng=rng, wave=0.03), 0.03)
    for x in (-0.22, 0.05, 0.28):
        pieces += taper(
            curve((main[-1], (x * 0.8, 0.5), (x, half + 0.2)), rng=rng), first=0.075, last=0.045
        )
    mask = c.strokes(pieces)
    if scene.finding("subtraction"):
        back = c.empty(0.82) + 0.015 * cloud(rng, c.shape, cells=10)
        return film(scene, c, back=back, vessels=mask, strength=0.85)
    soft = c.bone((0, -half - 0.4), (0, half + 0.4), radii=(0.85, 0.7))
    back = 0.86 - 0.22 * edge(soft, 0.1)
    femur = union(
        c.bone((0.05, -half - 0.4), (0.05, -0.1), radii=(0.2, 0.26)),
        c.bone((-0.15, 0.0), (0.25, 0.0), radii=(0.2, 0.2)),
    )
    tibia = union(
        c.bone((0.03, 0.42), (0.0, half + 0.4), radii=(0.24, 0.18)),
        c.bone((-0.14, 0.36), (0.2, 0.36), radii=(0.16, 0.16)),
    )
    back = back - 0.26 * union(spread(femur, bone=0.06), spread(tibia, bone=0.06))
    return film(scene, c, back=back, vessels=mask)


def narrowed(pieces: list[Piece], f: Finding) -> list[Piece]:
    """The pieces with a stenosis: a waist of a third of the width or less."""
    at = int((0.30 + 0.35 * f.u) * len(pieces))
    length = max(2, len(pieces) // 10)
    factor = 0.30 - 0.15 * f.size
    return [
        (a, b, w * (factor if abs(i - at) <= length // 2 else 1.0))
        for i, (a, b, w) in enumerate(pieces)
    ]


def _heart_back(scene: Scene, c: Canvas) -> Grey:
    """Lung, heart shadow, spine, ribs and diaphragm, all out of focus."""
    rng = np.random.default_rng(scene.anatomy.seed)
    back = 0.66 + 0.05 * cloud(rng, c.shape, cells=4)
    back = back - 0.10 * c.ellipse((0.1, 0.1), (0.7, 0.62), soft=40)
    back = back - 0.08 * edge(0.22 - np.abs(c.x + 0.75), 0.1)
    ribs = np.cos((c.y + 0.35 * np.square(c.x)) * np.float32(11) + 2)
    back = back - 0.035 * edge(ribs - 0.5, 0.3)
    dome = c.y - np.float32(0.72) - 0.35 * np.square(c.x - 0.3)
    return back - 0.16 * edge(dome, 0.08)


def an_left_coronary(scene: Scene) -> Grey:
    """The left coronary artery: main stem, anterior descending and circumflex with branches."""
    c = canvas(scene.look)
    rng = np.random.default_rng(scene.anatomy.seed)
    root = (-0.48, -0.55)
    fork = (-0.22, -0.50)
    stem = taper(curve((root, fork), rng=rng), first=0.11, last=0.10)
    ends = rng.normal(0, 0.06, size=(6, 2))
    front = curve(
        (fork, (0.15, -0.42), (0.48 + ends[0, 0], -0.05), (0.55 + ends[0, 1], 0.62)), rng=rng
    )
    around = curve((fork, (-0.22, -0.1), (-0.30 + ends[1, 0], 0.35), (-0.1, 0.72)), rng=rng)
    descending = _treated(scene, taper(front, first=0.095, last=0.035))
    branches: list[Piece] = []
    for k, at in enumerate(at for at in (6, 11, 16) if at < len(descending)):
        end = (front[at][0] - 0.25 + ends[k, 0], front[at][1] + 0.42 + ends[k, 1])
        branches += taper(curve((front[at], end), rng=rng), first=0.05, last=0.02)
    for k, at in enumerate((8, 14)):
        end = (around[at][0] + 0.3 + ends[k + 3, 0], around[at][1] + 0.25)
        branches += taper(curve((around[at], end), rng=rng), first=0.05, last=0.02)
    pieces = descending + taper(around, first=0.085, last=0.03)
    pieces += stem + branches + _catheter(scene, root, rng)
    mask = c.strokes(pieces)
    if f := scene.finding("stent"):
        mask = union(mask, _stent(c, front, f))
    return film(scene, c, back=_heart_back(scene, c), vessels=mask)


def an_right_coronary(scene: Scene) -> Grey:
    """The right coronary artery: a C with few branches."""
    c = canvas(scene.look)
    rng = np.random.default_rng(scene.anatomy.seed)
    root = (0.02, -0.62)
    bend = rng.normal(0, 0.05, size=4)
    main = curve(
        (root, (-0.38, -0.48 + bend[0]), (-0.50 + bend[1], 0.1), (-0.22, 0.56), (0.35, 0.62)),
        rng=rng,
    )
    open_part = _treated(scene, taper(main, first=0.11, last=0.06))
    branches: list[Piece] = []
    for at, (dx, dy) in ((7, (-0.35, 0.2)), (12, (-0.28, 0.3)), (19, (0.28, 0.22))):
        if at >= len(open_part):
            break
        end = (main[at][0] + dx + bend[2], main[at][1] + dy + bend[3])
        branches += taper(curve((main[at], end), rng=rng), first=0.045, last=0.02)
    if not scene.finding("obstruction"):
        branches += taper(
            curve((main[-1], (0.62, 0.35 + bend[2])), rng=rng), first=0.05, last=0.025
        )
    pieces = open_part + branches + _catheter(scene, root, rng)
    return film(scene, c, back=_heart_back(scene, c), vessels=c.strokes(pieces))


def _treated(scene: Scene, main: list[Piece]) -> list[Piece]:
    """The main vessel as the findings leave it: whole, narrowed or cut off."""
    if f := scene.finding("stenosis"):
        main = narrowed(main, f)
    if f := scene.finding("obstruction"):
        main = main[: int((0.3 + 0.15 * f.u) * len(main))]
    return main


def _catheter(scene: Scene, root: Point, rng: np.random.Generator) -> list[Piece]:
    if not scene.finding("catheter"):
        return []
    line = curve((root, (root[0] - 0.12, root[1] - 0.2), (root[0] - 0.1, -1.2)), rng=rng, wave=0.0)
    return path(line, 0.075)


def _stent(c: Canvas, front: Sequence[Point], f: Finding) -> Grey:
    """A mesh of fine wires around a piece of the vessel."""
    at = 5 + int(6 * f.u)
    wires: list[Piece] = []
    for k in range(at, at + 7):
        (x0, y0), (x1, y1) = front[k], front[k + 1]
        nx, ny = -(y1 - y0), x1 - x0
        scale = 0.09 / max(np.hypot(nx, ny), 1e-6)
        for sign in (-1, 1):
            start = (x0 + sign * nx * scale, y0 + sign * ny * scale)
            end = (x1 - sign * nx * scale, y1 - sign * ny * scale)
            wires.append((start, end, 0.018))
    return c.strokes(wires)
