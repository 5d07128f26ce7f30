"""The pages as they are sent: all of them, of a whole workspace and of hostile text."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from browser.library import Library
from browser.pages.app import new_app
from browser.run import named
from browser.state import State
from core.errors import ConfigError
from core.runs.fused import Doubt
from core.runs.workspace import Workspace
from tests.browser.conftest import judged, made_library

EVIL = "<img src=x onerror=alert(1)>\"'&{{7*7}}"


def asks(state: State) -> TestClient:
    return TestClient(new_app(state), follow_redirects=False)


def made_state(library: Library) -> State:
    """A state in which the judgement by hand is the only one."""
    state = State(library=library, submissions={"made": Path("made")})
    state._judgements["made"] = judged(library)
    return state


@pytest.fixture(scope="module")
def state(whole: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    found = State(library=Library.open(whole))
    thread = found.compute_distances()
    thread.join()
    yield found
    found.close()
    (whole.root / "review.csv").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("address", "texts"),
    [
        ("/", ["64", "images", "train_00", "✓", "mean F1"]),
        ("/?concept=stripes", ["stripes", "is true"]),
        ("/?concept=C1&role=missed&order=worst", ["was missed"]),
        ("/?order=far", ["64"]),
        ("/?kind=doubted", ["images"]),
        ("/image?id=train_00", ["train_00", "What each member says", "Nearest labelled images"]),
        ("/image?id=test_03", ["Its labels are not known", "Decided"]),
        ("/image?id=train_01&concept=C1&order=worst", ["of 28", 'rel="next"']),
        ("/concepts", ["Missed", "stripes"]),
        ("/concepts?category=DRCT&order=missed", ["Concepts in CT"]),
        ("/concept?cui=C3", ["stripes", "Calibration", "On the same images"]),
        ("/concept?cui=stripes", ["stripes"]),
        ("/categories", ["CT", "X-ray", "Doubted"]),
        ("/category?name=DRCT", ["Most frequent", "Lowest F1"]),
        ("/compare", ["Make another"]),
        ("/help", ["Keys"]),
    ],
)
def test_every_page_shows_what_it_is_for(state: State, address: str, texts: list[str]) -> None:
    answer = asks(state).get(address)
    assert answer.status_code == 200
    for text in texts:
        assert text in answer.text
    # Nothing comes from elsewhere, nothing runs inline, no attribute holds a style.
    assert not re.search(r"(src|href|action)=\"(https?:)?//", answer.text)
    assert not re.search(
        r"\son\w+=|<script(?! src=\"/static/browse\.js\" defer>)|style=", answer.text
    )


@pytest.mark.parametrize(
    ("address", "status", "text"),
    [
        ("/?split=dev", 400, "expected one of train, valid, test"),
        ("/?concept=nonsense", 400, "no concept of this corpus fits"),
        ("/?page=x", 400, "expected a number"),
        ("/?run=other", 400, "no such ensemble or submission"),
        ("/image?id=../../etc/passwd", 404, "nothing of this name"),
        ("/image", 404, "nothing of this name"),
        ("/concept?cui=C99", 400, "no concept of this corpus fits"),
        ("/category?name=MRI", 400, "expected one of DRAN"),
        ("/concepts?order=x", 400, "order=x"),
        ("/elsewhere", 404, "nothing here"),
        ("/static/../run.py", 404, ""),
        ("/static/..%2frun.py", 404, ""),
        ("/picture/small/99999.jpg", 404, "no such picture"),
        ("/picture/huge/0.jpg", 404, "no such picture"),
        ("/picture/small/%2e%2e%2f0.jpg", 404, ""),
        ("/picture/small/-1.jpg", 404, ""),
    ],
)
def test_what_is_not_there_is_said_in_a_line(
    state: State, address: str, status: int, text: str
) -> None:
    answer = asks(state).get(address)
    assert answer.status_code == status
    assert text in answer.text
    assert "Traceback" not in answer.text
    assert "import" not in answer.text


def test_pictures_are_jpeg_in_two_sizes(state: State) -> None:
    for size in ("small", "large"):
        answer = asks(state).get(f"/picture/{size}/0.jpg")
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.content[:2] == b"\xff\xd8"


def test_an_image_that_cannot_be_read_is_said_without_its_path(
    library: Library, tmp_path: Path
) -> None:
    secret = tmp_path / "patients"
    secret.mkdir()
    (secret / "scan.png").write_bytes(b"no image")
    table = replace(library.corpus.table, paths=(str(secret / "scan.png"),) * 6)
    library = replace(library, corpus=replace(library.corpus, table=table))
    answer = asks(made_state(library)).get("/picture/small/0.jpg")
    assert answer.status_code == 404
    assert "scan.png" in answer.text
    assert "patients" not in answer.text


def test_no_picture_is_shown_where_none_may_be(whole: Workspace) -> None:
    hidden = asks(State(library=Library.open(whole), shows_images=False))
    assert "<img" not in hidden.get("/").text
    assert hidden.get("/picture/small/0.jpg").status_code == 404
    assert hidden.get("/heat/0.png?cui=C1").status_code == 404


def test_a_map_that_cannot_be_made_is_a_line(state: State) -> None:
    answer = asks(state).get("/heat/0.png?cui=C99")
    assert answer.status_code == 409
    assert "C99" in answer.text or "places" in answer.text


def test_concepts_are_completed(state: State) -> None:
    assert asks(state).get("/complete?q=strip").json() == [{"cui": "C3", "name": "stripes"}]
    assert asks(state).get("/complete?q=").json() == []


def test_images_are_marked_and_exported(state: State) -> None:
    client = asks(state)
    back = "/image?concept=C1&id=train_00"
    form = {"id": "train_00", "mark": "label", "note": "=1+1", "back": back}
    answer = client.post("/mark", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{back}#review")
    assert "label doubtful" in client.get("/?kind=marked").text
    lines = client.get("/review.csv").text.splitlines()
    assert lines[1].startswith("train_00,label,'=1+1,")
    away = client.post("/mark", data={**form, "mark": "", "back": "https://evil.example/"})
    assert away.headers["location"] == "/image?id=train_00#review"
    assert "<strong>1</strong>" not in client.get("/?kind=marked").text
    assert client.post("/mark", data={**form, "id": "other"}).status_code == 404
    assert client.post("/mark", data={**form, "mark": "bad"}).status_code == 400


def test_text_from_data_stays_text(tmp_path: Path) -> None:
    library = made_library(tmp_path)
    turned = "a\u202eb\x1b[31m"
    table = replace(
        library.corpus.table,
        image_ids=(EVIL, turned, *library.corpus.table.image_ids[2:]),
        groups=(EVIL, EVIL, *library.corpus.table.groups[2:]),
        metadata={EVIL: (EVIL,) * 6},
    )
    names = {"C1": EVIL, "C2": turned, "C3": "javascript:alert(1)"}
    library = replace(
        library,
        corpus=replace(library.corpus, table=table, names=names, name=EVIL),
        doubts={0: Doubt("DRCT", "DRXR", 0.9)},
    )
    client = asks(made_state(library))
    for address in (
        "/", f"/image?id={quote(EVIL)}", f"/image?id={quote(turned)}", "/concepts",
        "/concept?cui=C1", "/concept?cui=C2", "/categories", "/category?name=DRCT",
        f"/?group={quote(EVIL)}", f"/?text={quote(EVIL)}", f"/?concept={quote(EVIL)}",
        f"/?split={quote(EVIL)}", f"/?run={quote(EVIL)}", "/compare",
    ):  # fmt: skip
        text = client.get(address).text
        assert "<img src=x" not in text
        assert "49" not in text.replace("/picture", "")  # no template in data is filled in
        assert "\u202e" not in text
        assert "\x1b" not in text
        assert not re.search(r"href=\"\s*javascript:", text)


def test_files_to_compare_have_names_of_their_own(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "run.csv").write_text("")
    paths = [tmp_path / "a" / "run.csv", tmp_path / "b" / "run.csv"]
    assert list(named(paths)) == ["run.csv", "b/run.csv"]
    with pytest.raises(ConfigError, match=r"--compare .*c\.csv: no such file"):
        named([tmp_path / "c.csv"])
    with pytest.raises(ConfigError, match="given twice"):
        named([*paths, paths[1]])


def test_a_corpus_without_labels_and_decisions_is_looked_at_all_the_same(tmp_path: Path) -> None:
    library = made_library(tmp_path)
    table = replace(library.corpus.table, concepts=(None,) * 6)
    library = replace(library, corpus=replace(library.corpus, table=table), duplicates=None)
    client = asks(State(library=library))
    for address, text in (
        ("/", "Nothing is decided here so far"),
        ("/image?id=Image_0", "Neither labels nor decisions are known"),
        ("/concepts", "<strong>0</strong> concepts over 0 labelled images"),
        ("/concept?cui=C1", "of 0 labelled images"),
        ("/categories", "Doubted"),
        ("/category?name=DRCT", "3 images"),
        ("/compare", "Nothing is decided here so far"),
    ):
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert text in answer.text, address
    assert "run `ensemble --submit` first" in client.get("/?error=missed").text.replace(
        "&#39;", "'"
    )
