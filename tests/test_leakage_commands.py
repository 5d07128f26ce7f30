"""`deal`, and what `stats --duplicates` says, on the command line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import cli
from core.errors import ConfigError

N = 30


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A manifest without splits, each image twice in a row: as it is, and mirrored."""
    rng = np.random.default_rng(0)
    lines = ["path,category,concepts"]
    for number in range(N):
        coarse = Image.fromarray(rng.integers(0, 255, (12, 12), dtype=np.uint8))
        image = coarse.resize((96, 96), Image.Resampling.BICUBIC)
        flipped = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for name, pixels in ((f"a{number}", image), (f"b{number}", flipped)):
            pixels.save(tmp_path / f"{name}.png")
            lines.append(f"{name}.png,CT,C1")
    path = tmp_path / "archive.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def call(*arguments: object) -> list[str]:
    result = CliRunner().invoke(cli.app, list(map(str, arguments)), catch_exceptions=False)
    return result.output.splitlines()


def test_deal_writes_a_manifest_in_which_copies_are_found(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "dealt" / "manifest.csv"
    lines = call("deal", archive, "--valid", 0.2, "--test", 0.2, "--seed", 1, "--out", out)
    assert lines[0] == (
        "60 images of 60 groups dealt, seed 1: train 36 (60.0%), valid 12 (20.0%), test 12 (20.0%)"
    )
    assert lines[-1] == str(out)
    splits = {
        line.split(",")[2]: line.split(",")[1]
        for line in out.read_text(encoding="utf-8").splitlines()[1:]
    }
    parted = sum(splits[f"a{number}"] != splits[f"b{number}"] for number in range(N))
    told = call("stats", out, "-w", tmp_path / "runs", "--duplicates")
    (folder,) = (tmp_path / "runs" / "reports").glob("duplicates-*")
    rows = (folder / "duplicates.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert parted == len(rows) > 0
    assert f"  {2 * parted} groups concerned; {parted} pairs mirrored" in told


def test_deal_does_not_overwrite_unasked(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    call("deal", archive, "--out", out)
    with pytest.raises(ConfigError, match="is there already"):
        call("deal", archive, "--out", out)
    assert call("deal", archive, "--out", out, "--overwrite")[-1] == str(out)
