"""Detectors as ONNX graphs: the same as torch, run by onnxruntime alone, or not written at all."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

import inference.export.graphs
from core.errors import ConfigError, ExportError, MissingStageError
from core.runs.workspace import Corpus, Workspace
from corpus.images.decode import Resample, decode
from inference.export.detectors import PlainDetector, block_of, detectors_of, weights_of
from inference.export.folder import export_onnx
from inference.export.graphs import GraphWriter, check_graph, open_session, run_graph
from inference.export.readme import EXAMPLE
from inference.loaded.block import ImageBlock
from inference.place import EnsemblePlace
from inference.stream import decoded
from tests.conftest import save_prepared
from tests.inference.conftest import test_images

ROOT = Path(__file__).parents[2]
NAMES = ("global", "DRCT", "DRCT-2", "DRXR")


@pytest.fixture(scope="module")
def exported(whole: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes; nothing but what it says itself reaches the terminal."""
    folder = tmp_path_factory.mktemp("exported") / "graphs"
    done = subprocess.run(
        [sys.executable, ROOT / "cli.py", "export", "--onnx", folder, "-w", whole.root],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{folder}\n"
    (line,) = done.stderr.splitlines()
    assert "4 detectors as ONNX, at most " in line
    assert line.endswith(" from torch on 8 images of the corpus")
    assert not list(folder.parent.glob(".*"))
    return folder


@pytest.fixture(scope="module")
def detectors(whole: Workspace) -> dict[str, PlainDetector]:
    found = detectors_of(EnsemblePlace(workspace=whole.root).read("cpu"))
    return {detector.name: detector for detector in found}


@pytest.fixture(scope="module")
def block(detectors: dict[str, PlainDetector], crossfitted: Corpus) -> ImageBlock:
    ensemble = detectors["global"].ensemble
    images = [decoded(ensemble, image) for image in test_images(crossfitted)]
    return block_of(list(detectors.values()), images)


def test_every_detector_has_a_folder_and_frozen_and_fine_tuned_ones_are_among_them(
    exported: Path, detectors: dict[str, PlainDetector]
) -> None:
    assert tuple(detectors) == NAMES
    assert {path.parent.name for path in exported.glob("*/model.onnx")} == set(NAMES)
    n_networks = {name: len(detector.networks) for name, detector in detectors.items()}
    assert n_networks["global"] == n_networks["DRXR"] == 2
    assert {n_networks["DRCT"], n_networks["DRCT-2"]} == {0, 2}
    assert all(detector.mirror for detector in detectors.values())


@pytest.mark.parametrize("name", NAMES)
def test_graphs_say_what_torch_says_of_batches_of_any_size(
    name: str, exported: Path, detectors: dict[str, PlainDetector], block: ImageBlock
) -> None:
    detector, session = detectors[name], open_session(exported / name / "model.onnx", n_threads=1)
    expected = detector.probabilities(block)
    assert np.ptp(expected, axis=0).max() > 0
    for n in (1, 3, len(block)):
        given = run_graph(session, [block.pixels[look][:n] for look in detector.looks])
        assert given.dtype == np.float32
        np.testing.assert_allclose(given, expected[:n], rtol=0, atol=1e-5)


def test_a_graph_says_what_it_takes_and_what_it_is(
    exported: Path, detectors: dict[str, PlainDetector], crossfitted: Corpus
) -> None:
    session = open_session(exported / "global" / "model.onnx")
    taken = {entry.name: (entry.type, entry.shape) for entry in session.get_inputs()}
    assert taken == {
        "images_32": ("tensor(uint8)", ["batch", 32, 32, 3]),
        "images_64": ("tensor(uint8)", ["batch", 64, 64, 3]),
    }
    (given,) = session.get_outputs()
    assert (given.name, given.shape) == ("probabilities", ["batch", len(crossfitted.labels)])
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["concepts"]) == list(detectors["global"].labels.cuis)
    assert said["corpus"] == crossfitted.fingerprint
    assert said["weights"] == "random at first"
    assert (said["category"], said["scaling"]) == ("global", "bilinear")
    assert "not a medical device" in said["notice"]


