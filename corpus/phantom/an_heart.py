"""Angiograms of the coronary arteries."""

from collections.abc import Sequence

import numpy as np

from corpus.phantom.angiography import curve, film, taper
from corpus.phantom.canvas import Canvas, Piece, Point, canvas, edge, path
from corpus.phantom.scenes import Finding, Scene
from corpus.phantom.texture import Grey, cloud, union


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
    stem = taper(curve((root, fork), rng=rng), 0.11, 0.10)
    ends = rng.normal(0, 0.06, size=(6, 2))
    front = curve(
        (fork, (0.15, -0.42), (0.48 + ends[0, 0], -0.05), (0.55 + ends[0, 1], 0.62)), rng=rng
    )
    around = curve((fork, (-0.22, -0.1), (-0.30 + ends[1, 0], 0.35), (-0.1, 0.72)), rng=rng)
    descending = _treated(scene, taper(front, 0.095, 0.035))
    branches: list[Piece] = []
    for k, at in enumerate(at for at in (6, 11, 16) if at < len(descending)):
        end = (front[at][0] - 0.25 + ends[k, 0], front[at][1] + 0.42 + ends[k, 1])
        branches += taper(curve((front[at], end), rng=rng), 0.05, 0.02)
    for k, at in enumerate((8, 14)):
        end = (around[at][0] + 0.3 + ends[k + 3, 0], around[at][1] + 0.25)
        branches += taper(curve((around[at], end), rng=rng), 0.05, 0.02)
    pieces = descending + taper(around, 0.085, 0.03)
    pieces += stem + branches + _catheter(scene, root, rng)
    mask = c.strokes(pieces)
    if f := scene.finding("stent"):
        mask = union(mask, _stent(c, front, f))
    return film(scene, c, _heart_back(scene, c), mask)


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
    open_part = _treated(scene, taper(main, 0.11, 0.06))
    branches: list[Piece] = []
    for at, (dx, dy) in ((7, (-0.35, 0.2)), (12, (-0.28, 0.3)), (19, (0.28, 0.22))):
        if at >= len(open_part):
            break
        end = (main[at][0] + dx + bend[2], main[at][1] + dy + bend[3])
        branches += taper(curve((main[at], end), rng=rng), 0.045, 0.02)
    if not scene.finding("obstruction"):
        branches += taper(curve((main[-1], (0.62, 0.35 + bend[2])), rng=rng), 0.05, 0.025)
    pieces = open_part + branches + _catheter(scene, root, rng)
    return film(scene, c, _heart_back(scene, c), c.strokes(pieces))


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
