"""Folders as earlier versions and other programs write them, without a list of their files."""

import json
from pathlib import Path

from core.storage.folders import META, write_json
from core.storage.sums import HOLDS, SEAL


def forget_files(folder: Path) -> None:
    """Take out of a finished folder's `meta.json` what its files are held against."""
    meta = json.loads((folder / META).read_text(encoding="utf-8"))
    write_json(folder / META, {k: v for k, v in meta.items() if k not in (HOLDS, SEAL)})
