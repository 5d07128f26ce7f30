"""The wheel installs one true package, which works away from any checkout."""

import os
import runpy
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from setuptools import Distribution
from setuptools.errors import SetupError

from core.errors import as_typed
from setup import BuildPackage, within_package

ROOT = Path(__file__).parents[1]

PACKAGES = (
    *("commands", "core", "corpus", "training", "backbones", "fusion", "ensembles", "inference"),
    *("browser", "reports"),
)

MODULES = {
    path.relative_to(ROOT).as_posix() for top in PACKAGES for path in (ROOT / top).rglob("*.py")
}

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def mended(source: str) -> str:
    """As the wheel has it, where ours are core, core.errors, reports and cli."""
    modules = {"core", "core.errors", "reports", "reports.page", "cli"}
    return within_package(textwrap.dedent(source), modules=modules, origin="core/a.py")


@pytest.mark.parametrize(("source", "expected"), [
    ("from core import errors", "from radfuse.core import errors"),
    ("from core.errors import (\n    A,\n    B as C,\n)",
     "from radfuse.core.errors import (\n    A,\n    B as C,\n)"),
    ("import core.errors as e, os, cli as c",
     "import radfuse.core.errors as e, os, radfuse.cli as c"),
    ("x = 1; from   reports.page import y", "x = 1; from   radfuse.reports.page import y"),
    ("from \\\n    core import errors", "from \\\n    radfuse.core import errors"),
    ("é = 'ü'; from core import errors", "é = 'ü'; from radfuse.core import errors"),
    ("if TYPE_CHECKING:\n    from core.errors import A",
     "if TYPE_CHECKING:\n    from radfuse.core.errors import A"),
    ("def f():\n    'from core import A'\n    from core import A\n    return A\n",
     "def f():\n    'from core import A'\n    from radfuse.core import A\n    return A\n"),
    ("def f(x): yield from core(x)", "def f(x): yield from core(x)"),
    ("raise A from core", "raise A from core"),
    ("import coreutils, numpy.core as c\nfrom corelib import core\nfrom . import core",
     "import coreutils, numpy.core as c\nfrom corelib import core\nfrom . import core"),
    ("from radfuse.core import errors", "from radfuse.core import errors"),
    ("path = 'reports/core.errors.md'  # from core import errors",
     "path = 'reports/core.errors.md'  # from core import errors"),
])  # fmt: skip
def test_imports_of_ours_move_below_radfuse_and_nothing_else_changes(
    source: str, expected: str
) -> None:
    assert mended(source) == expected


@pytest.mark.parametrize(("source", "reason"), [
    ("\nimport core.errors", r"core/a\.py:2: `import core.errors` binds a name that the"),
    ("import os, cli", r"core/a\.py:1: `import cli` binds a name"),
    ("task = 'core.errors'", r"core/a\.py:1: the string 'core.errors' names a module"),
    ("run('reports.page:app')", r"core/a\.py:1: the string 'reports.page:app' names a module"),
])  # fmt: skip
def test_what_cannot_be_mended_stops_the_build(source: str, reason: str) -> None:
    with pytest.raises(SetupError, match=reason):
        mended(source)


def test_every_module_can_be_mended_and_imports_nothing_of_ours_by_a_bare_name() -> None:
    modules = {name.removesuffix(".py").replace("/", ".") for name in (*MODULES, "cli.py")}
    modules |= {name.removesuffix(".__init__") for name in modules}
    for name in (*MODULES, "cli.py", "radfuse.py"):
        source = (ROOT / name).read_text(encoding="utf-8")
        once = within_package(source, modules=modules, origin=name)
        assert within_package(once, modules=modules, origin=name) == once
        assert once.replace("radfuse.", "") == source.replace("radfuse.", "")


