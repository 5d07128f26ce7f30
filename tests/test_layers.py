"""The table of allowed imports, and other rules about modules, held against every file."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import radfuse

ROOT = Path(__file__).parents[1]

ALLOWED: dict[str, set[str]] = {
    "core": set(),
    "corpus": {"core"},
    "training": {"core"},
    "backbones": {"core", "corpus", "training"},
    "fusion": {"core", "training"},
    "ensembles": {"core"},
    "reports": {"core"},
    "inference": {"core", "corpus", "training", "backbones", "fusion", "ensembles"},
    "browser": {"core", "corpus", "ensembles", "inference"},
    "commands": {
        *("core", "corpus", "training", "backbones", "fusion", "ensembles", "reports"),
        *("inference", "browser"),
    },
}
"""Packages of ours that a package may import, beside itself."""

EXCEPTIONS: dict[str, set[str]] = {
    # Trains the network below the head as well.
    "fusion/networks/end_to_end.py": {"backbones"},
    # Asks the text tower beside the image tower whose features it takes.
    "fusion/words/zero_shot.py": {"backbones"},
}
"""Further packages that a module may import."""

NO_TORCH = ("core", "ensembles", "reports", "browser")

OURS = {*ALLOWED, "cli", "radfuse", "benchmarks", "tests"}

FRONTS = (ROOT / "cli.py", ROOT / "radfuse.py")

MODULES = sorted(path for package in ALLOWED for path in (ROOT / package).rglob("*.py"))

BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))
"""Not installed, and free in what they import."""

MAX_LINES = 450

MAX_MODULES = 12  # beside `__init__`

MAX_POSITIONAL = 2  # beside `self`

NAMED_BY_TORCH = {"forward", "backward"}
"""Methods that torch calls, with whatever goes in or comes back, by position."""

DECORATED = {
    "compiled",  # numba's kernels: called in loops of their own, by position
    "app.command",  # the demo's, as those in commands/: the arguments are the command line's
}
"""Decorators of functions whose arguments somebody else passes."""

COMMANDS = ROOT / "commands"
"""Its functions are typer's commands: their arguments are those of the command line."""

SMALL = 60  # lines: a module that only one other needs belongs into that one


def imports(tree: ast.AST) -> Iterator[str]:
    """Modules that a tree imports, wherever in it; a relative import keeps its dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(tree: ast.Module | ast.ClassDef) -> Iterator[tuple[ast.FunctionDef, list[str]]]:
    """Public functions of a module and methods of its public classes; what goes in by position."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from functions(node)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
            bound = isinstance(tree, ast.ClassDef) and "staticmethod" not in decorators(node)
            yield node, names[bound:]


def decorators(node: ast.FunctionDef) -> set[str]:
    found = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
    return {ast.unparse(decorator) for decorator in found}


every_module = pytest.mark.parametrize("path", MODULES, ids=name_of)


def test_there_are_modules_to_look_at() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == set(ALLOWED)


