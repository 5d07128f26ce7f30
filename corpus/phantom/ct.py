"""Axial slices of computed tomography, drawn in Hounsfield units and then windowed."""

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
    path,
    union,
)
from corpus.phantom.scenes import Finding, Scene

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


def table(c: Canvas, hu: Grey, *, y: float) -> Grey:
    """The slice with the scanner's table below the patient."""
    arch = c.depth((0, y - 2.2), (2.6, 2.35))
    return blend(hu, -350.0, mask=np.exp(-np.square(arch / np.float32(0.014))) * (c.y > y - 0.5))


def ct_head(scene: Scene) -> Grey:
    """A slice through the brain at the height of the ventricles."""
    body, look = scene.anatomy, scene.look
    c = canvas(look, warp=0.025, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    radii = (0.76 + 0.06 * body.wide, 0.96 + 0.08 * body.tall)
    skull = c.depth((0, 0), radii)
    hu = table(c, c.empty(AIR), y=1.18)
    hu = blend(hu, 20.0, mask=edge(skull + np.float32(0.05), 2 * c.px))
    thickness = 0.075 + 0.03 * body.age
    hu = blend(hu, 950.0, mask=edge(skull, 2 * c.px))
    diploe = edge(skull - 0.025, 2 * c.px) * edge(thickness - 0.025 - skull, 2 * c.px)
    hu = blend(hu, 550.0, mask=diploe)
    inner = skull - np.float32(thickness)
    brain = edge(inner, 2 * c.px)
    hu = blend(hu, brain_hu(scene, c, inner=inner, rng=rng), mask=brain)
    for finding in scene.findings.values():
        hu = _in_head(c, hu, finding, brain=brain, radii=radii)
    if look.window > 0.9 or (scene.finding("skull fracture") and look.window > 0.3):
        return finish(scene, hu, center=450, width=1900)
    return finish(scene, hu, center=38, width=80 + 30 * look.window, noise=(3, 8))


def brain_hu(scene: Scene, c: Canvas, *, inner: Grey, rng: np.random.Generator) -> Grey:
    """White matter, cortex, sulci, falx and ventricles."""
    folds = cloud(rng, c.shape, cells=24)
    hu = 32 + 3.0 * edge(0.12 + 0.05 * folds - inner, 0.03) + 1.5 * cloud(rng, c.shape, cells=9)
    sulci = np.exp(-np.square(folds * np.float32(4.0))) * edge(0.16 - inner, 0.1)
    hu = blend(hu, 8.0, mask=sulci * np.float32(0.4 + 0.5 * scene.anatomy.age))
    falx = np.exp(-np.square(c.x / np.float32(0.012))) * (np.abs(c.y) > 0.42)
    hu = blend(hu, 62.0, mask=falx)
    hu = blend(hu, 40.0, mask=c.ellipse((-0.13, 0.06), (0.08, 0.13)))
    hu = blend(hu, 40.0, mask=c.ellipse((0.13, 0.06), (0.08, 0.13)))
    return blend(hu, 6.0, mask=ventricles(scene, c))


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
        hu = blend(hu, 18.0, mask=c.ellipse(spot, (r * 1.5, r * 1.7), soft=10) * brain)
        return blend(hu, 72.0, mask=c.ellipse(spot, (r, r * 1.25), tilt=f.u, soft=4) * brain)
    if f.kind == "infarction":
        wedge = c.ellipse((f.side * 0.62, spot[1]), (0.42, 0.30 + 0.15 * f.size), soft=14)
        return blend(hu, 14.0, mask=wedge * brain * (c.x * f.side > 0.06))
    if f.kind == "subdural":
        shifted = c.depth((-f.side * (0.14 + 0.08 * f.size), 0), (radii[0] - 0.07, radii[1] + 0.12))
        return blend(hu, 68.0, mask=edge(-shifted, 3 * c.px) * brain * (c.x * f.side > 0.1))
    if f.kind == "calcification":
        for x, y, r in ((0.0, 0.17, 0.035), (-0.22, 0.33, 0.04), (0.22, 0.33, 0.04)):
            hu = blend(hu, 260.0, mask=c.ellipse((x, y), (r, r * (1 + 0.6 * f.size))))
        return hu
    if f.kind == "skull fracture":
        x, y = f.side * (0.5 + 0.2 * f.u), -0.55 * f.v - 0.2
        gap = c.capsule((x * 0.7, y * 0.7), (x * 1.5, y * 1.6), radii=(0.035, 0.05))
        hu = blend(hu, 30.0, mask=gap * (1 - brain))
        swelling = c.ellipse((x * 1.25, y * 1.35), (0.28, 0.2), soft=6)
        return blend(hu, 45.0, mask=swelling * (hu < -200))
    if f.kind == "pellet":
        return blend(hu, METAL, mask=c.ellipse(spot, (0.09, 0.09)))
    return hu


def torso(scene: Scene, c: Canvas) -> tuple[Grey, Grey]:
    """Slice of a trunk without its organs, and the depth below the skin's fat."""
    body = scene.anatomy
    skin = c.depth((0, 0), (1.1 + 0.08 * body.wide, 0.82 + 0.08 * body.tall))
    fat = np.float32(0.05 + 0.11 * body.fat)
    hu = table(c, c.empty(AIR), y=0.98)
    hu = blend(hu, FAT, mask=edge(skin, 2 * c.px))
    wall = skin - fat
    return blend(hu, SOFT + 10, mask=edge(wall, 3 * c.px)), wall


def spine(c: Canvas, hu: Grey, *, y: float, size: float = 1.0) -> Grey:
    """The slice with a vertebra: body, canal, arch and processes."""
    s = size
    hu = blend(
        hu, 480.0, mask=c.capsule((0, y + 0.2 * s), (0, y + 0.36 * s), radii=(0.045 * s, 0.03 * s))
    )
    for side in (-1, 1):
        process = c.capsule(
            (side * 0.06 * s, y + 0.17 * s),
            (side * 0.27 * s, y + 0.19 * s),
            radii=(0.05 * s, 0.03 * s),
        )
        hu = blend(hu, 430.0, mask=process)
    hu = blend(hu, 420.0, mask=c.ellipse((0, y + 0.15 * s), (0.13 * s, 0.1 * s)))
    hu = blend(hu, 35.0, mask=c.ellipse((0, y + 0.15 * s), (0.075 * s, 0.055 * s)))
    hu = blend(hu, 520.0, mask=c.ellipse((0, y), (0.17 * s, 0.125 * s)))
    return blend(hu, 240.0, mask=c.ellipse((0, y), (0.14 * s, 0.095 * s), soft=4))


def ribs(c: Canvas, hu: Grey, *, wall: Grey, shift: float, value: float = 620.0) -> Grey:
    """The slice with cut ribs along the wall of the trunk."""
    angle = np.arctan2(c.y, c.x)
    beat = np.cos(angle * np.float32(11) + np.float32(shift))
    ring = edge(0.022 - np.abs(wall - 0.045), 2 * c.px)
    return blend(hu, value, mask=ring * edge(beat - 0.5, 0.2))


def blood(scene: Scene) -> float:
    """Density of blood: bright with contrast."""
    return 260.0 if scene.finding("contrast") else 48.0


def soften(hu: Grey) -> Grey:
    """The slice as a scanner of limited sharpness sees it."""
    return blur(hu, 0.6)


def ct_abdomen(scene: Scene) -> Grey:
    """A slice through liver and kidneys."""
    body, look = scene.anatomy, scene.look
    c = canvas(look, warp=0.035, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    hu, wall = torso(scene, c)
    hu = ribs(c, hu, wall=wall, shift=2 * look.level)
    inside = edge(wall - 0.1, 2 * c.px)
    hu = blend(hu, FAT, mask=inside)
    hu = _bowel(c, hu, rng, inside=inside)
    liver = c.depth((-0.48, -0.10), (0.50, 0.52), tilt=-0.25)
    lobe = c.depth((-0.1, -0.34), (0.42, 0.24), tilt=0.2)
    organ = edge(union(liver, lobe) + 0.02 * cloud(rng, c.shape, cells=7), 2 * c.px) * inside
    bright = bool(scene.finding("contrast"))
    hu = blend(hu, (105.0 if bright else 60.0), mask=organ)
    branches = np.exp(-np.square(cloud(rng, c.shape, cells=11) * np.float32(9)))
    hu = blend(hu, (160.0 if bright else 50.0), mask=organ * branches * np.float32(0.8))
    spleen = c.ellipse((0.74, 0.16), (0.19, 0.36), tilt=0.25) * inside
    hu = blend(hu, (125.0 if bright else 50.0), mask=spleen)
    if f := scene.finding("ascites"):
        rim = edge(0.24 + 0.10 * f.size + 0.03 * cloud(rng, c.shape, cells=6) - wall, 0.02)
        hu = blend(hu, WATER, mask=inside * rim * edge(0.5 - c.y, 0.05))
    hu = _kidneys(scene, c, hu)
    hu = spine(c, hu, y=0.36, size=1.05)
    for side in (-1, 1):
        hu = blend(hu, 55.0, mask=c.ellipse((side * 0.27, 0.44), (0.09, 0.13)))
    hu = _abdominal_vessels(scene, c, hu)
    for finding in scene.findings.values():
        hu = _in_abdomen(c, hu, finding, liver=organ)
    return finish(scene, soften(hu), center=50, width=300 + 100 * look.window)


def _bowel(c: Canvas, hu: Grey, rng: np.random.Generator, *, inside: Grey) -> Grey:
    hu = blend(hu, 35.0, mask=c.ellipse((0.36, -0.33), (0.32, 0.25), tilt=0.2) * inside)
    gas = c.ellipse((0.36, -0.40), (0.25, 0.14), tilt=0.15) * inside
    hu = blend(hu, AIR, mask=gas)
    for _ in range(7):
        center = (rng.uniform(0.05, 0.65), rng.uniform(-0.1, 0.25))
        r = rng.uniform(0.06, 0.11)
        hu = blend(hu, rng.uniform(20, 60), mask=c.ellipse(center, (r, r * 0.9)) * inside)
        if rng.random() < 0.35:
            hu = blend(hu, AIR, mask=c.ellipse((center[0], center[1] - 0.02), (r / 2, r / 3)))
    return hu


def _kidneys(scene: Scene, c: Canvas, hu: Grey) -> Grey:
    bright = bool(scene.finding("contrast"))
    sick = scene.finding("hydronephrosis")
    for side in (-1, 1):
        center = (side * 0.50, 0.40)
        hu = blend(hu, FAT, mask=c.ellipse(center, (0.22, 0.23)))
        hu = blend(
            hu, 200.0 if bright else 36.0, mask=c.ellipse(center, (0.16, 0.19), tilt=side * 0.4)
        )
        grow = 0.05 + (0.06 + 0.03 * sick.size if sick and sick.side == side else 0.0)
        pelvis = WATER if grow > 0.05 else (-40.0 if not bright else 90.0)
        hu = blend(hu, pelvis, mask=c.ellipse((side * 0.46, 0.40), (grow, grow * 1.3), soft=3))
    return hu


def _abdominal_vessels(scene: Scene, c: Canvas, hu: Grey) -> Grey:
    blood_hu = blood(scene)
    sick = scene.finding("abdominal aneurysm")
    r = 0.085 + (0.11 + 0.07 * sick.size if sick else 0.0)
    place = (0.07 + r / 4, 0.19 - 0.7 * (r - 0.085))
    hu = blend(hu, FAT, mask=c.ellipse(place, (r + 0.05, r + 0.05)))
    hu = blend(hu, 60.0, mask=c.ellipse(place, (r, r)))
    if sick:
        hu = blend(
            hu, 400.0, mask=c.ellipse(place, (r, r)) - c.ellipse(place, (r - 0.02, r - 0.02))
        )
    inner = r * (0.6 if sick else 0.9)
    hu = blend(hu, blood_hu, mask=c.ellipse(place, (inner, inner)))
    return blend(hu, max(48.0, blood_hu * 0.7), mask=c.ellipse((-0.16, 0.2), (0.10, 0.075)))


def _in_abdomen(c: Canvas, hu: Grey, f: Finding, *, liver: Grey) -> Grey:
    if f.kind == "cyst":
        r = 0.12 + 0.09 * f.size
        if f.side < 0:
            return blend(
                hu, WATER, mask=c.ellipse((-0.52 + 0.2 * f.u, -0.2 + 0.2 * f.v), (r, r)) * liver
            )
        return blend(hu, WATER, mask=c.ellipse((0.58 + 0.08 * f.u, 0.34), (r, r)))
    if f.kind == "metastases":
        spots = np.random.default_rng(int(1e6 * f.u))
        for _ in range(5 + int(5 * f.size)):
            x, y = spots.uniform(-0.85, -0.05), spots.uniform(-0.45, 0.25)
            r = spots.uniform(0.05, 0.11)
            hu = blend(hu, 22.0, mask=c.ellipse((x, y), (r, r * 0.9), soft=4) * liver)
        return hu
    if f.kind == "gallstones":
        place = (-0.22, -0.32)
        hu = blend(hu, 10.0, mask=c.ellipse(place, (0.13, 0.17)))
        for k in range(4):
            x, y = place[0] + 0.05 * np.cos(1.6 * k), place[1] + 0.06 + 0.04 * np.sin(1.6 * k)
            hu = blend(hu, 500.0, mask=c.ellipse((x, y), (0.032, 0.03)))
        return hu
    return hu


def ct_pelvis(scene: Scene) -> Grey:
    """A slice through the hip joints."""
    body, look = scene.anatomy, scene.look
    c = canvas(look, warp=0.03, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    hu, _ = torso(scene, c)
    for side in (-1, 1):
        hu = blend(hu, FAT, mask=c.ellipse((side * 0.62, 0.42), (0.34, 0.09), tilt=-side * 0.7))
    inside = c.ellipse((0, -0.08), (0.44, 0.48), soft=4)
    hu = blend(hu, FAT + 15 * cloud(rng, c.shape, cells=10), mask=inside)
    hu = blend(hu, 8.0, mask=c.ellipse((0, -0.12), (0.30, 0.24)))
    hu = blend(
        hu, SOFT, mask=c.ellipse((0, -0.12), (0.32, 0.26)) - c.ellipse((0, -0.12), (0.29, 0.23))
    )
    hu = blend(hu, 50.0, mask=c.ellipse((0, 0.26), (0.13, 0.12)))
    hu = blend(hu, -600.0, mask=c.ellipse((0.01, 0.24), (0.05, 0.04)))
    hu = blend(hu, 480.0, mask=c.capsule((-0.12, 0.55), (0.12, 0.55), radii=(0.06, 0.06)))
    for side in (-1, 1):
        x = side * 0.66
        cup = c.ellipse((x - side * 0.03, 0.02), (0.22, 0.26))
        hu = blend(hu, 650.0, mask=cup)
        hu = blend(hu, 40.0, mask=c.ellipse((x, 0.02), (0.18, 0.2)))
        hu = blend(hu, 520.0, mask=c.ellipse((x, 0.02), (0.165, 0.175)))
        hu = blend(hu, 300.0, mask=c.ellipse((x, 0.02), (0.13, 0.14), soft=5))
        hu = blend(
            hu, 560.0, mask=c.capsule((x, 0.05), (x + side * 0.24, 0.14), radii=(0.09, 0.10))
        )
    for finding in scene.findings.values():
        hu = _in_pelvis(c, hu, finding)
    return finish(scene, soften(hu), center=50, width=400 + 100 * look.window)


def _in_pelvis(c: Canvas, hu: Grey, f: Finding) -> Grey:
    if f.kind == "streaks":
        x = f.side * 0.66
        angle = np.arctan2(c.y - 0.02, c.x - np.float32(x))
        reach = np.exp(-np.hypot(c.y - 0.02, c.x - np.float32(x)) * np.float32(2.2))
        hu = hu + 500 * reach * np.cos(angle * 12 + 9 * f.u) * (hu > -500)
        return blend(hu, METAL, mask=c.ellipse((x, 0.02), (0.17, 0.18)))
    if f.kind == "tumour":
        r = 0.17 + 0.08 * f.size
        return blend(hu, 75.0, mask=c.ellipse((f.side * 0.24, -0.02 - 0.2 * f.v), (r, r), soft=4))
    if f.kind == "pellet":
        place = (f.side * (0.2 + 0.3 * f.u), -0.35 + 0.5 * f.v)
        return blend(hu, METAL, mask=c.ellipse(place, (0.09, 0.09)))
    return hu


def ct_chest(scene: Scene) -> Grey:
    """A slice through the heart."""
    body, look = scene.anatomy, scene.look
    c = canvas(look, warp=0.03, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    hu, wall = torso(scene, c)
    hu = ribs(c, hu, wall=wall, shift=3 * look.level)
    hu = blend(hu, FAT, mask=c.ellipse((0, -0.1), (0.42, 0.5), soft=4) * edge(wall - 0.1, 0.02))
    lungs = _lungs(scene, c)
    texture = 28 * cloud(rng, c.shape, cells=40) + 20 * cloud(rng, c.shape, cells=8)
    hu = blend(hu, LUNG + texture + 90 * c.y, mask=lungs)
    hu = _lung_vessels(c, hu, lungs, rng)
    hu = _mediastinum(scene, c, hu)
    hu = spine(c, hu, y=0.42, size=0.95)
    hu = blend(hu, 500.0, mask=c.capsule((-0.09, -0.66), (0.09, -0.66), radii=(0.035, 0.035)))
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
    return blend(hu, 20.0, mask=union(0.85 * dots, 0.8 * speckle) * lungs)


def _mediastinum(scene: Scene, c: Canvas, hu: Grey) -> Grey:
    blood_hu = blood(scene)
    aneurysm = scene.finding("aortic aneurysm")
    pericardial = scene.finding("pericardial")
    if pericardial:
        r = 0.06 + 0.05 * pericardial.size
        hu = blend(hu, WATER, mask=c.ellipse((0.14, -0.16), (0.42 + r, 0.36 + r), tilt=0.4))
    hu = blend(hu, 48.0, mask=c.ellipse((0.14, -0.16), (0.39, 0.32), tilt=0.4))
    hu = blend(hu, blood_hu, mask=c.ellipse((0.24, -0.12), (0.20, 0.16), tilt=0.5, soft=4))
    hu = blend(hu, blood_hu - 20, mask=c.ellipse((-0.06, -0.24), (0.15, 0.19), tilt=0.3, soft=4))
    r = 0.10 + (0.13 + 0.07 * aneurysm.size if aneurysm else 0.0)
    hu = blend(hu, 70.0, mask=c.ellipse((0.17 + r / 3, 0.32), (r + 0.012, r + 0.012)))
    hu = blend(hu, max(blood_hu, 60.0), mask=c.ellipse((0.17 + r / 3, 0.32), (r - 0.01, r - 0.01)))
    hu = blend(hu, 40.0, mask=c.ellipse((0.02, 0.24), (0.05, 0.04)))
    return blend(hu, AIR, mask=c.ellipse((0.0, 0.14), (0.045, 0.04)) * (scene.look.level > 0))


def _in_chest(c: Canvas, hu: Grey, f: Finding, *, lungs: Grey, rng: np.random.Generator) -> Grey:
    spot = (f.side * (0.52 + 0.12 * f.u), -0.3 + 0.55 * f.v)
    if f.kind in ("nodule", "tumour"):
        r = 0.09 + 0.09 * f.size
        rough = np.float32(0.02) * cloud(rng, c.shape, cells=30)
        return blend(hu, 55.0, mask=edge(c.depth(spot, (r, r)) + rough, 2 * c.px) * lungs)
    if f.kind == "effusion":
        level = 0.42 - 0.22 * f.size
        pool = edge(c.y + 0.25 * np.square(c.x - f.side * 0.6) - level, 2 * c.px)
        return blend(hu, 12.0, mask=pool * _side(c, f) * edge(lungs - 0.2, 0.2))
    if f.kind == "consolidation":
        rough = np.float32(0.10) * cloud(rng, c.shape, cells=12)
        depth = c.depth((f.side * 0.6, spot[1] + 0.1), (0.26 + 0.1 * f.size, 0.3)) + rough
        bronchi = edge(cloud(rng, c.shape, cells=26) - 1.0, 0.5)
        return blend(hu, 25 - 500 * bronchi, mask=edge(depth, 0.12) * lungs)
    if f.kind == "pneumothorax":
        drop = 0.16 + 0.14 * f.size
        free = 1 - edge(c.depth((f.side * 0.40, 0.12 + drop), (0.26, 0.42)), 2 * c.px)
        return blend(hu, AIR, mask=free * lungs * _side(c, f))
    if f.kind == "emphysema":
        holes = edge(cloud(rng, c.shape, cells=14) - 0.5, 0.25)
        return blend(hu, AIR, mask=holes * lungs)
    return hu


def _side(c: Canvas, f: Finding) -> Grey:
    return edge(c.x * np.float32(f.side), 2 * c.px)