def test_a_build_leaves_nothing_of_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("radfuse.py", "cli.py", "setup.py", "core/a.py", "core/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("from core import a\n" if name != "core/a.py" else "")
    monkeypatch.chdir(tmp_path)
    settings = {"package_dir": {"radfuse": "."}, "packages": ["radfuse", "radfuse.core"]}
    build = BuildPackage(Distribution({"script_name": "setup.py", **settings}))
    build.ensure_finalized()
    left = Path(build.build_lib) / "radfuse" / "core" / "gone.py"
    left.parent.mkdir(parents=True)
    left.touch()
    build.run()
    made = Path(build.build_lib) / "radfuse"
    found = {path.relative_to(made).as_posix() for path in made.rglob("*.py")}
    assert found == {"__init__.py", "cli.py", "core/__init__.py", "core/a.py"}
    assert (made / "__init__.py").read_text() == "from radfuse.core import a\n"


def test_messages_name_the_command_as_this_user_types_it() -> None:
    assert as_typed("prepare SOURCE") == "python cli.py prepare SOURCE"
    installed = runpy.run_path(str(ROOT / "core" / "errors.py"), run_name="radfuse.core.errors")
    assert installed["as_typed"]("prepare SOURCE") == "radfuse prepare SOURCE"


def pip(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", "-q", *arguments], check=True)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git knows: builds leave folders behind."""
    source = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split("\0"):
        if (path := ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(path.read_bytes())
    return source


def wheel_of(source: Path, out: Path) -> Path:
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", out, source)
    (made,) = out.glob("radfuse-*.whl")
    return made


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_of(checkout, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; all else is seen where it is installed already."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    there = [path for path in sys.path if path.endswith("site-packages")]
    (site / "running.pth").write_text("\n".join(there) + "\n")
    pip("--python", home / "bin" / "python", "install", "--no-deps", wheel)
    return home


@pytest.fixture
def run(environment: Path, tmp_path: Path) -> Run:
    """Runs a program of the fresh environment in an empty folder."""
    cleared = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def call(program: str, *arguments: "str | Path") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [environment / "bin" / program, *arguments],
            cwd=tmp_path, env={**cleared, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    return call


SAME = """
import csv, pathlib, sys
import numpy as np
from radfuse import load
from radfuse.core.predictions import read_predictions
from radfuse.inference.images import find_images
from radfuse.inference.stream import decide_images
place, = sys.argv[1:]
with open("runs/corpus/images.csv", newline="") as file:
    test = {row["image_id"]: row["path"] for row in csv.DictReader(file) if row["split"] == "test"}
model = load(place)
run, = pathlib.Path("runs/ensembles").glob("stack-*")

stacked = read_predictions(run / "predictions" / "test")
assert stacked.image_ids == tuple(test)
blocks = decide_images(model._ensemble, find_images(list(test.values())).images)
probs = np.concatenate([block.decisions.probs for block in blocks])
apart = np.abs(probs - stacked.probs.toarray()).max()
print(f"{len(test)} images, stacked probabilities at most {apart:.1e} apart")
assert apart < 1e-6

table = model.predict(test.values())
decided = table[table["decided"]]
said = {(row.image, row.CUI): row.probability for row in decided.itertuples()}
with (run / "concepts.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
known = {(row["image"], row["CUI"]): float(row["probability"]) for row in rows}
assert said.keys() == known.keys()
assert max(abs(said[pair] - known[pair]) for pair in known) < 1e-4  # written with four digits
"""
"""Holds what a place says of the test images against the submission, and prints how far it is."""


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as file:
        return set(file.namelist())


@pytest.mark.slow
def test_nothing_but_radfuse_stands_at_the_top_of_site_packages(wheel: Path) -> None:
    names = names_in(wheel)
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"radfuse"}
    inside = {name.removeprefix("radfuse/") for name in names if name.startswith("radfuse/")}
    pages = [p for name in ("templates", "static") for p in (ROOT / "browser" / name).iterdir()]
    beside = {path.relative_to(ROOT).as_posix() for path in pages}
    assert len(beside) > 10
    assert inside == {"__init__.py", "cli.py", "py.typed", *MODULES, *beside}


@pytest.mark.slow
def test_the_source_distribution_makes_the_same_wheel(
    checkout: Path, wheel: Path, tmp_path: Path
) -> None:
    build = "from setuptools.build_meta import build_sdist; import sys; build_sdist(sys.argv[1])"
    source = shutil.copytree(checkout, tmp_path / "source")
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=source, check=True,
                   capture_output=True)  # fmt: skip
    (made,) = tmp_path.glob("radfuse-*.tar.gz")
    again = wheel_of(made, tmp_path / "wheel")
    assert names_in(again) == names_in(wheel)
    with zipfile.ZipFile(again) as one, zipfile.ZipFile(wheel) as other:
        for name in names_in(wheel):
            if name.endswith(".py"):
                assert one.read(name) == other.read(name)


@pytest.mark.slow
def test_an_editable_install_is_refused_with_what_to_do_instead(
    checkout: Path, tmp_path: Path
) -> None:
    options = ("install", "--no-deps", "--no-build-isolation", "--target", tmp_path, "-e")
    ended = subprocess.run(
        [sys.executable, "-m", "pip", *options, checkout],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode
    assert (
        "error: radfuse cannot be installed in editable mode; work in the checkout" in ended.stderr
    )
    assert not list(tmp_path.glob("radfuse*"))


@pytest.mark.slow
def test_a_users_own_modules_stand_beside_it(run: Run, tmp_path: Path) -> None:
    assert "predict" in run("radfuse", "--help").stdout
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "__init__.py").write_text("mine = 1\n")
    (tmp_path / "reports.py").write_text("mine = 2\n")
    (tmp_path / "mine.py").write_text(
        textwrap.dedent("""
        import importlib, pkgutil, sys
        import core, radfuse, reports
        for found in pkgutil.walk_packages(radfuse.__path__, "radfuse."):
            importlib.import_module(found.name)  # every one of them
        assert (core.mine, reports.mine) == (1, 2)
        bare = {name.partition(".")[0] for name in sys.modules}
        assert not bare & {"corpus", "training", "backbones", "fusion", "ensembles", "inference"}
        from radfuse import ConceptError, load
        try:
            load(".")
        except ConceptError as error:
            print(error)
    """)
    )
    ended = run("python", "mine.py")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ".: neither a bundle (bundle.json, SHA256SUMS) nor a workspace" in ended.stdout
    assert "`radfuse bundle OUT -w WORKSPACE`" in ended.stdout


@pytest.mark.slow
def test_importing_it_takes_no_time(run: Run) -> None:
    code = (
        "import sys, time; start = time.process_time(); import radfuse;"
        " print(time.process_time() - start);"
        " assert not {'core', 'torch', 'pandas', 'numpy'} & set(sys.modules)"
    )
    runs = [run("python", "-c", code) for _ in range(3)]
    assert [ended.returncode for ended in runs] == [0, 0, 0]
    assert min(float(ended.stdout) for ended in runs) < 0.05


@pytest.mark.slow
def test_types_are_there_for_users_to_check_by(run: Run, tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(
        textwrap.dedent("""
        from radfuse import load
        reveal_type(load("bundle").predict(["a.png"], top=1))
        load(3)
    """)
    )
    ended = run("python", "-m", "mypy", "--strict", "--follow-imports=silent", "typed.py")
    assert 'Revealed type is "pandas.' in ended.stdout
    assert 'Argument 1 to "load" has incompatible type "int"' in ended.stdout
    assert "Found 1 error in 1 file" in ended.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_runs_and_its_bundle_decides_as_the_submission_says(
    run: Run, tmp_path: Path
) -> None:
    early = run("radfuse", "ensemble", "-w", "runs")
    assert early.returncode == 2
    assert "`radfuse prepare SOURCE -w runs` reads your images" in early.stderr
    done = run("radfuse", "demo", "-w", "runs")
    assert done.returncode == 0, done.stderr
    assert "$ radfuse ensemble --submit -w runs\n" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("F1 0.")
    (tmp_path / "core.py").write_text("raise SystemError('not mine')\n")
    (tmp_path / "same.py").write_text(SAME)
    same = run("python", "same.py", "runs")
    assert same.returncode == 0, same.stderr
    made = run("radfuse", "bundle", "bundle.zip", "-w", "runs")
    assert made.returncode == 0, made.stderr
    for name in ("backbones", "fusion", "embeddings", "cache", "ensembles/*/stacker"):
        (there,) = (tmp_path / "runs").glob(name)
        shutil.rmtree(there)  # what is left are the test images, and what was said of them
    same = run("python", "same.py", "bundle.zip")
    assert same.returncode == 0, same.stderr
