"""Mutation testing of the numeric heart: how many small faults in the code do the tests notice?

    python -m tests.robustness.mutants metrics thresholds decisions submission --count 200

Each mutant is the module with one change: a comparison or an operator turned into a neighbour, a
number one higher, a condition turned round, a statement or a keyword left out, `min` for `max`. It
is compiled in a forked process, which runs the tests that belong to the module. A mutant is

    killed      a test fails, or they run longer than `--limit-s`
    survived    all tests pass: printed with its line, and listed in `--out`

Messages are not changed. Mutants that equivalent.txt beside this file lists, with the reason,
change no result and are left out of the score. Ends with 1 where a score is under `--least`.
"""

import argparse
import ast
import importlib.abc
import importlib.util
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
_EQUIVALENT = Path(__file__).with_name("equivalent.txt")

_DECISIONS, _SUBMISSION = "ensembles/decisions", "ensembles/submission"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A module and the tests that are to notice a fault in it, its own first.

    Attributes:
        module: its name.
        tests: files or folders, from the project's root.
        compiled: whether numba's functions are compiled: a mutant of one would be, each time.
    """

    module: str
    tests: tuple[str, ...]
    compiled: bool = False


def _decisions(name: str, *tests: str, compiled: bool = False) -> Subject:
    tests = tuple(f"tests/{_DECISIONS}/test_{test}.py" for test in tests)
    own = f"{_DECISIONS}/{name}.py"
    return Subject(module=f"ensembles.decisions.{name}", tests=(*tests, own), compiled=compiled)


_SUBMISSION_TESTS = {
    **{name: name for name in ("apart", "check", "own_corpus", "score", "truth")},
    **{name: f"submission_{name}" for name in ("paper", "write")},
}


def _submission(name: str) -> Subject:
    own = _SUBMISSION_TESTS[name]
    tests = sorted(_SUBMISSION_TESTS.values(), key=lambda test: test != own)  # its own first
    return Subject(
        module=f"ensembles.submission.{name}",
        tests=(
            *(f"tests/{_SUBMISSION}/test_{test}.py" for test in tests),
            "tests/ensembles/test_official_reference.py",
            f"{_SUBMISSION}/{name}.py",
        ),
        compiled=True,
    )


GROUPS: dict[str, tuple[Subject, ...]] = {
    "metrics": (
        Subject(module="core.metrics", tests=("tests/core/test_metrics.py", "core/metrics.py")),
    ),
    "thresholds": (
        _decisions("thresholds", "thresholds", "rule"),
        Subject(
            module="ensembles.solvers.line_search",
            tests=(
                "tests/ensembles/solvers/test_line_search.py",
                f"tests/{_DECISIONS}/test_thresholds.py",
            ),
        ),
    ),
    "decisions": (
        _decisions("choose", "decisions_choose", compiled=True),
        _decisions("concept_counts", "general_f1"),
        _decisions("expected_f1", "expected_f1", "general_f1"),
        _decisions("general_f1", "general_f1"),
        _decisions("rule", "rule", "expected_f1", "set_sizes"),
        _decisions("set_sizes", "set_sizes", "rule"),
    ),
    "submission": tuple(map(_submission, _SUBMISSION_TESTS)),
}

_NEIGHBOURS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Add,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
_OTHER_NAMES = {
    **{"min": "max", "max": "min", "any": "all", "all": "any", "argmax": "argmin"},
    **{"minimum": "maximum", "maximum": "minimum", "argmin": "argmax", "left": "right"},
}


@dataclass(frozen=True)
class Mutant:
    """One change to one module: which, where, and the module's tree with it."""

    module: str
    line: int
    change: str
    tree: ast.Module

    def __str__(self) -> str:
        return f"{_path(self.module).relative_to(ROOT)}:{self.line} {self.change}"


def _path(module: str) -> Path:
    return ROOT / f"{module.replace('.', '/')}.py"