@every_module
def test_imports_point_in_the_allowed_directions(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    allowed = ALLOWED[package] | EXCEPTIONS.get(name_of(path), set())
    found = list(imports(parse(path)))
    assert not [name for name in found if name.startswith(".")], "imports name their package"
    ours = {name.partition(".")[0] for name in found} & OURS
    assert ours <= allowed | {package}


@every_module
def test_core_ensembles_and_reports_never_import_torch(path: Path) -> None:
    if path.relative_to(ROOT).parts[0] in NO_TORCH:
        tops = {name.partition(".")[0] for name in imports(parse(path))}
        assert not tops & {"torch", "torchvision", "timm"}


@pytest.mark.parametrize("path", [*MODULES, *FRONTS, *BENCHMARKS], ids=name_of)
def test_a_module_is_short_and_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    assert ast.get_docstring(ast.parse(text))


@every_module
def test_a_module_is_named_after_what_it_knows(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "misc", "common"}


@pytest.mark.parametrize("path", [*MODULES, *FRONTS], ids=name_of)
def test_a_public_function_takes_two_arguments_by_position_and_the_rest_by_name(path: Path) -> None:
    for node, names in functions(parse(path)) if path.parent != COMMANDS else ():
        if node.name not in NAMED_BY_TORCH and not decorators(node) & DECORATED:
            assert len(names) <= MAX_POSITIONAL, f"{node.name}, line {node.lineno}"


def test_torch_stays_out_of_corpus_but_for_its_images() -> None:
    for path in (ROOT / "corpus").rglob("*.py"):
        tops = {name.partition(".")[0] for name in imports(parse(path))}
        assert "timm" not in tops
        assert path.parent.name == "images" or not tops & {"torch", "torchvision"}, path


def test_a_folder_holds_few_modules() -> None:
    modules = (*MODULES, *BENCHMARKS)
    homes = [path.parent for path in modules if path.name != "__init__.py"]
    crowded = {name_of(home) for home in homes if homes.count(home) > MAX_MODULES}
    assert not crowded


def test_a_small_module_has_more_than_one_importer() -> None:
    importers: dict[str, set[str]] = {}
    for path in [*MODULES, *FRONTS]:
        for name in imports(parse(path)):
            importers.setdefault(name, set()).add(name_of(path))
    for path in MODULES:
        dotted = name_of(path).removesuffix(".py").replace("/", ".")
        n_lines = len(path.read_text(encoding="utf-8").splitlines())
        belongs_elsewhere = n_lines < SMALL and len(importers.get(dotted, ())) == 1
        assert path.stem == "__init__" or not belongs_elsewhere, dotted


def test_a_public_class_has_a_name_of_its_own() -> None:
    bodies = [node for path in MODULES for node in parse(path).body]
    names = [node.name for node in bodies if isinstance(node, ast.ClassDef)]
    shared = {name for name in names if not name.startswith("_") and names.count(name) > 1}
    assert not shared


@pytest.mark.parametrize("path", [ROOT / "cli.py", *sorted(COMMANDS.glob("*.py"))], ids=name_of)
def test_the_command_line_imports_at_module_level_only_what_help_needs(path: Path) -> None:
    body = parse(path).body
    names = {n for node in body if not isinstance(node, ast.FunctionDef) for n in imports(node)}
    foreign = {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names}
    light = {"typer", "core.errors", "core.categories", "core.config"}
    assert {name for name in foreign if name.partition(".")[0] != "commands"} <= light


def test_what_help_needs_is_itself_light() -> None:
    names = ["errors", "categories", "config", "storage.documents"]
    light = {f"core.{name}" for name in names}
    for name in names:
        found = {*imports(parse(ROOT / "core" / f"{name.replace('.', '/')}.py"))} - light
        assert {i.partition(".")[0] for i in found} <= sys.stdlib_module_names
    assert not list(imports(parse(ROOT / "core" / "__init__.py")))


def test_importing_radfuse_imports_only_what_is_light() -> None:
    body = parse(ROOT / "radfuse.py").body
    found = {name for node in body if isinstance(node, ast.Import | ast.ImportFrom)
             for name in imports(node)}  # fmt: skip
    assert {name for name in found if name not in sys.stdlib_module_names} == {"core.errors"}


def test_there_is_one_version() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["version"] == radfuse.__version__
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {radfuse.__version__}\n" in cited


def test_every_package_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    homes = {path.parent.relative_to(ROOT) for path in MODULES if path.name == "__init__.py"}
    installed = {"radfuse", *(".".join(("radfuse", *h.parts)) for h in homes)}
    assert set(settings["tool"]["setuptools"]["packages"]) == installed
    assert {path.parent.relative_to(ROOT) for path in MODULES} == homes


def test_a_container_is_built_of_what_the_wheel_is_made_of_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    fronts = {path.name for path in FRONTS}
    built_by = {"setup.py", "pyproject.toml", "py.typed", "README.md", "LICENSE"}
    assert let_in == {*ALLOWED, *fronts, *built_by}
    assert lines[0] == "*"


GATES = {
    "core/storage/archives.py": {"zipfile.ZipFile", "zipfile.is_zipfile"},
    "core/storage/documents.py": {"json.loads", "json.load", "tomllib.loads", "tomllib.load"},
    "core/storage/arrays.py": {"np.load", "np.lib.format.open_memmap"},
    "training/checkpoint.py": {"torch.load", "load_file"},
}
"""Who opens files from anywhere, a kind each: within limits, with one line for what is wrong."""

OWN_FILES = {
    "core/storage/documents.py",
    "inference/bundle/zips.py",  # writes one
    "ensembles/submission/write.py",  # likewise
    "inference/bundle/write.py",  # the version in the checkout's own settings
}


@every_module
def test_each_kind_of_file_is_opened_in_one_place(path: Path) -> None:
    calls = {ast.unparse(n.func) for n in ast.walk(parse(path)) if isinstance(n, ast.Call)}
    for gate, names in GATES.items():
        if name_of(path) != gate and name_of(path) not in OWN_FILES:
            assert not calls & names, f"as {gate} does"
