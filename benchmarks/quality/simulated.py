"""Scores of a simulated detector on real label sets: what a decision rule is tried on.

Images keep their true sets, so concepts have their real frequencies and stand together as they do.
What is drawn is how well a detector tells them apart. Of each image and concept it sees

    s = d y + noise,    noise of variance 1, d the strength (the d' of signal detection),

and the log odds that the concept is there, given s alone, are

    base rate + d s - d^2 / 2.

A detector that reports these is calibrated, concept by concept. A `Setting` makes it less good:
noise that is shared, a detector that does not know how hard an image is, reports that are bent.
Beside the reported probabilities, `Simulated` keeps those that a reader of s would give who knows
the image's true strength and base rates: the calibration that a rule could have at best. Where two
values of s are reported alike (`folded`), that reader is told only that it was one of the two.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD

from core.categories import CATEGORIES
from core.labels import LabelSpace, Targets
from core.metrics import column_sums
from corpus.readers.concept_lists import ROCO_LIST, read_concept_list

ROCO = Path(__file__).parents[3] / "shared" / "roco" / "validation_cuis.txt"
"""8,180 real concept lists, where they lie beside the project."""

N_CLUSTERS = 100  # of concepts: about 30 a cluster
N_FOLDS = 5
RARE = 0.01  # share of images below which a detector may be over-confident
_PRIOR = 20.0  # images of the whole corpus added to those of a category for its base rates

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class LabelSets:
    """True sets, with groups of images and of concepts found in them.

    Attributes:
        image_ids: N ids.
        labels: all concepts that occur.
        targets: (N, L).
        kinds: (N,) which of the seven pseudo-categories an image belongs to.
        clusters: (L,) cluster of each concept: those of one cluster stand together.
    """

    image_ids: tuple[str, ...]
    labels: LabelSpace
    targets: Targets
    kinds: Ints
    clusters: Ints

    @property
    def categories(self) -> tuple[str, ...]:
        """N names of pseudo-categories; the task's names stand for numbers here."""
        return tuple(str(CATEGORIES[kind]) for kind in self.kinds)


