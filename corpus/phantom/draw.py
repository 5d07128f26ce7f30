"""From a scene to pixels: which function draws which view, and grey or RGB."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.labels import Concepts
from corpus.phantom.an_heart import an_left_coronary, an_right_coronary
from corpus.phantom.angiography import an_brain, an_leg
from corpus.phantom.concepts import cuis
from corpus.phantom.ct import ct_head
from corpus.phantom.ct_body import ct_abdomen, ct_pelvis
from corpus.phantom.ct_chest import ct_chest
from corpus.phantom.mr import mr_brain, mr_head
from corpus.phantom.mr_spine import mr_spine
from corpus.phantom.pet import pet_body, pet_brain, pet_on_ct, side_by_side
from corpus.phantom.scenes import Scene
from corpus.phantom.texture import Grey, letters
from corpus.phantom.ultrasound import us_gallbladder
from corpus.phantom.us_organs import us_fetus, us_heart, us_kidney, us_thyroid
from corpus.phantom.views import VIEWS
from corpus.phantom.xr_bones import xr_hand, xr_knee, xr_pelvis
from corpus.phantom.xray import xr_chest

DRAWINGS: dict[str, Callable[[Scene], Grey]] = {
    "ct head": ct_head,
    "ct chest": ct_chest,
    "ct abdomen": ct_abdomen,
    "ct pelvis": ct_pelvis,
    "mr brain": mr_brain,
    "mr head": mr_head,
    "mr spine": mr_spine,
    "us gallbladder": us_gallbladder,
    "us kidney": us_kidney,
    "us fetus": us_fetus,
    "us thyroid": us_thyroid,
    "us heart": us_heart,
    "xr chest": xr_chest,
    "xr hand": xr_hand,
    "xr knee": xr_knee,
    "xr pelvis": xr_pelvis,
    "an left coronary": an_left_coronary,
    "an right coronary": an_right_coronary,
    "an brain": an_brain,
    "an leg": an_leg,
    "pet body": pet_body,
    "pet brain": pet_brain,
    "pet on ct": pet_on_ct,
}


@dataclass(frozen=True)
class Picture:
    """A drawn image.

    Attributes:
        pixels: (H, W) or (H, W, 3) uint8.
        concepts: the CUIs that are listed for it.
    """

    pixels: npt.NDArray[np.uint8]
    concepts: Concepts


def draw(scene: Scene) -> Picture:
    """The image of a scene and its concepts."""
    panels = VIEWS[scene.view].panels
    if panels:
        image = side_by_side(scene, tuple(DRAWINGS[name] for name in panels))
        size = max(12, scene.look.shape[0] // 8)
        image = letters(image, "A", (0.01, 0.82), size=size)
        image = letters(image, "B", (0.52, 0.82), size=size)
    else:
        image = DRAWINGS[scene.view](scene)
    pixels = (np.clip(image, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    if scene.look.colour and pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return Picture(pixels=pixels, concepts=cuis(scene.concepts))
