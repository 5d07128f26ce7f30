"""How far new images lie: from the workspace, from bundles, in tables; files that do harm."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.errors import BundleError
from core.runs.workspace import Corpus, Workspace
from ensembles.distance.model import FILES, DistanceModel
from inference.bundle.bundle import read_bundle, write_bundle
from inference.bundle.files import write_sums
from inference.images import NewImage
from inference.loaded.ensemble import Decisions, LoadedEnsemble
from inference.loaded.workspace import read_ensemble
from inference.stream import decide_images
from inference.tables import UnitTable, head_of
from tests.core.storage.unlisted import forget_files
from tests.inference.conftest import test_images


def said(ensemble: LoadedEnsemble, images: list[NewImage]) -> Decisions:
    (block,) = decide_images(ensemble, images)
    return block.decisions


def home_of(whole: Workspace) -> Path:
    (home,) = whole.ensembles.glob("stack-*")
    return home


def test_distances_are_those_that_the_submission_was_told_by(
    whole: Workspace, bundled: Path, crossfitted: Corpus
) -> None:
    home = home_of(whole)
    model = DistanceModel.load(home / "distance")
    with (home / "review.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    images = test_images(crossfitted)
    for ensemble in (read_ensemble(whole), read_bundle(bundled)):
        found = said(ensemble, images)
        told = [float(rows[image_id]["distance"]) for image_id in found.image_ids]
        np.testing.assert_allclose(found.distance, told, atol=1e-3)
        np.testing.assert_array_equal(found.review, model.places(found.expected_f1))
        assert ((found.review >= 0) & (found.review <= 1)).all()


def test_less_is_expected_of_far_images_and_what_is_decided_stays(
    whole: Workspace, crossfitted: Corpus, tmp_path: Path
) -> None:
    images = test_images(crossfitted)
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    images.append(
        NewImage(image_id="noise", path=tmp_path / "noise.png", category="DRCT", told_by="folder")
    )
    found, home = said(read_ensemble(whole), images), home_of(whole)
    meta = (home / "meta.json").read_bytes()
    (home / "distance").rename(tmp_path / "distance")
    try:  # as a run of an earlier version
        forget_files(home)
        plain = said(read_ensemble(whole), images)
        out = write_bundle(whole, tmp_path / "plain")
    finally:
        (tmp_path / "distance").rename(home / "distance")
        (home / "meta.json").write_bytes(meta)
    np.testing.assert_array_equal(found.decided.toarray(), plain.decided.toarray())
    np.testing.assert_array_equal(found.calibrated, plain.calibrated)
    assert np.isnan(plain.distance).all()
    assert np.isnan(plain.review).all()
    assert found.distance[-1] == found.distance.max() > 0.3
    assert (found.expected_f1 <= plain.expected_f1).all()
    model = DistanceModel.load(home / "distance")
    np.testing.assert_array_equal(found.expected_f1, model.alone(plain.expected_f1, found.distance))
    assert not (out / "distance").exists()
    bundled = said(read_bundle(out), images)
    np.testing.assert_array_equal(bundled.expected_f1, plain.expected_f1)
    assert np.isnan(bundled.distance).all()


def test_tables_have_columns_of_both(whole: Workspace, crossfitted: Corpus) -> None:
    (block,) = decide_images(read_ensemble(whole), test_images(crossfitted))
    table = UnitTable(form="csv", top=0)
    table.take(block)
    rows = [*csv.DictReader(io.StringIO(head_of("csv") + table.end().decode()))]
    of_image = {row["image"]: row for row in rows}
    found = block.decisions
    for name in ("expected_f1", "review", "distance"):
        told = [float(of_image[i][name]) for i in found.image_ids]
        np.testing.assert_allclose(told, getattr(found, name), atol=1e-6)
    table = UnitTable(form="jsonl", top=0)
    table.take(block)
    lines = [json.loads(line) for line in table.end().decode().splitlines()]
    np.testing.assert_allclose([own["distance"] for own in lines], found.distance, atol=1e-6)


def changed_graph(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    graph = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    change(graph)
    (bundle / "bundle.json").write_text(json.dumps(graph), encoding="utf-8")
    write_sums(bundle)


def test_a_bundle_of_layout_2_is_read_without_distances(
    bundled: Path, crossfitted: Corpus, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(bundled, tmp_path / "b"))
    shutil.rmtree(bundle / "distance")

    def as_before(graph: dict[str, Any]) -> None:
        del graph["distance"]
        graph["format"] = 2
        graph["files"] = {n: s for n, s in graph["files"].items() if "distance/" not in n}

    changed_graph(bundle, as_before)
    images = test_images(crossfitted)
    found, now = said(read_bundle(bundle), images), said(read_bundle(bundled), images)
    assert np.isnan(found.distance).all()
    np.testing.assert_array_equal(found.decided.toarray(), now.decided.toarray())
    assert (now.expected_f1 <= found.expected_f1).all()


def array(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        np.save(path, change(np.load(path)))

    return spoil


def number(value: float) -> Callable[[Any], Any]:
    def spoil(array: Any) -> Any:
        array[2, 7] = value
        return array

    return spoil


def told(**values: object) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return spoil


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("points.npy", array(number(np.nan))),
        ("points.npy", array(number(np.inf))),
        ("points.npy", array(number(6e4))),
        ("points.npy", array(lambda a: a[:, :-1])),
        ("points.npy", array(lambda a: a[:-1])),
        ("points.npy", array(lambda a: a.astype(np.float64))),
        ("points.npy", lambda p: p.write_bytes(b"none")),
        ("categories.npy", array(lambda a: a + np.uint8(100))),
        ("categories.npy", array(lambda a: a.reshape(-1, 1))),
        ("groups.npy", array(lambda a: a[1:])),
        ("groups.npy", array(lambda a: a.astype(np.float32))),
        ("usual.json", told(all=None)),
        ("usual.json", told(all=float("nan"))),
        ("usual.json", told(DRCT=1e300)),
        ("usual.json", lambda p: p.write_text("[" * 200)),
        ("reliance.json", told(evidence=[1e308, 1e308])),
        ("reliance.json", told(score=[0.0, float("nan"), 0.0])),
        ("reliance.json", told(score="abc")),
        ("reliance.json", told(n_sources=1e300)),
        ("reliance.json", told(usual_f1={"a": 1})),
        ("reliance.json", told(features=None)),
        ("reliance.json", lambda p: p.write_text("3")),
    ],
)  # fmt: skip
def test_distances_that_do_harm_are_refused_in_one_line(
    bundled: Path, tmp_path: Path, name: str, spoil: Callable[[Path], object]
) -> None:
    bundle = Path(shutil.copytree(bundled, tmp_path / "b"))
    spoil(bundle / "distance" / name)
    size = (bundle / "distance" / name).stat().st_size
    changed_graph(bundle, lambda graph: graph["files"].update({f"distance/{name}": size}))
    with pytest.raises(BundleError, match=name) as refusal:
        read_bundle(bundle)
    assert len(str(refusal.value).splitlines()) == 1
    assert str(bundle) in str(refusal.value)


@pytest.mark.parametrize("name", FILES)
def test_distances_have_all_their_files(bundled: Path, tmp_path: Path, name: str) -> None:
    bundle = Path(shutil.copytree(bundled, tmp_path / "b"))
    (bundle / "distance" / name).unlink()
    changed_graph(bundle, lambda graph: graph["files"].pop(f"distance/{name}"))
    with pytest.raises(BundleError, match=rf"{name}: missing from the bundle"):
        read_bundle(bundle)
