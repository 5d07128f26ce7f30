"""Axial slices of computed tomography, drawn in Hounsfield units and then windowed."""

import numpy as np

from corpus.phantom.canvas import Canvas, Point, canvas, edge
from corpus.phantom.scenes import Finding, Scene
from corpus.phantom.texture import Grey, blend, blur, cloud, grain, union

AIR, LUNG, FAT, WATER, SOFT, METAL = -1000.0, -830.0, -90.0, 5.0, 45.0, 3000.0
"""Densities in Hounsfield units."""


def window(hu: Grey, *, center: float, width: float) -> Grey:
    """Brightness in [0, 1] of Hounsfield units: black below the window, white above."""
    ramp = (hu - np.float32(center - width / 2)) * np.float32(1 / width)
    return np.clip(ramp, 0, 1, out=ramp)


def finish(
    scene: Scene, hu: Grey, *, center: float, width: float, noise: tuple[float, float] = (6, 20)
) -> Grey:
    """The windowed slice with the scanner's noise, from fine to coarse as the look says."""
    look = scene.look
    rng = np.random.default_rng(look.seed)
    spread = noise[0] + (noise[1] - noise[0]) * look.grain
    grains = grain(rng, look.shape, size=0.8) * np.float32(spread)
    return window(hu + grains, center=center, width=width)


def table(c: Canvas, hu: Grey, y: float) -> Grey:
    """The slice with the scanner's table below the patient."""
    arch = c.depth((0, y - 2.2), (2.6, 2.35))
    return blend(hu, -350.0, np.exp(-np.square(arch / np.float32(0.014))) * (c.y > y - 0.5))