def mutants(module: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    source = _path(module).read_text(encoding="utf-8")
    number = 0
    while True:
        tree = ast.parse(source)
        mutation = _Mutation(number)
        mutation.visit(tree)
        if mutation.change is None:
            return
        yield Mutant(module, mutation.line, mutation.change, ast.fix_missing_locations(tree))
        number += 1


def unchanged(module: str) -> Mutant:
    """The module as it is: its tests must pass."""
    return Mutant(module, 0, "unchanged", ast.parse(_path(module).read_text(encoding="utf-8")))


def broken(module: str) -> Mutant:
    """A module that cannot be imported: where this passes, the tests do not see mutants."""
    return Mutant(module, 0, "broken", ast.parse("raise AssertionError"))


class _Mutation(ast.NodeTransformer):
    """Makes the change of a number; where there are fewer, `change` stays None."""

    def __init__(self, number: int) -> None:
        self.left, self.line = number, 0
        self.change: str | None = None

    def _due(self, node: ast.AST, change: str) -> bool:
        if self.change is not None:
            return False
        if self.left:
            self.left -= 1
            return False
        self.line, self.change = getattr(node, "lineno", 0), change
        return True

    # What stands only for the reader, or in a message.
    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.args.defaults = [self.visit(each) for each in node.args.defaults]
        node.args.kw_defaults = [each and self.visit(each) for each in node.args.kw_defaults]
        node.body = self._statements(node.body)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [self.visit(each) for each in node.body]
        return node

    def _statements(self, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        made: list[ast.stmt] = []
        for each in body:
            leaves = isinstance(each, ast.AugAssign | ast.Continue | ast.Break) or (
                isinstance(each, ast.Expr) and isinstance(each.value, ast.Call)
            )
            raises = isinstance(each, ast.If) and any(
                isinstance(line, ast.Raise) for line in each.body
            )
            if (leaves or raises) and self._due(each, f"without {ast.unparse(each)[:60]!r}"):
                made.append(ast.copy_location(ast.Pass(), each))
            else:
                made.append(self.visit(each))
        return made

    def visit_For(self, node: ast.For) -> ast.AST:
        node.iter = self.visit(node.iter)
        node.body, node.orelse = self._statements(node.body), self._statements(node.orelse)
        return node

    def visit_While(self, node: ast.While) -> ast.AST:
        node.test = self.visit(node.test)
        node.body, node.orelse = self._statements(node.body), self._statements(node.orelse)
        return node

    def visit_With(self, node: ast.With) -> ast.AST:
        node.items = [self.visit(each) for each in node.items]
        node.body = self._statements(node.body)
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        if self._due(node, f"not ({ast.unparse(node.test)[:60]})"):
            node.test = ast.UnaryOp(ast.Not(), node.test)
            return node
        node.test = self.visit(node.test)
        node.body, node.orelse = self._statements(node.body), self._statements(node.orelse)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        if self._due(node, f"not ({ast.unparse(node.test)[:60]})"):
            node.body, node.orelse = node.orelse, node.body
            return node
        return self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        for place, op in enumerate(node.ops):
            other = _NEIGHBOURS[type(op)]
            if self._due(node, f"{type(op).__name__} -> {other.__name__}"):
                node.ops[place] = other()  # type: ignore[call-overload]
        return self.generic_visit(node)

    def _operator(self, node: ast.BinOp | ast.BoolOp | ast.AugAssign) -> ast.AST:
        other = _NEIGHBOURS.get(type(node.op))
        is_text = isinstance(node, ast.BinOp) and any(
            isinstance(side, ast.JoinedStr)
            or (isinstance(side, ast.Constant) and isinstance(side.value, str))
            for side in (node.left, node.right)
        )
        if (
            other
            and not is_text
            and self._due(node, f"{type(node.op).__name__} -> {other.__name__}")
        ):
            node.op = other()  # type: ignore[assignment]
        return self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        return self._operator(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        return self._operator(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        return self._operator(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if isinstance(node.op, ast.Not | ast.USub | ast.Invert) and self._due(
            node, f"without {type(node.op).__name__}"
        ):
            return node.operand
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        value = node.value
        if isinstance(value, bool):
            if self._due(node, f"{value} -> {not value}"):
                return ast.copy_location(ast.Constant(not value), node)
        elif isinstance(value, int | float) and self._due(node, f"{value} -> {value + 1}"):
            return ast.copy_location(ast.Constant(value + 1), node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        for place, keyword in enumerate(node.keywords):
            if keyword.arg in (
                "axis",
                "keepdims",
                "side",
                "kind",
                "strict",
                "ddof",
                "minlength",
            ) and (self._due(node, f"without {keyword.arg}=")):
                del node.keywords[place]
                break
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        other = _OTHER_NAMES.get(node.id)
        if other and self._due(node, f"{node.id} -> {other}"):
            node.id = other
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        other = _OTHER_NAMES.get(node.attr)
        if other and self._due(node, f"{node.attr} -> {other}"):
            node.attr = other
        return self.generic_visit(node)


class _Importer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the mutant where its module is imported."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> ModuleSpec | None:
        if fullname != self.mutant.module:
            return None
        return importlib.util.spec_from_file_location(fullname, _path(fullname), loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.mutant.tree, str(_path(self.mutant.module)), "exec"), module.__dict__)


def survives(mutant: Mutant, *, subject: Subject, limit_s: float) -> bool:
    """Whether every test passes on the mutant; runs in a process of its own."""
    child = os.fork()
    if not child:
        _run(mutant, subject=subject, limit_s=limit_s)
    _, status = os.waitpid(child, 0)
    return status == 0


def _run(mutant: Mutant, *, subject: Subject, limit_s: float) -> None:
    import numba
    import pytest

    numba.config.DISABLE_JIT = not subject.compiled

    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    signal.setitimer(signal.ITIMER_REAL, limit_s)  # without a handler it ends the process
    sys.meta_path.insert(0, _Importer(mutant))
    options = [
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-p",
        "no:hypothesispytest",
        # pytest would rewrite the module's own file, which is among the tests, and so import it
        # as it stands on disk.
        "--assert=plain",
        "-m",
        "not slow",
        *subject.tests,
    ]
    os._exit(int(pytest.main(options)) and 1)


def _not_equivalent(found: Sequence[Mutant]) -> tuple[list[Mutant], int]:
    """Without those that are listed; the count of the others."""
    listed = {
        line.rpartition(" # ")[0].strip()  # the line itself may have a comment
        for line in _EQUIVALENT.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    }
    # A line is told by its text, so that the list outlives edits above it.
    kept = [each for each in found if _told(each) not in listed]
    return kept, len(found) - len(kept)


def _told(mutant: Mutant) -> str:
    line = _path(mutant.module).read_text(encoding="utf-8").splitlines()[mutant.line - 1]
    return f"{mutant.module}: {line.strip()}: {mutant.change}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints survivors and scores; 1 where a group's score is under `--least`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("groups", nargs="+", choices=sorted(GROUPS))
    parser.add_argument("--count", type=int, default=200, help="of each group, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit-s", type=float, default=120.0)
    parser.add_argument("--least", type=float, default=0.9)
    parser.add_argument("--out", type=Path, help="a JSON file of the survivors")
    given = parser.parse_args(arguments)
    os.chdir(ROOT)
    # What tests import and no mutant changes is imported once, before the forks.
    import lightgbm  # noqa: F401
    import numba  # noqa: F401
    import pandas  # noqa: F401
    import pytest  # noqa: F401
    import scipy.optimize
    import scipy.stats  # noqa: F401
    import sklearn.linear_model  # noqa: F401

    survivors: dict[str, list[str]] = {}
    low = False
    for name in given.groups:
        subjects = {subject.module: subject for subject in GROUPS[name]}
        for module, subject in subjects.items():
            if not survives(unchanged(module), subject=subject, limit_s=given.limit_s):
                print(f"{name}: the tests fail without a change to {module}", file=sys.stderr)
                return 2
            if survives(broken(module), subject=subject, limit_s=given.limit_s):
                print(f"{name}: the tests do not import the mutants of {module}", file=sys.stderr)
                return 2
        found = [each for module in subjects for each in mutants(module)]
        every, equivalent = _not_equivalent(found)
        rng = random.Random(given.seed)
        drawn = rng.sample(every, min(given.count, len(every)))
        started, ends = time.monotonic(), Counter[str]()
        survivors[name] = []
        for number, mutant in enumerate(drawn, start=1):
            alive = survives(mutant, subject=subjects[mutant.module], limit_s=given.limit_s)
            ends["survived" if alive else "killed"] += 1
            if alive:
                survivors[name].append(_told(mutant))
                print(f"survived: {mutant}", flush=True)
            if given.out:
                given.out.write_text(json.dumps(survivors, indent=1) + "\n", encoding="utf-8")
            if number % 50 == 0:
                print(f"{name}: {number} of {len(drawn)}, {ends['killed']} killed", flush=True)
        score = ends["killed"] / len(drawn)
        low |= score < given.least
        print(
            f"{name}: {ends['killed']} of {len(drawn)} killed ({100 * score:.1f} %), "
            f"{len(every)} mutants and {equivalent} equivalent ones, "
            f"{time.monotonic() - started:.0f} s"
        )
    return int(low)


if __name__ == "__main__":
    raise SystemExit(main())
