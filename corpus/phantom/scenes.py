"""Who is in the phantom corpus, what they have, and how each image is taken, before it is drawn."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from core.categories import Category


@dataclass(frozen=True)
class FindingKind:
    """A kind of finding.

    Attributes:
        lists: the concepts that an image gets when the finding is drawn.
        sided: whether it lies on one side, which is listed, too.
        harmless: whether a patient who has nothing else counts as normal.
        unless: a kind that would hide it; a patient who has that one does not get this one.
    """

    lists: tuple[str, ...]
    sided: bool = False
    harmless: bool = False
    unless: str = ""


@dataclass(frozen=True, kw_only=True)
class View:
    """A way of looking at a part of the body.

    Attributes:
        category: the category of its images.
        share: how many of the category's patients are looked at in this way.
        lists: the concepts of each of its images.
        findings: kind to the chance that a patient has it.
        aspect: width over height, from and to.
        panels: the views that are drawn side by side; none where it is drawn as one.
    """

    category: Category
    share: float
    lists: tuple[str, ...]
    findings: Mapping[str, float] = field(default_factory=dict)
    aspect: tuple[float, float] = (1.2, 1.4)
    panels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something found in a patient, the same in all of the patient's images.

    Attributes:
        kind: a key of `KINDS`.
        side: -1 for the patient's right (the left of the image), 1 for the left.
        size, u, v: in [0, 1]; what they scale is up to the view.
    """

    kind: str
    side: int
    size: float
    u: float
    v: float


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """How a patient is built; every number in [0, 1], `seed` for what needs many numbers."""

    wide: float
    tall: float
    fat: float
    age: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one image was taken.

    Attributes:
        shape: height and width in pixels.
        tilt: in radians, clockwise.
        dx, dy: the shift, in half sides of the image.
        zoom: about 1.
        level: height of the slice, in [-1, 1].
        window, grain: in [0, 1], the window or exposure and the noise.
        colour: whether it is stored as RGB; what is coloured by itself is so in any case.
        seed: for noise.
    """

    shape: tuple[int, int]
    tilt: float
    dx: float
    dy: float
    zoom: float
    level: float
    window: float
    grain: float
    colour: bool
    seed: int


@dataclass(frozen=True, kw_only=True)
class Scene:
    """All that is drawn in one image, and what is listed for it.

    Attributes:
        view: a key of `VIEWS`.
        findings: those that are drawn, by kind.
        concepts: words of `CONCEPTS`, in no order that means something.
    """

    view: str
    anatomy: Anatomy
    look: Look
    findings: dict[str, Finding]
    concepts: frozenset[str]

    def finding(self, kind: str) -> Finding | None:
        """The finding of that kind, where it is drawn."""
        return self.findings.get(kind)


@dataclass(frozen=True, kw_only=True)
class Patient:
    """A person with one to four images of one view.

    Attributes:
        number: counted from 0; also the name of the group.
        aspect: width over height of the images.
        n_images: how many images.
    """

    number: int
    category: Category
    split: str
    view: str
    anatomy: Anatomy
    findings: tuple[Finding, ...]
    aspect: float
    n_images: int
