"""The documents name what is there."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import typer

import cli
from backbones.settings.config import BackboneConfig
from backbones.settings.presets import PRESETS
from core.config import numeric_fields
from corpus.prepare import PrepareConfig
from ensembles.config import EnsembleConfig
from fusion.config import FuseConfig
from training.config import FitConfig

ROOT = Path(__file__).parents[1]
PACKAGES = (
    *("commands", "core", "corpus", "training", "backbones", "fusion", "ensembles", "inference"),
    *("browser", "reports", "benchmarks"),
)


def test_the_architecture_names_every_module_and_no_other() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    modules = text[text.index("## Modules") : text.index("## Central types")]
    named = set(re.findall(r"`([a-z0-9_]+)`", modules))
    there = {p.stem for name in PACKAGES for p in (ROOT / name).rglob("*.py")} - {"__init__"}
    assert there - named == set()
    for row in re.findall(r"^\| (`.+?) \|", modules, flags=re.MULTILINE):
        assert set(re.findall(r"`([a-z0-9_]+)`", row)) <= there


@pytest.mark.parametrize("config", [PrepareConfig, BackboneConfig, FuseConfig, EnsembleConfig])
def test_every_setting_is_documented_in_the_settings_and_in_its_class(config: Any) -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    described = "".join(base.__doc__ or "" for base in config.__mro__)
    for field in dataclasses.fields(config):
        assert f"`{field.name}`" in text
        assert re.search(rf"\b{field.name}\b", described)


@pytest.mark.parametrize(
    ("stage", "config"),
    [
        *(("prepare", PrepareConfig), ("train-backbone", BackboneConfig), ("fuse", FuseConfig)),
        ("ensemble", EnsembleConfig),
    ],
)
def test_the_range_of_every_number_is_documented(stage: str, config: Any) -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w-]+) \| (`.+) \| (.+) \|$", text, flags=re.MULTILINE)
    said = {(own, key): words for own, keys, words in rows for key in re.findall(r"`(\w+)`", keys)}
    inherited = {*numeric_fields(FitConfig)} if stage == "fuse" else set()
    found = {key: words for (own, key), words in said.items() if own == stage}
    expected = {n: str(f.range) for n, f in numeric_fields(config).items() if n not in inherited}
    assert found == expected


def test_the_readme_names_every_command_and_all_that_use_a_workspace_take_one() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    group = typer.main.get_command(cli.app)
    commands: dict[str, Any] = group.commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        assert re.search(rf"`{name}\b", text), name
        takes = any("--workspace" in parameter.opts for parameter in command.params)
        assert takes == (name != "deal"), name  # it writes a manifest


def test_the_presets_are_documented() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in PRESETS)


def test_the_table_of_inputs_names_tests_that_are_there() -> None:
    text = (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "::" in line]
    assert len(rows) >= 60
    for row in rows:
        assert row.count(" | ") == 2, row
        for path, function in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row):
            defined = (ROOT / path).read_text(encoding="utf-8")
            assert f"def {function}(" in defined, row
        assert re.search(r"`tests/[\w/]+\.py::\w+`", row), row
