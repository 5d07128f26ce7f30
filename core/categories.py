"""The seven imaging categories of the task, named by their folders."""

from enum import StrEnum


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
