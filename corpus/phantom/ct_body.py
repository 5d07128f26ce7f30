"""Axial CT slices of abdomen and pelvis."""

import numpy as np

from corpus.phantom.canvas import Canvas, canvas, edge
from corpus.phantom.ct import (
    AIR,
    FAT,
    METAL,
    SOFT,
    WATER,
    blood,
    finish,
    ribs,
    soften,
    spine,
    torso,
)
from corpus.phantom.scenes import Finding, Scene
from corpus.phantom.texture import Grey, blend, cloud, union


def ct_abdomen(scene: Scene) -> Grey:
    """A slice through liver and kidneys."""
    body, look = scene.anatomy, scene.look
    c = canvas(look, warp=0.035, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    hu, wall = torso(scene, c)
    hu = ribs(c, hu, wall, shift=2 * look.level)
    inside = edge(wall - 0.1, 2 * c.px)
    hu = blend(hu, FAT, inside)
    hu = _bowel(c, hu, rng, inside=inside)
    liver = c.depth((-0.48, -0.10), (0.50, 0.52), tilt=-0.25)
    lobe = c.depth((-0.1, -0.34), (0.42, 0.24), tilt=0.2)
    organ = edge(union(liver, lobe) + 0.02 * cloud(rng, c.shape, cells=7), 2 * c.px) * inside
    bright = bool(scene.finding("contrast"))
    hu = blend(hu, (105.0 if bright else 60.0), organ)
    branches = np.exp(-np.square(cloud(rng, c.shape, cells=11) * np.float32(9)))
    hu = blend(hu, (160.0 if bright else 50.0), organ * branches * np.float32(0.8))
    spleen = c.ellipse((0.74, 0.16), (0.19, 0.36), tilt=0.25) * inside
    hu = blend(hu, (125.0 if bright else 50.0), spleen)
    if f := scene.finding("ascites"):
        rim = edge(0.24 + 0.10 * f.size + 0.03 * cloud(rng, c.shape, cells=6) - wall, 0.02)
        hu = blend(hu, WATER, inside * rim * edge(0.5 - c.y, 0.05))
    hu = _kidneys(scene, c, hu)
    hu = spine(c, hu, y=0.36, size=1.05)
    for side in (-1, 1):
        hu = blend(hu, 55.0, c.ellipse((side * 0.27, 0.44), (0.09, 0.13)))
    hu = _abdominal_vessels(scene, c, hu)
    for finding in scene.findings.values():
        hu = _in_abdomen(c, hu, finding, liver=organ)
    return finish(scene, soften(hu), center=50, width=300 + 100 * look.window)


def _bowel(c: Canvas, hu: Grey, rng: np.random.Generator, *, inside: Grey) -> Grey:
    hu = blend(hu, 35.0, c.ellipse((0.36, -0.33), (0.32, 0.25), tilt=0.2) * inside)
    gas = c.ellipse((0.36, -0.40), (0.25, 0.14), tilt=0.15) * inside
    hu = blend(hu, AIR, gas)
    for _ in range(7):
        center = (rng.uniform(0.05, 0.65), rng.uniform(-0.1, 0.25))
        r = rng.uniform(0.06, 0.11)
        hu = blend(hu, rng.uniform(20, 60), c.ellipse(center, (r, r * 0.9)) * inside)
        if rng.random() < 0.35:
            hu = blend(hu, AIR, c.ellipse((center[0], center[1] - 0.02), (r / 2, r / 3)))
    return hu


def _kidneys(scene: Scene, c: Canvas, hu: Grey) -> Grey:
    bright = bool(scene.finding("contrast"))
    sick = scene.finding("hydronephrosis")
    for side in (-1, 1):
        center = (side * 0.50, 0.40)
        hu = blend(hu, FAT, c.ellipse(center, (0.22, 0.23)))
        hu = blend(hu, 200.0 if bright else 36.0, c.ellipse(center, (0.16, 0.19), tilt=side * 0.4))
        grow = 0.05 + (0.06 + 0.03 * sick.size if sick and sick.side == side else 0.0)
        pelvis = WATER if grow > 0.05 else (-40.0 if not bright else 90.0)
        hu = blend(hu, pelvis, c.ellipse((side * 0.46, 0.40), (grow, grow * 1.3), soft=3))
    return hu


def _abdominal_vessels(scene: Scene, c: Canvas, hu: Grey) -> Grey:
    blood_hu = blood(scene)
    sick = scene.finding("abdominal aneurysm")
    r = 0.085 + (0.11 + 0.07 * sick.size if sick else 0.0)
    place = (0.07 + r / 4, 0.19 - 0.7 * (r - 0.085))
    hu = blend(hu, FAT, c.ellipse(place, (r + 0.05, r + 0.05)))
    hu = blend(hu, 60.0, c.ellipse(place, (r, r)))
    if sick:
        hu = blend(hu, 400.0, c.ellipse(place, (r, r)) - c.ellipse(place, (r - 0.02, r - 0.02)))
    inner = r * (0.6 if sick else 0.9)
    hu = blend(hu, blood_hu, c.ellipse(place, (inner, inner)))
    return blend(hu, max(48.0, blood_hu * 0.7), c.ellipse((-0.16, 0.2), (0.10, 0.075)))


def _in_abdomen(c: Canvas, hu: Grey, f: Finding, *, liver: Grey) -> Grey:
    if f.kind == "cyst":
        r = 0.12 + 0.09 * f.size
        if f.side < 0:
            return blend(
                hu, WATER, c.ellipse((-0.52 + 0.2 * f.u, -0.2 + 0.2 * f.v), (r, r)) * liver
            )
        return blend(hu, WATER, c.ellipse((0.58 + 0.08 * f.u, 0.34), (r, r)))
    if f.kind == "metastases":
        spots = np.random.default_rng(int(1e6 * f.u))
        for _ in range(5 + int(5 * f.size)):
            x, y = spots.uniform(-0.85, -0.05), spots.uniform(-0.45, 0.25)
            r = spots.uniform(0.05, 0.11)
            hu = blend(hu, 22.0, c.ellipse((x, y), (r, r * 0.9), soft=4) * liver)
        return hu
    if f.kind == "gallstones":
        place = (-0.22, -0.32)
        hu = blend(hu, 10.0, c.ellipse(place, (0.13, 0.17)))
        for k in range(4):
            x, y = place[0] + 0.05 * np.cos(1.6 * k), place[1] + 0.06 + 0.04 * np.sin(1.6 * k)
            hu = blend(hu, 500.0, c.ellipse((x, y), (0.032, 0.03)))
        return hu
    return hu


def ct_pelvis(scene: Scene) -> Grey:
    """A slice through the hip joints."""
    body, look = scene.anatomy, scene.look
    c = canvas(look, warp=0.03, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    hu, _ = torso(scene, c)
    for side in (-1, 1):
        hu = blend(hu, FAT, c.ellipse((side * 0.62, 0.42), (0.34, 0.09), tilt=-side * 0.7))
    inside = c.ellipse((0, -0.08), (0.44, 0.48), soft=4)
    hu = blend(hu, FAT + 15 * cloud(rng, c.shape, cells=10), inside)
    hu = blend(hu, 8.0, c.ellipse((0, -0.12), (0.30, 0.24)))
    hu = blend(hu, SOFT, c.ellipse((0, -0.12), (0.32, 0.26)) - c.ellipse((0, -0.12), (0.29, 0.23)))
    hu = blend(hu, 50.0, c.ellipse((0, 0.26), (0.13, 0.12)))
    hu = blend(hu, -600.0, c.ellipse((0.01, 0.24), (0.05, 0.04)))
    hu = blend(hu, 480.0, c.capsule((-0.12, 0.55), (0.12, 0.55), (0.06, 0.06)))
    for side in (-1, 1):
        x = side * 0.66
        cup = c.ellipse((x - side * 0.03, 0.02), (0.22, 0.26))
        hu = blend(hu, 650.0, cup)
        hu = blend(hu, 40.0, c.ellipse((x, 0.02), (0.18, 0.2)))
        hu = blend(hu, 520.0, c.ellipse((x, 0.02), (0.165, 0.175)))
        hu = blend(hu, 300.0, c.ellipse((x, 0.02), (0.13, 0.14), soft=5))
        hu = blend(hu, 560.0, c.capsule((x, 0.05), (x + side * 0.24, 0.14), (0.09, 0.10)))
    for finding in scene.findings.values():
        hu = _in_pelvis(c, hu, finding)
    return finish(scene, soften(hu), center=50, width=400 + 100 * look.window)


def _in_pelvis(c: Canvas, hu: Grey, f: Finding) -> Grey:
    if f.kind == "streaks":
        x = f.side * 0.66
        angle = np.arctan2(c.y - 0.02, c.x - np.float32(x))
        reach = np.exp(-np.hypot(c.y - 0.02, c.x - np.float32(x)) * np.float32(2.2))
        hu = hu + 500 * reach * np.cos(angle * 12 + 9 * f.u) * (hu > -500)
        return blend(hu, METAL, c.ellipse((x, 0.02), (0.17, 0.18)))
    if f.kind == "tumour":
        r = 0.17 + 0.08 * f.size
        return blend(hu, 75.0, c.ellipse((f.side * 0.24, -0.02 - 0.2 * f.v), (r, r), soft=4))
    if f.kind == "pellet":
        place = (f.side * (0.2 + 0.3 * f.u), -0.35 + 0.5 * f.v)
        return blend(hu, METAL, c.ellipse(place, (0.09, 0.09)))
    return hu
