"""X-ray projections: the brightness adds up what lies behind one another. Here: the chest."""

from dataclasses import replace

import numpy as np

from corpus.phantom.canvas import Canvas, Point, canvas, edge, path
from corpus.phantom.scenes import Finding, Scene
from corpus.phantom.texture import Grey, blend, blur, cloud, grain, letters, union


def expose(scene: Scene, image: Grey, *, marker: Point = (0.05, 0.04)) -> Grey:
    """The image as the detector sees it: exposure, blur, noise and the marker of a side."""
    look = scene.look
    rng = np.random.default_rng(look.seed)
    image = blur(np.clip(image, 0, 1.2), 0.6)
    image = np.float32(0.9) * image ** np.float32(0.85 + 0.35 * look.window)
    image = image + np.float32(0.008 + 0.02 * look.grain) * grain(rng, look.shape, size=0.5)
    text = "R" if marker[0] < 0.5 else "L"
    return letters(image, text, marker, value=0.97, size=max(12, look.shape[0] // 13))


def xr_chest(scene: Scene) -> Grey:
    """The chest from behind, with the patient's left to the right of the image."""
    body, look = scene.anatomy, scene.look
    c = canvas(look, warp=0.02, seed=body.seed)
    organs = replace(c, x=-c.x) if scene.finding("situs inversus") else c
    rng = np.random.default_rng(body.seed)
    trunk = union(c.depth((0, 0.75), (1.02, 1.5)), c.bone((0, -0.6), (0, -1.4), (0.3, 0.26)))
    shoulders = union(
        c.bone((-0.15, -0.74), (-0.9, -0.62), (0.16, 0.26)),
        c.bone((0.15, -0.74), (0.9, -0.62), (0.16, 0.26)),
    )
    image = blend(c.empty(0.02), 0.56, edge(union(trunk, shoulders), 4 * c.px))
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
        clavicle = c.bone((side * 0.08, -0.60), (side * 0.78, -0.76), (0.035, 0.04))
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
    stem = c.bone((0.0, -0.55), (0.0, 0.3), (0.10, 0.13))
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
        return blend(image, 0.84, fluid * half * edge(lungs - 0.05, 0.1))
    if f.kind == "consolidation":
        rough = 0.10 * cloud(rng, c.shape, cells=9)
        depth = c.depth((spot[0], spot[1] + 0.08), (0.26, 0.24 + 0.08 * f.size)) + rough
        return blend(image, np.maximum(image, 0.68), 0.9 * edge(depth, 0.18) * lungs)
    if f.kind == "pneumothorax":
        drop = 0.12 + 0.12 * f.size
        lung = c.depth((f.side * (0.36 - drop), 0.15), (0.34, 0.62))
        free = edge(-lung, 3 * c.px) * lungs * half
        line = edge(0.012 - np.abs(lung), c.px) * lungs * half
        return blend(image, 0.06, 0.9 * free) + 0.25 * line
    if f.kind == "pacemaker":
        box = c.depth((0.52, -0.42), (0.16, 0.12 + 0.02 * f.size), tilt=0.3)
        lead = path(
            ((0.48, -0.44), (0.2, -0.56), (0.0, -0.42), (-0.06, 0.0), (-0.02, 0.36), (0.2, 0.48)),
            0.022,
        )
        return blend(blend(image, 1.05, c.strokes(lead)), 1.1, edge(box, 2 * c.px))
    if f.kind == "catheter":
        tube = path(
            ((f.side * 1.0, -0.50), (f.side * 0.5, -0.66), (-0.02, -0.52), (-0.07, 0.1)), 0.026
        )
        return blend(image, 1.0, c.strokes(tube))
    return image
