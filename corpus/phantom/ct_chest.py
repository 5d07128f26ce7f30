"""Axial CT slices of the chest."""

import numpy as np

from corpus.phantom.canvas import Canvas, canvas, edge, path
from corpus.phantom.ct import AIR, FAT, LUNG, WATER, blood, finish, ribs, soften, spine, torso
from corpus.phantom.scenes import Finding, Scene
from corpus.phantom.texture import Grey, blend, cloud, union


def ct_chest(scene: Scene) -> Grey:
    """A slice through the heart."""
    body, look = scene.anatomy, scene.look
    c = canvas(look, warp=0.03, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    hu, wall = torso(scene, c)
    hu = ribs(c, hu, wall, shift=3 * look.level)
    hu = blend(hu, FAT, c.ellipse((0, -0.1), (0.42, 0.5), soft=4) * edge(wall - 0.1, 0.02))
    lungs = _lungs(scene, c)
    texture = 28 * cloud(rng, c.shape, cells=40) + 20 * cloud(rng, c.shape, cells=8)
    hu = blend(hu, LUNG + texture + 90 * c.y, lungs)
    hu = _lung_vessels(c, hu, lungs, rng)
    hu = _mediastinum(scene, c, hu)
    hu = spine(c, hu, y=0.42, size=0.95)
    hu = blend(hu, 500.0, c.capsule((-0.09, -0.66), (0.09, -0.66), (0.035, 0.035)))
    for finding in scene.findings.values():
        hu = _in_chest(c, hu, finding, lungs=lungs, rng=rng)
    if look.window > 0.4:
        return finish(scene, soften(hu), center=-450, width=1500)
    return finish(scene, soften(hu), center=40, width=400)


def _lungs(scene: Scene, c: Canvas) -> Grey:
    body = scene.anatomy
    lungs = c.empty()
    for side in (-1, 1):
        outer = c.depth((side * 0.53, 0.02), (0.40 + 0.03 * body.wide, 0.60 + 0.04 * body.tall))
        lungs = union(lungs, edge(outer, 2 * c.px))
    heart = c.ellipse((0.14, -0.16), (0.40, 0.34), tilt=0.4)
    middle = c.ellipse((0, 0.30), (0.2, 0.4))
    return lungs * (1 - heart) * (1 - middle)


def _lung_vessels(c: Canvas, hu: Grey, lungs: Grey, rng: np.random.Generator) -> Grey:
    """Vessels are cut across: dots, larger and denser towards the middle."""
    pieces = []
    for side in (-1, 1):
        for _ in range(13):
            angle, length = rng.uniform(-1.3, 1.3), rng.uniform(0.12, 0.42)
            root = (side * 0.25, 0.05)
            end = (side * (0.27 + length * np.cos(angle)), 0.05 + 1.1 * length * np.sin(angle))
            bend = ((root[0] + end[0]) / 2, (root[1] + end[1]) / 2 + rng.normal(0, 0.03))
            pieces += path((root, bend, end), max(0.05 - 0.08 * length, 0.014), 0.012)
    dots = c.strokes(pieces)
    speckle = edge(cloud(rng, c.shape, cells=60) - 1.7, 0.5)
    return blend(hu, 20.0, union(0.85 * dots, 0.8 * speckle) * lungs)


def _mediastinum(scene: Scene, c: Canvas, hu: Grey) -> Grey:
    blood_hu = blood(scene)
    aneurysm = scene.finding("aortic aneurysm")
    pericardial = scene.finding("pericardial")
    if pericardial:
        r = 0.06 + 0.05 * pericardial.size
        hu = blend(hu, WATER, c.ellipse((0.14, -0.16), (0.42 + r, 0.36 + r), tilt=0.4))
    hu = blend(hu, 48.0, c.ellipse((0.14, -0.16), (0.39, 0.32), tilt=0.4))
    hu = blend(hu, blood_hu, c.ellipse((0.24, -0.12), (0.20, 0.16), tilt=0.5, soft=4))
    hu = blend(hu, blood_hu - 20, c.ellipse((-0.06, -0.24), (0.15, 0.19), tilt=0.3, soft=4))
    r = 0.10 + (0.13 + 0.07 * aneurysm.size if aneurysm else 0.0)
    hu = blend(hu, 70.0, c.ellipse((0.17 + r / 3, 0.32), (r + 0.012, r + 0.012)))
    hu = blend(hu, max(blood_hu, 60.0), c.ellipse((0.17 + r / 3, 0.32), (r - 0.01, r - 0.01)))
    hu = blend(hu, 40.0, c.ellipse((0.02, 0.24), (0.05, 0.04)))
    return blend(hu, AIR, c.ellipse((0.0, 0.14), (0.045, 0.04)) * (scene.look.level > 0))


def _in_chest(c: Canvas, hu: Grey, f: Finding, *, lungs: Grey, rng: np.random.Generator) -> Grey:
    spot = (f.side * (0.52 + 0.12 * f.u), -0.3 + 0.55 * f.v)
    if f.kind in ("nodule", "tumour"):
        r = 0.09 + 0.09 * f.size
        rough = np.float32(0.02) * cloud(rng, c.shape, cells=30)
        return blend(hu, 55.0, edge(c.depth(spot, (r, r)) + rough, 2 * c.px) * lungs)
    if f.kind == "effusion":
        level = 0.42 - 0.22 * f.size
        pool = edge(c.y + 0.25 * np.square(c.x - f.side * 0.6) - level, 2 * c.px)
        return blend(hu, 12.0, pool * _side(c, f) * edge(lungs - 0.2, 0.2))
    if f.kind == "consolidation":
        rough = np.float32(0.10) * cloud(rng, c.shape, cells=12)
        depth = c.depth((f.side * 0.6, spot[1] + 0.1), (0.26 + 0.1 * f.size, 0.3)) + rough
        bronchi = edge(cloud(rng, c.shape, cells=26) - 1.0, 0.5)
        return blend(hu, 25 - 500 * bronchi, edge(depth, 0.12) * lungs)
    if f.kind == "pneumothorax":
        drop = 0.16 + 0.14 * f.size
        free = 1 - edge(c.depth((f.side * 0.40, 0.12 + drop), (0.26, 0.42)), 2 * c.px)
        return blend(hu, AIR, free * lungs * _side(c, f))
    if f.kind == "emphysema":
        holes = edge(cloud(rng, c.shape, cells=14) - 0.5, 0.25)
        return blend(hu, AIR, holes * lungs)
    return hu


def _side(c: Canvas, f: Finding) -> Grey:
    return edge(c.x * np.float32(f.side), 2 * c.px)