def test_columns_have_the_names_of_concepts(
    exported: Path, detectors: dict[str, PlainDetector]
) -> None:
    for name, detector in detectors.items():
        with (exported / name / "labels.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["CUI"] for row in rows] == list(detector.labels.cuis)
        assert [row["column"] for row in rows] == [str(n) for n in range(len(rows))]
        assert {row["CUI"]: row["name"] for row in rows}["C3"] == "stripes"


def test_equal_networks_are_written_once_and_nothing_of_this_machine(exported: Path) -> None:
    content = (exported / "global" / "model.onnx").read_bytes()
    assert str(ROOT).encode() not in content
    assert b"site-packages" not in content
    graph = onnx.load(str(exported / "global" / "model.onnx")).graph
    n_convolutions = sum(node.op_type == "Conv" for node in graph.node)
    kernels = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    assert n_convolutions == 2 * len(kernels)  # at two sizes


def test_the_folder_says_what_is_in_it(exported: Path) -> None:
    listed = json.loads((exported / "export.json").read_text(encoding="utf-8"))
    assert [entry["folder"] for entry in listed["detectors"]] == list(NAMES)
    assert all(entry["largest_difference"] < 1e-5 for entry in listed["detectors"])
    text = (exported / "README.md").read_text(encoding="utf-8")
    assert "| `DRCT-2` | DRCT |" in text
    assert "on 8 images of the corpus" in text


@pytest.mark.parametrize("resample", ["bilinear", "bicubic", "nearest", "gaussian"])
def test_the_example_of_the_page_scales_as_training_does(
    resample: Resample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if resample == "gaussian":
        pytest.importorskip("skimage")
    scan = tmp_path / "scan.jpg"
    coarse = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((310, 270), Image.Resampling.BICUBIC).save(scan, quality=92)
    name = "images_64" if resample == "bilinear" else f"images_64_{resample}"
    session = SimpleNamespace(get_inputs=lambda: [SimpleNamespace(name=name, shape=(1, 64, 64, 3))])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda path, providers: session)
    monkeypatch.setattr(sys, "argv", ["example.py", "global", str(scan)])
    made: dict[str, Any] = {}
    exec(EXAMPLE.partition("probabilities =")[0], made)
    expected = decode(scan, size=64, resample=resample).pixels.astype(int)
    assert abs(made["images"][name][0] - expected).max() <= 1


def test_the_example_of_the_page_runs_without_torch(
    exported: Path, detectors: dict[str, PlainDetector], crossfitted: Corpus, tmp_path: Path
) -> None:
    text = (exported / "README.md").read_text(encoding="utf-8")
    example = text.partition("```python\n")[2].partition("```")[0]
    ours = "torch", "timm", "scipy", "inference", "corpus", "core"
    checked = f"{example}\nassert not {{*{ours!r}}} & {{*sys.modules}}\n"
    (tmp_path / "example.py").write_text(checked, encoding="utf-8")
    image = test_images(crossfitted)[0]
    done = subprocess.run(
        [sys.executable, tmp_path / "example.py", "global", image.path],
        cwd=exported, capture_output=True, text=True, check=True,
    )  # fmt: skip
    detector = detectors["global"]
    (expected,) = detector.probabilities(block_of([detector], [decoded(detector.ensemble, image)]))
    by_cui = dict(zip(detector.labels.cuis, expected, strict=True))
    shown = [line.split() for line in done.stdout.splitlines()]
    assert len(shown) == len(detector.labels)
    for probability, cui, *name in shown:
        assert float(probability) == pytest.approx(by_cui[cui], abs=2e-3)
        assert name == (["stripes"] if cui == "C3" else [])


def test_a_graph_that_differs_is_refused(
    exported: Path,
    detectors: dict[str, PlainDetector],
    block: ImageBlock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inference.export.graphs, "TOLERANCE", -1.0)
    with pytest.raises(ExportError, match=r"^detector DRXR: its graph differs from torch by"):
        check_graph(exported / "DRXR" / "model.onnx", detectors["DRXR"], block=block)


def test_a_file_that_is_no_graph_is_refused(
    detectors: dict[str, PlainDetector], block: ImageBlock, tmp_path: Path
) -> None:
    onnx.save(onnx.ModelProto(), str(tmp_path / "model.onnx"))
    with pytest.raises(ExportError, match="detector DRXR: its graph does not run in onnxruntime"):
        check_graph(tmp_path / "model.onnx", detectors["DRXR"], block=block)


def test_an_opset_that_nobody_knows_is_refused(whole: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--opset 99: the installed onnx knows those up to \d+"):
        export_onnx(tmp_path / "graphs", EnsemblePlace(workspace=whole.root), opset=99)


@pytest.mark.slow
def test_an_opset_that_cannot_be_written_is_refused_and_nothing_is_left(
    whole: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=r"^--opset 7: torch cannot write it, only \d+"):
        export_onnx(tmp_path / "graphs", EnsemblePlace(workspace=whole.root), opset=7)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_weights_of_a_large_detector_lie_beside_its_graph(
    detectors: dict[str, PlainDetector],
    block: ImageBlock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inference.export.graphs, "_LARGEST", 1000)
    fine_tuned = next(own for own in detectors.values() if not own.networks)
    GraphWriter().write(tmp_path / "model.onnx", fine_tuned, properties={})
    assert (tmp_path / "model.onnx.data").stat().st_size > 100_000
    assert check_graph(tmp_path / "model.onnx", fine_tuned, block=block) < 1e-5


def test_graphs_of_a_bundle_are_checked_on_drawn_images(
    bundled: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = export_onnx(tmp_path / "graphs", EnsemblePlace(bundle=bundled))
    said = capsys.readouterr().err
    assert "4 detectors as ONNX, at most " in said
    assert said.endswith(" from torch on 16 drawn images\n")
    listed = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    assert listed["corpus"] == ""
    assert {entry["weights"] for entry in listed["detectors"]} == {"as the card of the bundle says"}
    assert max(entry["largest_difference"] for entry in listed["detectors"]) < 1e-5
    pixels = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    fine = [
        path
        for home in (folder, exported)
        for path in home.glob("DRCT*/model.onnx")
        if len(open_session(path).get_inputs()) == 1
    ]
    ours, theirs = (run_graph(open_session(path, n_threads=1), [pixels]) for path in fine)
    np.testing.assert_array_equal(ours, theirs)


def test_a_missing_package_is_named_with_its_command(
    whole: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference.export.graphs, "PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(ConfigError, match=r"^--onnx takes no_such_package, not .* `pip install"):
        export_onnx(tmp_path / "graphs", EnsemblePlace(workspace=whole.root))


def test_what_is_not_an_export_is_not_replaced(whole: Workspace, tmp_path: Path) -> None:
    folder, place = tmp_path / "graphs", EnsemblePlace(workspace=whole.root)
    folder.mkdir()
    (folder / "mine.txt").write_text("kept", encoding="utf-8")
    for there in (folder, folder / "mine.txt"):
        with pytest.raises(ExportError, match="something else is there already"):
            export_onnx(there, place)
    assert (folder / "mine.txt").read_text(encoding="utf-8") == "kept"


def test_without_an_ensemble_the_command_that_makes_one_is_named(
    crossfitted: Corpus, tmp_path: Path
) -> None:
    workspace = save_prepared(crossfitted, tmp_path / "runs")
    with pytest.raises(MissingStageError, match="ensemble"):
        export_onnx(tmp_path / "graphs", EnsemblePlace(workspace=workspace.root))


def test_weights_are_those_that_the_first_run_started_from(
    detectors: dict[str, PlainDetector],
) -> None:
    assert {weights_of(detector) for detector in detectors.values()} == {"random at first"}
