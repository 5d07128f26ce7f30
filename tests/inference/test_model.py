"""A finished ensemble from Python: what goes in, and the DataFrame that comes out."""

import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import radfuse
from core.errors import (
    BundleError,
    ConceptError,
    ConfigError,
    CorpusError,
    ImageError,
    MissingStageError,
)
from core.labels import Concepts
from core.runs.workspace import Corpus, Workspace
from ensembles.decisions.rule import BY_THRESHOLDS, DecisionRule
from ensembles.decisions.thresholds import Thresholds
from inference.bundle.bundle import write_bundle
from inference.model import Model
from inference.stream import decide_images
from inference.tables import COLUMNS
from tests.inference.conftest import test_images as images_of_test

ROOT = Path(__file__).parents[2]

TEXT = {"image", "CUI", "name", "rule", "category", "category_from", "nearest_image"}


@pytest.fixture(scope="module")
def model(whole: Workspace) -> Model:
    return radfuse.load(whole.root)


@pytest.fixture
def paths(crossfitted: Corpus) -> list[str]:
    """The eight test images, CT first."""
    return list(crossfitted.table.of(split="test").paths)


def sets_of(frame: pd.DataFrame) -> dict[str, Concepts]:
    """The decided concepts of each image."""
    own = frame[frame["decided"]].groupby("image", sort=False)["CUI"]
    found = {image: tuple(sorted(cuis)) for image, cuis in own}
    return {image: found.get(image, ()) for image in frame["image"].unique()}


def test_importing_it_loads_neither_torch_nor_pandas_and_takes_no_time() -> None:
    code = (
        "import sys, time; start = time.process_time(); import radfuse;"
        " took = time.process_time() - start; print(sorted({'torch', 'pandas', 'numpy'} &"
        " set(sys.modules))); print(took)"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split("\n")
        for _ in range(3)
    ]
    assert {loaded for loaded, *_ in runs} == {"[]"}
    assert min(float(took) for _, took, _ in runs) < 0.05


def test_what_stands_in_front_is_there_when_it_is_asked_for() -> None:
    assert radfuse.Model is Model
    assert issubclass(radfuse.ConceptError, ConceptError)
    with pytest.raises(AttributeError, match="module 'radfuse' has no attribute 'lod'"):
        _ = radfuse.lod


def test_a_row_a_concept_as_the_ensemble_decides(model: Model, crossfitted: Corpus) -> None:
    asked = images_of_test(crossfitted)
    (block,) = decide_images(model._ensemble, asked)
    known = block.decisions
    ct = model.predict([i.path for i in asked if i.category == "DRCT"], category="DRCT")
    xray = model.predict([i.path for i in asked if i.category == "DRXR"], category="x-ray")
    frame = pd.concat([ct, xray])
    assert list(frame.columns) == list(COLUMNS)
    assert list(ct.index) == list(range(len(ct)))
    sets = known.labels.decode(known.decided)
    assert sets_of(frame) == {
        image.image_id: tuple(sorted(own)) for image, own in zip(asked, sets, strict=True)
    }
    near = dict(zip(known.image_ids, known.nearest_image, strict=True))
    assert dict(zip(frame["image"], frame["nearest_image"], strict=True)) == near
    assert all(near.values())
    assert set(frame["category_from"]) == {"given"}
    assert set(model.predict(asked[0].path)["category_from"]) == {"guessed"}


def test_types_are_those_that_are_promised(model: Model, paths: list[str]) -> None:
    for frame in (model.predict(paths, top=2), model.predict([])):
        assert {n for n in frame if isinstance(frame[n].dtype, pd.StringDtype)} == TEXT
        numbers = ("probability", "expected_f1", "review", "distance", "nearest")
        assert {str(frame[n].dtype) for n in numbers} == {"float64"}
        assert frame["decided"].dtype == bool
        assert frame.attrs == {"skipped": {}, "notes": []}
    assert model.predict([]).empty


def test_candidates_have_no_rule_and_unknown_names_are_missing(
    model: Model, paths: list[str]
) -> None:
    frame = model.predict(paths, top=3)
    assert (frame["rule"].isna() == ~frame["decided"]).all()
    assert (~frame["decided"]).any()
    assert (frame["name"].isna() == (frame["CUI"] != "C3")).all()
    with pytest.raises(ConfigError, match="top=-1: expected 0 or more"):
        model.predict(paths, top=-1)


def test_an_image_without_concepts_keeps_one_row(model: Model, paths: list[str]) -> None:
    never = DecisionRule(kind=BY_THRESHOLDS, thresholds=Thresholds(global_=2.0))
    strict = Model(replace(model._ensemble, rule=never), place=model.place, device="cpu")
    frame = strict.predict(paths)
    assert list(frame["image"]) == [Path(path).stem for path in paths]
    assert frame[["CUI", "name", "probability", "rule"]].isna().all(axis=None)
    assert not frame["decided"].any()
    assert frame["category"].notna().all()


