"""Ultrasound: a fan of echoes on black, with speckle, shadows and colour Doppler."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from corpus.phantom.canvas import Canvas, Grey, Point, blend, canvas, cloud, edge, letters, union
from corpus.phantom.scenes import Finding, Scene


@dataclass(frozen=True)
class Fan:
    """What a probe sees, on a canvas.

    Attributes:
        depth: (H, W) from 0 at the skin to 1 at the far end.
        angle: (H, W) from -1 to 1 across the fan.
        inside: mask of the fan.
    """

    depth: Grey
    angle: Grey
    inside: Grey


def upright(scene: Scene) -> Canvas:
    """A canvas for the fan, which is always in the same place of the image; only tissue moves."""
    return canvas(replace(scene.look, tilt=0.0, dx=0.0, dy=0.0, zoom=1.0))


def curved(c: Canvas, *, apex: float, near: float, spread: float) -> Fan:
    """The fan of a curved (abdomen) or phased (heart) probe.

    Args:
        c: a canvas that is not warped.
        apex: where the rays meet, on the y axis.
        near: distance from there to the skin.
        spread: angle from the middle ray to the outer ones.
    """
    dy = c.y - np.float32(apex)
    radius = np.hypot(c.x, dy)
    depth = (radius - np.float32(near)) / np.float32(0.96 - apex - near)
    angle = np.arctan2(c.x, dy) / np.float32(spread)
    inside = edge(1 - np.abs(angle), 0.02) * edge(depth, 0.01) * edge(1 - depth, 0.01)
    return Fan(depth=depth, angle=angle, inside=inside)


def linear(c: Canvas) -> Fan:
    """The field of a flat probe: a rectangle."""
    depth, angle = (c.y + np.float32(0.86)) / np.float32(1.7), c.x / np.float32(1.0)
    inside = edge(1 - np.abs(angle), 0.01) * edge(depth, 0.01) * edge(1 - depth, 0.01)
    return Fan(depth=depth, angle=angle, inside=inside)


def echo(scene: Scene, fan: Fan, *, tissue: Grey) -> Grey:
    """The image that a probe makes of tissue: speckle, weaker with depth, on black.

    Args:
        scene: for exposure and noise.
        fan: the geometry.
        tissue: (H, W) brightness of the echoes, 0 where there is fluid.
    """
    look = scene.look
    rng = np.random.default_rng(look.seed)
    grid = (150, 110)
    real, imaginary = (
        ndimage.gaussian_filter(rng.standard_normal(grid, dtype=np.float32), (0.6, 0.9))
        for _ in range(2)
    )
    amplitude = np.hypot(real, imaginary)
    amplitude /= amplitude.mean()
    rows = np.clip(fan.depth, 0, 1) * np.float32(grid[0] - 1)
    columns = (np.clip(fan.angle, -1, 1) + 1) * np.float32((grid[1] - 1) / 2)
    speckle = ndimage.map_coordinates(amplitude, [rows, columns], order=1, mode="nearest")
    gain = np.float32(0.85 + 0.35 * look.window) * (1.1 - 0.35 * np.clip(fan.depth, 0, 1))
    mixed = tissue * (np.float32(0.35) + np.float32(0.65) * speckle) * gain
    image: Grey = (mixed + np.float32(0.015)) * fan.inside
    return _frame(scene, image)


def _frame(scene: Scene, image: Grey) -> Grey:
    """The image with the scanner's grey bar, ticks and settings."""
    height, width = image.shape
    framed = image.copy()
    top, bottom = int(0.1 * height), int(0.45 * height)
    ramp = np.linspace(1, 0, bottom - top, dtype=np.float32)[:, None]
    framed[top:bottom, 3:7] = ramp
    for k in range(9):
        y = int((0.08 + 0.105 * k) * height)
        framed[y : y + 1, width - 6 : width - 2] = 0.8
    text = f"{2 + scene.look.window * 4:.1f}MHz"
    return letters(framed, text, place=(0.78, 0.02), value=0.75, size=max(9, height // 22))


def shadow(fan: Fan, *, angle: float, depth: float, width: float) -> Grey:
    """Mask of what lies behind something hard."""
    return edge(width - np.abs(fan.angle - angle), 0.05) * edge(fan.depth - depth, 0.02)


def place_in(fan: Fan, c: Canvas, *, point: Point) -> Point:
    """Angle and depth of a point of the canvas, read from the nearest pixel."""
    row, column = np.unravel_index(
        int(np.argmin(np.abs(c.x - point[0]) + np.abs(c.y - point[1]))), c.shape
    )
    return float(fan.angle[row, column]), float(fan.depth[row, column])


def fluid(
    c: Canvas, fan: Fan, *, tissue: Grey, center: Point, radii: Point, tilt: float = 0
) -> Grey:
    """Tissue with a sac of fluid: black, a bright wall, and brighter tissue behind."""
    angle, depth = place_in(fan, c, point=center)
    behind = shadow(fan, angle=angle, depth=depth + radii[1] / 2, width=radii[0] * 0.9)
    tissue = tissue * (1 + np.float32(0.55) * behind)
    wall = (radii[0] + 0.025, radii[1] + 0.025)
    tissue = blend(tissue, 0.75, mask=c.ellipse(center, wall, tilt=tilt))
    return blend(tissue, 0.015, mask=c.ellipse(center, radii, tilt=tilt, soft=3))


def doppler(scene: Scene, c: Canvas, *, image: Grey, center: Point, size: float) -> Grey:
    """(H, W, 3) the image with a box in which flow is red towards the probe and blue away."""
    rng = np.random.default_rng(scene.anatomy.seed + 1)
    dx, dy = np.abs(c.x - center[0]), np.abs(c.y - center[1])
    box = edge(size - union(dx, dy), 2 * c.px)
    rim = edge(0.012 - np.abs(union(dx, dy) - size), c.px)
    flow = cloud(rng, c.shape, cells=9)
    strength = edge(np.abs(flow) - 0.75, 0.5) * box
    colour = np.repeat(image[..., None], 3, axis=2)
    away = (flow < 0)[..., None]
    red = np.array([1.0, 0.25, 0.05], dtype=np.float32)
    blue = np.array([0.1, 0.3, 1.0], dtype=np.float32)
    colour = blend(colour, np.where(away, blue, red), mask=strength[..., None])
    return blend(colour, np.array([0.95, 0.95, 0.3], dtype=np.float32), mask=rim[..., None])


def us_gallbladder(scene: Scene) -> Grey:
    """Liver and gallbladder."""
    body = scene.anatomy
    plain, c = upright(scene), canvas(scene.look, warp=0.03, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    fan = curved(plain, apex=-1.45, near=0.55, spread=0.62)
    tissue = 0.44 + 0.05 * cloud(rng, c.shape, cells=8)
    tissue = blend(tissue, 0.75, mask=edge(0.05 - np.abs(fan.depth - 0.05), 0.04))
    for _ in range(5):
        start = (rng.uniform(-0.5, 0.6), rng.uniform(-0.5, 0.3))
        end = (start[0] + rng.uniform(-0.3, 0.3), start[1] + rng.uniform(0.1, 0.35))
        tube = c.bone(start, end, radii=(0.02, 0.04))
        tissue = blend(tissue, 0.68, mask=edge(tube + 0.02, 0.02))
        tissue = blend(tissue, 0.08, mask=edge(tube, 0.02))
    arch = np.exp(-np.square((fan.depth - 0.86 + 0.08 * np.square(fan.angle + 0.4)) / 0.02))
    tissue = blend(tissue, 1.0, mask=arch * edge(0.5 - fan.angle, 0.2))
    if f := scene.finding("ascites"):
        pool = np.float32(0.16 + 0.12 * f.size) + np.float32(0.03) * cloud(rng, c.shape, cells=6)
        tissue = blend(
            tissue, 0.015, mask=edge(pool - fan.depth, 0.02) * edge(fan.depth - 0.05, 0.02)
        )
    if f := scene.finding("metastases"):
        tissue = _targets(c, tissue, f)
    center, radii = (0.12 - 0.3 * body.wide, 0.08), (0.34 + 0.08 * body.tall, 0.19)
    tissue = fluid(c, fan, tissue=tissue, center=center, radii=radii, tilt=0.5)
    if f := scene.finding("gallstones"):
        tissue = _stones(c, fan, tissue, f, center=center)
    return echo(scene, fan, tissue=tissue)


def _targets(c: Canvas, tissue: Grey, f: Finding) -> Grey:
    rng = np.random.default_rng(int(1e6 * f.u))
    for _ in range(4 + int(4 * f.size)):
        place, r = (rng.uniform(-0.7, 0.7), rng.uniform(-0.5, 0.55)), rng.uniform(0.09, 0.15)
        tissue = blend(tissue, 0.10, mask=c.ellipse(place, (r, r * 0.9), soft=4))
        tissue = blend(tissue, 0.85, mask=c.ellipse(place, (r * 0.6, r * 0.55), soft=4))
    return tissue


def _stones(c: Canvas, fan: Fan, tissue: Grey, f: Finding, *, center: Point) -> Grey:
    for k in range(1 + int(2.5 * f.size)):
        stone = (center[0] + 0.15 - 0.16 * k, center[1] + 0.13 - 0.05 * k)
        r = 0.06 + 0.02 * f.u
        angle, depth = place_in(fan, c, point=stone)
        tissue = tissue * (1 - 0.95 * shadow(fan, angle=angle, depth=depth, width=1.5 * r))
        tissue = blend(
            tissue, 1.3, mask=c.ellipse((stone[0], stone[1] - 0.02), (r, r * 0.7), soft=3)
        )
    return tissue


def us_kidney(scene: Scene) -> Grey:
    """A kidney along its length; (H, W, 3) with Doppler."""
    body = scene.anatomy
    plain, c = upright(scene), canvas(scene.look, warp=0.03, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    fan = curved(plain, apex=-1.45, near=0.55, spread=0.62)
    tissue = 0.46 + 0.06 * cloud(rng, c.shape, cells=7)
    tissue = blend(tissue, 0.8, mask=edge(0.05 - np.abs(fan.depth - 0.05), 0.04))
    center, tilt = (0.0, 0.05), 0.25 - 0.5 * body.wide
    radii = (0.62 + 0.08 * body.tall, 0.33)
    tissue = blend(
        tissue, 0.85, mask=c.ellipse(center, (radii[0] + 0.03, radii[1] + 0.03), tilt=tilt)
    )
    tissue = blend(tissue, 0.24, mask=c.ellipse(center, radii, tilt=tilt))
    sinus = c.depth(center, (0.42, 0.16), tilt=tilt) + 0.05 * cloud(rng, c.shape, cells=14)
    tissue = blend(tissue, 0.85, mask=edge(sinus, 0.06))
    if f := scene.finding("hydronephrosis"):
        tissue = blend(
            tissue, 0.015, mask=c.ellipse(center, (0.28 + 0.1 * f.size, 0.13), tilt=tilt, soft=3)
        )
        for side in (-1, 0, 1):
            calyx = (center[0] + 0.26 * side, center[1] - 0.13 + 0.08 * side * tilt)
            tissue = blend(
                tissue, 0.015, mask=c.ellipse(calyx, (0.09, 0.1 + 0.05 * f.size), soft=3)
            )
    if f := scene.finding("cyst"):
        r = 0.15 + 0.10 * f.size
        tissue = fluid(c, fan, tissue=tissue, center=(f.side * 0.5, 0.0 + 0.15 * f.v), radii=(r, r))
    image = echo(scene, fan, tissue=tissue)
    if scene.finding("doppler"):
        return doppler(scene, plain, image=image, center=(0.05, 0.05), size=0.36)
    return image


def us_fetus(scene: Scene) -> Grey:
    """Head and trunk of a child in the fluid of the womb."""
    body = scene.anatomy
    plain, c = upright(scene), canvas(scene.look, warp=0.04, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    fan = curved(plain, apex=-1.45, near=0.55, spread=0.66)
    tissue = 0.5 + 0.08 * cloud(rng, c.shape, cells=8)
    tissue = blend(tissue, 0.015, mask=c.ellipse((0.0, 0.1), (0.98, 0.58), soft=4))
    placenta = c.ellipse((0.5, -0.42), (0.5, 0.16), tilt=0.35, soft=4)
    tissue = blend(tissue, 0.6, mask=placenta)
    trunk = c.depth((0.48, 0.22), (0.46, 0.27), tilt=-0.25)
    tissue = blend(tissue, 0.42, mask=edge(trunk, 0.04))
    for k in range(8):
        bone = (0.22 + 0.08 * k, 0.40 - 0.025 * k)
        tissue = blend(tissue, 1.1, mask=c.ellipse(bone, (0.025, 0.03)))
    tissue = blend(tissue, 0.03, mask=c.ellipse((0.46, 0.2), (0.1, 0.07), soft=4))
    place, radii = (-0.36, 0.06), (0.38 + 0.05 * body.wide, 0.29 + 0.04 * body.tall)
    head = c.depth(place, radii, tilt=0.15)
    tissue = blend(tissue, 0.26, mask=edge(head, 2 * c.px))
    middle = edge(0.010 - np.abs(c.y - 0.06 - 0.15 * (c.x + 0.36)), c.px)
    tissue = blend(tissue, 0.75, mask=middle * edge(head - 0.08, 0.02))
    if f := scene.finding("hydrocephalus"):
        for side in (-1, 1):
            center = (place[0] + 0.04, place[1] + 0.13 * side)
            sac = c.ellipse(center, (0.22 + 0.05 * f.size, 0.09), tilt=0.15, soft=3)
            tissue = blend(tissue, 0.01, mask=sac)
    tissue = blend(tissue, 1.25, mask=edge(0.026 - np.abs(head), 2 * c.px))
    return echo(scene, fan, tissue=tissue)


def us_thyroid(scene: Scene) -> Grey:
    """Both lobes across the neck, seen by a flat probe; (H, W, 3) with Doppler."""
    body = scene.anatomy
    plain, c = upright(scene), canvas(scene.look, warp=0.03, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    fan = linear(plain)
    layers = 0.10 * np.sin(fan.depth * np.float32(70) + cloud(rng, c.shape, cells=4))
    tissue = 0.30 + layers * edge(0.35 - fan.depth, 0.1) + 0.05 * cloud(rng, c.shape, cells=9)
    tissue = blend(tissue, 0.8, mask=edge(0.06 - fan.depth, 0.03))
    for side in (-1, 1):
        lobe = c.ellipse((side * 0.48, -0.02), (0.36, 0.26 + 0.05 * body.tall), tilt=-side * 0.3)
        tissue = blend(tissue, 0.62, mask=lobe)
        tissue = fluid(c, fan, tissue=tissue, center=(side * 0.90, 0.12), radii=(0.12, 0.12))
    tissue = blend(tissue, 0.62, mask=c.ellipse((0, -0.2), (0.3, 0.08)))
    ring = c.depth((0, 0.12), (0.24, 0.24))
    angle, depth = place_in(fan, c, point=(0.0, -0.1))
    tissue = tissue * (1 - 0.85 * shadow(fan, angle=angle, depth=depth, width=0.2))
    tissue = blend(tissue, 1.1, mask=edge(0.025 - np.abs(ring), 2 * c.px) * edge(0.1 - c.y, 0.1))
    for f in scene.findings.values():
        center, r = (f.side * 0.5, -0.05 + 0.1 * f.v), 0.13 + 0.08 * f.size
        if f.kind == "nodule":
            tissue = blend(tissue, 0.95, mask=c.ellipse(center, (r * 1.3 + 0.025, r + 0.025)))
            tissue = blend(tissue, 0.16, mask=c.ellipse(center, (r * 1.3, r), soft=3))
        if f.kind == "cyst":
            tissue = fluid(c, fan, tissue=tissue, center=center, radii=(r, r * 0.85))
    image = echo(scene, fan, tissue=tissue)
    if flow := scene.finding("doppler"):
        return doppler(scene, plain, image=image, center=(flow.side * 0.5, 0.0), size=0.38)
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
        tissue = blend(tissue, 0.9, mask=c.ellipse((0.04, 0.1), (0.69 + grow, 0.78 + grow)))
        tissue = blend(tissue, 0.01, mask=c.ellipse((0.04, 0.1), (0.66 + grow, 0.75 + grow)))
    wall = c.ellipse((0.04, 0.1), (0.64, 0.74), soft=4)
    tissue = blend(tissue, 0.62 + 0.1 * cloud(rng, c.shape, cells=20), mask=wall)
    beat = 0.04 * scene.look.level
    for center, radii in (
        ((0.26, -0.12), (0.22 + beat, 0.38 + beat)),
        ((-0.20, -0.06), (0.16 + beat, 0.32 + beat)),
        ((0.27, 0.52), (0.24 - beat, 0.19)),
        ((-0.21, 0.50), (0.20 - beat, 0.18)),
    ):
        tissue = blend(tissue, 0.02, mask=c.ellipse(center, radii, soft=4))
    for side, x in ((1, 0.26), (-1, -0.2)):
        for leaf in (-1, 1):
            flap = c.capsule(
                (x + leaf * 0.19, 0.31), (x + leaf * 0.04 * side, 0.20), radii=(0.016, 0.012)
            )
            tissue = blend(tissue, 1.2, mask=flap)
    image = echo(scene, fan, tissue=tissue)
    if scene.finding("doppler"):
        return doppler(scene, plain, image=image, center=(0.24, 0.12), size=0.34)
    return image
