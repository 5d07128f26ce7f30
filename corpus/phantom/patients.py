"""Patients and their images, drawn at random from a seed.

A scene depends on the seed and on its number alone, so a corpus of more images begins with the
images of a smaller one.
"""

from collections.abc import Iterator

import numpy as np

from core.categories import Category
from corpus.phantom.scenes import Anatomy, Finding, Look, Patient, Scene, View
from corpus.phantom.views import CONSTANT, KINDS, NEVER_IN_TRAINING, VIEWS

MIX: dict[Category, int] = {
    Category.DRCT: 7,
    Category.DRXR: 6,
    Category.DRMR: 5,
    Category.DRUS: 3,
    Category.DRAN: 2,
    Category.DRPE: 1,
    Category.DRCO: 1,
}
"""Patients of each category in a block of 25: the task's order of categories, its rarest ones
less rare (under 1 % there), so that small corpora have them, too."""

SPLIT_CYCLE = ("train", "valid", "train", "test", "train")
"""Splits of the patients of one category, in turn: 60 / 20 / 20 in every category."""

MISSED = 0.06
"""Chance that a concept is drawn and yet not listed. Real lists come from captions, which do not
say everything. The concepts of the category itself are never missed."""

GOLDEN_RATIO = (5**0.5 - 1) / 2

IMAGES_OF_A_PATIENT = (0.45, 0.30, 0.15, 0.10)
"""Chances of one to four images."""

MOST_FINDINGS = 2
"""Findings of one patient, beside the harmless ones."""

FEWEST_CONCEPTS = 3
"""No concept is missed where this few are listed."""

SEEN = 0.92
"""Chance that a patient's finding lies in the slice or field of an image."""


def patients(seed: int) -> Iterator[Patient]:
    """Patients without end, the same for the same seed."""
    order = [category for category, n in MIX.items() for _ in range(n)]
    turns = dict.fromkeys(MIX, 0)
    block = 0
    while True:
        # Four numbers keep this stream apart from those of patients and images.
        rng = np.random.default_rng([seed, block, 0, 1])
        for position, slot in enumerate(rng.permutation(len(order))):
            category = order[slot]
            yield _patient(seed, block * len(order) + position, category, turns[category])
            turns[category] += 1
        block += 1


def _patient(seed: int, number: int, category: Category, turn: int) -> Patient:
    """The patient of that number, the `turn`th of the category (from 0)."""
    rng = np.random.default_rng([seed, number])
    split = SPLIT_CYCLE[turn % len(SPLIT_CYCLE)]
    name = _view(category, turn + seed)
    return Patient(
        number=number,
        category=category,
        split=split,
        view=name,
        anatomy=_anatomy(rng),
        findings=_findings(VIEWS[name], split, rng),
        aspect=float(rng.uniform(*VIEWS[name].aspect)),
        n_images=1 + int(rng.choice(len(IMAGES_OF_A_PATIENT), p=IMAGES_OF_A_PATIENT)),
    )


def _view(category: Category, turn: int) -> str:
    """One of the category's views, each as often as its share says.

    Steps of the golden ratio spread the views evenly over the turns, and over every fifth turn as
    well, so that a view is not lacking in a split by chance.
    """
    point = (turn * GOLDEN_RATIO) % 1.0
    views = [(name, view.share) for name, view in VIEWS.items() if view.category == category]
    for name, share in views:
        if point < share:
            return name
        point -= share
    return views[-1][0]


def _anatomy(rng: np.random.Generator) -> Anatomy:
    wide, tall, fat, age = rng.random(4)
    return Anatomy(wide=wide, tall=tall, fat=fat, age=age, seed=int(rng.integers(2**31)))


def _findings(view: View, split: str, rng: np.random.Generator) -> tuple[Finding, ...]:
    """What the patient has: any harmless kinds, and at most `MOST_FINDINGS` others."""
    found: list[tuple[float, Finding]] = []
    for kind, chance in view.findings.items():
        drawn, size, u, v = rng.random(4)
        side = int(rng.choice((-1, 1)))
        barred = split == "train" and kind in NEVER_IN_TRAINING
        hidden = any(other.kind == KINDS[kind].unless for _, other in found)
        if drawn < chance and not barred and not hidden:
            rank = 0.0 if KINDS[kind].harmless else drawn / chance
            found.append((rank, Finding(kind=kind, side=side, size=size, u=u, v=v)))
    n_harmless = sum(rank == 0.0 for rank, _ in found)
    found.sort(key=lambda entry: entry[0])
    return tuple(finding for _, finding in found[: n_harmless + MOST_FINDINGS])


def scenes(seed: int) -> Iterator[tuple[Patient, Scene]]:
    """All images without end, each with its patient; number n is the same whoever asks."""
    for patient in patients(seed):
        for number in range(patient.n_images):
            yield patient, scene(patient, number, seed=seed)


def scene(patient: Patient, number: int, *, seed: int) -> Scene:
    """The patient's image of that number, counted from 0."""
    # One more, since numpy takes [a, b] and [a, b, 0] for the same seed.
    rng = np.random.default_rng([seed, patient.number, number + 1])
    seen = {f.kind: f for f in patient.findings if rng.random() < SEEN}
    return Scene(
        view=patient.view,
        anatomy=patient.anatomy,
        look=_look(patient.aspect, rng),
        findings=seen,
        concepts=_listed(patient, seen, rng),
    )


def _listed(patient: Patient, seen: dict[str, Finding], rng: np.random.Generator) -> frozenset[str]:
    """What is listed: everything drawn, less what is missed while enough remains."""
    listed = list(VIEWS[patient.view].lists)
    for kind, finding in seen.items():
        listed += KINDS[kind].lists
        if KINDS[kind].sided:
            listed.append("right" if finding.side < 0 else "left")
    if all(KINDS[finding.kind].harmless for finding in patient.findings):
        listed.append("normal")
    kept = list(dict.fromkeys(listed))
    for word in [w for w in kept if w not in CONSTANT[patient.category]]:
        if rng.random() < MISSED and len(kept) > FEWEST_CONCEPTS:
            kept.remove(word)
    return frozenset(kept)


def _look(aspect: float, rng: np.random.Generator) -> Look:
    long_side = int(rng.integers(200, 321))
    height = long_side if aspect < 1 else round(long_side / aspect)
    width = long_side if aspect >= 1 else round(long_side * aspect)
    return Look(
        shape=(height, width),
        tilt=float(rng.normal(0, 0.05)),
        dx=float(rng.normal(0, 0.03)),
        dy=float(rng.normal(0, 0.03)),
        zoom=float(rng.uniform(0.9, 1.06)),
        level=float(rng.uniform(-1, 1)),
        window=float(rng.random()),
        grain=float(rng.random()),
        colour=bool(rng.random() < 0.4),
        seed=int(rng.integers(2**31)),
    )
