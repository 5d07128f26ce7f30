"""The wheel installs one name, and the command works away from any checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from core.errors import as_typed

ROOT = Path(__file__).parents[1]


def pip(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", "-q", *arguments], check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the files that git knows: builds leave folders behind."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split("\0"):
        if (path := ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(path.read_bytes())
    pip("wheel", "--no-deps", "-w", out, source)
    (made,) = out.glob("radfuse-*.whl")
    return made


@pytest.mark.slow
def test_nothing_but_radfuse_stands_at_the_top_of_site_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"radfuse"}
    inside = {name.removeprefix("radfuse/") for name in names}
    packages = (
        "commands",
        "core",
        "corpus",
        "training",
        "backbones",
        "fusion",
        "ensembles",
        "inference",
        "reports",
    )
    modules = {
        path.relative_to(ROOT).as_posix() for top in packages for path in (ROOT / top).rglob("*.py")
    }
    assert {"cli.py", "scripts/launch.py", *modules} <= inside
    assert not [name for name in inside if name.startswith(("tests", "benchmarks"))]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_installed_command_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip("install", "--no-deps", "--target", site, wheel)
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}

    def radfuse(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [site / "bin" / "radfuse", *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    early = radfuse("ensemble", "-w", "runs")
    assert early.returncode == 2
    assert "`radfuse prepare SOURCE -w runs` reads your images" in early.stderr
    done = radfuse("demo", "-w", "runs")
    assert done.returncode == 0, done.stderr
    assert "$ radfuse ensemble --submit -w runs\n" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("F1 0.")


def test_messages_name_the_command_as_this_user_types_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/radfuse", "fuse"])
    assert as_typed("prepare SOURCE") == "radfuse prepare SOURCE"
    monkeypatch.setattr(sys, "argv", ["cli.py", "fuse"])
    assert as_typed("prepare SOURCE") == "python cli.py prepare SOURCE"
