"""The contact sheet: a strip for every kind of file, and the picture that each shows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from typer.testing import CliRunner

import cli
from core.errors import CorpusError
from core.runs.workspace import Corpus, Workspace
from corpus.images.contact_sheet import SIDE, write_sheet
from corpus.prepare import PrepareConfig, prepare
from corpus.readers.unprepared import read_unprepared

CONFIG = PrepareConfig(protocol="holdout", train_folds=2, valid_folds=2, image_size=32)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Eight plain images, two in 16 bits, one that lies on its side, one that is none."""
    lines = ["path,split,category,concepts"]
    for number in range(12):
        name = f"image{number}.png"
        level = 20 * number
        image = Image.fromarray(np.tile(np.array([level, level, level + 1], np.uint8), (30, 10)))
        if number in (8, 9):
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 100)
        exif = Image.Exif()
        if number == 10:
            exif[0x0112] = 6
        image.save(tmp_path / name, exif=exif)
        if number == 11:
            (tmp_path / name).write_text("no image")
        lines.append(f"{name},{'train' if number < 8 else 'valid'},DRXR,C1")
    (tmp_path / "small.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "small.csv"


def drawn(path: Path) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(path))


Made = Callable[[bool], tuple[list[str], npt.NDArray[np.uint8]]]


@pytest.fixture
def made(manifest: Path, workspace: Workspace, tmp_path: Path) -> Made:
    def call(prepared: bool) -> tuple[list[str], npt.NDArray[np.uint8]]:
        if prepared:
            corpus: Corpus = prepare(manifest, workspace, config=CONFIG)
        else:
            corpus = read_unprepared(manifest)
        folder = workspace.corpus if prepared else None
        lines = write_sheet(corpus, tmp_path / "sheet.png", prepared=folder)
        return lines, drawn(tmp_path / "sheet.png")

    return call


@pytest.mark.parametrize("prepared", [True, False])
def test_every_kind_of_file_has_a_strip(made: Made, prepared: bool, tmp_path: Path) -> None:
    lines, _ = made(prepared)
    assert lines == [
        str(tmp_path / "sheet.png"),
        "  8: PNG grey",
        "  2: PNG grey 16-bit; 16-bit values, windowed",
        "  1: PNG grey; turned upright by the EXIF tag",
        "  1: unknown; cannot be decoded",
    ]


def test_examples_are_drawn_as_they_are_read(made: Made) -> None:
    _, sheet = made(True)
    columns = range(8, sheet.shape[1] - SIDE, SIDE + 8)
    middle = np.flatnonzero((sheet[:, 8 + SIDE // 2] == 0).all(axis=1))
    assert len(columns) == 6
    # Six of eight, evenly spread: 0, 1, 2, 4, 5 and 7; each is even but for a level.
    row = int(middle[middle > 60][40])
    levels = [int(np.median(sheet[row, left + 4 : left + SIDE - 4, 0])) for left in columns]
    assert levels == [0, 20, 40, 80, 100, 140]


def test_a_corpus_without_files_has_no_sheet(tmp_path: Path) -> None:
    (tmp_path / "train_concepts.csv").write_text("ID,CUIs\na,C1\n")
    corpus = read_unprepared(tmp_path / "train_concepts.csv")
    with pytest.raises(CorpusError, match="no image files, so there is no sheet to draw"):
        write_sheet(corpus, tmp_path / "sheet.png")


def test_of_a_kind_with_many_images_some_are_looked_at(tmp_path: Path) -> None:
    lines = ["path,split,concepts"]
    for number in range(50):
        values = np.full((4, 4), 200, np.uint16)
        values[0] = 1000 + number
        Image.fromarray(values).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,train,C1")
    (tmp_path / "many.csv").write_text("\n".join(lines) + "\n")
    corpus = read_unprepared(tmp_path / "many.csv")
    [_, line] = write_sheet(corpus, tmp_path / "sheet.png")
    assert line == "  24 of 24 looked at, 50 in all: PNG grey 16-bit; 16-bit values, windowed"


def test_a_kind_with_many_images_has_a_strip_a_category(tmp_path: Path) -> None:
    lines = ["path,split,category,concepts"]
    for number in range(26):
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(tmp_path / f"{number}.png")
        category = "DRXR" if number < 20 else "DRCT" if number < 25 else ""
        lines.append(f"{number}.png,train,{category},C1")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "other.bmp")
    lines.append("other.bmp,train,DRXR,C1")
    (tmp_path / "many.csv").write_text("\n".join(lines) + "\n")
    corpus = read_unprepared(tmp_path / "many.csv")
    [_, *kinds] = write_sheet(corpus, tmp_path / "sheet.png")
    assert kinds == [
        "  20: PNG grey, DRXR; one colour all over",
        "  5: PNG grey, DRCT; one colour all over",
        "  1: BMP grey; one colour all over",
        "  1: PNG grey; one colour all over",
    ]


def test_the_command_line_names_the_sheet(manifest: Path, tmp_path: Path) -> None:
    arguments = ["stats", str(manifest), "-w", str(tmp_path / "runs"), "--sheet"]
    result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    [line] = [text for text in result.stdout.splitlines() if text.endswith("-sheet.png")]
    assert drawn(Path(line)).shape[1] == 6 * (SIDE + 8) + 8
    assert "  1: PNG grey; turned upright by the EXIF tag" in result.stdout
    result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)  # and once more
    assert result.exit_code == 0
