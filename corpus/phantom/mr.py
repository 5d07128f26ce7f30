"""Magnetic resonance of the head, with the bias field of the coil, and of the lumbar spine."""

from dataclasses import dataclass

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
    union,
)
from corpus.phantom.ct import ventricles
from corpus.phantom.scenes import Finding, Scene


@dataclass(frozen=True)
class Weighting:
    """Brightness of tissues under one weighting."""

    fat: float
    white: float
    cortex: float
    water: float
    sick: float
    bone: float = 0.04


T1 = Weighting(fat=0.92, white=0.70, cortex=0.50, water=0.10, sick=0.36)
T2 = Weighting(fat=0.62, white=0.30, cortex=0.46, water=0.98, sick=0.80)


def weighting(scene: Scene) -> Weighting:
    """The weighting of the scene: T1 unless it says T2."""
    return T2 if scene.finding("t2") else T1


def receive(scene: Scene, image: Grey) -> Grey:
    """The image as the coil receives it: blurred, unevenly bright, with noise of magnitudes."""
    look = scene.look
    rng = np.random.default_rng(look.seed)
    field = np.exp(np.float32(0.16) * cloud(rng, look.shape, cells=1.5))
    image = blur(image, 0.7) * field
    spread = np.float32(0.015 + 0.045 * look.grain)
    real = image + spread * grain(rng, look.shape, size=0.5)
    magnitude: Grey = np.hypot(real, spread * grain(rng, look.shape, size=0.5))
    return magnitude * np.float32(0.85 + 0.3 * look.window)


