"""Ultrasound of kidney, unborn child, thyroid gland and heart."""

import numpy as np

from corpus.phantom.canvas import canvas, edge
from corpus.phantom.scenes import Scene
from corpus.phantom.texture import Grey, blend, cloud
from corpus.phantom.ultrasound import (
    curved,
    doppler,
    echo,
    fluid,
    linear,
    place_in,
    shadow,
    upright,
)


def us_kidney(scene: Scene) -> Grey:
    """A kidney along its length; (H, W, 3) with Doppler."""
    body = scene.anatomy
    plain, c = upright(scene), canvas(scene.look, warp=0.03, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    fan = curved(plain, apex=-1.45, near=0.55, spread=0.62)
    tissue = 0.46 + 0.06 * cloud(rng, c.shape, cells=7)
    tissue = blend(tissue, 0.8, edge(0.05 - np.abs(fan.depth - 0.05), 0.04))
    center, tilt = (0.0, 0.05), 0.25 - 0.5 * body.wide
    radii = (0.62 + 0.08 * body.tall, 0.33)
    tissue = blend(tissue, 0.85, c.ellipse(center, (radii[0] + 0.03, radii[1] + 0.03), tilt=tilt))
    tissue = blend(tissue, 0.24, c.ellipse(center, radii, tilt=tilt))
    sinus = c.depth(center, (0.42, 0.16), tilt=tilt) + 0.05 * cloud(rng, c.shape, cells=14)
    tissue = blend(tissue, 0.85, edge(sinus, 0.06))
    if f := scene.finding("hydronephrosis"):
        tissue = blend(
            tissue, 0.015, c.ellipse(center, (0.28 + 0.1 * f.size, 0.13), tilt=tilt, soft=3)
        )
        for side in (-1, 0, 1):
            calyx = (center[0] + 0.26 * side, center[1] - 0.13 + 0.08 * side * tilt)
            tissue = blend(tissue, 0.015, c.ellipse(calyx, (0.09, 0.1 + 0.05 * f.size), soft=3))
    if f := scene.finding("cyst"):
        r = 0.15 + 0.10 * f.size
        tissue = fluid(c, fan, tissue, (f.side * 0.5, 0.0 + 0.15 * f.v), (r, r))
    image = echo(scene, fan, tissue)
    if scene.finding("doppler"):
        return doppler(scene, plain, image, (0.05, 0.05), 0.36)
    return image


def us_fetus(scene: Scene) -> Grey:
    """Head and trunk of a child in the fluid of the womb."""
    body = scene.anatomy
    plain, c = upright(scene), canvas(scene.look, warp=0.04, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    fan = curved(plain, apex=-1.45, near=0.55, spread=0.66)
    tissue = 0.5 + 0.08 * cloud(rng, c.shape, cells=8)
    tissue = blend(tissue, 0.015, c.ellipse((0.0, 0.1), (0.98, 0.58), soft=4))
    placenta = c.ellipse((0.5, -0.42), (0.5, 0.16), tilt=0.35, soft=4)
    tissue = blend(tissue, 0.6, placenta)
    trunk = c.depth((0.48, 0.22), (0.46, 0.27), tilt=-0.25)
    tissue = blend(tissue, 0.42, edge(trunk, 0.04))
    for k in range(8):
        bone = (0.22 + 0.08 * k, 0.40 - 0.025 * k)
        tissue = blend(tissue, 1.1, c.ellipse(bone, (0.025, 0.03)))
    tissue = blend(tissue, 0.03, c.ellipse((0.46, 0.2), (0.1, 0.07), soft=4))
    place, radii = (-0.36, 0.06), (0.38 + 0.05 * body.wide, 0.29 + 0.04 * body.tall)
    head = c.depth(place, radii, tilt=0.15)
    tissue = blend(tissue, 0.26, edge(head, 2 * c.px))
    middle = edge(0.010 - np.abs(c.y - 0.06 - 0.15 * (c.x + 0.36)), c.px)
    tissue = blend(tissue, 0.75, middle * edge(head - 0.08, 0.02))
    if f := scene.finding("hydrocephalus"):
        for side in (-1, 1):
            center = (place[0] + 0.04, place[1] + 0.13 * side)
            sac = c.ellipse(center, (0.22 + 0.05 * f.size, 0.09), tilt=0.15, soft=3)
            tissue = blend(tissue, 0.01, sac)
    tissue = blend(tissue, 1.25, edge(0.026 - np.abs(head), 2 * c.px))
    return echo(scene, fan, tissue)


def us_thyroid(scene: Scene) -> Grey:
    """Both lobes across the neck, seen by a flat probe; (H, W, 3) with Doppler."""
    body = scene.anatomy
    plain, c = upright(scene), canvas(scene.look, warp=0.03, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    fan = linear(plain)
    layers = 0.10 * np.sin(fan.depth * np.float32(70) + cloud(rng, c.shape, cells=4))
    tissue = 0.30 + layers * edge(0.35 - fan.depth, 0.1) + 0.05 * cloud(rng, c.shape, cells=9)
    tissue = blend(tissue, 0.8, edge(0.06 - fan.depth, 0.03))
    for side in (-1, 1):
        lobe = c.ellipse((side * 0.48, -0.02), (0.36, 0.26 + 0.05 * body.tall), tilt=-side * 0.3)
        tissue = blend(tissue, 0.62, lobe)
        tissue = fluid(c, fan, tissue, (side * 0.90, 0.12), (0.12, 0.12))
    tissue = blend(tissue, 0.62, c.ellipse((0, -0.2), (0.3, 0.08)))
    ring = c.depth((0, 0.12), (0.24, 0.24))
    angle, depth = place_in(fan, c, (0.0, -0.1))
    tissue = tissue * (1 - 0.85 * shadow(fan, angle=angle, depth=depth, width=0.2))
    tissue = blend(tissue, 1.1, edge(0.025 - np.abs(ring), 2 * c.px) * edge(0.1 - c.y, 0.1))
    for f in scene.findings.values():
        center, r = (f.side * 0.5, -0.05 + 0.1 * f.v), 0.13 + 0.08 * f.size
        if f.kind == "nodule":
            tissue = blend(tissue, 0.95, c.ellipse(center, (r * 1.3 + 0.025, r + 0.025)))
            tissue = blend(tissue, 0.16, c.ellipse(center, (r * 1.3, r), soft=3))
        if f.kind == "cyst":
            tissue = fluid(c, fan, tissue, center, (r, r * 0.85))
    image = echo(scene, fan, tissue)
    if flow := scene.finding("doppler"):
        return doppler(scene, plain, image, (flow.side * 0.5, 0.0), 0.38)
    return image


def us_heart(scene: Scene) -> Grey:
    """The four chambers from the apex; (H, W, 3) with Doppler."""
    body = scene.anatomy
    plain, c = upright(scene), canvas(scene.look, warp=0.04, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    fan = curved(plain, apex=-1.0, near=0.06, spread=0.70)
    tissue = 0.30 + 0.10 * cloud(rng, c.shape, cells=9)
    if f := scene.finding("pericardial"):
        grow = 0.10 + 0.08 * f.size
        tissue = blend(tissue, 0.9, c.ellipse((0.04, 0.1), (0.69 + grow, 0.78 + grow)))
        tissue = blend(tissue, 0.01, c.ellipse((0.04, 0.1), (0.66 + grow, 0.75 + grow)))
    wall = c.ellipse((0.04, 0.1), (0.64, 0.74), soft=4)
    tissue = blend(tissue, 0.62 + 0.1 * cloud(rng, c.shape, cells=20), wall)
    beat = 0.04 * scene.look.level
    for center, radii in (
        ((0.26, -0.12), (0.22 + beat, 0.38 + beat)),
        ((-0.20, -0.06), (0.16 + beat, 0.32 + beat)),
        ((0.27, 0.52), (0.24 - beat, 0.19)),
        ((-0.21, 0.50), (0.20 - beat, 0.18)),
    ):
        tissue = blend(tissue, 0.02, c.ellipse(center, radii, soft=4))
    for side, x in ((1, 0.26), (-1, -0.2)):
        for leaf in (-1, 1):
            flap = c.capsule(
                (x + leaf * 0.19, 0.31), (x + leaf * 0.04 * side, 0.20), (0.016, 0.012)
            )
            tissue = blend(tissue, 1.2, flap)
    image = echo(scene, fan, tissue)
    if scene.finding("doppler"):
        return doppler(scene, plain, image, (0.24, 0.12), 0.34)
    return image
