"""A choice of images counted: by category, by how frequent concepts are, and image by image."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from core.labels import LabelSpace, frequency_buckets
from core.metrics import column_sums
from corpus.sampling.candidates import CandidateImages, Mask
from corpus.sampling.choose import Choice


@dataclass(frozen=True, kw_only=True)
class ConceptBucket:
    """Concepts of about the same frequency.

    Attributes:
        name: images of each, `6-20`.
        n_concepts: how many they are.
        n_left: those of which an image is kept.
        n_pairs: their pairs of image and concept.
        n_kept: those of kept images.
        fewest: the smallest share of its images that a concept keeps.
    """

    name: str
    n_concepts: int
    n_left: int
    n_pairs: int
    n_kept: int
    fewest: float


def by_category(candidates: CandidateImages, kept: Mask) -> dict[str, tuple[int, int]]:
    """Images of each category, and those of them that are kept."""
    names = np.array(candidates.categories, dtype=np.str_)
    return {
        name: (int((names == name).sum()), int(kept[names == name].sum()))
        for name in np.unique(names).tolist()
    }


def by_frequency(candidates: CandidateImages, kept: Mask) -> list[ConceptBucket]:
    """Concepts by how many of all the images have them, and what is kept of them."""
    n_all = candidates.n_images
    n_kept = column_sums(candidates.targets[np.flatnonzero(kept)])
    buckets = []
    for bucket in frequency_buckets():
        here = bucket.holds(n_all)
        shares = n_kept[here] / np.maximum(n_all[here], 1)
        buckets.append(
            ConceptBucket(
                name=bucket.name,
                n_concepts=int(here.sum()),
                n_left=int((n_kept[here] > 0).sum()),
                n_pairs=int(n_all[here].sum()),
                n_kept=int(n_kept[here].sum()),
                fewest=float(shares.min(initial=1.0)),
            )
        )
    return buckets


def counted_lines(candidates: CandidateImages, choice: Choice) -> list[str]:
    """The choice in lines for a person."""
    n, n_kept = len(candidates), int(choice.kept.sum())
    lines = [
        f"{n_kept:,} of {n:,} images kept, {int(choice.protected.sum()):,} of them for rare"
        " concepts",
        f"  {'category':<12}{'images':>8}{'kept':>8}{'share':>8}",
    ]
    for name, (count, own) in by_category(candidates, choice.kept).items():
        lines.append(f"  {name or 'none given':<12}{count:>8,}{own:>8,}{own / count:>8.0%}")
    lines.append(
        f"  {'concepts of':<12}{'concepts':>10}{'with kept':>11}{'pairs':>9}{'kept':>9}"
        f"{'share':>8}{'least of one':>14}"
    )
    lines += [
        f"  {b.name:<12}{b.n_concepts:>10,}{b.n_left:>11,}{b.n_pairs:>9,}{b.n_kept:>9,}"
        f"{b.n_kept / b.n_pairs:>8.0%}{b.fewest:>14.0%}"
        for b in by_frequency(candidates, choice.kept)
        if b.n_concepts
    ]
    return lines


def choice_rows(candidates: CandidateImages, choice: Choice) -> Iterator[list[object]]:
    """A header and a row an image: whether it is kept, why, and when it was chosen."""
    yield ["image_id", "category", "state", "reason", "rank"]
    for row, (image_id, category) in enumerate(
        zip(candidates.image_ids, candidates.categories, strict=True)
    ):
        kept, protected = bool(choice.kept[row]), bool(choice.protected[row])
        reason = "rare concept" if protected else "chosen" if kept and choice.rank[row] else ""
        rank = int(choice.rank[row]) or ""
        yield [image_id, category, "kept" if kept else "left out", reason, rank]


def concept_rows(
    candidates: CandidateImages, kept: Mask, *, labels: LabelSpace, names: Mapping[str, str]
) -> Iterator[list[object]]:
    """A header and a row a concept, the rarest first."""
    yield ["CUI", "name", "images", "kept"]
    n_all = candidates.n_images
    n_kept = column_sums(candidates.targets[np.flatnonzero(kept)])
    for column in np.lexsort((np.arange(len(n_all)), n_all)).tolist():
        if n_all[column]:
            cui = labels.cuis[column]
            yield [cui, names.get(cui, ""), int(n_all[column]), int(n_kept[column])]
