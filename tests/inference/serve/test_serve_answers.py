"""What the server says of images is what `predict` says."""

import io
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from core.categories import UNKNOWN
from core.runs.workspace import Workspace
from inference.images import NewImage
from inference.loaded.workspace import read_ensemble
from inference.stream import decide_images
from inference.tables import objects
from tests.inference.serve.conftest import Served

Told = dict[str, Any]


@pytest.fixture(scope="module")
def expected(whole: Workspace, paths: Sequence[str]) -> list[Told]:
    """What `predict` says of the images, their category guessed."""
    images = [NewImage(image_id=Path(p).stem, path=Path(p), category=UNKNOWN) for p in paths]
    (block,) = decide_images(read_ensemble(whole), images)
    return list(objects(block, top=2))


def assert_same(told: Sequence[Told], expected: Sequence[Told]) -> None:
    """Equal but for rounding; numbers are told with six decimals."""
    for one, other in zip(told, expected, strict=True):
        same = ("image", "category", "category_from")
        assert [one[name] for name in same] == [other[name] for name in same]
        decided = [[c["CUI"] for c in x["concepts"] if c["decided"]] for x in (one, other)]
        assert decided[0] == decided[1]
        for name in ("expected_f1", "review", "nearest"):
            assert one[name] == pytest.approx(other[name], abs=1e-5)
        # A logarithm of 1 - cosine: of images that lie on known ones rounding shows.
        assert one["distance"] == pytest.approx(other["distance"], abs=1e-5)
        said, known = ([c["probability"] for c in x["concepts"]] for x in (one, other))
        np.testing.assert_allclose(said, known, rtol=0, atol=3e-6)


def test_images_of_a_form_are_told_in_their_order(
    served: Served, paths: Sequence[str], expected: Sequence[Told]
) -> None:
    answer = served.predict(*paths[:4], data={"top": "2"})
    assert answer.status_code == 200
    assert_same(answer.json()["images"], expected[:4])


def test_company_changes_nothing(
    served: Served, paths: Sequence[str], expected: Sequence[Told]
) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda p: served.predict(p, params={"top": "2"}), [*paths] * 3))
    told = [answer.json()["images"][0] for answer in answers]
    assert_same(told, list(expected) * 3)
    assert served.metric('radfuse_block_images_bucket{le="1.0"}') < served.metric(
        "radfuse_block_images_count"
    )  # some were decided together


def test_each_request_has_its_own_number_of_candidates(
    served: Served, paths: Sequence[str]
) -> None:
    tops = (0, 1, 3, 2, 0, 1, 3, 2)
    with ThreadPoolExecutor(8) as pool:
        ask = lambda path, top: served.predict(path, params={"top": str(top)})  # noqa: E731
        answers = list(pool.map(ask, paths, tops))
    for answer, top in zip(answers, tops, strict=True):
        ((told,),) = [answer.json()["images"]]
        n_decided = sum(c["decided"] for c in told["concepts"])
        assert len(told["concepts"]) - n_decided <= top


def test_a_body_that_is_an_image_has_its_name_in_the_query(
    served: Served, paths: Sequence[str], expected: Sequence[Told]
) -> None:
    name = Path(paths[0]).name
    answer = httpx.post(
        f"{served.url}/predict",
        params={"name": name, "top": "2"},
        content=Path(paths[0]).read_bytes(),
        headers={"Content-Type": "image/jpeg"},
    )
    assert_same(answer.json()["images"], expected[:1])


def test_a_category_is_taken_by_any_name(served: Served, paths: Sequence[str]) -> None:
    (told,) = served.predict(paths[0], data={"category": "x-ray"}).json()["images"]
    assert (told["category"], told["category_from"]) == ("DRXR", "request")
    answer = served.predict(paths[0], data={"category": "cat photo"})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("category 'cat photo': expected one of DRAN")


