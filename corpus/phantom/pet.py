"""Positron emission tomography, alone and laid over CT; and two modalities side by side."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from corpus.phantom.canvas import Canvas, Grey, blend, blur, canvas, cloud, edge, grain, union
from corpus.phantom.ct import ct_chest
from corpus.phantom.scenes import Finding, Scene


def hot(uptake: Grey) -> Grey:
    """(H, W, 3) black, red, yellow, white."""
    v = np.clip(uptake, 0, 1)[..., None] * np.float32(3)
    bands: Grey = np.clip(v - np.array([0, 1, 2], dtype=np.float32), 0, 1)
    return bands


def spectrum(uptake: Grey) -> Grey:
    """(H, W, 3) black, blue, green, yellow, red: the scale of many brain studies."""
    v = np.clip(uptake, 0, 1)[..., None]
    centers = np.array([0.95, 0.62, 0.28], dtype=np.float32)
    bands: Grey = np.clip(1.5 - 4.0 * np.abs(v - centers), 0, 1) * np.minimum(1, 6 * v)
    return bands


def count(scene: Scene, uptake: Grey, *, sigma: float) -> Grey:
    """Uptake as the scanner sees it: blurred, with blotchy noise where there is more of it."""
    rng = np.random.default_rng(scene.look.seed)
    seen = blur(uptake, sigma)
    noise = grain(rng, uptake.shape, size=1.6) * np.float32(0.02 + 0.05 * scene.look.grain)
    counted: Grey = np.maximum(seen + noise * np.sqrt(np.maximum(seen, 0) + 0.02), 0)
    return counted * np.float32(0.85 + 0.35 * scene.look.window)


def pet_body(scene: Scene) -> Grey:
    """A coronal slice of the whole body, dark on white or in hot colours: (H, W) or (H, W, 3)."""
    body = scene.anatomy
    c = canvas(scene.look, warp=0.03, seed=body.seed)
    half = c.half[1]
    # The body is drawn for a half height of 2 and squeezed into what there is.
    c = Canvas(x=c.x, y=c.y * np.float32(2 / half), px=c.px * 2 / half, look=c.look)
    uptake = _body(scene, c)
    for finding in scene.findings.values():
        uptake = _hot_spots(c, uptake, finding)
    seen = count(scene, uptake, sigma=max(scene.look.shape) / 190)
    if body.age > 0.7:
        return hot(seen)
    return 1 - seen


def _body(scene: Scene, c: Canvas) -> Grey:
    wide = 0.50 + 0.08 * scene.anatomy.fat
    parts = (
        (c.depth((0, -1.55), (0.24, 0.32)), 0.16),
        (c.bone((0, -1.3), (0, -1.0), radii=(0.14, 0.2)), 0.16),
        (c.bone((0, -0.75), (0, 0.35), radii=(wide, wide - 0.05)), 0.15),
    )
    uptake = c.empty()
    for depth, value in parts:
        uptake = blend(uptake, value, mask=edge(depth, 0.05))
    for side in (-1, 1):
        arm = c.bone((side * 0.56, -0.9), (side * 0.74, 0.5), radii=(0.15, 0.08))
        leg = c.bone((side * 0.24, 0.5), (side * 0.22, 2.4), radii=(0.24, 0.15))
        uptake = union(uptake, 0.14 * edge(arm, 0.05))
        uptake = union(uptake, 0.14 * edge(leg, 0.05))
        uptake = blend(uptake, 0.06, mask=c.ellipse((side * 0.26, -0.55), (0.2, 0.38), soft=6))
        uptake = blend(uptake, 0.60, mask=c.ellipse((side * 0.24, 0.22), (0.09, 0.15), soft=4))
    uptake = blend(uptake, 0.30, mask=c.ellipse((-0.24, 0.0), (0.27, 0.17), tilt=-0.2, soft=4))
    uptake = blend(uptake, 0.24, mask=c.ellipse((0.32, 0.02), (0.11, 0.13), soft=4))
    heart = edge(0.05 - np.abs(c.depth((0.12, -0.38), (0.17, 0.15))), 0.03)
    uptake = blend(uptake, 0.55, mask=heart)
    uptake = blend(uptake, 0.85, mask=c.ellipse((0, -1.62), (0.19, 0.21), soft=4))
    uptake = blend(uptake, 0.55, mask=c.ellipse((0, -1.52), (0.07, 0.1), soft=4))
    bowel = edge(cloud(np.random.default_rng(scene.anatomy.seed), c.shape, cells=12) - 0.6, 0.4)
    uptake = blend(uptake, 0.34, mask=bowel * c.ellipse((0, 0.48), (0.36, 0.25), soft=8))
    return blend(uptake, 0.95, mask=c.ellipse((0, 0.86), (0.12, 0.1), soft=3))


def _hot_spots(c: Canvas, uptake: Grey, f: Finding) -> Grey:
    rng = np.random.default_rng(int(1e6 * f.u))
    spots: list[tuple[float, float, float]] = []
    if f.kind == "metastases":
        n = 8 + int(8 * f.size)
        spots = [(rng.uniform(-0.42, 0.42), rng.uniform(-0.9, 0.8), 0.05) for _ in range(n)]
        spots += [(side * 0.22, rng.uniform(1.0, 1.6), 0.06) for side in (-1, 1)]
    if f.kind == "lymphoma":
        for side in (-1, 1):
            spots += [(side * 0.12, y, 0.055) for y in (-1.18, -1.08, -0.98)]
            spots += [(side * 0.46, -0.82, 0.075), (side * 0.2, 0.95, 0.07)]
        spots += [(rng.uniform(-0.1, 0.1), y, 0.08) for y in (-0.75, -0.62, -0.5)]
    if f.kind == "tumour":
        spots.append((f.side * (0.22 + 0.1 * f.u), -0.8 + 0.45 * f.v, 0.11 + 0.05 * f.size))
    for x, y, r in spots:
        uptake = union(uptake, c.ellipse((x, y), (r, r * 1.15), soft=3))
    return uptake


def pet_brain(scene: Scene) -> Grey:
    """(H, W, 3) an axial slice of the brain, whose cortex takes up the most."""
    body = scene.anatomy
    c = canvas(scene.look, warp=0.03, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    brain = c.depth((0, 0), (0.70 + 0.05 * body.wide, 0.86 + 0.06 * body.tall))
    uptake = blend(c.empty(), 0.08, mask=edge(brain + 0.12, 0.05))
    uptake = blend(uptake, 0.40, mask=edge(brain, 0.03))
    ribbon = edge(0.20 + 0.05 * cloud(rng, c.shape, cells=14) - brain, 0.08) * edge(brain, 0.03)
    uptake = blend(uptake, 0.85, mask=ribbon)
    for side in (-1, 1):
        uptake = blend(uptake, 0.92, mask=c.ellipse((side * 0.22, -0.1), (0.09, 0.17), soft=8))
        uptake = blend(uptake, 0.85, mask=c.ellipse((side * 0.13, 0.14), (0.1, 0.1), soft=8))
        uptake = blend(uptake, 0.12, mask=c.ellipse((side * 0.09, -0.28), (0.05, 0.14), soft=6))
    uptake = blend(
        uptake,
        0.3,
        mask=edge(0.03 - np.abs(c.x), 0.03) * edge(brain - 0.02, 0.03) * (np.abs(c.y) > 0.35),
    )
    if f := scene.finding("infarction"):
        cold = c.ellipse((f.side * 0.55, -0.2 + 0.5 * f.v), (0.36, 0.3 + 0.1 * f.size), soft=12)
        uptake = uptake * (1 - 0.8 * cold)
    seen = count(scene, uptake, sigma=max(scene.look.shape) / 60)
    return spectrum(seen) if body.age > 0.5 else hot(seen)


def pet_on_ct(scene: Scene) -> Grey:
    """(H, W, 3) a CT slice of the chest with the uptake laid over it in hot colours."""
    look = replace(scene.look, window=0.2)
    slice_ = ct_chest(replace(scene, look=look))
    c = canvas(look, warp=0.025, seed=scene.anatomy.seed)
    heart = edge(0.07 - np.abs(c.depth((0.24, -0.12), (0.24, 0.2), tilt=0.5)), 0.05)
    uptake = 0.75 * heart + 0.12 * c.ellipse((0, 0), (1.0, 0.75), soft=20)
    if f := scene.finding("tumour"):
        r = 0.13 + 0.09 * f.size
        place = (f.side * (0.52 + 0.12 * f.u), -0.3 + 0.55 * f.v)
        uptake = union(uptake, 1.1 * c.ellipse(place, (r, r), soft=6))
    seen = count(scene, uptake, sigma=max(look.shape) / 70)
    alpha = np.clip(seen * np.float32(1.6), 0, 0.75)[..., None]
    return blend(np.repeat(slice_[..., None], 3, axis=2), hot(seen), mask=alpha)


def side_by_side(scene: Scene, drawings: tuple[Callable[[Scene], Grey], ...]) -> Grey:
    """Panels of the same patient with a white gap between them."""
    height, width = scene.look.shape
    gap = 4
    share = (width - gap * (len(drawings) - 1)) // len(drawings)
    panels = []
    for number, drawing in enumerate(drawings):
        look = replace(scene.look, shape=(height, share), seed=scene.look.seed + number)
        panels += [drawing(replace(scene, look=look)), np.ones((height, gap), dtype=np.float32)]
    return np.concatenate(panels[:-1], axis=1)