def read_label_sets(path: Path = ROCO, *, n_images: int | None = None) -> LabelSets:
    """The images of a concept list that have concepts, or so many of them, drawn evenly.

    Pseudo-categories are seven clusters of images, found on twenty directions of their tf-idf
    weighted sets; clusters of concepts are found on the same directions. As they come from the sets
    themselves, a pseudo-category says more of an image's concepts than an imaging category would:
    what rules gain by category alone is too much here.
    """
    found = read_concept_list(path, ROCO_LIST).concepts
    ids = tuple(image_id for image_id, concepts in found.items() if concepts)
    if n_images is not None:
        drawn = np.random.default_rng(0).choice(
            len(ids), size=min(n_images, len(ids)), replace=False
        )
        ids = tuple(ids[i] for i in np.sort(drawn))
    labels = LabelSpace.of(found[image_id] for image_id in ids)
    targets = labels.encode([found[image_id] for image_id in ids])
    rarity = np.log(len(ids) / column_sums(targets.matrix)).astype(np.float64)
    weighted = targets.matrix.astype(np.float64).multiply(rarity).tocsr()
    directions = TruncatedSVD(20, random_state=0).fit(weighted)
    of_images = directions.transform(weighted)
    of_concepts = directions.components_.T * rarity[:, None]
    return LabelSets(
        image_ids=ids,
        labels=labels,
        targets=targets,
        kinds=_clustered(of_images, n=len(CATEGORIES)),
        clusters=_clustered(of_concepts, n=min(N_CLUSTERS, len(labels) // 2)),
    )


def _clustered(vectors: npt.NDArray[np.float64], *, n: int) -> Ints:
    """(n,) clusters of vectors by their direction."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    found = KMeans(n, n_init=1, random_state=0).fit(vectors / np.maximum(length, 1e-12))
    return np.asarray(found.labels_, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a simulated detector falls short of knowing what it sees. All 0: it does not.

    Attributes:
        name: what tables call it.
        image_noise: share of the noise's variance that all concepts of an image have in common.
        cluster_noise: share that the concepts of a cluster have in common, image by image.
        hardness: standard deviation of the logarithm of an image's strength. Its scores say how
            hard it found an image.
        hidden: they do not: it takes every image for one of the mean strength.
        sharpness: the factor that reported log odds are too large by.
        bias: what is added to them.
        rare_sharpness: the factor of the evidence for concepts of less than 1 % of the images.
        concept_sharpness: standard deviation of the logarithm of each concept's own factor.
        concept_bias: standard deviation of each concept's own bias.
        folded: share of concepts whose log odds z are reported as -|z|: the surest ones sink.
        by_category: base rates are those of the image's category, and the detector knows them.
        category_strength: as `hardness`, of a category, and hidden.
        category_bias: standard deviation of each category's own bias.
        inverted: share of images whose evidence is reported with the wrong sign.
        valid_sharpness, valid_bias: as `sharpness` and `bias`, in the images of valid alone.
        valid_kinds: valid takes its images from half of the categories, test from the others.
        valid_share: share of the images that could be in valid that are.
        calibratable: whether what is learnt on valid holds on test.
    """

    name: str
    image_noise: float = 0.0
    cluster_noise: float = 0.0
    hardness: float = 0.0
    hidden: bool = False
    sharpness: float = 1.0
    bias: float = 0.0
    rare_sharpness: float = 1.0
    concept_sharpness: float = 0.0
    concept_bias: float = 0.0
    folded: float = 0.0
    by_category: bool = False
    category_strength: float = 0.0
    category_bias: float = 0.0
    inverted: float = 0.0
    valid_sharpness: float = 1.0
    valid_bias: float = 0.0
    valid_kinds: bool = False
    valid_share: float = 1.0
    calibratable: bool = True


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What a detector says of every image, and which of them it is calibrated on.

    Attributes:
        reported: (N, L) probabilities that the decisions are made from.
        known: (N, L) probabilities given the same evidence with its true meaning.
        valid: (N,) images to fit on. Those neither in valid nor in test are not used.
        test: (N,) images to judge on.
        folds: (N,) fold of each image of valid, drawn evenly.
    """

    reported: Floats
    known: Floats
    valid: Bools
    test: Bools
    folds: npt.NDArray[np.int16]


def simulate(sets: LabelSets, setting: Setting, *, strength: float, seed: int) -> Simulated:
    """A detector of this strength under this setting; another seed is another draw of everything.

    Args:
        strength: distance between the evidence for concepts that are there and that are not, in
            standard deviations of the noise.
    """
    rng = np.random.default_rng(seed)
    n_kinds = len(CATEGORIES)
    valid, test = _halves(sets, setting, rng)
    of_image = np.exp(setting.hardness * rng.standard_normal(len(sets.kinds)))
    of_kind = np.exp(setting.category_strength * rng.standard_normal(n_kinds))[sets.kinds]
    own = (strength * of_image * of_kind).astype(np.float32)[:, None]
    held = np.full_like(own, strength) if setting.hidden else own / of_kind[:, None]
    held = held.astype(np.float32)
    seen = _noise(sets, setting, rng)
    rows, columns = sets.targets.matrix.nonzero()
    seen[rows, columns] += own[rows, 0]
    base = _base_rates(sets, by_category=setting.by_category)
    known = base + own * seen
    known -= own * own / 2
    inverted = rng.random(len(seen)) < setting.inverted
    folded = np.flatnonzero(rng.random(seen.shape[1]) < setting.folded)
    sharpness = np.where(_shares(sets) < RARE, setting.rare_sharpness, 1.0).astype(np.float32)
    if len(folded):
        its_base = np.broadcast_to(base, seen.shape)[:, folded]
        other = held - 2 * its_base / (sharpness[folded] * held) - seen[:, folded]
        known[:, folded] = _either(seen[:, folded], other, own, its_base)
    seen *= held
    seen -= held * held / 2
    seen[inverted] *= np.float32(-1)
    seen *= sharpness
    reported = _bent(seen, base, folded, sets, setting, rng)
    reported[valid] *= np.float32(setting.valid_sharpness)
    reported[valid] += np.float32(setting.valid_bias)
    return Simulated(
        reported=np.asarray(expit(reported), dtype=np.float32),
        known=np.asarray(expit(known), dtype=np.float32),
        valid=valid,
        test=test,
        folds=rng.permutation(np.arange(len(valid)) % N_FOLDS).astype(np.int16),
    )


def _halves(sets: LabelSets, setting: Setting, rng: np.random.Generator) -> tuple[Bools, Bools]:
    """Which images are valid and which are test: no image is both."""
    if setting.valid_kinds:
        sizes = np.bincount(sets.kinds, minlength=len(CATEGORIES))
        first = np.zeros(len(sizes), dtype=np.bool_)
        for kind in rng.permutation(len(sizes)):  # until half of the images are in
            first[kind] = sizes[first].sum() < sizes.sum() / 2
        valid = first[sets.kinds]
    else:
        valid = rng.permutation(np.arange(len(sets.kinds)) % 2 == 0)
    return valid & (rng.random(len(valid)) < setting.valid_share), ~valid


def _noise(sets: LabelSets, setting: Setting, rng: np.random.Generator) -> Floats:
    """(N, L) of variance 1, part of it shared."""
    n_images, n_concepts = sets.targets.matrix.shape
    noise = rng.standard_normal((n_images, n_concepts), dtype=np.float32)
    noise *= np.float32(np.sqrt(1.0 - setting.image_noise - setting.cluster_noise))
    if setting.image_noise:
        shared = rng.standard_normal((n_images, 1), dtype=np.float32)
        noise += np.float32(np.sqrt(setting.image_noise)) * shared
    if setting.cluster_noise:
        size = n_images, int(sets.clusters.max()) + 1
        shared = np.float32(np.sqrt(setting.cluster_noise)) * rng.standard_normal(
            size, dtype=np.float32
        )
        noise += shared[:, sets.clusters]
    return noise


def _base_rates(sets: LabelSets, *, by_category: bool) -> Floats:
    """(1, L) or (N, L) log odds of the concepts before anything is seen."""
    matrix, share = sets.targets.matrix, _shares(sets)
    if not by_category:
        return np.asarray(logit(share), dtype=np.float32)[None]
    of_kind = np.zeros((len(CATEGORIES), len(share)), dtype=np.float32)
    for kind in range(len(CATEGORIES)):
        here = sets.kinds == kind
        n_true = column_sums(matrix[np.flatnonzero(here)])
        of_kind[kind] = logit((n_true + _PRIOR * share) / (here.sum() + _PRIOR))
    return of_kind[sets.kinds]


def _either(one: Floats, other: Floats, own: Floats, base: Floats) -> Floats:
    """Log odds of concepts given that the evidence was one of two values of s, of strength own."""

    def log_weight(s: Floats, *, there: bool) -> Floats:
        return np.asarray(-s * s / 2 + there * (base + own * s - own * own / 2))

    there, not_there = (
        np.logaddexp(log_weight(one, there=there), log_weight(other, there=there))
        for there in (True, False)
    )
    return np.asarray(there - not_there, dtype=np.float32)


def _shares(sets: LabelSets) -> npt.NDArray[np.float64]:
    """(L,) share of the images that have each concept."""
    return np.asarray(column_sums(sets.targets.matrix) / len(sets.kinds))


def _bent(
    evidence: Floats,
    base: Floats,
    folded: Ints,
    sets: LabelSets,
    setting: Setting,
    rng: np.random.Generator,
) -> Floats:
    """(N, L) log odds as the detector reports them."""
    n_concepts = evidence.shape[1]
    evidence += base
    evidence[:, folded] = -np.abs(evidence[:, folded])
    drawn = rng.standard_normal((2, n_concepts), dtype=np.float32)
    evidence *= np.float32(setting.sharpness) * np.exp(
        np.float32(setting.concept_sharpness) * drawn[0]
    )
    evidence += np.float32(setting.bias) + np.float32(setting.concept_bias) * drawn[1]
    of_kind = rng.standard_normal(len(CATEGORIES), dtype=np.float32)
    evidence += np.float32(setting.category_bias) * of_kind[sets.kinds][:, None]
    return evidence


_EVERY_FLAW = Setting(
    name="all of these",
    image_noise=0.15,
    cluster_noise=0.2,
    hardness=0.35,
    sharpness=1.5,
    bias=0.5,
    rare_sharpness=1.4,
    concept_sharpness=0.2,
    concept_bias=0.6,
    folded=0.1,
    by_category=True,
    category_strength=0.25,
    category_bias=0.4,
)
_UNEQUAL = Setting(name="easy and hard images", hardness=0.35)
_CORRELATED = replace(_UNEQUAL, name="correlated", image_noise=0.2, cluster_noise=0.3)
_CATEGORIES = replace(
    _UNEQUAL, name="categories", by_category=True, category_strength=0.35, category_bias=0.7
)

SETTINGS = (
    Setting(name="independent"),
    _UNEQUAL,
    _CORRELATED,
    replace(_CORRELATED, name="correlated, hardness hidden", hidden=True),
    replace(_UNEQUAL, name="temperature and bias", sharpness=2.0, bias=1.0),
    replace(_UNEQUAL, name="rare ones over-confident", rare_sharpness=1.8),
    replace(
        _UNEQUAL, name="concepts on scales of their own", concept_sharpness=0.3, concept_bias=1.0
    ),
    replace(_UNEQUAL, name="a third not monotone", folded=0.33),
    _CATEGORIES,
    _EVERY_FLAW,
    replace(_EVERY_FLAW, name="all of these, a tenth of valid", valid_share=0.1),
    replace(_UNEQUAL, name="a third of images inverted", inverted=0.33, calibratable=False),
    replace(_UNEQUAL, name="every image inverted", inverted=1.0, calibratable=False),
    replace(
        _UNEQUAL,
        name="valid on another scale",
        valid_sharpness=1.6,
        valid_bias=-0.7,
        calibratable=False,
    ),
    replace(_CATEGORIES, name="valid of other categories", valid_kinds=True, calibratable=False),
)
"""What decision rules are tried under; where what is learnt does not hold, at the end."""