def test_probabilities_are_a_row_an_image_and_a_column_a_concept(
    model: Model, paths: list[str], crossfitted: Corpus
) -> None:
    probs = model.probabilities(paths)
    assert list(probs.columns) == list(crossfitted.labels.cuis) == list(model.concepts["CUI"])
    assert list(probs.index) == [Path(path).stem for path in paths]
    assert probs.index.name == "image"
    assert set(map(str, probs.dtypes)) == {"float32"}
    frame = model.predict(paths, top=2)
    told = [probs.to_dict("index")[i][c] for i, c in zip(frame["image"], frame["CUI"], strict=True)]
    np.testing.assert_array_equal(told, frame["probability"])
    assert model.probabilities([]).shape == (0, len(crossfitted.labels))


def test_paths_folders_and_patterns_are_those_of_the_command_line(
    model: Model, paths: list[str]
) -> None:
    folder = Path(paths[0]).parent
    one = model.predict(paths[0])
    assert one["image"].unique().tolist() == [Path(paths[0]).stem]
    pattern = model.predict(f"{folder}/test_*.jpg")
    assert sets_of(pattern) == sets_of(model.predict(map(Path, paths)))
    assert model.predict(pd.Series(paths))["image"].nunique() == len(paths)
    assert model.predict(np.array(paths))["image"].nunique() == len(paths)
    with pytest.raises(CorpusError, match="nowhere: no such file or folder"):
        model.predict("nowhere")


def test_images_in_memory_are_seen_as_their_files_are(
    model: Model, paths: list[str], tmp_path: Path
) -> None:
    files = []
    for path in paths:  # a JPEG may be scaled down while it is decoded; PNG never
        with Image.open(path) as image:
            files.append(tmp_path / f"{Path(path).stem}.png")
            image.save(files[-1])
    known = model.probabilities(files)
    opened = [Image.open(file) for file in files]
    arrays = [np.asarray(image) for image in opened]
    by_pillow = model.probabilities(opened)
    assert list(by_pillow.index) == list(known.index)
    np.testing.assert_array_equal(by_pillow, known)
    by_arrays = model.probabilities(arrays)
    assert list(by_arrays.index) == [str(position) for position in range(len(arrays))]
    np.testing.assert_array_equal(by_arrays, known)
    colours = np.stack(
        [np.stack([grey] * 3, axis=-1) if grey.ndim == 2 else grey for grey in arrays]
    )
    np.testing.assert_array_equal(model.probabilities(colours), known)  # (N, H, W, 3)
    one = model.predict(arrays[0])
    assert one["image"].unique().tolist() == ["0"]


def test_pillows_images_are_turned_and_put_on_their_background(
    model: Model, tmp_path: Path, paths: list[str]
) -> None:
    with Image.open(paths[0]) as image:
        grey = image.convert("L")
    turned, clear = tmp_path / "turned.png", tmp_path / "clear.png"
    exif = Image.Exif()
    exif[274] = 6
    grey.save(turned, exif=exif)
    seen = grey.convert("RGBA")
    seen.putalpha(128)
    seen.putpixel((0, 0), (0, 0, 0, 255))
    seen.save(clear)
    deep = tmp_path / "deep.png"
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 200).save(deep)
    for file in (turned, clear, deep):
        with Image.open(file) as opened:
            np.testing.assert_array_equal(model.probabilities(opened), model.probabilities(file))


def test_images_of_one_name_keep_apart(model: Model, paths: list[str]) -> None:
    opened = [
        Image.open(paths[0]),
        Image.open(paths[0]),
        Image.open(paths[0]),
        Image.open(paths[1]),
    ]
    stem = Path(paths[0]).stem
    ids = model.probabilities(opened).index
    assert list(ids) == [stem, paths[0], "2", Path(paths[1]).stem]


