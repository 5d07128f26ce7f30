"""The licence of weights in a file, as what lies beside it says."""

import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from backbones.networks.checkpoint_files import checkpoint_in
from core.errors import ConfigError
from core.storage.documents import parse_json


def licence_beside(path: Path) -> str:
    """The licence that a file of weights, or what lies beside it, states; "" where none does.

    Looked for in the metadata of a safetensors file; in the front matter of a model card, which is
    the README.md of the same folder; in a config.json there, as timm writes it; and, where a folder
    is given, in its LICENSE. A LICENSE beside a single file may be of anything that lies there.

    Args:
        path: a file, a folder or the index of files in parts.
    """
    folder = path if path.is_dir() else path.parent
    found = _in_metadata(path) or _in_card(folder / "README.md") or _in_config(folder)
    if not found and path.is_dir():
        found = next(filter(None, map(_in_text, (folder / name for name in _LICENCE_FILES))), "")
    plain = " ".join(found.split())
    return plain[:_LONGEST] if plain.isprintable() else ""


_LONGEST = 100
_LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "COPYING")
_KNOWN = {
    r"Apache License\s+Version 2\.0": "Apache-2.0",
    r"(?m)^\s*(The )?MIT License|Permission is hereby granted, free of charge": "MIT",
    r"BSD 3-Clause": "BSD-3-Clause",
    r"Attribution-NonCommercial 4\.0": "CC-BY-NC-4.0",
    r"Attribution 4\.0 International": "CC-BY-4.0",
    r"GNU GENERAL PUBLIC LICENSE\s+Version 3": "GPL-3.0",
}
"""Licences by what their text says near its start."""


def _in_metadata(path: Path) -> str:
    try:
        found = checkpoint_in(path) if path.is_dir() else path
        if found.suffix != ".safetensors" or not found.is_file():
            return ""
        with safe_open(found, framework="pt") as file:
            stated: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError, ConfigError):  # the reader of the weights says what is wrong
        return ""
    return stated.get("license") or stated.get("licence") or ""


def _in_card(card: Path) -> str:
    """As Hugging Face's hub has it: `license: other` goes with a name of its own."""
    if not card.is_file():
        return ""
    import yaml  # type: ignore[import-untyped]
    from huggingface_hub import metadata_load

    try:
        stated: dict[str, Any] = metadata_load(card) or {}
    except (OSError, ValueError, yaml.YAMLError, RecursionError):  # a text that is no model card
        return ""
    licence, name = stated.get("license"), stated.get("license_name")
    if licence == "other" and name:
        licence = name
    return ", ".join(map(str, licence)) if isinstance(licence, list) else str(licence or "")


def _in_config(folder: Path) -> str:
    path = folder / "config.json"
    try:
        stated = parse_json(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return str(stated["pretrained_cfg"].get("license") or "")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""


def _in_text(path: Path) -> str:
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8", errors="replace")[:5000]
    for pattern, name in _KNOWN.items():
        if re.search(pattern, text):
            return name
    return next((line.strip(" #") for line in text.splitlines() if line.strip()), "")
