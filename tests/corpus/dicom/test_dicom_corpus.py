"""A folder of DICOM files, prepared: what is read, and what never leaves a file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.uid import generate_uid
from typer.testing import CliRunner

import cli
from core.images import ImageTable
from core.runs.workspace import Workspace
from corpus.readers.files import name_of_image
from tests.corpus.dicom.made_files import SECRETS, content_of, made, ramp, written

ROOT = Path(__file__).parents[3]

UIDS = "1.2.826.0.1.3680043.8.498"
"""How all UIDs begin that pydicom makes."""

MODALITIES = {"CT": "DRCT", "MR": "DRMR", "US": "DRUS", "DX": "DRXR", "PT": "DRPE", "XA": "DRAN"}

SPLITS = {"train": 18, "valid": 9, "test": 6}


def content(number: int, modality: str) -> bytes:
    rng = np.random.default_rng(number)
    values = (ramp() * 8 + rng.integers(0, 9, (32, 32))).astype("int16")
    return content_of(
        values,
        **{**SECRETS, "PatientID": f"MRN-77419{number // 3:02}"},
        Modality=modality,
        BodyPartExamined="ABDOMEN",
        ViewPosition="AP",
        PatientAge=f"{20 + number:03}Y",
        PatientSex="MF"[number % 2],
        StudyInstanceUID=f"{UIDS}.{1 + number // 3}",
        SeriesInstanceUID=generate_uid(),
        FrameOfReferenceUID=generate_uid(),
    )


def write_corpus(folder: Path, *, categories: bool = False) -> Path:
    """The layout of 2020 with files named in every way that scanners have."""
    number = 0
    for split, n_images in SPLITS.items():
        lines = []
        for place in range(n_images):
            modality = list(MODALITIES)[number % len(MODALITIES)]
            ending = ("", ".dcm", ".IMA", ".113")[number % 4]
            image_id = f"im{number}{'.113' if ending == '.113' else ''}"
            home = folder / split / ("DRCT" if categories and place < 6 else "")
            home.mkdir(parents=True, exist_ok=True)
            (home / f"im{number}{ending}").write_bytes(content(number, modality))
            lines.append(f"{image_id}\tC{number % 4:07};C0000009\n")
            number += 1
        (folder / split / "DICOMDIR").write_bytes(b"an index")
        names = {"train": "Training-Concepts.txt", "valid": "Validation-Concepts.txt"}
        if split in names:
            (folder / names[split]).write_text("".join(lines))
    return folder


def prepared(source: Path, workspace: Path, *options: str) -> tuple[str, ImageTable]:
    """What `prepare` prints, on either stream, and the image table."""
    arguments = ["prepare", str(source), "-w", str(workspace), "--set", "image_size=32", *options]
    result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output, Workspace(workspace).open_corpus().table


def test_a_folder_of_dicom_is_prepared(tmp_path: Path) -> None:
    out, table = prepared(write_corpus(tmp_path / "source"), tmp_path / "runs")
    assert len(table) == sum(SPLITS.values())
    assert set(table.metadata["readable"]) == {"1"}
    assert set(table.categories) == set(MODALITIES.values())
    assert set(table.metadata["modality"]) == set(MODALITIES)
    assert set(table.metadata["body_part"]) == {"abdomen"}
    assert table.metadata["age"][0] == "20"
    assert "im3.113" in table.image_ids
    assert len(set(table.groups)) == len(table) // 3
    assert "11 patients as groups" in out
    assert "no window in its header" in out


def test_two_runs_make_the_same_groups_and_folds(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source")
    _, once = prepared(source, tmp_path / "runs")
    _, again = prepared(source, tmp_path / "runs")
    assert once.groups == again.groups
    assert (once.folds == again.folds).all()


def test_folders_and_tables_count_before_headers(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", categories=True)
    (source / "groups.csv").write_text("image_id,group,age\nim0,mine,99\n")
    out, table = prepared(source, tmp_path / "runs")
    assert table.categories[:3] == ("DRCT", "DRCT", "DRCT")
    assert table.groups[0] == "mine"
    assert table.metadata["age"][:2] == ("99", "21")
    # Of the first six images of each split one is CT by its header.
    assert "15 images whose header tells another category than is named" in out


def test_nothing_else_of_a_header_leaves_its_file(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source")
    broken = made(ramp().astype("int16"), Modality="MR", Rows=77, **SECRETS)
    (source / "train" / "broken1.dcm").write_bytes(written(broken))
    report = made(ramp().astype("int16"), Modality="SR", **SECRETS)
    del report.PixelData
    (source / "train" / "report1.dcm").write_bytes(written(report))
    (source / "train" / "short1.dcm").write_bytes(content(0, "CT")[:900])
    arguments = ["prepare", source, "-w", tmp_path / "runs", "--set", "image_size=32"]
    command = [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"3 images cannot be decoded" in done.stdout
    written_down = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len(written_down) > 5
    told = [done.stdout, done.stderr, *(path.read_bytes() for path in written_down)]
    parts = {word for value in SECRETS.values() for word in value.split("^") if len(word) > 4}
    for secret in {*SECRETS.values(), *parts, "MRN-77", "7741963", UIDS, "ISO_IR"}:
        for where in told:
            assert secret.encode() not in where, secret
            assert secret.upper().encode() not in where, secret
    for line in (*done.stdout.splitlines(), *done.stderr.splitlines()):
        assert b"Warning" not in line
        assert b"Traceback" not in line


WITHOUT = "import sys; sys.modules['pydicom'] = None; import cli; cli.main()"
"""Runs the command line as if pydicom was not installed."""


def run_without_pydicom(source: Path, workspace: Path) -> subprocess.CompletedProcess[str]:
    arguments = ["prepare", str(source), "-w", str(workspace), "--set", "image_size=32"]
    command = [sys.executable, "-c", WITHOUT, *arguments]
    return subprocess.run(command, capture_output=True, check=False, cwd=ROOT, text=True)


def test_without_pydicom_a_corpus_of_dicom_is_refused_and_the_extra_named(tmp_path: Path) -> None:
    done = run_without_pydicom(write_corpus(tmp_path / "source"), tmp_path / "runs")
    assert done.returncode == 2
    assert "none of 18 training images can be decoded" in done.stderr
    assert done.stderr.count("pip install 'radfuse[dicom]'") == 1


def test_without_pydicom_single_files_are_counted_and_the_extra_named(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source")
    for number, path in enumerate(sorted(source.glob("*/im*"))):
        if number % 7:
            Image.fromarray(ramp().astype("uint8")).save(path, format="PNG")
            path.rename(path.with_name(f"{name_of_image(path.name)}.png"))
    done = run_without_pydicom(source, tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    assert "5 DICOM files not read" in done.stdout
    assert "5 images cannot be decoded" in done.stdout
    assert done.stdout.count("pip install 'radfuse[dicom]'") == 1


def test_dicom_among_pictures_whose_header_is_not_read_is_said(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_corpus(source)
    for path in sorted(source.glob("*/im*")):
        number = int(path.name[2:].partition(".")[0])
        if number != 4:  # neither the first nor the last of its folder, nor in its middle
            Image.fromarray(ramp().astype("uint8")).save(path, format="PNG")
        path.rename(path.with_name(f"{name_of_image(path.name)}.png"))
    out, table = prepared(source, tmp_path / "runs")
    assert "modality" not in table.metadata
    [line] = [line for line in out.splitlines() if "of whose headers" in line]
    assert line.endswith(
        "1 image: DICOM among pictures, of whose headers nothing is known: name the files .dcm to"
        " have them read: ['im4']"
    )
