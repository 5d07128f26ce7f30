"""Official scores: the number that an edition's evaluator prints, to the last bit.

    F1_i = 2 |T_i and D_i| / (|T_i| + |D_i|)        score = sum_i F1_i / n

on sets of upper-cased concepts, added one after the other in the order of the submission. Since
2022 a blank cell is a set of one empty concept, so an image without true concepts scores 1 against
a blank cell and 0 against anything else; until 2020 it is left out of the mean. The evaluators call
scikit-learn's `f1_score` once an image: since its release 1.3 that is the formula above with a
single division, earlier releases can differ in the last bit.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from core.editions import Edition, rules_of
from core.errors import ConfigError, CorpusError, SubmissionError, first_few
from ensembles.submission.check import Fault, parse_submission, read_submission
from ensembles.submission.truth import Truth, read_truth

ConceptSet = frozenset[str]

Pair = tuple[ConceptSet, ConceptSet]
"""True and decided concepts of an image, as they are compared."""

SECONDARY_CONCEPTS: ConceptSet = frozenset(
    [
        *("C0002978", "C0040405", "C0024485", "C0032743", "C0041618"),
        *("C1306645", "C1140618", "C0037949", "C0030797", "C0023216"),
        *("C0037303", "C0817096", "C0006141", "C0000726", "C0920367"),
    ]
)
"""The concepts that the secondary score of 2025 and 2026 keeps: modalities and body regions."""


@dataclass(frozen=True, kw_only=True)
class OfficialScore:
    """Scores of a submission.

    Attributes:
        edition: year whose rule applies.
        f1: the primary score, in [0, 1].
        n_images: number of images in its mean.
        secondary_f1: the score on the secondary concepts; None where no truth of it was given.
        n_secondary: number of images in its mean, 0 where there is none.
        warnings: what is taken otherwise than it reads, in the submission and in the truths.
        pairs: what the primary score compares, by image.
    """

    edition: int
    f1: float
    n_images: int
    secondary_f1: float | None
    n_secondary: int
    warnings: tuple[Fault, ...]
    pairs: Mapping[str, Pair]

    @property
    def lines(self) -> list[str]:
        """The scores, for a person."""
        lines = [f"F1 {self.f1!r} over {self.n_images:,} images ({self.edition} rule)"]
        if self.secondary_f1 is not None:
            lines.append(f"secondary F1 {self.secondary_f1!r} over {self.n_secondary:,} images")
        return lines

    @property
    def numbers(self) -> dict[str, float]:
        """The scores by name; no secondary ones where there are none."""
        numbers = {"f1": self.f1, "n_images": self.n_images}
        if self.secondary_f1 is not None:
            numbers |= {"secondary_f1": self.secondary_f1, "n_secondary": self.n_secondary}
        return numbers


def score_submission(
    path: Path,
    *,
    truth: Path,
    edition: int,
    secondary_truth: Path | None = None,
    public_script: bool = False,
) -> OfficialScore:
    """Official score of a submission, as the edition's evaluator gives it.

    Args:
        path: the submission, or its zip where the edition takes one.
        truth: true concepts in the edition's format.
        edition: year of the task.
        secondary_truth: true concepts of the secondary score, which the evaluators of 2025 and 2026
            read from a file of its own (`concepts_manual.csv`: what people chose); None gives no
            secondary score, for that of the other truth is another number.
        public_script: until 2020, score what the public script lets pass although the platform
            refused it: an image twice (its last line counts, at the place of its first), a concept
            twice, more than 100 concepts. Without effect since 2022.

    Raises:
        ConfigError: no evaluator of that year is public, or it has no secondary score.
        SubmissionError: the evaluator refuses the submission; file, line and reason are named.
        CorpusError: a truth is missing or malformed, no submission can be scored with it, or no
            image of the second one has a secondary concept (there the official script stops).
    """
    rules = rules_of(edition)
    if secondary_truth is not None and not rules.secondary:
        raise ConfigError(f"edition {edition}: has no secondary score; leave its truth out")
    true = read_truth(truth, edition=edition)
    second = read_truth(secondary_truth, edition=edition) if secondary_truth else None
    data, shown = read_submission(path, rules)
    submission = parse_submission(
        data,
        path=shown,
        rules=rules,
        expected_ids=_expected_ids(truth, true, second, rules),
        public_script=public_script,
    )
    if rejected := submission.rejected:
        more = f" (the first of {len(rejected)} faults)" if len(rejected) > 1 else ""
        raise SubmissionError(f"{rejected[0]}{more}")
    decided = {i: upper_cased(concepts) for i, concepts in submission.predicted.items()}
    pairs = {i: (upper_cased(true.concepts[i]), found) for i, found in decided.items()}
    f1, n_images = mean_f1(pairs.values())
    if f1 is None:
        raise CorpusError(f"{truth}: no image has a true concept, so there is no score")
    secondary_f1, n_secondary = None, 0
    if second is not None:
        _require_all(secondary_truth, second, decided)
        secondary_f1, n_secondary = _secondary_f1(second.concepts, decided)
        if secondary_f1 is None:
            raise CorpusError(
                f"{secondary_truth}: no image has one of the {len(SECONDARY_CONCEPTS)} concepts of"
                " the secondary score"
            )
    others = second.warnings if second is not None else ()
    return OfficialScore(
        edition=edition,
        f1=f1,
        n_images=n_images,
        secondary_f1=secondary_f1,
        n_secondary=n_secondary,
        warnings=(*submission.faults, *true.warnings, *others),
        pairs=pairs,
    )


def mean_f1(pairs: Collection[Pair]) -> tuple[float | None, int]:
    """Mean F1 of (true, decided) sets in the order given, None over no image, and their number.

    Pairs without a true concept are left out.
    """
    total, n_without = summed_f1(pairs)
    n_images = len(pairs) - n_without
    return (total / n_images if n_images else None), n_images


def summed_f1(pairs: Iterable[Pair]) -> tuple[float, int]:
    """Sum of the F1 of (true, decided) sets, and the number of pairs without a true concept.

    Such pairs add nothing. The sum runs in the order given; the builtin `sum` would not do, it
    compensates rounding since Python 3.12.

    Example:
        >>> summed_f1([(frozenset({"C1", "C2"}), frozenset({"C1"})), (frozenset(), frozenset())])
        (0.6666666666666666, 1)
    """
    total = 0.0
    n_without = 0
    for true, decided in pairs:
        if true:
            total += 2.0 * len(true & decided) / (len(true) + len(decided))
        else:
            n_without += 1
    return total, n_without


def upper_cased(concepts: Iterable[str]) -> ConceptSet:
    """The concepts as the evaluators compare them: in upper case, each once."""
    return frozenset(map(str.upper, concepts))


def _secondary_f1(
    true: Mapping[str, tuple[str, ...]], decided: Mapping[str, ConceptSet]
) -> tuple[float | None, int]:
    """As `mean_f1`, of the secondary concepts alone.

    Images of this truth that are not decided count in the mean with 0, as in the official script.
    """
    keep = SECONDARY_CONCEPTS
    pairs = ((upper_cased(true[i]) & keep, found & keep) for i, found in decided.items())
    total, n_without = summed_f1(pairs)
    n_images = len(true) - n_without
    return (total / n_images if n_images else None), n_images


def _expected_ids(path: Path, true: Truth, second: Truth | None, rules: Edition) -> tuple[str, ...]:
    """Images that a submission must hold, in the order that the strict check wants.

    Raises:
        CorpusError: the strict check and the evaluator want different images, so that no
            submission would pass.
    """
    if not rules.strict:
        return true.image_ids
    others = second.image_ids if second is not None else ()
    ids = tuple(dict.fromkeys((*true.image_ids, *others)))
    scored = {i for i in ids if not rules.takes_for_header(i)}
    if differing := sorted(scored ^ set(true.concepts)):
        raise CorpusError(
            f"{path}: no submission fits it: check its header, blanks around its ids, and that the"
            f" second truth has no other images: {first_few(differing)}"
        )
    return ids


def _require_all(path: Path | None, second: Truth, decided: Mapping[str, ConceptSet]) -> None:
    """Refuse a second truth that lacks images.

    Raises:
        CorpusError: images of the submission are not in it.
    """
    if missing := [image_id for image_id in decided if image_id not in second.concepts]:
        raise CorpusError(
            f"{path}: {len(missing)} of {len(decided)} images of the submission are not in it:"
            f" {first_few(missing)}"
        )
