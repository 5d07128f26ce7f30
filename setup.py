"""How the wheel is made of the checkout: one package, `radfuse`, that takes no other name.

In the checkout `core`, `corpus`, ... are packages of their own. A user's project may well have a
`core` or `reports` too, and only one of a name can be imported. In the built copy, and there alone,
radfuse.py becomes `radfuse/__init__.py`, the packages lie below it, and what imports them says so:
`from core.errors import ConceptError` becomes `from radfuse.core.errors import ConceptError`.
Everything else of the build stands in pyproject.toml.
"""

import ast
import re
import shutil
from collections.abc import Collection
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from setuptools import Command, setup
from setuptools.command.build_py import build_py
from setuptools.errors import SetupError

PACKAGE = "radfuse"

FRONT = {"radfuse": "__init__", "cli": "cli"}
"""Modules at the root of the checkout that are installed, and their names in the package."""

_FROM = re.compile(r"from(?:\s|\\)+")


def within_package(source: str, *, modules: Collection[str], origin: str) -> str:
    """A module with its absolute imports of our modules below `radfuse`, all else as it was.

    Args:
        source: text of the module.
        modules: dotted names of all our packages and modules in the checkout.
        origin: file that an error names.

    Raises:
        SetupError: something cannot be told this way: `import core.errors`, which binds `core`, or
            a string that is the name of a module.
    """
    lines = source.split("\n")
    starts = list(accumulate((len(line) + 1 for line in lines), initial=0))
    tops = {name.partition(".")[0] for name in modules}

    def is_ours(name: str | None) -> bool:
        return name is not None and name.partition(".")[0] in tops

    def start_of(node: ast.ImportFrom | ast.alias) -> int:
        before = lines[node.lineno - 1].encode()[: node.col_offset]  # ast counts bytes
        return starts[node.lineno - 1] + len(before.decode())

    places = []
    for node in ast.walk(ast.parse(source, filename=origin)):
        if isinstance(node, ast.ImportFrom) and not node.level and is_ours(node.module):
            word = _FROM.match(source, start_of(node))
            assert word is not None
            places.append(word.end())
        elif isinstance(node, ast.Import):
            found = [alias for alias in node.names if is_ours(alias.name)]
            if bare := [alias.name for alias in found if alias.asname is None]:
                raise SetupError(
                    f"{origin}:{node.lineno}: `import {bare[0]}` binds a name that the wheel does"
                    " not have; write `from ... import ...` or `import ... as ...`"
                )
            places += map(start_of, found)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.partition(":")[0]
            if "." in name and name in modules:
                raise SetupError(
                    f"{origin}:{node.lineno}: the string {node.value!r} names a module, which has"
                    " another name in the wheel; take it from the module's `__name__`"
                )
    for place in sorted(places, reverse=True):
        source = f"{source[:place]}{PACKAGE}.{source[place:]}"
    return source


class BuildPackage(build_py):  # type: ignore[misc] # setuptools has no types
    """Copies the modules into the package and mends what they import."""

    def run(self) -> None:
        """Build, into an empty folder: what was removed since is not to be in the wheel."""
        shutil.rmtree(Path(self.build_lib) / PACKAGE, ignore_errors=True)
        super().run()

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """Modules of a package; of the root of the checkout those that are installed."""
        found = super().find_package_modules(package, package_dir)
        if package != PACKAGE:
            return list(found)
        return [(package, FRONT[module], path) for _, module, path in found if module in FRONT]

    def build_module(
        self, module: str, module_file: str, package: "str | list[str] | tuple[str, ...] | None"
    ) -> Any:
        """Copy a module, its imports below `radfuse`."""
        built, copied = super().build_module(module, module_file, package)
        source = Path(module_file).read_text(encoding="utf-8")
        text = within_package(source, modules=self.modules_in_checkout, origin=module_file)
        Path(built).write_text(text, encoding="utf-8", newline="\n")
        return built, copied

    @cached_property
    def modules_in_checkout(self) -> frozenset[str]:
        """Dotted names that the wheel has below `radfuse`."""
        found = [f"{package}.{module}" for package, module, _ in self.find_all_modules()]
        names = {name.removesuffix(".__init__") for name in found} - {PACKAGE}
        return frozenset(name.removeprefix(f"{PACKAGE}.") for name in names)


class NotEditable(Command):  # type: ignore[misc]
    """Refuses `pip install -e`: imports are mended in a copy, and there would be none."""

    user_options: "list[Any]" = [  # noqa: RUF012 - setuptools' own
        ("dist-dir=", None, ""), ("dist-info-dir=", None, ""), ("mode=", None, ""),
    ]  # fmt: skip

    def initialize_options(self) -> None:
        """Nothing is needed."""
        self.dist_dir = self.dist_info_dir = self.mode = None

    def finalize_options(self) -> None:
        """Nothing is needed."""

    def run(self) -> None:
        """Refuse."""
        raise SetupError(
            "radfuse cannot be installed in editable mode; work in the checkout itself (`python"
            " cli.py`, or its folder in PYTHONPATH), or install a copy: `pip install .`"
        )


if __name__ == "__main__":  # which builds say as well
    setup(cmdclass={"build_py": BuildPackage, "editable_wheel": NotEditable})