def ct_head(scene: Scene) -> Grey:
    """A slice through the brain at the height of the ventricles."""
    body, look = scene.anatomy, scene.look
    c = canvas(look, warp=0.025, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    radii = (0.76 + 0.06 * body.wide, 0.96 + 0.08 * body.tall)
    skull = c.depth((0, 0), radii)
    hu = table(c, c.empty(AIR), 1.18)
    hu = blend(hu, 20.0, edge(skull + np.float32(0.05), 2 * c.px))
    thickness = 0.075 + 0.03 * body.age
    hu = blend(hu, 950.0, edge(skull, 2 * c.px))
    diploe = edge(skull - 0.025, 2 * c.px) * edge(thickness - 0.025 - skull, 2 * c.px)
    hu = blend(hu, 550.0, diploe)
    inner = skull - np.float32(thickness)
    brain = edge(inner, 2 * c.px)
    hu = blend(hu, brain_hu(scene, c, inner, rng), brain)
    for finding in scene.findings.values():
        hu = _in_head(c, hu, finding, brain=brain, radii=radii)
    if look.window > 0.9 or (scene.finding("skull fracture") and look.window > 0.3):
        return finish(scene, hu, center=450, width=1900)
    return finish(scene, hu, center=38, width=80 + 30 * look.window, noise=(3, 8))


def brain_hu(scene: Scene, c: Canvas, inner: Grey, rng: np.random.Generator) -> Grey:
    """White matter, cortex, sulci, falx and ventricles."""
    folds = cloud(rng, c.shape, cells=24)
    hu = 32 + 3.0 * edge(0.12 + 0.05 * folds - inner, 0.03) + 1.5 * cloud(rng, c.shape, cells=9)
    sulci = np.exp(-np.square(folds * np.float32(4.0))) * edge(0.16 - inner, 0.1)
    hu = blend(hu, 8.0, sulci * np.float32(0.4 + 0.5 * scene.anatomy.age))
    falx = np.exp(-np.square(c.x / np.float32(0.012))) * (np.abs(c.y) > 0.42)
    hu = blend(hu, 62.0, falx)
    hu = blend(hu, 40.0, c.ellipse((-0.13, 0.06), (0.08, 0.13)))
    hu = blend(hu, 40.0, c.ellipse((0.13, 0.06), (0.08, 0.13)))
    return blend(hu, 6.0, ventricles(scene, c))


def ventricles(scene: Scene, c: Canvas) -> Grey:
    """Mask of the lateral and third ventricles, blown up in hydrocephalus."""
    sick = scene.finding("hydrocephalus")
    grow = 1.0 + 0.25 * scene.anatomy.age + (1.0 + 0.5 * sick.size if sick else 0.0)
    mask = c.empty()
    for side in (-1, 1):
        front = c.ellipse(
            (side * 0.085 * grow**0.7, -0.24), (0.042 * grow, 0.17 * grow**0.4), tilt=-side * 0.35
        )
        back = c.ellipse(
            (side * 0.19 * grow**0.5, 0.30), (0.045 * grow, 0.17 * grow**0.4), tilt=side * 0.45
        )
        mask = union(mask, front, back)
    return union(mask, c.ellipse((0, 0.03), (0.018 * grow, 0.1)))


def _in_head(c: Canvas, hu: Grey, f: Finding, *, brain: Grey, radii: Point) -> Grey:
    spot = (f.side * (0.28 + 0.14 * f.u), -0.35 + 0.7 * f.v)
    if f.kind == "hemorrhage":
        r = 0.14 + 0.10 * f.size
        hu = blend(hu, 18.0, c.ellipse(spot, (r * 1.5, r * 1.7), soft=10) * brain)
        return blend(hu, 72.0, c.ellipse(spot, (r, r * 1.25), tilt=f.u, soft=4) * brain)
    if f.kind == "infarction":
        wedge = c.ellipse((f.side * 0.62, spot[1]), (0.42, 0.30 + 0.15 * f.size), soft=14)
        return blend(hu, 14.0, wedge * brain * (c.x * f.side > 0.06))
    if f.kind == "subdural":
        shifted = c.depth((-f.side * (0.14 + 0.08 * f.size), 0), (radii[0] - 0.07, radii[1] + 0.12))
        return blend(hu, 68.0, edge(-shifted, 3 * c.px) * brain * (c.x * f.side > 0.1))
    if f.kind == "calcification":
        for x, y, r in ((0.0, 0.17, 0.035), (-0.22, 0.33, 0.04), (0.22, 0.33, 0.04)):
            hu = blend(hu, 260.0, c.ellipse((x, y), (r, r * (1 + 0.6 * f.size))))
        return hu
    if f.kind == "skull fracture":
        x, y = f.side * (0.5 + 0.2 * f.u), -0.55 * f.v - 0.2
        gap = c.capsule((x * 0.7, y * 0.7), (x * 1.5, y * 1.6), (0.035, 0.05))
        hu = blend(hu, 30.0, gap * (1 - brain))
        swelling = c.ellipse((x * 1.25, y * 1.35), (0.28, 0.2), soft=6)
        return blend(hu, 45.0, swelling * (hu < -200))
    if f.kind == "pellet":
        return blend(hu, METAL, c.ellipse(spot, (0.09, 0.09)))
    return hu


def torso(scene: Scene, c: Canvas) -> tuple[Grey, Grey]:
    """Slice of a trunk without its organs, and the depth below the skin's fat."""
    body = scene.anatomy
    skin = c.depth((0, 0), (1.1 + 0.08 * body.wide, 0.82 + 0.08 * body.tall))
    fat = np.float32(0.05 + 0.11 * body.fat)
    hu = table(c, c.empty(AIR), 0.98)
    hu = blend(hu, FAT, edge(skin, 2 * c.px))
    wall = skin - fat
    return blend(hu, SOFT + 10, edge(wall, 3 * c.px)), wall


def spine(c: Canvas, hu: Grey, *, y: float, size: float = 1.0) -> Grey:
    """The slice with a vertebra: body, canal, arch and processes."""
    s = size
    hu = blend(hu, 480.0, c.capsule((0, y + 0.2 * s), (0, y + 0.36 * s), (0.045 * s, 0.03 * s)))
    for side in (-1, 1):
        process = c.capsule(
            (side * 0.06 * s, y + 0.17 * s), (side * 0.27 * s, y + 0.19 * s), (0.05 * s, 0.03 * s)
        )
        hu = blend(hu, 430.0, process)
    hu = blend(hu, 420.0, c.ellipse((0, y + 0.15 * s), (0.13 * s, 0.1 * s)))
    hu = blend(hu, 35.0, c.ellipse((0, y + 0.15 * s), (0.075 * s, 0.055 * s)))
    hu = blend(hu, 520.0, c.ellipse((0, y), (0.17 * s, 0.125 * s)))
    return blend(hu, 240.0, c.ellipse((0, y), (0.14 * s, 0.095 * s), soft=4))


def ribs(c: Canvas, hu: Grey, wall: Grey, *, shift: float, value: float = 620.0) -> Grey:
    """The slice with cut ribs along the wall of the trunk."""
    angle = np.arctan2(c.y, c.x)
    beat = np.cos(angle * np.float32(11) + np.float32(shift))
    ring = edge(0.022 - np.abs(wall - 0.045), 2 * c.px)
    return blend(hu, value, ring * edge(beat - 0.5, 0.2))


def blood(scene: Scene) -> float:
    """Density of blood: bright with contrast."""
    return 260.0 if scene.finding("contrast") else 48.0


def soften(hu: Grey) -> Grey:
    """The slice as a scanner of limited sharpness sees it."""
    return blur(hu, 0.6)
