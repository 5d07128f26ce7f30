"""X-ray projections: the brightness adds up what lies behind one another."""

from dataclasses import replace

import numpy as np

from corpus.phantom.canvas import (
    Canvas,
    Grey,
    Point,
    blend,
    blur,
    canvas,
    cloud,
    edge,
    grain,
    letters,
    path,
    spread,
    union,
)
from corpus.phantom.scenes import Finding, Scene


def expose(scene: Scene, image: Grey, *, marker: Point = (0.05, 0.04)) -> Grey:
    """The image as the detector sees it: exposure, blur, noise and the marker of a side."""
    look = scene.look
    rng = np.random.default_rng(look.seed)
    image = blur(np.clip(image, 0, 1.2), 0.6)
    image = np.float32(0.9) * image ** np.float32(0.85 + 0.35 * look.window)
    image = image + np.float32(0.008 + 0.02 * look.grain) * grain(rng, look.shape, size=0.5)
    text = "R" if marker[0] < 0.5 else "L"
    return letters(image, text, place=marker, value=0.97, size=max(12, look.shape[0] // 13))


def xr_chest(scene: Scene) -> Grey:
    """The chest from behind, with the patient's left to the right of the image."""
    body, look = scene.anatomy, scene.look
    c = canvas(look, warp=0.02, seed=body.seed)
    organs = replace(c, x=-c.x) if scene.finding("situs inversus") else c
    rng = np.random.default_rng(body.seed)
    trunk = union(c.depth((0, 0.75), (1.02, 1.5)), c.bone((0, -0.6), (0, -1.4), radii=(0.3, 0.26)))
    shoulders = union(
        c.bone((-0.15, -0.74), (-0.9, -0.62), radii=(0.16, 0.26)),
        c.bone((0.15, -0.74), (0.9, -0.62), radii=(0.16, 0.26)),
    )
    image = blend(c.empty(0.02), 0.56, mask=edge(union(trunk, shoulders), 4 * c.px))
    image = image + 0.04 * cloud(rng, c.shape, cells=5) * (image > 0.3)
    image = _bones_behind(scene, c, image, rng)
    lungs = chest_lungs(scene, c)
    image = image * (1 - np.float32(0.70) * lungs)
    image = _lung_marks(c, image, lungs, rng)
    image = _ribs(scene, c, image)
    image = _heart(scene, organs, image)
    image = _below(organs, image, lungs)
    for finding in scene.findings.values():
        image = _in_chest(c, image, finding, lungs=lungs, rng=rng)
    return expose(scene, image)


def chest_lungs(scene: Scene, c: Canvas) -> Grey:
    """Mask of both lungs, above the domes of the diaphragm."""
    body = scene.anatomy
    lungs = c.empty()
    for side in (-1, 1):
        upper = c.depth((side * 0.42, -0.08), (0.37 + 0.03 * body.wide, 0.68))
        lower = c.depth((side * 0.48, 0.28), (0.40 + 0.04 * body.wide, 0.7))
        dome = c.y - np.float32(0.58 + 0.03 * side + 0.06 * body.tall)
        dome = dome - 0.9 * np.square(c.x - side * 0.42)
        lung = np.minimum(union(upper, lower), -dome)
        lung = np.minimum(lung, side * c.x - np.float32(0.09))
        lungs = union(lungs, edge(lung, 6 * c.px))
    return lungs


def _bones_behind(scene: Scene, c: Canvas, image: Grey, rng: np.random.Generator) -> Grey:
    sick = scene.finding("scoliosis")
    bend = (0.20 + 0.08 * sick.size) * sick.side if sick else 0.0
    middle = c.x - np.float32(bend) * np.sin(c.y * np.float32(2.6))
    column = edge(0.10 - np.abs(middle), 0.03)
    steps = 0.75 + 0.25 * np.cos(c.y * np.float32(38))
    image = image + np.float32(0.42 if sick else 0.20) * column * steps
    for side in (-1, 1):
        blade = c.polygon(
            [(side * 0.62, -0.62), (side * 0.92, -0.5), (side * 0.66, 0.02), (side * 0.55, -0.3)]
        )
        image = image + 0.05 * blade
        clavicle = c.bone((side * 0.08, -0.60), (side * 0.78, -0.76), radii=(0.035, 0.04))
        image = image + 0.20 * edge(clavicle, 3 * c.px)
        head = c.depth((side * 0.98, -0.56), (0.16, 0.15))
        image = image + 0.2 * edge(head, 3 * c.px)
    return image + 0.02 * cloud(rng, c.shape, cells=12)


def _ribs(scene: Scene, c: Canvas, image: Grey) -> Grey:
    """Ribs run down and outwards behind, and down and inwards in front."""
    sides = np.abs(c.x)
    behind = c.y + 0.62 - 0.32 * np.sqrt(np.clip(sides - 0.08, 0, 1)) + 0.25 * np.square(sides)
    front = c.y + 0.62 - 0.95 * np.square(np.clip(0.9 - sides, 0, 1)) + 0.1
    within = edge(0.90 + 0.04 * scene.anatomy.wide - sides, 0.05) * edge(sides - 0.10, 0.05)
    within = within * edge(c.y + 0.78, 0.1) * edge(0.72 - c.y, 0.2)
    for curve, strength, pitch in ((behind, 0.19, 0.15), (front, 0.08, 0.18)):
        phase = np.mod(curve, np.float32(pitch)) / np.float32(pitch)
        bar = edge(0.2 - np.abs(phase - 0.5), 0.1)
        rim = edge(0.05 - np.abs(np.abs(phase - 0.5) - 0.19), 0.05)
        image = image + np.float32(strength) * (0.6 * bar + 0.7 * rim) * within
    return image


def _lung_marks(c: Canvas, image: Grey, lungs: Grey, rng: np.random.Generator) -> Grey:
    """Vessels fan out from the roots of the lungs and fade."""
    pieces = []
    for side in (-1, 1):
        for _ in range(12):
            angle, length = rng.uniform(-1.2, 1.4), rng.uniform(0.25, 0.55)
            root = (side * 0.16, 0.02)
            bend = (
                root[0] + side * 0.5 * length * np.cos(angle),
                root[1] + 0.5 * length * np.sin(angle),
            )
            turn = angle + rng.normal(0, 0.35)
            end = (
                bend[0] + side * 0.5 * length * np.cos(turn),
                bend[1] + 0.6 * length * np.sin(turn),
            )
            pieces += path((root, bend, end), 0.035, 0.016)
    marks = blur(c.strokes(pieces), 1.2)
    hilum = union(
        c.ellipse((-0.2, 0.02), (0.09, 0.18), tilt=0.3, soft=12),
        c.ellipse((0.2, -0.02), (0.08, 0.16), tilt=-0.3, soft=12),
    )
    return image + (0.16 * marks + 0.18 * hilum) * lungs


def _heart(scene: Scene, c: Canvas, image: Grey) -> Grey:
    sick = scene.finding("cardiomegaly")
    grow = 1.0 + (0.45 + 0.2 * sick.size if sick else 0.08 * scene.anatomy.age)
    left = c.depth((0.15 * grow, 0.32), (0.33 * grow, 0.28 + 0.1 * (grow - 1)), tilt=0.45)
    right = c.depth((-0.06, 0.28), (0.17 * grow, 0.26))
    stem = c.bone((0.0, -0.55), (0.0, 0.3), radii=(0.10, 0.13))
    knob = c.depth((0.12, -0.22), (0.10, 0.11))
    shape = union(left, right, stem, knob)
    return image + (0.80 - image) * np.float32(0.82) * edge(shape, 5 * c.px)


def _below(c: Canvas, image: Grey, lungs: Grey) -> Grey:
    """Liver, stomach and the bubble of air in it."""
    belly = edge(c.y - 0.62, 0.2) * (1 - lungs) * (image > 0.3)
    image = image + 0.16 * belly
    return image - 0.25 * c.ellipse((0.42, 0.84), (0.17, 0.09), tilt=-0.2, soft=6) * (1 - lungs)


def _in_chest(c: Canvas, image: Grey, f: Finding, *, lungs: Grey, rng: np.random.Generator) -> Grey:
    half = edge(c.x * np.float32(f.side) - 0.06, 0.02)
    spot = (f.side * (0.40 + 0.18 * f.u), -0.32 + 0.55 * f.v)
    if f.kind in ("nodule", "tumour"):
        r = 0.11 + 0.08 * f.size
        return image + 0.42 * c.ball(spot, r) * lungs
    if f.kind == "effusion":
        level = 0.34 - 0.30 * f.size
        fluid = edge(c.y + 0.9 * np.square(c.x - f.side * 0.25) - level, 0.05)
        return blend(image, 0.84, mask=fluid * half * edge(lungs - 0.05, 0.1))
    if f.kind == "consolidation":
        rough = 0.10 * cloud(rng, c.shape, cells=9)
        depth = c.depth((spot[0], spot[1] + 0.08), (0.26, 0.24 + 0.08 * f.size)) + rough
        return blend(image, np.maximum(image, 0.68), mask=0.9 * edge(depth, 0.18) * lungs)
    if f.kind == "pneumothorax":
        drop = 0.12 + 0.12 * f.size
        lung = c.depth((f.side * (0.36 - drop), 0.15), (0.34, 0.62))
        free = edge(-lung, 3 * c.px) * lungs * half
        line = edge(0.012 - np.abs(lung), c.px) * lungs * half
        return blend(image, 0.06, mask=0.9 * free) + 0.25 * line
    if f.kind == "pacemaker":
        box = c.depth((0.52, -0.42), (0.16, 0.12 + 0.02 * f.size), tilt=0.3)
        lead = path(
            ((0.48, -0.44), (0.2, -0.56), (0.0, -0.42), (-0.06, 0.0), (-0.02, 0.36), (0.2, 0.48)),
            0.022,
        )
        return blend(blend(image, 1.05, mask=c.strokes(lead)), 1.1, mask=edge(box, 2 * c.px))
    if f.kind == "catheter":
        tube = path(
            ((f.side * 1.0, -0.50), (f.side * 0.5, -0.66), (-0.02, -0.52), (-0.07, 0.1)), 0.026
        )
        return blend(image, 1.0, mask=c.strokes(tube))
    return image


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
        c.bone((0.02, 0.08), (0.0, 0.36), radii=(0.30, 0.24)),
        c.bone((0.0, 0.5), (0.02, 1.6), radii=(0.2, 0.27)),
    )
    for start, end, r in bones:
        box = c.around((start, end), r + 0.12)
        flesh = c.part(box).bone(start, end, radii=(r + 0.065, r + 0.055))
        soft[box] = union(soft[box], flesh)
    image = blend(c.empty(0.02), 0.34, mask=edge(soft, 0.05))
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
        image = plate(c, image, start=(-0.09, 0.72), end=(-0.10, 1.18 + 0.1 * f.size), width=0.07)
    if f := scene.finding("pellet"):
        place = (f.side * 0.15, -0.2 + 0.5 * f.v)
        image = blend(image, METAL, mask=c.ellipse(place, (0.085, 0.085)))
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
        small.bone(start, end, radii=(radius * 0.8, radius * 0.8)),
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


def plate(c: Canvas, image: Grey, *, start: Point, end: Point, width: float) -> Grey:
    """The image with a metal plate and the screws that hold it."""
    image = blend(image, METAL, mask=c.strokes([(start, end, width)]))
    n = 5
    screws = []
    for k in range(n):
        t = (k + 0.5) / n
        x, y = start[0] + t * (end[0] - start[0]), start[1] + t * (end[1] - start[1])
        screws.append(((x - 1.6 * width, y), (x + 1.6 * width, y), 0.4 * width))
    return blend(image, METAL, mask=c.strokes(screws))


def xr_knee(scene: Scene) -> Grey:
    """A knee from the front."""
    body = scene.anatomy
    c = canvas(scene.look, warp=0.015, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    half = c.half[1]
    thigh = 0.66 + 0.16 * body.fat
    soft = union(
        c.bone((0, -half - 0.4), (0, 0), radii=(thigh + 0.08, 0.62)),
        c.bone((0, 0), (0, half + 0.4), radii=(0.62, thigh - 0.1)),
    )
    image = blend(c.empty(0.02), 0.30 + 0.03 * cloud(rng, c.shape, cells=6), mask=edge(soft, 0.10))
    image = _femur(c, image, half=half)
    tibia = _tibia(c, half=half, broken=scene.finding("fracture"))
    image = union(image, 0.82 * spread(tibia, bone=0.06))
    image = _bone(c, image, (0.37, 0.36), (0.40, half + 0.3), 0.075)
    image = image + 0.12 * spread(c.depth((0.02, -0.26), (0.2, 0.2)), bone=0.04)
    if f := scene.finding("plate"):
        side = f.side * 0.2
        image = plate(c, image, start=(side, 0.28), end=(side, 0.85 + 0.25 * f.size), width=0.085)
    return expose(scene, image, marker=(0.05, 0.04))


def _tibia(c: Canvas, *, half: float, broken: Finding | None) -> Grey:
    """Depth of the shin bone; broken, its lower part is shifted and turned, across a gap."""
    top = np.minimum(c.bone((-0.24, 0.24), (0.24, 0.24), radii=(0.19, 0.19)), c.y - 0.10)
    if not broken:
        return union(top, c.bone((0.0, 0.30), (-0.02, half + 0.4), radii=(0.24, 0.19)))
    cut = c.y - np.float32(0.62 + 0.15 * broken.v) - np.float32(0.8 * broken.side) * c.x
    upper = np.minimum(c.bone((0.0, 0.30), (-0.02, half + 0.4), radii=(0.24, 0.19)), -cut - 0.02)
    shift = broken.side * (0.12 + 0.08 * broken.size)
    start, end = (0.5 * shift, 0.3), (2.0 * shift, half + 0.4)
    lower = np.minimum(c.bone(start, end, radii=(0.22, 0.19)), cut - 0.04)
    return union(top, upper, lower)


def _femur(c: Canvas, image: Grey, *, half: float) -> Grey:
    shaft = c.bone((0.0, -half - 0.4), (0.0, -0.30), radii=(0.19, 0.25))
    condyles = union(c.depth((-0.22, -0.16), (0.23, 0.22)), c.depth((0.22, -0.16), (0.23, 0.22)))
    middle = c.bone((-0.2, -0.24), (0.2, -0.24), radii=(0.16, 0.16))
    depth = union(shaft, condyles, middle)
    return union(image, 0.82 * spread(depth, bone=0.06))


def xr_pelvis(scene: Scene) -> Grey:
    """Both hips from the front."""
    body = scene.anatomy
    c = canvas(scene.look, warp=0.02, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    trunk = union(
        c.depth((0, -0.5), (1.15 + 0.1 * body.fat, 1.0)),
        c.bone((-0.58, 0.2), (-0.62, 1.4), radii=(0.5, 0.42)),
        c.bone((0.58, 0.2), (0.62, 1.4), radii=(0.5, 0.42)),
    )
    image = blend(c.empty(0.02), 0.34 + 0.05 * cloud(rng, c.shape, cells=7), mask=edge(trunk, 0.1))
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
        neck = c.bone((side * 0.60, 0.04), foot, radii=(0.11, 0.13))
        image = union(image, 0.78 * spread(neck, bone=0.04))
    shaft = union(
        c.bone(foot, (side * (0.80 + drop), 1.5), radii=(0.14, 0.12)), c.depth(foot, (0.15, 0.17))
    )
    return union(image, 0.80 * spread(shaft, bone=0.045))


def _implant(c: Canvas, image: Grey, side: int) -> Grey:
    pieces = [
        ((side * 0.58, 0.02), (side * 0.80, 0.20), 0.13),
        ((side * 0.82, 0.18), (side * 0.81, 0.62), 0.13),
        ((side * 0.81, 0.62), (side * 0.80, 0.80), 0.08),
    ]
    image = blend(image, METAL, mask=c.strokes(pieces))
    image = blend(image, METAL, mask=c.ellipse((side * 0.58, 0.02), (0.15, 0.15)))
    cup = c.depth((side * 0.57, 0.0), (0.22, 0.22))
    return blend(image, 1.1, mask=edge(0.025 - np.abs(cup), 2 * c.px) * edge(0.08 - c.y, 0.1))
