"""What SECURITY.md promises is held by tests that are there, and no module runs what it reads."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PROMISES = (ROOT / "SECURITY.md").read_text(encoding="utf-8")

RUNS_WHAT_IT_READS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "runpy.run_path"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads"),
    *("joblib.load", "pd.read_pickle", "shelve.open", "yaml.load", "yaml.unsafe_load"),
}

MODULES = sorted(
    path
    for room in ("commands", "core", "corpus", "training", "backbones", "fusion", "ensembles")
    for path in (ROOT / room).rglob("*.py")
) + sorted(path for room in ("inference", "reports") for path in (ROOT / room).rglob("*.py"))


def test_every_promise_names_tests_that_are_there() -> None:
    promised = PROMISES[: PROMISES.index("## What is not promised")]
    rows = [line for line in promised.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith(("| promise", "| :--"))]
    assert len(rows) >= 30
    for row in rows:
        _, _, tests = row.strip("| ").partition(" | ")
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
        assert len(named) == tests.count("`") // 2 >= 1, row
        for path, function in named:
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            assert function in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, row


def test_the_readme_leads_to_it() -> None:
    assert "(SECURITY.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled_evaluated_or_given_to_a_shell(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.module not in ("pickle", "marshal", "joblib", "shelve"), node.lineno
        if not isinstance(node, ast.Call):
            continue
        assert ast.unparse(node.func) not in RUNS_WHAT_IT_READS, node.lineno
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        assert given.get("shell", "False") == "False", node.lineno
        assert given.get("allow_pickle", "False") == "False", node.lineno
        assert given.get("trust_remote_code", "False") == "False", node.lineno
        if ast.unparse(node.func) == "torch.load":
            assert given.get("weights_only") == "True", node.lineno