def mr_brain(scene: Scene) -> Grey:
    """An axial slice at the height of the ventricles."""
    body, tone = scene.anatomy, weighting(scene)
    c = canvas(scene.look, warp=0.025, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    head = c.depth((0, 0), (0.80 + 0.06 * body.wide, 0.99 + 0.08 * body.tall))
    image = blend(c.empty(), tone.fat, mask=edge(head, 2 * c.px))
    image = blend(image, tone.cortex * 0.6, mask=edge(head - 0.015, 2 * c.px))
    image = blend(image, tone.fat, mask=edge(head - 0.03, 2 * c.px))
    image = blend(image, tone.bone, mask=edge(head - np.float32(0.055), 2 * c.px))
    inner = head - np.float32(0.12 + 0.02 * body.age)
    image = blend(image, tone.water, mask=edge(inner + 0.012, 2 * c.px))
    brain = edge(inner - 0.012, 2 * c.px)
    image = blend(image, gyri(scene, c, inner=inner, rng=rng), mask=brain)
    image = blend(
        image, tone.water, mask=np.exp(-np.square(c.x / 0.016)) * (np.abs(c.y) > 0.45) * brain
    )
    for side in (-1, 1):
        nucleus = c.ellipse((side * 0.26, -0.02), (0.09, 0.2), tilt=-side * 0.35, soft=4)
        image = blend(image, tone.cortex, mask=nucleus)
        image = blend(image, tone.cortex, mask=c.ellipse((side * 0.12, 0.1), (0.08, 0.13), soft=4))
    image = blend(image, tone.water, mask=ventricles(scene, c))
    for finding in scene.findings.values():
        image = _lesion(scene, c, image, finding, brain=brain)
    return receive(scene, image)


def gyri(scene: Scene, c: Canvas, *, inner: Grey, rng: np.random.Generator) -> Grey:
    """White matter under a folded cortex, with water in the folds."""
    tone = weighting(scene)
    folds = cloud(rng, c.shape, cells=20)
    ridge = np.abs(folds)
    near = edge(0.26 - inner, 0.14)
    cortex = union(edge(0.06 - inner, 0.03), near * edge(0.42 - ridge, 0.3))
    image = blend(c.empty(tone.white), tone.cortex, mask=cortex)
    sulci = near * edge(0.10 + 0.08 * scene.anatomy.age - ridge, 0.12)
    return blend(image, tone.water, mask=sulci * np.float32(0.85))


def _lesion(scene: Scene, c: Canvas, image: Grey, f: Finding, *, brain: Grey) -> Grey:
    tone, bright = weighting(scene), bool(scene.finding("contrast"))
    spot = (f.side * (0.30 + 0.12 * f.u), -0.4 + 0.8 * f.v)
    rng = np.random.default_rng(int(1e6 * f.u))
    if f.kind == "contrast" and tone is T1:
        image = blend(image, 1.0, mask=c.ellipse((0, 0.82), (0.06, 0.04)))
        return blend(
            image, 0.95, mask=np.exp(-np.square(c.x / 0.012)) * (np.abs(c.y) > 0.5) * brain
        )
    if f.kind == "meningioma":
        angle = np.pi * (0.15 + 0.7 * f.v) * f.side
        place = (0.58 * np.sin(angle), -0.72 * np.cos(angle))
        r = 0.17 + 0.08 * f.size
        ball = c.ellipse(place, (r, r), soft=2) * edge(brain, 1)
        rim = c.ellipse(place, (r + 0.03, r + 0.03)) * brain
        image = blend(image, tone.water, mask=rim)
        return blend(image, 1.0 if bright else (tone.cortex + 0.12), mask=ball)
    if f.kind == "glioma":
        r = 0.16 + 0.08 * f.size
        rough = np.float32(0.05) * cloud(rng, c.shape, cells=9)
        swelling = edge(c.depth(spot, (r * 1.7, r * 1.9)) + 2 * rough, 0.08)
        image = blend(image, tone.sick, mask=swelling * brain)
        depth = c.depth(spot, (r, r * 1.1)) + rough
        image = blend(image, 1.0 if bright else tone.cortex, mask=edge(depth, 0.03) * brain)
        return blend(image, 0.5 * (tone.water + tone.sick), mask=edge(depth - 0.06, 0.03) * brain)
    if f.kind == "sclerosis":
        plaque = 0.97 if tone is T2 else 0.26
        for _ in range(8 + int(8 * f.size)):
            side, y = rng.choice((-1, 1)), rng.uniform(-0.5, 0.55)
            x = side * (0.2 + 0.22 * rng.random())
            r = rng.uniform(0.035, 0.06)
            oval = c.ellipse((x, y), (1.7 * r, r), tilt=rng.normal(0, 0.4), soft=3)
            image = blend(image, plaque, mask=oval)
        return image
    if f.kind == "infarction":
        wedge = c.ellipse((f.side * 0.6, spot[1]), (0.42, 0.26 + 0.14 * f.size), soft=8)
        return blend(
            image, tone.sick, mask=wedge * brain * (c.x * f.side > 0.08) * np.float32(0.85)
        )
    if f.kind == "cyst":
        r = 0.14 + 0.09 * f.size
        return blend(image, tone.water, mask=c.ellipse(spot, (r, r)))
    return image


def mr_head(scene: Scene) -> Grey:
    """A sagittal slice through the middle: face to the left, cerebellum, brain stem and neck."""
    body, tone = scene.anatomy, weighting(scene)
    c = canvas(scene.look, warp=0.02, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    head = c.depth((0.06, -0.16), (0.84, 0.72 + 0.04 * body.tall))
    face = c.depth((-0.42, 0.34), (0.32, 0.52), tilt=0.1)
    nose = c.bone((-0.66, 0.06), (-0.80, 0.30), radii=(0.06, 0.06))
    neck = c.bone((0.18, 0.4), (0.24, 1.4), radii=(0.42, 0.38))
    outline = union(head, face, nose, neck)
    image = blend(c.empty(), tone.fat, mask=edge(outline, 2 * c.px))
    muscle = 0.42 + 0.14 * cloud(rng, c.shape, cells=14)
    image = blend(image, muscle, mask=edge(outline - 0.05, 0.03))
    image = _face(c, image, tone)
    image = blend(image, tone.fat, mask=edge(head, 2 * c.px) * (c.y < 0.2))
    image = blend(
        image, tone.bone, mask=edge(head - 0.045, 2 * c.px) * edge(0.12 + 0.2 * c.x - c.y, 0.1)
    )
    inner = c.depth((0.06, -0.2), (0.74, 0.60 + 0.04 * body.tall))
    roof = edge(0.12 - c.y - 0.14 * c.x, 0.06)
    image = blend(image, tone.water, mask=edge(inner, 2 * c.px) * roof)
    brain = edge(inner - 0.02, 2 * c.px) * roof
    image = blend(image, gyri(scene, c, inner=inner - 0.02, rng=rng), mask=brain)
    image = _middle(scene, c, image, rng)
    for finding in scene.findings.values():
        if finding.kind == "meningioma":
            angle = -1.2 + 2.2 * finding.v
            place = (0.06 + 0.60 * np.sin(angle), -0.2 - 0.46 * np.cos(angle))
            r = 0.16 + 0.08 * finding.size
            image = blend(image, tone.water, mask=c.ellipse(place, (r + 0.03, r + 0.03)) * brain)
            image = blend(image, 0.95, mask=c.ellipse(place, (r, r)) * brain)
    return receive(scene, image)


def _face(c: Canvas, image: Grey, tone: Weighting) -> Grey:
    """Airways, tongue, jaw and the upper vertebrae."""
    image = blend(image, 0.03, mask=c.ellipse((-0.44, 0.27), (0.24, 0.05), tilt=0.1, soft=3))
    image = blend(image, 0.55, mask=c.ellipse((-0.42, 0.52), (0.22, 0.13), soft=4))
    image = blend(image, 0.03, mask=c.capsule((-0.16, 0.30), (-0.10, 1.3), radii=(0.07, 0.05)))
    image = blend(image, 0.05, mask=c.ellipse((-0.60, -0.02), (0.1, 0.07)))
    for k in range(5):
        place = (0.10 + 0.025 * k, 0.44 + 0.17 * k)
        image = blend(image, tone.white * 0.9, mask=c.ellipse(place, (0.09, 0.065)))
    cord = c.capsule((0.25, 0.2), (0.33, 1.4), radii=(0.10, 0.09))
    return blend(image, tone.water, mask=cord)


def _middle(scene: Scene, c: Canvas, image: Grey, rng: np.random.Generator) -> Grey:
    """Corpus callosum, ventricle, brain stem and cerebellum."""
    tone, sick = weighting(scene), scene.finding("hydrocephalus")
    grow = 1.0 + (1.2 + 0.5 * sick.size if sick else 0.0)
    image = blend(image, tone.water, mask=c.ellipse((0.04, -0.16), (0.30, 0.09 * grow), tilt=0.1))
    if not scene.finding("agenesis"):
        outer = c.depth((0.04, -0.13), (0.40, 0.11 + 0.10 * grow), tilt=0.08)
        arch = edge(0.035 - np.abs(outer - 0.03), 2 * c.px) * edge(-0.09 - c.y, 0.06)
        image = blend(image, min(1.0, tone.white * 1.25), mask=arch)
    image = blend(image, tone.cortex, mask=c.ellipse((0.06, -0.03), (0.15, 0.10), soft=3))
    image = blend(
        image, tone.white, mask=c.capsule((0.14, 0.02), (0.2, 0.36), radii=(0.10, 0.08), soft=3)
    )
    image = blend(image, tone.white, mask=c.ellipse((0.10, 0.15), (0.11, 0.12), soft=3))
    image = blend(
        image, tone.white, mask=c.capsule((0.22, 0.34), (0.33, 1.4), radii=(0.055, 0.045))
    )
    leaf = c.depth((0.46, 0.20), (0.24, 0.19), tilt=0.3)
    radius = np.hypot(c.x - 0.3, c.y - 0.16)
    leaves = 0.5 + 0.5 * np.cos(radius * np.float32(75) + cloud(rng, c.shape, cells=8))
    image = blend(image, tone.water, mask=edge(leaf + 0.02, 2 * c.px))
    image = blend(
        image, tone.cortex + (tone.white - tone.cortex) * leaves, mask=edge(leaf, 2 * c.px)
    )
    return blend(image, tone.water, mask=c.ellipse((0.30, 0.17), (0.035, 0.07)))


N_VERTEBRAE = 7


def mr_spine(scene: Scene) -> Grey:
    """Vertebrae, discs and cord from the side, with the belly to the left."""
    body, tone = scene.anatomy, weighting(scene)
    c = canvas(scene.look, warp=0.02, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    half = c.half[1]
    skin = np.float32(0.62) + 0.10 * np.cos(c.y * np.float32(1.6)) - c.x
    image = blend(c.empty(), tone.fat, mask=edge(skin, 2 * c.px))
    texture = 0.34 + 0.12 * cloud(rng, c.shape, cells=9)
    image = blend(image, texture, mask=edge(-0.02 - c.x - 0.1 * np.cos(c.y * 1.6), 0.05))
    stripes = (
        0.3 + 0.16 * np.cos(c.y * np.float32(20) - c.x * 14) + 0.08 * cloud(rng, c.shape, cells=20)
    )
    image = blend(image, stripes, mask=edge(skin - 0.16 - 0.1 * body.fat, 0.04) * (c.x > 0.25))
    step = 2.1 * half / N_VERTEBRAE
    centers = [_place(half, k, step) for k in range(N_VERTEBRAE)]
    image = _canal(c, image, tone, centers)
    for k, (x, y) in enumerate(centers):
        image = _vertebra(scene, c, image, number=k, center=(x, y), step=step)
    for finding in scene.findings.values():
        if finding.kind == "disc":
            image = _herniation(c, image, finding, centers=centers, step=step, tone=tone)
    return receive(scene, image)


def _place(half: float, number: int, step: float) -> Point:
    y = -1.05 * half + (number + 0.5) * step
    return 0.02 - 0.10 * np.cos(1.6 * y / half), y


def _canal(c: Canvas, image: Grey, tone: Weighting, centers: list[Point]) -> Grey:
    bend = -0.10 * np.cos(c.y * np.float32(1.6 / c.half[1]))
    image = blend(image, tone.water, mask=edge(0.085 - np.abs(c.x - 0.29 - bend), 2 * c.px))
    end = 0.35 * c.half[1]
    taper = np.clip((end - c.y) * 6, 0, 1) * np.float32(0.032) + np.float32(0.008)
    image = blend(image, 0.5, mask=edge(taper - np.abs(c.x - 0.29 - bend), 2 * c.px))
    for x, y in centers:
        process = c.capsule((x + 0.44, y + 0.06), (x + 0.62, y + 0.16), radii=(0.05, 0.045))
        image = blend(image, tone.white * 1.1, mask=process)
    return image


def _vertebra(
    scene: Scene, c: Canvas, image: Grey, *, number: int, center: Point, step: float
) -> Grey:
    """A vertebral body and the disc below it."""
    tone, (x, y) = weighting(scene), center
    height, width = 0.36 * step, 0.17
    broken, spots = scene.finding("fracture"), scene.finding("metastases")
    value = 0.62 if tone is not T2 else 0.42
    hit = _hit(spots)
    if spots and number in hit:
        value = 0.2 if tone is not T2 else 0.9
    dx, dy = np.abs(c.x - np.float32(x)), np.abs(c.y - np.float32(y))
    if broken and number == 2 + int(2.99 * broken.u):
        front = np.clip((x + width - c.x) / np.float32(2 * width), 0, 1)
        height = height * (1 - np.float32(0.45 + 0.3 * broken.size) * front)
        value = 0.25 if tone is not T2 else 0.85
    body = edge(np.minimum(width - dx, height - dy), 3 * c.px)
    shell = edge(np.minimum(width - dx, height - dy) + 0.018, 3 * c.px)
    disc = c.ellipse((x, y + step / 2), (width + 0.01, 0.11 * step))
    dry = scene.anatomy.age > 0.6 and number in (3, 4)
    image = blend(image, 0.3 if tone is not T2 else (0.2 if dry else 0.75), mask=disc)
    image = blend(image, 0.06, mask=shell)
    return blend(image, value, mask=body)


def _hit(spots: Finding | None) -> set[int]:
    if spots is None:
        return set()
    return {int(spots.u * N_VERTEBRAE), int(spots.v * N_VERTEBRAE), 3}


def _herniation(
    c: Canvas,
    image: Grey,
    f: Finding,
    *,
    centers: list[Point],
    step: float,
    tone: Weighting,
) -> Grey:
    """The image with a disc that bulges into the canal."""
    x, y = centers[3 + int(1.99 * f.u)]
    place = (x + 0.24, y + step / 2)
    image = blend(image, 0.06, mask=c.ellipse((x, y + step / 2), (0.18, 0.07 * step)))
    radii = (0.13 + 0.05 * f.size, 0.09 + 0.03 * f.size)
    image = blend(image, 0.05, mask=c.ellipse(place, (radii[0] + 0.02, radii[1] + 0.02)))
    return blend(image, 0.28 if tone is not T2 else 0.22, mask=c.ellipse(place, radii))