def test_a_dicom_header_tells_the_category_and_nothing_of_it_is_told(served: Served) -> None:
    pytest.importorskip("pydicom")
    from tests.corpus.dicom.made_files import content_of, ramp

    content = content_of(ramp(), Modality="CT", PatientName="Doe^Jane", PatientID="77-3")
    answer = served.predict(("scan", content))
    (told,) = answer.json()["images"]
    assert (told["category"], told["category_from"]) == ("DRCT", "DICOM header")
    assert "Doe" not in answer.text
    assert "77-3" not in answer.text


def png(size: int = 40, **how: Any) -> bytes:
    file = io.BytesIO()
    Image.new("L", (size, size), 90).save(file, "PNG", **how)
    return file.getvalue()


def test_what_cannot_be_read_is_said_in_its_place(served: Served, paths: Sequence[str]) -> None:
    jpeg = Path(paths[0]).read_bytes()
    answer = served.predict(
        ("text.png", b"no image"), ("a.jpg", jpeg), ("empty.png", b""), ("cut.png", png()[:60])
    )
    assert answer.status_code == 200
    text, good, empty, cut = answer.json()["images"]
    assert text == {"image": "text", "error": "not an image"}
    assert good["concepts"]
    assert empty == {"image": "empty", "error": "not an image"}
    assert cut["image"] == "cut"
    assert "cut short" in cut["error"] or "cannot be decoded" in cut["error"]


def test_without_any_image_that_can_be_read_the_request_failed(served: Served) -> None:
    answer = served.predict(("text.png", b"no image"))
    assert answer.status_code == 422
    assert answer.json() == {
        "error": "none of 1 images could be read",
        "images": [{"image": "text", "error": "not an image"}],
    }


def test_pages_load_nothing_from_elsewhere(served: Served) -> None:
    for path in ("/", "/docs"):
        page = httpx.get(served.url + path)
        assert page.status_code == 200
        assert "not a medical device" in page.text
        assert "src=" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        links = [part.split('"')[0] for part in page.text.split('href="')[1:]]
        assert all(link.startswith("/") for link in links)
    schema = httpx.get(f"{served.url}/openapi.json").json()
    assert set(schema["paths"]["/predict"]["post"]["responses"]) >= {"200", "413", "422", "503"}
    content = schema["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert {"multipart/form-data", "application/dicom"} <= set(content)


def test_states_and_counts(served: Served, paths: Sequence[str]) -> None:
    assert httpx.get(f"{served.url}/healthz").json() == {"status": "ready"}
    assert httpx.get(f"{served.url}/healthz/live").json() == {"status": "live"}
    before = served.metric("radfuse_images_total")
    served.predict(*paths[:2])
    assert served.metric("radfuse_images_total") == before + 2
    text = served.text_of_metrics()
    for name in ("reading", "decoding", "waiting", "deciding", "answering"):
        assert f"radfuse_{name}_seconds_bucket" in text
    assert served.metric("radfuse_queue_images") == 0
    assert served.metric("radfuse_held_bytes") == 0


def test_the_log_has_no_name_and_no_query(served: Served, paths: Sequence[str]) -> None:
    served.predict(("Jane_Doe.png", png()), params={"category": "CT"})
    httpx.get(f"{served.url}/Jane_Doe.png?name=Jane_Doe")
    until = time.monotonic() + 10  # a line is written once its answer is sent
    while "GET elsewhere 404" not in "\n".join(served.lines) and time.monotonic() < until:
        time.sleep(0.01)
    log = "\n".join(served.lines)
    assert "Doe" not in log
    assert "category" not in log
    assert "POST /predict 200 0." in log
    assert "GET elsewhere 404" in log
    assert " 1 image" in log


def test_json_is_plain(served: Served, paths: Sequence[str]) -> None:
    answer = served.predict(paths[0])
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    json.loads(answer.text, parse_constant=lambda word: pytest.fail(word))
