"""Parts of bundles one by one: values of JSON, tensors, stackers and forests that do not fit."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from core.errors import BundleError, LabelSpaceError
from core.labels import LabelSpace
from ensembles.stacking.candidates import SHARED_FEATURES
from inference.bundle.checks import check_columns, check_forest, check_rule, check_stacker
from inference.bundle.tensors import BundleFiles, TensorFile
from inference.bundle.typed import typed

MEMBERS = ("a", "b")
NAMES = [f"{what} {member}" for what in ("logit", "rank") for member in MEMBERS]
NAMES += list(SHARED_FEATURES)
N = len(NAMES)


class Dog(TypedDict):
    kind: Literal["dog"]
    legs: int


class Bird(TypedDict):
    kind: Literal["bird"]
    wings: int | None


@pytest.mark.parametrize(
    ("hint", "value", "reason"),
    [
        (tuple[int, int], [1], "expected a list of 2"),
        (tuple[int, ...], 3, "expected a list"),
        (tuple[int, ...], [1, "b"], "x: 1: expected a whole number"),
        (Literal["a", "b"], "c", "expected one of 'a', 'b'"),
        (type(None), 1, "expected null"),
        (int | str, [], "expected another type"),
        (Dog | Bird, {"kind": "cat"}, "kind: expected one of dog, bird"),
        (Dog | Bird, {"kind": 3}, "kind: expected one of dog, bird"),
        (Dog | Bird, {"kind": "bird", "wings": "two"}, "wings: expected a whole number"),
        (Mapping[str, int], {"a": "b"}, "x: a: expected a whole number"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_place(
    hint: Any, value: Any, reason: str
) -> None:
    with pytest.raises(BundleError, match=reason):
        typed(hint, value, where="x")


@pytest.mark.parametrize(
    ("hint", "value", "found"),
    [
        (tuple[int, str], [1, "b"], (1, "b")),
        (type(None), None, None),
        (int | str, "a", "a"),
        (Dog | Bird, {"kind": "bird", "wings": None}, {"kind": "bird", "wings": None}),
        (Literal[1, "a"], 1, 1),
    ],
)
def test_a_value_of_the_type_is_given_back(hint: Any, value: Any, found: Any) -> None:
    assert typed(hint, value, where="x") == found


@pytest.fixture
def tensors(tmp_path: Path) -> TensorFile:
    values = {
        "shares": torch.tensor([0.5, 1.5]),
        "endless": torch.tensor([1.0, torch.inf]),
        "below": torch.tensor([1.0, -torch.inf]),
        "0.weight": torch.zeros(2),
        "2.weight": torch.zeros(2),
    }
    save_file(values, tmp_path / "x.safetensors")
    return TensorFile(tmp_path / "x.safetensors", shown=Path("x.safetensors"))


def test_tensors_are_asked_for_by_name_shape_and_range(tensors: TensorFile) -> None:
    asks: list[tuple[Callable[[], object], str]] = [
        (lambda: tensors.array("none", 2, dtype=np.float32), "lacks the tensor 'none'"),
        (lambda: tensors.array("shares", 3, dtype=np.float32), "expected 3 of float32; found 2"),
        (lambda: tensors.array("endless", 2, dtype=np.float32), "not finite"),
        (lambda: tensors.shares("shares", 2), "numbers that are no shares"),
        (lambda: tensors.biases("none", 2), "lacks the tensor 'none'"),
        (lambda: tensors.biases("shares", 3), "lacks the tensor 'shares'"),
        (lambda: tensors.biases("endless", 2), "not finite"),
    ]
    for ask, reason in asks:
        with pytest.raises(BundleError, match=reason):
            ask()
    assert tensors.biases("below", 2).tolist() == [1.0, -np.inf]


def test_networks_in_a_file_are_numbered_through(tmp_path: Path) -> None:
    save_file({"0.w": torch.zeros(1), "2.w": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(BundleError, match="not numbered through"):
        TensorFile(tmp_path / "x.safetensors", shown=Path("x")).networks()


RULE: dict[str, Any] = {
    "kind": "expected_f1",
    "thresholds": {
        "global": 0.5, "by_category": {"DRCT": 0.4}, "by_concept": {"C1": 0.3},
        "scores": {"C1": None},
    },
    "calibration": {
        "kind": "isotonic",
        "shared": {"before": [-1.0, 2.0], "after": [0.0, 1.0]},
        "by_concept": {"C2": {"weight": 0.5, "before": [0.0], "after": [700.0]}},
    },
    "factor": 1.0, "head": {"power": 1.0, "shift": 0.0, "empty": 0.0, "by_category": {"DRCT": 0.1}},
    "missed": 1.0, "floor": 0.0, "empty_truth": "counted", "max_concepts": 100, "nomissing": False,
    "always": {"DRXR": ["C1"]},
}  # fmt: skip


def rule(folder: Path, **changed: Any) -> BundleFiles:
    (folder / "decision.json").write_text(json.dumps({**RULE, **changed}))
    return BundleFiles(folder, {"decision.json"}, shown=Path("b"))


SHARES = {"C1": 0.25, "C2": 0.01}


def adjusted(**changed: Any) -> dict[str, Any]:
    return {"strength": 0.2, "shares": SHARES, "shift": 0.1, **changed}


def rising(**changed: Any) -> dict[str, Any]:
    own = {"weight": 0.5, "before": [0.0], "after": [1.0], **changed}
    return {**RULE["calibration"], "by_concept": {"C2": own}}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"calibration": rising(after=[701.0])}, "a calibration that runs over"),
        ({"calibration": rising(after=[-701.0])}, "a calibration that runs over"),
        ({"calibration": rising(after=[0.0, 1.0])}, "a calibration that does not rise"),
        ({"calibration": rising(before=[], after=[])}, "a calibration that does not rise"),
        ({"calibration": rising(weight="much")}, "C2: weight: expected a number"),
        ({"head": {**RULE["head"], "shift": -701.0}}, "a number of concepts that runs over"),
        ({"head": {**RULE["head"], "by_category": {"DRCT": 1e3}}}, "a number of concepts that"),
        ({"head": {**RULE["head"], "by_category": {"EYE": 0.1}}}, "no category 'EYE'"),
        ({"max_concepts": 2**31}, "max_concepts of 2147483648"),
        ({"adjustment": None}, "adjustment: expected an object, found None"),
        ({"adjustment": adjusted(shares={"C1": 0.25})}, "no share of the concept 'C2'"),
        ({"adjustment": adjusted(shares={**SHARES, "C1": "half"})}, "C1: expected a number"),
        ({"adjustment": adjusted(shift=701.0)}, "a prior adjustment that runs over"),
        ({"adjustment": adjusted(strength=701.0)}, "a prior adjustment that runs over"),
        ({"adjustment": adjusted(more=1)}, "unknown entry 'more'"),
    ],
)  # fmt: skip
def test_a_rule_whose_numbers_run_over_is_refused(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BundleError, match=rf"^b/decision\.json: .*{reason}"):
        check_rule(rule(tmp_path, **changed), "decision.json", labels=LabelSpace(("C1", "C2")))


def test_a_rule_names_concepts_that_there_are(tmp_path: Path) -> None:
    check_rule(rule(tmp_path), "decision.json", labels=LabelSpace(("C1", "C2")))
    own = rule(tmp_path, adjustment=adjusted())
    check_rule(own, "decision.json", labels=LabelSpace(("C1", "C2")))
    own = rule(tmp_path, adjustment=adjusted(shares={**SHARES, "C7": 0.1}))
    with pytest.raises(LabelSpaceError, match="C7"):
        check_rule(own, "decision.json", labels=LabelSpace(("C1", "C2")))
    with pytest.raises(LabelSpaceError, match="C2"):
        check_rule(rule(tmp_path), "decision.json", labels=LabelSpace(("C1",)))


def test_columns_are_those_that_heads_take(tmp_path: Path) -> None:
    age = {"name": "age", "kind": "numeric", "values": [], "mean": 50.0, "deviation": 9.0}
    (tmp_path / "columns.json").write_text(json.dumps({"columns": [age], "notes": []}))
    files = BundleFiles(tmp_path, {"columns.json"}, shown=Path("b"))
    check_columns(files, "columns.json", known=["age", "sex"])
    with pytest.raises(BundleError, match=r"^b/columns\.json: no head takes a column 'age'"):
        check_columns(files, "columns.json", known=["sex"])


def learned(n: int = N, n_concepts: int = 3) -> dict[str, Any]:
    return {
        "mean_": [0.0] * n, "scale_": [1.0] * n, "coef_": [0.0] * (n + 1),
        "offsets_": [0.0] * n_concepts,
    }  # fmt: skip


LOGISTIC = {
    "stacker": "logistic", "feature_names": NAMES,
    "settings": {"ridge": 1.0, "offset_ridge": None}, "learned": learned(),
}  # fmt: skip
BY_CONCEPT = {
    **LOGISTIC, "stacker": "logistic-concepts",
    "concept_settings": {"min_true": 5.0, "ridge": 1.0, "shared_ridge": 1.0},
}  # fmt: skip


def stacker(folder: Path, header: Mapping[str, Any], **arrays: Any) -> BundleFiles:
    (folder / "stacker").mkdir(exist_ok=True)
    (folder / "stacker" / "stacker.json").write_text(json.dumps(header))
    names = {"stacker/stacker.json"}
    for name, values in arrays.items():
        np.save(folder / "stacker" / f"{name}.npy", values)
        names.add(f"stacker/{name}.npy")
    return BundleFiles(folder, names, shown=Path("b"))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"stacker": "greedy", "feature_names": NAMES, "weights": [1.0]}, "one of weights a memb"),
        ({"stacker": "votes", "feature_names": NAMES, "thresholds": [0.5]}, "one of thresholds a"),
        ({**LOGISTIC, "learned": learned(N - 1)}, "not a number a feature and a concept"),
        ({**LOGISTIC, "learned": learned(n_concepts=4)}, "not a number a feature and a concept"),
        ({**LOGISTIC, "learned": {**learned(), "scale_": [0.0] * N}}, "not a number a feature"),
        (BY_CONCEPT, "missing from the bundle"),
    ],
)
def test_a_stacker_has_a_number_for_each_thing(
    tmp_path: Path, header: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BundleError, match=reason):
        check_stacker(stacker(tmp_path, header), members=MEMBERS, n_concepts=3)


@pytest.mark.parametrize(
    ("concepts", "weights", "reason"),
    [
        ([0, 3], np.zeros((2, N + 1)), "of other features or concepts"),
        ([-1], np.zeros((1, N + 1)), "of other features or concepts"),
        ([0.5], np.zeros((1, N + 1)), "of other features or concepts"),
        ([0, 1], np.zeros((2, N)), "of other features or concepts"),
        ([0, 1], np.zeros((1, N + 1)), "of other features or concepts"),
        ([0], np.full((1, N + 1), np.nan), "numbers that are none"),
        ([0], np.zeros((1, N + 1), np.float32), "numbers that are none"),
    ],
)
def test_weights_of_concepts_are_of_concepts_that_there_are(
    tmp_path: Path, concepts: Any, weights: Any, reason: str
) -> None:
    files = stacker(tmp_path, BY_CONCEPT, concepts=np.array(concepts), concept_coef=weights)
    with pytest.raises(BundleError, match=reason):
        check_stacker(files, members=MEMBERS, n_concepts=3)


def test_weights_that_fit_are_taken(tmp_path: Path) -> None:
    files = stacker(
        tmp_path, BY_CONCEPT, concepts=np.array([0, 2]), concept_coef=np.zeros((2, N + 1))
    )
    check_stacker(files, members=MEMBERS, n_concepts=3)
    check_stacker(stacker(tmp_path, LOGISTIC), members=MEMBERS, n_concepts=3)


def test_a_forest_has_the_numbers_that_it_names(forest: Path) -> None:
    files = BundleFiles(forest.parents[1], {"stacker/lightgbm.txt"}, shown=Path("b"))
    path, text = forest, forest.read_text()
    values = re.search(r"leaf_value=(\S+) (\S+)", text)
    assert values is not None
    first, second = values[1], values[2]
    names = re.search(r"feature_names=.*", text)
    assert names is not None
    for old, new, reason in (
        (f"={first} ", f"={'inf'.ljust(len(first))} ", "leaf_value: not finite"),
        (f"={first} {second}", f"={first}_{second}", "could not convert|leaf_value: not 5 numbers"),
        (f"={first} {second}", f"={first}{' ' * len(second)} ", "leaf_value: not 5 numbers"),
        (names[0], names[0] + " x", "does not name the features"),
        ("Tree=1", "Tree=7", "tree 1 is not where it should be"),
        ("is_linear=0", "is_linear=1", "of a kind that is not ours"),
        ("num_leaves=5", "num_leaves=0", "tree 0: of a kind that is not ours"),
    ):
        assert old in text, old
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(BundleError, match=reason):
            check_forest(files, n_features=3)
