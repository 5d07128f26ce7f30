"""What the iml paper (ImageCLEFmed Caption 2020) prints of its experiments and of its runs."""

from dataclasses import dataclass

THRESHOLD = 0.5
"""From which probability on the paper decides a concept."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of Table 4: two networks, one stopped on val1 and tested on val2, one the other way.

    Attributes:
        title: network and what is special.
        epochs: best epoch of the network stopped on val1 and of that stopped on val2; None where
            the training crashed.
        f1: sample F1 of each on the half that did not stop it.
        online: F1 on the test images, where it was submitted.
    """

    title: str
    epochs: tuple[int | None, int | None]
    f1: tuple[float | None, float | None]
    online: float | None = None


TABLE_4 = {
    1: Row(title="VGG16, 2x2k", epochs=(12, 22), f1=(0.333, 0.335)),
    2: Row(title="VGG16, 2x4k", epochs=(25, 26), f1=(0.346, 0.336)),
    3: Row(title="VGG16, 2x4k, hflip", epochs=(9, 9), f1=(0.3475, 0.3455), online=0.363),
    4: Row(title="VGG16, 2x4k, hflip, 450 px", epochs=(None, 6), f1=(None, 0.3417)),
    5: Row(title="ResNet50, 2x4k, hflip", epochs=(3, 3), f1=(0.3484, 0.3487), online=0.365),
    6: Row(title="DenseNet169, 2x4k", epochs=(8, 10), f1=(0.3495, 0.3450)),
    7: Row(title="DenseNet169, 2x4k, hflip", epochs=(5, 4), f1=(0.3500, 0.3463), online=0.360),
    8: Row(title="VGG16, 3x4k, hflip", epochs=(13, 14), f1=(0.3465, 0.3433)),
    9: Row(title="VGG16, 2x4k, hflip, F1*bce", epochs=(11, 7), f1=(0.3604, 0.3606), online=0.374),
    10: Row(title="VGG16, 2x4k, hflip, F1+bce", epochs=(14, 12), f1=(0.3636, 0.3632)),
}
"""By number."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A row of Table 5.

    Attributes:
        experiment: whose network, stopped on val1, made it.
        nomissing: whether an image left without a concept gets its most probable one. The paper
            names a run so and does not say what it means; this is our reading.
        f1: on the test images.
        rank: among 47 submissions.
    """

    experiment: int
    nomissing: bool
    f1: float
    rank: int


TABLE_5 = {
    "vgg16-f1-bce-nomissing": Run(experiment=9, nomissing=True, f1=0.374525478882926, rank=12),
    "vgg16-f1-bce": Run(experiment=9, nomissing=False, f1=0.374402134956526, rank=13),
    "resnet50": Run(experiment=5, nomissing=False, f1=0.365168555515581, rank=17),
    "vgg16": Run(experiment=3, nomissing=False, f1=0.363067945861981, rank=18),
    "densenet169": Run(experiment=7, nomissing=False, f1=0.360156086299303, rank=19),
}
"""By the run's name, without what all have in common."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that the paper found by comparing two experiments.

    Attributes:
        says: what.
        better: number of the experiment that it holds to be better, or not to be.
        worse: that which it is compared with.
        gains: whether the paper says that there is a gain; else it says that there is none.
    """

    says: str
    better: int
    worse: int
    gains: bool = True


FINDINGS = (
    Finding(says="F1*bce beats bce", better=9, worse=3),
    Finding(says="F1+bce beats bce", better=10, worse=3),
    Finding(says="hflip beats none (VGG16)", better=3, worse=2),
    Finding(says="hflip beats none (DenseNet169)", better=7, worse=6),
    Finding(says="larger pictures bring nothing", better=4, worse=3, gains=False),
    Finding(says="wider layers help (4k, not 2k)", better=2, worse=1),
    Finding(says="a third layer brings nothing", better=8, worse=3, gains=False),
    Finding(says="ResNet50 beats VGG16", better=5, worse=3),
    Finding(says="DenseNet169 beats VGG16", better=7, worse=3),
)
