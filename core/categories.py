"""The seven imaging categories of the task: as folders, people and concepts name them."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum
from functools import cache


class Category(StrEnum):
    """Imaging category of an image, as the task's folders name it (2019 and 2020 editions).

    Source: Table 1 of the iml paper at ImageCLEFmed Caption 2020; `DR` stands for the ROCO
    corpus' "diagnostic radiology".
    """

    DRAN = "DRAN"
    DRCO = "DRCO"
    DRCT = "DRCT"
    DRMR = "DRMR"
    DRPE = "DRPE"
    DRUS = "DRUS"
    DRXR = "DRXR"

    @property
    def meaning(self) -> str:
        """The category in words."""
        return _MEANINGS[self]


_MEANINGS = {
    Category.DRAN: "angiography",
    Category.DRCO: "combined modalities in one image",
    Category.DRCT: "computed tomography",
    Category.DRMR: "magnetic resonance",
    Category.DRPE: "positron emission tomography",
    Category.DRUS: "ultrasound",
    Category.DRXR: "X-ray and 2D tomography",
}

CATEGORIES: tuple[str, ...] = tuple(Category)

UNKNOWN = ""
"""The category of an image that came without one (every edition since 2021)."""

_NAMES: dict[str, tuple[str, ...]] = {
    Category.DRAN: (
        "angiography", "angiogram", "angio", "XA", "DSA", "coronary angiography",
        "digital subtraction angiography", "X-ray angiography",
    ),
    Category.DRCO: (
        "combined", "combined modalities", "combined modalities in one image", "multimodal",
        "PET/CT", "PT/CT", "CT/PET", "PET/MR", "PET/MRI", "SPECT/CT", "fusion",
    ),
    Category.DRCT: (
        "CT", "CAT", "computed tomography", "X-ray computed tomography", "computer tomography",
        "CT scan", "CBCT", "HRCT",
    ),
    Category.DRMR: (
        "MR", "MRI", "fMRI", "MRT", "magnetic resonance", "magnetic resonance imaging", "MR scan",
        "MRI scan", "nuclear magnetic resonance",
    ),
    Category.DRPE: ("PET", "PT", "PET scan", "positron emission tomography"),
    Category.DRUS: (
        "US", "ultrasound", "ultrasonography", "ultrasonic", "sonography", "sonogram", "echo",
        "echocardiography", "echocardiogram",
    ),
    Category.DRXR: (
        "X-ray", "X-rays", "XR", "CR", "DX", "DR", "RG", "RF", "MG", "PX", "IO", "radiograph",
        "radiography", "plain X-ray", "plain radiography", "CXR", "chest X-ray", "mammography",
        "mammogram", "fluoroscopy", "X-ray and 2D tomography", "panoramic radiography",
    ),
}  # fmt: skip
"""Plain names and DICOM's codes of modalities (PS3.3, C.7.3.1.1.1), by category."""


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


_CATEGORY_OF_NAME: dict[str, str] = {
    _plain(name): str(category) for category, names in _NAMES.items() for name in (category, *names)
}

_LONG = 6
"""Letters from which on a misspelt name is told from another word: PET and MET differ by one."""


@cache
def category_of_name(name: str) -> str | None:
    """The category that a plain name or a code stands for; None where it stands for none.

    Case, blanks, hyphens and slashes make no difference; a longer word may be misspelt.

    Example:
        >>> category_of_name("x ray"), category_of_name("Ultrasuond"), category_of_name("cat photo")
        ('DRXR', 'DRUS', None)
    """
    plain = _plain(name)
    if plain in _CATEGORY_OF_NAME:
        return _CATEGORY_OF_NAME[plain]
    long = [known for known in _CATEGORY_OF_NAME if len(known) >= _LONG]
    near = get_close_matches(plain, long, n=1, cutoff=0.85) if len(plain) >= _LONG else []
    return _CATEGORY_OF_NAME[near[0]] if near else None


KNOWN_NAMES = ", ".join(f"{c} ({', '.join(_NAMES[c][:2])})" for c in CATEGORIES)
"""The categories with some of the names that `category_of_name` takes, for messages."""

MODALITY_CONCEPTS: dict[str, Category] = {
    "C0002978": Category.DRAN,  # angiogram
    "C0085532": Category.DRAN,  # coronary angiography
    "C1699633": Category.DRCO,  # PET/CT scan
    "C0040405": Category.DRCT,  # X-ray computed tomography
    "C0024485": Category.DRMR,  # magnetic resonance imaging
    "C0598801": Category.DRMR,  # diffusion weighted imaging
    "C0032743": Category.DRPE,  # positron emission tomography
    "C0041618": Category.DRUS,  # ultrasonography
    "C0013516": Category.DRUS,  # echocardiography
    "C1306645": Category.DRXR,  # plain X-ray
    "C0043299": Category.DRXR,  # diagnostic radiologic examination
    "C1962945": Category.DRXR,  # radiographic imaging procedure
    "C0024671": Category.DRXR,  # mammography
}
"""Concepts that say what kind of image it is, with how they were found in docs/categories.md.

Left out on purpose: C0040398, emission tomography (2020 has it on every CT image), C0034579,
panoramic radiography (ROCO has it on every CT image), C0040395, tomography, C0441633, scanning.
"""

_CROSS_SECTIONS = {Category.DRCT, Category.DRMR, Category.DRPE, Category.DRUS, Category.DRCO}


def category_of_concepts(concepts: Iterable[str]) -> str:
    """The category that an image's own concepts tell; `UNKNOWN` where none of them tells one.

    Two categories are DRCO, combined modalities, but for angiography: beside a cross-section it is
    a way of taking that (CT angiography is CT), and an X-ray beside it is how it was taken.

    Example:
        >>> category_of_concepts(["C0817096", "C0040405"])
        'DRCT'
        >>> category_of_concepts(["C0002978", "C0024485"])
        'DRMR'
        >>> category_of_concepts(["C0032743", "C0040405"])
        'DRCO'
    """
    told = {MODALITY_CONCEPTS[cui] for cui in concepts if cui in MODALITY_CONCEPTS}
    if Category.DRAN in told:
        told.discard(Category.DRAN if told & _CROSS_SECTIONS else Category.DRXR)
    if len(told) > 1:
        return Category.DRCO.value
    return next((category.value for category in told), UNKNOWN)
