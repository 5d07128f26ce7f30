"""Sagittal magnetic resonance of the lumbar spine."""

import numpy as np

from corpus.phantom.canvas import Canvas, Point, canvas, edge
from corpus.phantom.mr import T2, Weighting, receive, weighting
from corpus.phantom.scenes import Finding, Scene
from corpus.phantom.texture import Grey, blend, cloud

N_VERTEBRAE = 7


def mr_spine(scene: Scene) -> Grey:
    """Vertebrae, discs and cord from the side, with the belly to the left."""
    body, tone = scene.anatomy, weighting(scene)
    c = canvas(scene.look, warp=0.02, seed=body.seed)
    rng = np.random.default_rng(body.seed)
    half = c.half[1]
    skin = np.float32(0.62) + 0.10 * np.cos(c.y * np.float32(1.6)) - c.x
    image = blend(c.empty(), tone.fat, edge(skin, 2 * c.px))
    texture = 0.34 + 0.12 * cloud(rng, c.shape, cells=9)
    image = blend(image, texture, edge(-0.02 - c.x - 0.1 * np.cos(c.y * 1.6), 0.05))
    stripes = (
        0.3 + 0.16 * np.cos(c.y * np.float32(20) - c.x * 14) + 0.08 * cloud(rng, c.shape, cells=20)
    )
    image = blend(image, stripes, edge(skin - 0.16 - 0.1 * body.fat, 0.04) * (c.x > 0.25))
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
    image = blend(image, tone.water, edge(0.085 - np.abs(c.x - 0.29 - bend), 2 * c.px))
    end = 0.35 * c.half[1]
    taper = np.clip((end - c.y) * 6, 0, 1) * np.float32(0.032) + np.float32(0.008)
    image = blend(image, 0.5, edge(taper - np.abs(c.x - 0.29 - bend), 2 * c.px))
    for x, y in centers:
        process = c.capsule((x + 0.44, y + 0.06), (x + 0.62, y + 0.16), (0.05, 0.045))
        image = blend(image, tone.white * 1.1, process)
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
    image = blend(image, 0.3 if tone is not T2 else (0.2 if dry else 0.75), disc)
    image = blend(image, 0.06, shell)
    return blend(image, value, body)


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
    image = blend(image, 0.06, c.ellipse((x, y + step / 2), (0.18, 0.07 * step)))
    radii = (0.13 + 0.05 * f.size, 0.09 + 0.03 * f.size)
    image = blend(image, 0.05, c.ellipse(place, (radii[0] + 0.02, radii[1] + 0.02)))
    return blend(image, 0.28 if tone is not T2 else 0.22, c.ellipse(place, radii))
