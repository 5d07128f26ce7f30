"""docs/dependencies.md has what pyproject.toml asks for, under the licence that packages state."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from backbones.networks.carriers import CARRIERS

ROOT = Path(__file__).parents[1]

PAGE = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

DIRECT = PAGE[PAGE.index("## Direct") : PAGE.index("## For who passes it on")]

ROWS: dict[str, tuple[str, str]] = {
    canonicalize_name(name): (where, licence)
    for name, where, _, licence in re.findall(
        r"^\| ([\w-]+) \| ([\w, -]+) \| (.+?) \| (.+) \|$", DIRECT, flags=re.MULTILINE
    )
    if name != "package"
}

FAMILIES = {
    "Apache": "Apache", "LLVM": "LLVM", "0BSD": "0BSD", "ISC": "ISC", "BSD": "BSD",
    "MIT-CMU": "MIT-CMU", "MIT": "MIT", "Zlib": "Zlib", "CC0": "CC0", "BSL": "BSL",
    "HPND": "MIT-CMU", "MPL": "MPL",
    "Mozilla": "MPL", "PSF": "PSF", "Python Software Foundation": "PSF", "LGPL": "LGPL",
    "AGPL": "AGPL", "GPL": "GPL",
}  # fmt: skip
"""Licences by the words that expressions, fields and classifiers have for them."""

BROUGHT = {
    *("huggingface_hub", "yaml", "threadpoolctl", "h11", "starlette", "pydantic"),
    *("anyio", "packaging"),
}


def asked() -> Iterator[tuple[str, str, Requirement]]:
    for text in PROJECT["dependencies"]:
        yield canonicalize_name(Requirement(text).name), "always", Requirement(text)
    for extra, texts in PROJECT["optional-dependencies"].items():
        for text in texts:
            yield canonicalize_name(Requirement(text).name), extra, Requirement(text)


def families(text: str) -> set[str]:
    words = "|".join(map(re.escape, sorted(FAMILIES, key=len, reverse=True)))
    return {FAMILIES[word] for word in re.findall(rf"(?<![A-Z]){words}", text)}


def stated(package: str) -> str:
    """What a package's metadata say of its licence; a whole text of one says it worse."""
    about = metadata(package)
    fields = [*(about.get_all("License-Expression") or []), *(about.get_all("License") or [])]
    short = [text for text in fields if len(text) <= 120 and "\n" not in text]
    classifiers = about.get_all("Classifier") or []
    return "; ".join([*short, *(c for c in classifiers if c.startswith("License :: "))])


def test_every_dependency_has_a_row_and_every_row_a_dependency() -> None:
    places: dict[str, set[str]] = {}
    for name, where, _ in asked():
        places.setdefault(name, set()).add(where)
    assert {name: set(where.split(", ")) for name, (where, _) in ROWS.items()} == places


def test_an_extra_asks_for_what_dev_asks_for() -> None:
    ranges: dict[str, set[str]] = {}
    for name, where, requirement in asked():
        if where != "always":  # of which an extra may ask for a newer one
            ranges.setdefault(name, set()).add(str(requirement.specifier))
    assert {name for name, found in ranges.items() if len(found) > 1} == set()


@pytest.mark.parametrize("package", ROWS)
def test_the_licence_is_the_one_that_the_package_states(package: str) -> None:
    try:
        found = families(stated(package))
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    written = families(ROWS[package][1])
    assert written
    assert found <= written
    if not found:
        assert "its metadata state none" in PAGE
        assert package.endswith("-pytorch-model")


def test_licences_are_told_apart_by_their_words() -> None:
    assert families("BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0") == {
        *("BSD", "0BSD", "MIT", "Zlib", "CC0")
    }
    assert families("License :: OSI Approved :: GNU General Public License v3 (GPLv3)") == {"GPL"}
    assert families("MIT-CMU") == {"MIT-CMU"}
    assert families("LGPL-3.0-only") == {"LGPL"}
    assert families("UNKNOWN") == set()


def test_packages_of_weights_are_named() -> None:
    for carrier in CARRIERS.values():
        assert carrier.package in PAGE


@pytest.mark.parametrize("where", ["project", "tests"])
def test_what_is_imported_is_asked_for_or_named(where: str) -> None:
    rooms = ["tests", "benchmarks"] if where == "tests" else list(ROOM_NAMES)
    tops = set()
    for room in rooms:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    tops |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    tops.add(node.module.partition(".")[0])
    own = {*ROOM_NAMES, "cli", "radfuse", "tests", "benchmarks", "setup"}
    tops -= own | {*sys.stdlib_module_names}
    installed = packages_distributions()
    known = {name for name, place, _ in asked() if where == "tests" or place != "dev"}
    strange = {
        top for top in tops
        if top in installed and not {canonicalize_name(n) for n in installed[top]} & known
    }  # fmt: skip
    assert strange - BROUGHT == set()
    assert all(name in PAGE for name in BROUGHT)


ROOM_NAMES = (
    *("commands", "core", "corpus", "training", "backbones", "fusion", "ensembles"),
    *("inference", "reports"),
)