def test_what_comes_one_by_one_is_taken_one_by_one(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.model.N_AT_ONCE", 3)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (7, 40, 40), dtype=np.uint8)

    def each() -> Iterator[np.ndarray]:
        yield from pixels

    assert list(model.probabilities(each()).index) == list("0123456")


def test_what_is_no_image_is_refused(model: Model, paths: list[str]) -> None:
    grey = np.zeros((8, 8), dtype=np.uint8)
    for wrong, reason in (
        (
            grey.astype(np.float32),
            "image 0: expected H x W or H x W x 3 of uint8, found 8 x 8 of f",
        ),
        (grey[None], "image 0: expected H x W .* found 1 x 8 x 8 of uint8"),
        ([grey, grey[:0]], "image 1: expected H x W .* found 0 x 8"),
        ([grey, paths[0]], "image 1: expected paths, or images of Pillow .* found str"),
        ([paths[0], grey], "image 1, after paths: expected paths, .* found ndarray"),
        (3, "images: expected paths, .* found int"),
        (b"\x89PNG", "images: expected paths, .* found bytes"),
    ):
        with pytest.raises(ConfigError, match=reason):
            model.predict(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="category 'dog': expected one of DRAN"):
        model.predict(grey, category="dog")
    with pytest.raises(ConfigError, match="errors='ignore': expected 'raise' or 'skip'"):
        model.predict(grey, errors="ignore")  # type: ignore[arg-type]


def test_an_image_that_cannot_be_read_stops_it_or_is_left_out(
    model: Model, paths: list[str], tmp_path: Path
) -> None:
    broken, gone = tmp_path / "broken.jpg", tmp_path / "gone.jpg"
    broken.write_bytes(Path(paths[0]).read_bytes()[:-200])
    mixed = [paths[0], str(broken), *paths[1:]]
    with pytest.raises(ImageError, match=r"broken\.jpg: .*; errors='skip' leaves such images out"):
        model.predict(mixed)
    frame = model.predict([*mixed, gone], errors="skip")
    assert set(frame.attrs["skipped"]) == {str(broken), str(gone)}
    assert frame.attrs["skipped"][str(gone)] == f"{gone}: no such file or folder"
    pd.testing.assert_frame_equal(frame, model.predict(paths), check_exact=True)
    assert model.predict(broken, errors="skip").empty

    with Image.open(paths[0]) as good, Image.open(broken) as bad:
        with pytest.raises(ImageError, match=r"^broken: cannot be decoded \(cut short\); errors="):
            model.predict([good, bad])
        kept = model.predict([bad, good], errors="skip")
    assert kept["image"].unique().tolist() == [Path(paths[0]).stem]
    assert list(kept.attrs["skipped"]) == ["broken"]


def test_nothing_is_written_to_the_terminal(
    whole: Workspace, paths: list[str], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with Image.open(paths[0]) as image:
        image.save(tmp_path / "a.png")
    frame = radfuse.load(whole.root).predict(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert frame.attrs["notes"] == [
        f"{tmp_path}: 1 file without an image's ending, left out: ['notes.txt']"
    ]


def test_a_bar_is_shown_where_one_is_asked_for(
    model: Model, paths: list[str], capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("FORCE_COLOR", "1")
    model.predict(paths)
    assert capfd.readouterr().err == ""
    model.predict(paths, progress=True)
    assert "deciding" in capfd.readouterr().err


def test_threads_wait_for_each_other(model: Model, paths: list[str]) -> None:
    known = model.probabilities(paths)
    found: list[pd.DataFrame] = []
    threads = [
        threading.Thread(target=lambda: found.append(model.probabilities(paths))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for one in found:
        pd.testing.assert_frame_equal(one, known, check_exact=True)


def test_a_pickled_model_is_its_place(model: Model, paths: list[str], whole: Workspace) -> None:
    stored = pickle.dumps(model)
    assert len(stored) < 1000
    again = pickle.loads(stored)
    pd.testing.assert_frame_equal(again.predict(paths), model.predict(paths))
    assert repr(again) == repr(model)
    n_members = len(model.members)
    assert repr(model) == (
        f"<radfuse.Model '{whole.root}': 7 concepts, {n_members} members, on cpu>"
    )


def test_a_bundle_says_what_its_workspace_says(
    model: Model, whole: Workspace, paths: list[str], tmp_path: Path
) -> None:
    told = model.predict(paths, top=2)
    for name, ids in (("bundle", False), ("bundle.zip", True)):
        place = write_bundle(whole, tmp_path / name, training_ids=ids)
        known = told if ids else told.assign(nearest_image=pd.array([None] * len(told), "string"))
        carried = radfuse.load(place)
        pd.testing.assert_frame_equal(carried.predict(paths, top=2), known, check_exact=True)
        pd.testing.assert_frame_equal(carried.concepts, model.concepts)
        assert pickle.loads(pickle.dumps(carried)).place == place
    (tmp_path / "bundle" / "SHA256SUMS").unlink()
    with pytest.raises(BundleError, match="SHA256SUMS"):
        radfuse.load(tmp_path / "bundle")
    (tmp_path / "a.csv").write_text("image\n")
    with pytest.raises(BundleError, match=r"a\.csv"):
        radfuse.load(tmp_path / "a.csv")


def test_what_is_neither_a_bundle_nor_a_workspace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingStageError, match="nowhere: no such file or folder"):
        radfuse.load(tmp_path / "nowhere")
    with pytest.raises(MissingStageError, match=r"neither a bundle \(.*\) nor a workspace with a"):
        radfuse.load(tmp_path)
    with pytest.raises(ConfigError, match=r"^device tpu: expected cpu, cuda, cuda:N or auto"):
        radfuse.load(tmp_path, device="tpu")


def test_the_page_on_python_runs_as_it_stands(
    whole: Workspace,
    bundled: Path,
    paths: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to(whole.root)
    (tmp_path / "tagger").symlink_to(bundled)
    (tmp_path / "scans").mkdir()
    for path in paths:
        (tmp_path / "scans" / Path(path).name).write_bytes(Path(path).read_bytes())
    with Image.open(paths[0]) as image:
        image.save("scans/a.png")
    (tmp_path / "list.csv").write_text("path,category\nscans/a.png,CT\n")
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    known: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), known)
    table = known["table"]
    assert isinstance(table, pd.DataFrame)
    assert table["image"].nunique() == 9
    assert table.attrs["skipped"] == {"gone.png": "gone.png: no such file or folder"}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    exec(compile(shown, "README.md", "exec"), {})
