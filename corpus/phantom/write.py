"""The phantom corpus: drawn radiology images whose concepts can be learned from what they show.

It stands in where there is no data: for the demo, for tests and for benchmarks. No image or list
in it comes from a patient. Seven categories, about ninety concepts, groups, and the layout of the
task's edition of 2020:

    train/DRCT/PHAN_00001.jpg ...    valid/    test/
    Training-Concepts.txt Validation-Concepts.txt Test-Concepts.txt    id TAB CUI;CUI
    string_concepts.csv                                        CUI TAB name
    groups.csv                                                 image_id,split,category,group
    train_captions.csv valid_captions.csv                      ID,Caption
    phantom.json                                               written last
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from core.errors import ConfigError, CorpusError, first_few
from core.images import SPLITS
from core.labels import Concepts
from core.progress import Advance
from core.storage.documents import parse_json
from core.storage.drafts import draft_folder, replace_folder
from core.storage.folders import write_json
from core.storage.tables import write_rows
from corpus.phantom.angiography import an_brain, an_left_coronary, an_leg, an_right_coronary
from corpus.phantom.canvas import Grey, letters
from corpus.phantom.concepts import cuis, names
from corpus.phantom.ct import ct_abdomen, ct_chest, ct_head, ct_pelvis
from corpus.phantom.mr import mr_brain, mr_head, mr_spine
from corpus.phantom.patients import scenes
from corpus.phantom.pet import pet_body, pet_brain, pet_on_ct, side_by_side
from corpus.phantom.scenes import Scene
from corpus.phantom.ultrasound import us_fetus, us_gallbladder, us_heart, us_kidney, us_thyroid
from corpus.phantom.views import VIEWS, caption
from corpus.phantom.xray import xr_chest, xr_hand, xr_knee, xr_pelvis

VERSION = 1
"""Raised whenever the same settings would give other images or concepts."""

MANIFEST = "phantom.json"
NAMES = "string_concepts.csv"
GROUPS = "groups.csv"
CONCEPT_LISTS = {
    "train": "Training-Concepts.txt",
    "valid": "Validation-Concepts.txt",
    "test": "Test-Concepts.txt",
}
CAPTIONS = {"train": "train_captions.csv", "valid": "valid_captions.csv"}

_QUALITY = 90
_IMAGE = re.compile(rf"(?:{'|'.join(SPLITS)})/DR[A-Z]{{2}}/PHAN_\d{{5,}}\.jpg")


@dataclass(frozen=True, kw_only=True)
class DrawnImage:
    """What the corpus' lists say of one image."""

    image_id: str
    split: str
    category: str
    group: str
    concepts: Concepts
    caption: str


def draw_corpus(
    folder: Path,
    *,
    n_images: int = 600,
    seed: int = 0,
    advance: Advance | None = None,
) -> Path:
    """The folder, holding a phantom corpus of these settings.

    A finished one is left as it is; an unfinished one, or one of other settings, is replaced by a
    whole new one, and only then. An image depends on the seed and on its number alone: a corpus of
    more images begins with those of a smaller one, and the same settings give the same bytes.

    Args:
        folder: where it lies or shall lie.
        n_images: of all splits together, about 60 / 20 / 20; below 200 some splits lack the rarer
            categories.
        seed: 0 or more.
        advance: told of each image that is drawn.

    Raises:
        ConfigError: no images are asked for, or the seed is below 0.
        CorpusError: the folder holds something that is not a phantom corpus.
    """
    if n_images < 1 or seed < 0:
        raise ConfigError(
            f"phantom corpus: expected n_images of 1 or more and a seed of 0 or more, found"
            f" {n_images} and {seed}"
        )
    settings = {"n_images": n_images, "seed": seed, "version": VERSION}
    if _read_manifest(folder) == settings:
        return folder
    _refuse_foreign(folder)
    with draft_folder(folder) as draft:
        _write(draft, n_images=n_images, seed=seed, advance=advance)
        write_json(draft / MANIFEST, settings)
        if _read_manifest(folder) != settings:  # else another process has drawn the same since
            replace_folder(folder, draft)
    return folder


def _read_manifest(folder: Path) -> Any:
    """What the folder's manifest says, None where it has none that can be read."""
    try:
        return parse_json((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _refuse_foreign(folder: Path) -> None:
    """Refuse a folder with any file that a phantom corpus does not have."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise CorpusError(f"{folder}: is a file; name a folder for the phantom corpus")
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())
    drawn = [name for name in found if _IMAGE.fullmatch(name)]
    lists = {*CONCEPT_LISTS.values(), *CAPTIONS.values(), NAMES, GROUPS, MANIFEST}
    foreign = [name for name in found if name not in lists and not _IMAGE.fullmatch(name)]
    # Lists alone may be those of a real corpus, whose images lie elsewhere.
    if foreign or (found and not drawn):
        raise CorpusError(
            f"{folder}: holds files that are not of a phantom corpus:"
            f" {first_few(foreign or found)}; name another folder, or empty this one"
        )


def _write(folder: Path, *, n_images: int, seed: int, advance: Advance | None) -> None:
    """Write images and lists into a new folder."""
    images = []
    for number, (patient, scene) in enumerate(islice(scenes(seed), n_images), start=1):
        picture = draw(scene)
        image = DrawnImage(
            image_id=f"PHAN_{number:05d}",
            split=patient.split,
            category=patient.category,
            group=f"P{patient.number:05d}",
            concepts=picture.concepts,
            caption=caption(scene),
        )
        path = folder / image.split / image.category / f"{image.image_id}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.pixels).save(path, quality=_QUALITY)
        images.append(image)
        if advance is not None:
            advance(1)
    _write_lists(folder, images)


def _write_lists(folder: Path, images: Sequence[DrawnImage]) -> None:
    for split, name in CONCEPT_LISTS.items():
        lines = [f"{i.image_id}\t{';'.join(i.concepts)}\n" for i in images if i.split == split]
        (folder / name).write_text("".join(lines), encoding="utf-8")
    for split, name in CAPTIONS.items():
        told = [(i.image_id, i.caption) for i in images if i.split == split]
        write_rows(folder / name, [("ID", "Caption"), *told])
    lines = [f"{cui}\t{name}\n" for cui, name in names().items()]
    (folder / NAMES).write_text("".join(lines), encoding="utf-8")
    rows = [(i.image_id, i.split, i.category, i.group) for i in images]
    write_rows(folder / GROUPS, [("image_id", "split", "category", "group"), *rows])


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
        image = letters(image, "A", place=(0.01, 0.82), size=size)
        image = letters(image, "B", place=(0.52, 0.82), size=size)
    else:
        image = DRAWINGS[scene.view](scene)
    pixels = (np.clip(image, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    if scene.look.colour and pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return Picture(pixels=pixels, concepts=cuis(scene.concepts))
