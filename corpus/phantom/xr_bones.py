"""X-ray projections of hand, knee and pelvis."""

import numpy as np

from corpus.phantom.canvas import Canvas, Point, canvas, edge, spread
from corpus.phantom.scenes import Finding, Scene
from corpus.phantom.texture import Grey, blend, cloud, union
from corpus.phantom.xray import expose

METAL = 1.15

FINGERS: tuple[tuple[Point, float, tuple[float, ...]], ...] = (
    # start at the wrist, direction from straight up, lengths of the bones
    ((-0.22, 0.42), -0.85, (0.30, 0.24, 0.19)),
    ((-0.16, 0.30), -0.20, (0.44, 0.28, 0.19, 0.14)),
    ((-0.03, 0.26), -0.03, (0.44, 0.32, 0.21, 0.15)),
    ((0.09, 0.28), 0.12, (0.40, 0.29, 0.20, 0.15)),
    ((0.20, 0.34), 0.30, (0.36, 0.22, 0.15, 0.13)),
)


def xr_hand(scene: Scene) -> Grey:
    """A hand from the front, fingers up."""
    body = scene.anatomy
    c = canvas(scene.look, warp=0.012, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    bones = [bone for finger in FINGERS for bone in _finger(finger, bent=rng.normal(0, 0.05))]
    soft = union(
        c.bone((0.02, 0.08), (0.0, 0.36), (0.30, 0.24)),
        c.bone((0.0, 0.5), (0.02, 1.6), (0.2, 0.27)),
    )
    for start, end, r in bones:
        box = c.around((start, end), r + 0.12)
        flesh = c.part(box).bone(start, end, (r + 0.065, r + 0.055))
        soft[box] = union(soft[box], flesh)
    image = blend(c.empty(0.02), 0.34, edge(soft, 0.05))
    broken = scene.finding("fracture")
    for number, (start, end, r) in enumerate(bones):
        if broken and number == _broken_bone(broken):
            image = _broken(c, image, (start, end, r), broken)
        else:
            image = _bone(c, image, start, end, r)
    for _ in range(8):
        place = (rng.uniform(-0.16, 0.2), rng.uniform(0.36, 0.56))
        image = union(image, 0.72 * spread(c.depth(place, (0.085, 0.075)), bone=0.02))
    for x, r in ((-0.09, 0.085), (0.14, 0.065)):
        image = _bone(c, image, (x, 0.68), (x * 1.1, 1.7), r)
    if f := scene.finding("plate"):
        image = plate(c, image, (-0.09, 0.72), (-0.10, 1.18 + 0.1 * f.size), width=0.07)
    if f := scene.finding("pellet"):
        place = (f.side * 0.15, -0.2 + 0.5 * f.v)
        image = blend(image, METAL, c.ellipse(place, (0.085, 0.085)))
    return expose(scene, image, marker=(0.84, 0.86))


def _finger(
    finger: tuple[Point, float, tuple[float, ...]], *, bent: float
) -> list[tuple[Point, Point, float]]:
    (x, y), angle, lengths = finger
    bones = []
    for number, length in enumerate(lengths):
        turn = angle + bent * (number + 1)
        end = (x + length * np.sin(turn), y - length * np.cos(turn))
        bones.append(((x, y), end, 0.047 - 0.006 * number))
        x, y = end[0] + 0.035 * np.sin(turn), end[1] - 0.035 * np.cos(turn)
    return bones


def _broken_bone(f: Finding) -> int:
    """Number of a metacarpal or a first phalanx; the thumb has three bones, the others four."""
    return (3, 7, 11, 15, 4, 8, 12)[int(6.99 * f.u)]


def _bone(c: Canvas, image: Grey, start: Point, end: Point, radius: float) -> Grey:
    """The image with a long bone: a shaft that widens at both ends."""
    box = c.around((start, end), 1.5 * radius)
    small = c.part(box)
    depth = union(
        small.bone(start, end, (radius * 0.8, radius * 0.8)),
        small.depth(start, (radius * 1.2, radius * 1.1)),
        small.depth(end, (radius * 1.15, radius)),
    )
    with_bone = image.copy()
    bright = np.float32(0.84) * spread(depth, bone=max(radius / 3, 0.012))
    with_bone[box] = union(image[box], bright)
    return with_bone


def _broken(c: Canvas, image: Grey, bone: tuple[Point, Point, float], f: Finding) -> Grey:
    """The image with a bone in two parts, the outer one shifted and turned."""
    (x0, y0), (x1, y1), r = bone
    dx, dy = x1 - x0, y1 - y0
    shift = (0.9 * r * f.side, 0.15 * r)
    first = (x0 + 0.42 * dx, y0 + 0.42 * dy)
    second = (x0 + 0.58 * dx + shift[0], y0 + 0.58 * dy + shift[1])
    end = (x1 + shift[0] * (2 + 1.5 * f.size), y1 + shift[1])
    image = _bone(c, image, (x0, y0), first, r)
    return _bone(c, image, second, end, r)


def plate(c: Canvas, image: Grey, start: Point, end: Point, *, width: float) -> Grey:
    """The image with a metal plate and the screws that hold it."""
    image = blend(image, METAL, c.strokes([(start, end, width)]))
    n = 5
    screws = []
    for k in range(n):
        t = (k + 0.5) / n
        x, y = start[0] + t * (end[0] - start[0]), start[1] + t * (end[1] - start[1])
        screws.append(((x - 1.6 * width, y), (x + 1.6 * width, y), 0.4 * width))
    return blend(image, METAL, c.strokes(screws))


def xr_knee(scene: Scene) -> Grey:
    """A knee from the front."""
    body = scene.anatomy
    c = canvas(scene.look, warp=0.015, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    half = c.half[1]
    thigh = 0.66 + 0.16 * body.fat
    soft = union(
        c.bone((0, -half - 0.4), (0, 0), (thigh + 0.08, 0.62)),
        c.bone((0, 0), (0, half + 0.4), (0.62, thigh - 0.1)),
    )
    image = blend(c.empty(0.02), 0.30 + 0.03 * cloud(rng, c.shape, cells=6), edge(soft, 0.10))
    image = _femur(c, image, half=half)
    tibia = _tibia(c, half=half, broken=scene.finding("fracture"))
    image = union(image, 0.82 * spread(tibia, bone=0.06))
    image = _bone(c, image, (0.37, 0.36), (0.40, half + 0.3), 0.075)
    image = image + 0.12 * spread(c.depth((0.02, -0.26), (0.2, 0.2)), bone=0.04)
    if f := scene.finding("plate"):
        side = f.side * 0.2
        image = plate(c, image, (side, 0.28), (side, 0.85 + 0.25 * f.size), width=0.085)
    return expose(scene, image, marker=(0.05, 0.04))


def _tibia(c: Canvas, *, half: float, broken: Finding | None) -> Grey:
    """Depth of the shin bone; broken, its lower part is shifted and turned, across a gap."""
    top = np.minimum(c.bone((-0.24, 0.24), (0.24, 0.24), (0.19, 0.19)), c.y - 0.10)
    if not broken:
        return union(top, c.bone((0.0, 0.30), (-0.02, half + 0.4), (0.24, 0.19)))
    cut = c.y - np.float32(0.62 + 0.15 * broken.v) - np.float32(0.8 * broken.side) * c.x
    upper = np.minimum(c.bone((0.0, 0.30), (-0.02, half + 0.4), (0.24, 0.19)), -cut - 0.02)
    shift = broken.side * (0.12 + 0.08 * broken.size)
    start, end = (0.5 * shift, 0.3), (2.0 * shift, half + 0.4)
    lower = np.minimum(c.bone(start, end, (0.22, 0.19)), cut - 0.04)
    return union(top, upper, lower)


def _femur(c: Canvas, image: Grey, *, half: float) -> Grey:
    shaft = c.bone((0.0, -half - 0.4), (0.0, -0.30), (0.19, 0.25))
    condyles = union(c.depth((-0.22, -0.16), (0.23, 0.22)), c.depth((0.22, -0.16), (0.23, 0.22)))
    middle = c.bone((-0.2, -0.24), (0.2, -0.24), (0.16, 0.16))
    depth = union(shaft, condyles, middle)
    return union(image, 0.82 * spread(depth, bone=0.06))


def xr_pelvis(scene: Scene) -> Grey:
    """Both hips from the front."""
    body = scene.anatomy
    c = canvas(scene.look, warp=0.02, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    trunk = union(
        c.depth((0, -0.5), (1.15 + 0.1 * body.fat, 1.0)),
        c.bone((-0.58, 0.2), (-0.62, 1.4), (0.5, 0.42)),
        c.bone((0.58, 0.2), (0.62, 1.4), (0.5, 0.42)),
    )
    image = blend(c.empty(0.02), 0.34 + 0.05 * cloud(rng, c.shape, cells=7), edge(trunk, 0.1))
    for k in range(3):
        y = -0.98 + 0.2 * k
        image = union(image, 0.74 * spread(c.depth((0, y), (0.19, 0.1)), bone=0.03))
    sacrum = np.minimum(c.depth((0, -0.40), (0.34, 0.42)), c.y + 0.62)
    image = union(image, 0.66 * spread(sacrum, bone=0.05))
    metal, broken = scene.finding("streaks"), scene.finding("fracture")
    for side in (-1, 1):
        image = _half_pelvis(c, image, side)
        image = _hip(c, image, side, broken=broken if broken and broken.side == side else None)
        if metal and metal.side == side:
            image = _implant(c, image, side)
    return expose(scene, image)


def _half_pelvis(c: Canvas, image: Grey, side: int) -> Grey:
    wing = c.depth((side * 0.50, -0.40), (0.34, 0.50), tilt=-side * 0.5)
    hollow = c.depth((side * 0.02, 0.0), (0.44, 0.36))
    wing = np.minimum(wing, -hollow)
    image = union(image, 0.70 * spread(wing, bone=0.04))
    ring = c.depth((side * 0.29, 0.34), (0.29, 0.22), tilt=side * 0.45)
    ring = 0.06 - np.abs(ring - 0.05)
    image = union(image, 0.68 * spread(ring, bone=0.03))
    socket = c.depth((side * 0.58, 0.0), (0.22, 0.22))
    return image + 0.14 * edge(0.03 - np.abs(socket), 0.02)


def _hip(c: Canvas, image: Grey, side: int, *, broken: Finding | None) -> Grey:
    drop = (0.10 + 0.10 * broken.size) if broken else 0.0
    head = c.depth((side * 0.58, 0.02), (0.17, 0.17))
    image = union(image, 0.80 * spread(head, bone=0.04))
    foot = (side * (0.86 + drop), 0.24 - drop)
    if not broken:
        neck = c.bone((side * 0.60, 0.04), foot, (0.11, 0.13))
        image = union(image, 0.78 * spread(neck, bone=0.04))
    shaft = union(
        c.bone(foot, (side * (0.80 + drop), 1.5), (0.14, 0.12)), c.depth(foot, (0.15, 0.17))
    )
    return union(image, 0.80 * spread(shaft, bone=0.045))


def _implant(c: Canvas, image: Grey, side: int) -> Grey:
    pieces = [
        ((side * 0.58, 0.02), (side * 0.80, 0.20), 0.13),
        ((side * 0.82, 0.18), (side * 0.81, 0.62), 0.13),
        ((side * 0.81, 0.62), (side * 0.80, 0.80), 0.08),
    ]
    image = blend(image, METAL, c.strokes(pieces))
    image = blend(image, METAL, c.ellipse((side * 0.58, 0.02), (0.15, 0.15)))
    cup = c.depth((side * 0.57, 0.0), (0.22, 0.22))
    return blend(image, 1.1, edge(0.025 - np.abs(cup), 2 * c.px) * edge(0.08 - c.y, 0.1))
