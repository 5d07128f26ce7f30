"""Files that other commands write as well, held against their form before they are read.

A run folder is the user's own; a bundle may come from anywhere. What is computed as machine code
(stackers, forests, calibrations) would read beyond its arrays if these had other lengths.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np

from core.categories import CATEGORIES, UNKNOWN
from core.errors import BundleError
from core.labels import LabelSpace
from ensembles.stacking.candidates import SHARED_FEATURES
from ensembles.stacking.stacker import FILE
from inference.bundle.files import STACKER, read_bytes
from inference.bundle.tensors import BundleFiles
from inference.bundle.typed import typed

Levels = TypedDict(
    "Levels",
    {
        "global": float,
        "by_category": Mapping[str, float],
        "by_concept": Mapping[str, float],
        "scores": Mapping[str, float | None],
    },
)


class Temperature(TypedDict):
    """See `ensembles.calibration.temperature`."""

    kind: Literal["temperature"]
    temperature: float
    bias: float


class OwnTemperatures(TypedDict):
    """See `ensembles.calibration.vector`."""

    kind: Literal["vector"]
    shared: Temperature
    by_concept: Mapping[str, tuple[float, float]]


class Knots(TypedDict):
    """A rising function."""

    before: tuple[float, ...]
    after: tuple[float, ...]


class OwnKnots(TypedDict):
    """That of a concept, and its weight."""

    weight: float
    before: tuple[float, ...]
    after: tuple[float, ...]


class Rising(TypedDict):
    """See `ensembles.calibration.isotonic`."""

    kind: Literal["isotonic"]
    shared: Knots
    by_concept: Mapping[str, OwnKnots]


class Counts(TypedDict):
    """See `ensembles.decisions.concept_counts`."""

    power: float
    shift: float
    empty: float
    by_category: Mapping[str, float]


class Adjustment(TypedDict):
    """See `ensembles.decisions.prior_adjustment`."""

    strength: float
    shares: Mapping[str, float]
    shift: float


class RuleFile(TypedDict):
    """See `ensembles.decisions.rule`."""

    kind: str
    thresholds: Levels | None
    calibration: Temperature | OwnTemperatures | Rising
    factor: float
    head: Counts
    missed: float
    floor: float
    empty_truth: Literal["left out", "counted"]
    max_concepts: int
    nomissing: bool
    always: Mapping[str, tuple[str, ...]]
    adjustment: NotRequired[Adjustment]


def check_rule(files: BundleFiles, name: str, *, labels: LabelSpace) -> None:
    """Refuse a file that is no decision rule for these concepts.

    Raises:
        BundleError: see above.
        LabelSpaceError: it names another concept.
    """
    shown = files.shown / name
    rule = typed(RuleFile, files.json(name), where=shown)
    levels, calibration = rule["thresholds"], rule["calibration"]
    categories = [*rule["always"], *rule["head"]["by_category"]]
    concepts = [cui for cuis in rule["always"].values() for cui in cuis]
    if levels is not None:
        categories += levels["by_category"]
        concepts += levels["by_concept"]
    if calibration["kind"] != "temperature":
        concepts += calibration["by_concept"]
    if strange := sorted({*categories} - {*CATEGORIES, UNKNOWN}):
        raise _error(shown, f"no category {strange[0]!r}")
    labels.columns(concepts)
    if calibration["kind"] == "isotonic":
        functions: list[Any] = [calibration["shared"], *calibration["by_concept"].values()]
        if not all(_rises(own["before"]) and _rises(own["after"]) for own in functions) or any(
            len(own["before"]) != len(own["after"]) for own in functions
        ):
            raise _error(shown, "a calibration that does not rise")
        if any(max(map(abs, own["after"])) > _MOST_LOGIT for own in functions):
            raise _error(shown, "a calibration that runs over")
    head = rule["head"]
    if max(map(abs, (head["power"], head["shift"], head["empty"]))) > _MOST_LOGIT or any(
        abs(shift) > _MOST_LOGIT for shift in head["by_category"].values()
    ):
        raise _error(shown, "a number of concepts that runs over")
    adjustment = rule.get("adjustment")
    if adjustment is not None:
        labels.columns(list(adjustment["shares"]))
        if lacking := [cui for cui in labels.cuis if cui not in adjustment["shares"]]:
            raise _error(shown, f"no share of the concept {lacking[0]!r}")
        if max(adjustment["strength"], abs(adjustment["shift"])) > _MOST_LOGIT:
            raise _error(shown, "a prior adjustment that runs over")
    if not 1 <= rule["max_concepts"] < 2**31:
        raise _error(shown, f"max_concepts of {rule['max_concepts']}")


_MOST_LOGIT = 700  # the exponential function ends at 709


def _rises(values: Sequence[float]) -> bool:
    return len(values) > 0 and all(a <= b for a, b in pairwise(values))


def _error(shown: object, text: str) -> BundleError:
    return BundleError(f"{shown}: {text}; make the bundle again")


class ColumnFile(TypedDict):
    """See `fusion.inputs.columns`."""

    name: str
    kind: Literal["categorical", "numeric", "multi"]
    values: tuple[str, ...]
    mean: float
    deviation: float


class EncoderFile(TypedDict):
    """See `fusion.inputs.metadata`."""

    columns: tuple[ColumnFile, ...]
    notes: tuple[str, ...]


def check_columns(files: BundleFiles, name: str, *, known: Sequence[str]) -> None:
    """Refuse a file that does not say how further columns become numbers.

    Args:
        files: of the bundle.
        name: of the file.
        known: the columns that heads take.

    Raises:
        BundleError: see above, or it has another column.
    """
    shown = files.shown / name
    encoder = typed(EncoderFile, files.json(name), where=shown)
    if strange := [c["name"] for c in encoder["columns"] if c["name"] not in known]:
        raise _error(shown, f"no head takes a column {strange[0]!r}")


class MeanFile(TypedDict):
    """See `ensembles.stacking.linear`."""

    kind: Literal["mean"]


class MemberFile(TypedDict):
    """See `ensembles.stacking.linear`."""

    kind: Literal["member"]
    member: str


class GreedyFile(TypedDict):
    """See `ensembles.stacking.greedy`."""

    kind: Literal["greedy"]
    feature_names: tuple[str, ...]
    weights: tuple[float, ...]


class VotesFile(TypedDict):
    """See `ensembles.stacking.votes`."""

    kind: Literal["votes"]
    feature_names: tuple[str, ...]
    thresholds: tuple[float, ...]


class Learned(TypedDict):
    """What a logistic regression has learnt."""

    mean_: tuple[float, ...]
    scale_: tuple[float, ...]
    coef_: tuple[float, ...]
    offsets_: tuple[float, ...]


class LogisticSettings(TypedDict):
    """Its settings."""

    ridge: float
    offset_ridge: float | None


class LogisticFile(TypedDict):
    """See `ensembles.stacking.linear`."""

    kind: Literal["logistic"]
    feature_names: tuple[str, ...]
    settings: LogisticSettings
    learned: Learned


class ConceptSettings(TypedDict):
    """Settings of weights that concepts have of their own."""

    min_true: float
    ridge: float
    shared_ridge: float


class ConceptLogisticFile(TypedDict):
    """See `ensembles.stacking.concept_logistic`."""

    kind: Literal["logistic-concepts"]
    feature_names: tuple[str, ...]
    settings: LogisticSettings
    learned: Learned
    concept_settings: ConceptSettings


class ForestFile(TypedDict):
    """See `ensembles.stacking.forest`."""

    kind: Literal["lightgbm"]
    feature_names: tuple[str, ...]


StackerFile = (
    MeanFile | MemberFile | GreedyFile | VotesFile | LogisticFile | ConceptLogisticFile | ForestFile
)

FOREST, _CONCEPTS, _COEF = "lightgbm.txt", "concepts.npy", "concept_coef.npy"

_BESIDE: dict[str, set[str]] = {
    "lightgbm": {FOREST},
    "logistic-concepts": {_CONCEPTS, _COEF},
}
"""Files of a stacker beside its header."""


def check_stacker(files: BundleFiles, *, members: Sequence[str], n_concepts: int) -> None:
    """Refuse a stacker that is not one of these members.

    Args:
        files: of the bundle.
        members: names of the members.
        n_concepts: L.

    Raises:
        BundleError: see above.
        PredictionsError: an array cannot be read.
    """
    header = files.json(f"{STACKER}/{FILE}")
    shown = files.shown / STACKER / FILE
    if isinstance(header, dict):
        header = {"kind" if name == "stacker" else name: own for name, own in header.items()}
    said: Any = typed(StackerFile, header, where=shown)  # type: ignore[arg-type]  # a union
    kind: str = said["kind"]
    names = (*(f"logit {m}" for m in members), *(f"rank {m}" for m in members), *SHARED_FEATURES)
    if said.get("feature_names", names) != names or said.get("member", members[0]) not in members:
        raise _error(shown, "made of other members than the bundle's")
    for name in ("weights", "thresholds"):
        if len(said.get(name, members)) != len(members):
            raise _error(shown, f"not one of {name} a member")
    if learned := said.get("learned"):
        lengths = [len(learned[name]) for name in ("mean_", "scale_", "coef_", "offsets_")]
        n = len(names)
        if lengths != [n, n, n + 1, n_concepts] or 0 in learned["scale_"]:
            raise _error(shown, "not a number a feature and a concept")
    for name in _BESIDE.get(kind, ()):
        files.path(f"{STACKER}/{name}")
    if kind == "lightgbm":
        check_forest(files, n_features=len(names))
    if kind == "logistic-concepts":
        _check_concepts(files, n_features=len(names), n_concepts=n_concepts)


def _check_concepts(files: BundleFiles, *, n_features: int, n_concepts: int) -> None:
    """Refuse weights of concepts that there are not, or of other features."""
    concepts, weights = (files.array(f"{STACKER}/{n}") for n in (_CONCEPTS, _COEF))
    is_known = concepts.ndim == 1 and concepts.dtype.kind in "iu"
    is_known = is_known and bool(((concepts >= 0) & (concepts < n_concepts)).all())
    if not is_known or weights.shape != (len(concepts), n_features + 1):
        raise _error(files.shown / STACKER / _COEF, "weights of other features or concepts")
    if weights.dtype != np.float64 or not np.isfinite(weights).all():
        raise _error(files.shown / STACKER / _COEF, "numbers that are none")


_HEAD = re.compile(
    r"tree\nversion=v\d+\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=\d+\n"
    r"max_feature_idx=(\d+)\nobjective=binary sigmoid:1\nfeature_names=([^\n]*)\n"
    r"feature_infos=([^\n]*)\ntree_sizes=([\d ]*)\n\n"
)
_TREE = re.compile(r"Tree=(\d+)\n((?:[a-z_]+=[^\n]*\n)+)\n\n?")
_END = "end of trees\n"

_OF_SPLITS = ("split_feature", "split_gain", "threshold", "decision_type", "left_child",
              "right_child", "internal_value", "internal_weight", "internal_count")  # fmt: skip
_OF_LEAVES = ("leaf_value", "leaf_weight", "leaf_count")
_KEYS = {*_OF_SPLITS, *_OF_LEAVES, "num_leaves", "num_cat", "is_linear", "shrinkage"}


def bare_forest(text: str) -> str:
    """A forest without the settings that it was grown by: LightGBM trusts these blindly as well."""
    return text[: text.index(_END) + len(_END)]


def check_forest(files: BundleFiles, *, n_features: int) -> None:
    """Refuse a forest that LightGBM, which believes what it reads, would follow astray.

    Every tree must have as many numbers as it has splits and leaves, ask for features that there
    are, and lead from each split on to later ones, each reached once.

    Raises:
        BundleError: it does not.
    """
    name = f"{STACKER}/{FOREST}"
    shown = files.shown / name
    try:
        text = read_bytes(files.path(name), shown=shown).decode("ascii")
        _follow(text, n_features)
    except (ValueError, LookupError) as error:
        raise _error(shown, f"not a forest ({' '.join(str(error).split())[:100]})") from None


def _follow(text: str, n_features: int) -> None:
    head = _HEAD.match(text)
    if head is None or int(head[1]) != n_features - 1:
        raise ValueError("its header is not of these features")
    if len(head[2].split(" ")) != n_features or len(head[3].split(" ")) != n_features:
        raise ValueError("its header does not name the features")
    sizes, at = [int(size) for size in head[4].split()], head.end()
    for number, size in enumerate(sizes):
        tree = _TREE.match(text, at)
        if tree is None or int(tree[1]) != number or tree.end() - at != size:
            raise ValueError(f"tree {number} is not where it should be")
        try:
            _follow_tree(dict(line.split("=", 1) for line in tree[2].splitlines()), n_features)
        except (ValueError, LookupError) as error:
            raise ValueError(f"tree {number}: {error}") from None
        at = tree.end()
    if text[at:].lstrip("\n") != _END:
        raise ValueError("it does not end where it should")


def _follow_tree(said: Mapping[str, str], n_features: int) -> None:
    if strange := {*said} - _KEYS:
        raise ValueError(f"unknown entry {min(strange)}")
    n_leaves = int(said["num_leaves"])
    if n_leaves < 1 or said["num_cat"] != "0" or said["is_linear"] != "0":
        raise ValueError("of a kind that is not ours")
    for names, n in ((_OF_SPLITS, n_leaves - 1), (_OF_LEAVES, n_leaves)):
        for name in names:
            numbers = [float(value) for value in said.get(name, "").split()]
            if len(numbers) != n and not (n_leaves == 1 and len(numbers) <= 1):
                raise ValueError(f"{name}: not {n} numbers")
            if not np.isfinite(numbers).all():
                raise ValueError(f"{name}: not finite")
    if n_leaves == 1:
        return
    features, left, right, kinds = (
        [int(value) for value in said[name].split()]
        for name in ("split_feature", "left_child", "right_child", "decision_type")
    )
    if not all(0 <= own < n_features for own in features) or any(own & 1 for own in kinds):
        raise ValueError("asks for a feature that there is not")
    for split, children in enumerate(zip(left, right, strict=True)):
        for child in children:
            if not (split < child < n_leaves - 1 or 0 <= ~child < n_leaves):
                raise ValueError(f"split {split} leads astray")
    if len({*left, *right}) != 2 * (n_leaves - 1):
        raise ValueError("a leaf is reached twice")
