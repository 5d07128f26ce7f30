"""The pages as they are sent: all of them, of a whole workspace and of hostile text."""

import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from browser.library import Library
from browser.pages import image
from browser.pages.app import new_app
from browser.run import named
from browser.search import complete
from browser.state import State
from core.errors import ConfigError
from core.runs.fused import Doubt
from core.runs.workspace import Workspace
from inference.heat.paint import colours
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
        ("/category?name=DRCT", ["− Missed", "Lowest F1"]),
        ("/category?name=DRCT&order=-name", ['aria-sort="descending"']),
        ("/categories?order=f1", ['aria-sort="ascending"']),
        ("/?role=missed", ["where any concept was missed"]),
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
        ("/concepts?order=--lowest", 400, "order=--lowest"),
        ("/categories?order=x", 400, "expected one of category, train"),
        ("/category?name=DRCT&order=x", 400, "order=x"),
        ("/?low=70&high=30", 400, "no number is in between"),
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


def answers(client: TestClient, address: str) -> str:
    """The page, as text of a browser."""
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    return unescape(answer.text)


def test_a_form_that_is_refused_is_shown_again_as_it_was_filled(state: State) -> None:
    client = asks(state)
    form = "role=missed&category=DRCT&order=worst&text=train&low=5"
    for concept, line in (
        ("zzz", "no concept of this corpus fits"),
        ("c", "concepts fit 'c'"),
        ("stripes", "no number is in between"),
    ):
        high = "&high=1" if concept == "stripes" else ""
        answer = client.get(f"/?concept={concept}&{form}{high}")
        text = unescape(answer.text)
        assert answer.status_code == 400
        assert line in text
        assert f'name="concept" value="{concept}"' in text
        for chosen in ("missed", "DRCT", "worst"):
            assert f'<option value="{chosen}" selected>' in text
        assert 'name="text" value="train"' in text
        assert 'name="low" type="number" min="0" max="100" value="5"' in text


def test_concepts_that_fit_are_links_that_keep_the_rest_of_the_query(state: State) -> None:
    client = asks(state)
    fit = complete("c", state.library)
    assert len(fit) > 1
    form = "role=decided&category=DRCT&order=worst"
    text = unescape(client.get(f"/?concept=c&{form}&page=3").text)
    links = re.findall(r'<li><a href="([^"]+)">([^<]+)</a>', text)
    assert [name for _, name in links] == [name for _, name in fit]
    for (address, name), (cui, _) in zip(links, fit, strict=True):
        assert address == f"/?concept={cui}&{form}"
        assert f"where {name} is decided" in answers(client, address)
    of_pages = unescape(client.get("/concept?cui=c").text)
    assert f'href="/concept?cui={fit[0][0]}"' in of_pages
    of_image = unescape(client.get("/image?id=train_00&concept=c").text)
    assert f'href="/image?id=train_00&concept={fit[0][0]}"' in of_image


def test_the_concept_field_shows_a_name_and_takes_what_it_shows(state: State) -> None:
    client = asks(state)
    text = answers(client, "/?concept=C3")
    assert 'name="concept" value="stripes (C3)"' in text
    assert answers(client, "/?concept=stripes+(C3)").replace("stripes+(C3)", "C3") == text


def test_headings_sort_on_the_server_and_keep_the_query(state: State) -> None:
    client = asks(state)
    text = answers(client, "/concepts?category=DRCT&split=train&order=right")
    assert 'aria-sort="descending"><a href="/concepts?split=train&category=DRCT&order=-right">' in (
        text
    )
    right_ones = [int(n) for n in re.findall(r"role=right[^>]*>(\d+)</a>", text)]
    turned = answers(client, "/concepts?category=DRCT&split=train&order=-right")
    assert right_ones == sorted(right_ones, reverse=True)
    assert len(set(right_ones)) > 1
    backwards = [int(n) for n in re.findall(r"role=right[^>]*>(\d+)</a>", turned)]
    assert backwards == sorted(right_ones)
    assert 'value="-right" selected' in turned  # the form keeps it
    names = re.findall(r'/concept\?cui=[^"]*">([^<]+)<', answers(client, "/concepts?order=name"))
    assert names == sorted(names, key=str.lower)
    names = re.findall(r'/category\?name=[^"]*">([^<]+)<', answers(client, "/categories"))
    turned = answers(client, "/categories?order=-category")
    assert names == ["CT", "X-ray"]
    assert re.findall(r'/category\?name=[^"]*">([^<]+)<', turned) == ["X-ray", "CT"]


def test_the_menu_tells_which_page_is_open(state: State) -> None:
    client = asks(state)
    for address, word in (
        ("/", "Images"), ("/?kind=marked", "Marked (0)"), ("/concepts", "Concepts"),
        ("/category?name=DRCT", "Categories"), ("/?concept=zzz", "Images"),
    ):  # fmt: skip
        open_ = re.findall(r'aria-current="page">([^<]+)<', client.get(address).text)
        assert open_ == [word], address


def test_concepts_have_what_the_ensemble_decided_by(state: State) -> None:
    judgement = state.judgement()
    source = state.stacked(judgement.name) if judgement is not None else None
    assert judgement is not None
    assert source is not None
    checked = 0
    for row in np.flatnonzero(judgement.counts["missed"] > 0).tolist():
        image_id = state.library.image_ids[row]
        said = source.of_image(image_id, state.library, split=state.library.corpus.scored)
        assert said is not None
        values = image.one_image(state, {"id": image_id})
        # The whole ensemble decides by thresholds, which are of these.
        assert set(values["numbers"].values()) == {"the ensemble's probability before calibration"}
        for concept in values["concepts"]:
            if concept.kind in ("missed", "right"):
                column = state.library.labels.columns([concept.cui])[0]
                assert concept.number == pytest.approx(float(said[column]))
                checked += 1
    assert checked
    assert "with the ensemble's probability before calibration" in answers(
        asks(state), f"/image?id={image_id}"
    )


def test_colours_of_heat_maps_have_a_legend(state: State) -> None:
    answer = asks(state).get("/heat/scale.png")
    shown = np.asarray(Image.open(BytesIO(answer.content)))
    assert (shown[0] == colours()).all()
    assert "strongest place" in answers(asks(state), "/image?id=train_00")


@pytest.mark.parametrize(
    ("size", "shape"), [((300, 100), (448, 149)), ((60, 1800), (15, 448)), ((7, 7), (448, 448))]
)
def test_a_layer_of_colours_has_the_shape_of_its_image(
    library: Library, tmp_path: Path, size: tuple[int, int], shape: tuple[int, int]
) -> None:
    path = tmp_path / "wide.png"
    Image.new("L", size).save(path)
    table = replace(library.corpus.table, paths=(str(path),) * 6)
    library = replace(library, corpus=replace(library.corpus, table=table))
    assert made_state(library).pictures.shape(0, longest=448) == shape


def test_a_comparison_is_sorted_narrowed_and_tells_what_changed(library: Library) -> None:
    state = made_state(library)
    state.submissions = {"made": Path("made"), "other": Path("other")}
    second = judged(library, (("C1",), ("C1",), ("C2", "C3"), (), ("C1",), ("C2",)))
    state._judgements["other"] = replace(second, name="other")
    client = asks(state)
    text = answers(client, "/compare?first=made&second=other&show=changed")
    # F1 1, 0, 2/3, 0 against 2/3, 1, 1, 1: 5/12 and 11/12.
    assert "F1 of the first <strong>0.417</strong>, of the second <strong>0.917</strong>" in text
    assert re.search(r"<strong><a [^>]*>5</a></strong> of 6 images decided otherwise", text)
    assert "✓ 2 true (hits gained)" in text
    assert "− 1 true (hits lost)" in text
    assert "✓ 2 not true (inventions taken back)" in text
    assert 'class="right">added C3' in text
    assert 'class="missed">dropped Lung nodule' in text
    of_ct = answers(client, "/compare?first=made&second=other&show=changed&category=DRCT")
    assert "changed in CT: 2" in of_ct
    assert "&category=DRCT&order=balance#moved" in of_ct.replace(
        "order=balance&first=made&second=other&show=changed&category=DRCT",
        "first=made&second=other&show=changed&category=DRCT&order=balance",
    )
    of_concept = answers(client, "/compare?first=made&second=other&show=changed&concept=C3")
    assert "where C3 was added or dropped: 2" in of_concept
    gained = answers(client, "/compare?first=made&second=other&order=name&by=gain")
    assert gained.count("aria-sort") == 2
    assert "against itself" in answers(client, "/compare?first=made&second=made")
    for address in ("order=x", "by=x", "show=x", "category=x", "concept=zzz", "first=x"):
        assert client.get(f"/compare?{address}").status_code == 400


def compared(library: Library) -> State:
    """Two judgements: F1 1, 0, 2/3, 0 against 2/3, 1, 1, 1 on the first four images."""
    state = made_state(library)
    state.submissions = {"made": Path("made"), "other": Path("other")}
    second = judged(library, (("C1",), ("C1",), ("C2", "C3"), (), ("C1",), ("C2",)))
    state._judgements["other"] = replace(second, name="other")
    return state


def test_an_image_of_a_comparison_shows_what_changed_and_leads_on_and_back(
    library: Library,
) -> None:
    client = asks(compared(library))
    kept = "first=made&second=other&show=changed&category=DRCT&order=-name"
    (first, second) = re.findall(
        r'<a class="tile" href="([^"]+)"', answers(client, f"/compare?{kept}")
    )
    assert first == f"/image?{kept}&id=Image_1"
    text = answers(client, first)
    assert "1 of 2 images that changed in CT" in text
    assert f'<a rel="next" href="{second}">' in text
    assert 'rel="prev"' not in text
    assert f'<a href="/compare?{kept}#images" data-up>' in text
    assert "What the second changed: F1 0.000 → 1.000" in text
    changes = text[text.index("What the second changed") : text.index("First: made")]
    assert re.findall(r'<li class="(\w+)">(\w+ [\w ]+)', changes) == [
        ("right", "added Chest"),
        ("right", "dropped Lung nodule"),
    ]
    assert f'name="back" value="{first}"' in text
    # Judged by the first instead: the list, and what changed, stay.
    turned = answers(client, f"{first}&run=made")
    assert '<option value="made" selected>' in turned
    assert "F1 <strong>0.000</strong>" in turned
    assert f'<a rel="next" href="{second}&run=made">' in turned
    assert "What the second changed: F1 0.000 → 1.000" in turned
    other = answers(client, f"/image?{kept}&id=Image_4")
    assert "not among the 2 images that changed in CT" in other
    assert "Nothing: both decided the same" in other
    assert "What the second changed" not in answers(client, "/image?id=Image_1&run=other")
    for wrong in ("show=x", "category=x", "concept=zzz", "first=x"):
        address = f"/image?first=made&second=other&id=Image_1&{wrong}"
        assert client.get(address).status_code == 400


def test_counts_of_a_comparison_lead_to_the_images_they_count(library: Library) -> None:
    client = asks(compared(library))
    kept = "first=made&second=other&show=worse&order=balance"
    text = answers(client, f"/compare?{kept}")
    for name, value in (("order", "balance"),):  # the form keeps how the tables are sorted
        assert f'<input type="hidden" name="{name}" value="{value}">' in text
    assert (
        'href="/compare?first=made&second=other&show=worse&category=DRCT&order=balance#images"'
        in text
    )
    links = re.findall(r'<a[^>]* href="([^"]+)#images">(\d+)', text)
    assert [(n, re.findall("show=(\\w+)", to)[0]) for to, n in links] == [
        ("5", "changed"), ("3", "better"), ("1", "worse"),  # in all
        ("1", "better"), ("1", "worse"), ("2", "changed"),  # CT
        ("2", "better"), ("3", "changed"),  # X-ray: none became worse
    ]  # fmt: skip
    for address, n in links:
        assert re.search(
            rf"Images that became \w+[^:]*: {n}<|changed[^:]*: {n}<", answers(client, address)
        )


def test_concepts_of_a_comparison_follow_the_category_the_losses_first(library: Library) -> None:
    client = asks(compared(library))

    def moved(address: str) -> list[tuple[str, str]]:
        text = answers(client, f"/compare?first=made&second=other&{address}")
        table = text[text.index('id="moved"') : text.index('id="images"')]
        return re.findall(r"cui=(C\d).*?<td>([+-]\d)</td>", table, re.DOTALL)

    # CT: image 0 loses the hit C2; image 1 gains the hit C1 and takes the invented C2 back.
    assert moved("category=DRCT&order=balance") == [("C2", "+0"), ("C1", "+1")]
    # X-ray: image 2 gains the hit C3, of which 3 takes the invention back.
    assert moved("category=DRXR&order=balance") == [("C3", "+2")]
    assert moved("order=balance") == [("C2", "+0"), ("C1", "+1"), ("C3", "+2")]
    assert moved("order=-balance") == [("C3", "+2"), ("C1", "+1"), ("C2", "+0")]
    assert "Concepts that moved in CT" in answers(
        client, "/compare?first=made&second=other&category=DRCT&order=balance"
    )


def test_members_are_told_from_those_the_ensemble_was_not_made_of(state: State) -> None:
    judgement = state.judgement()
    assert judgement is not None
    made = judgement.run
    assert made is not None
    members = [m for m in state.members if m.name in made.meta["members"]]
    names = [member.name for member in members]
    assert len(names) < len(state.members)  # detectors that are in `routed` alone

    def used(**meta: object) -> set[str]:
        run = replace(made, meta={**made.meta, **meta})
        columns = ["ensemble", *(member.name for member in state.members)]
        shown = image._members(columns, state, replace(judgement, run=run))
        assert shown[0].is_used
        return {member.name for member in shown[1:] if member.is_used}

    first, second, *others = names
    assert used(stacker="mean") == {*names}
    assert used(stacker=second) == {second}  # one member was better than any mean
    made_of = {name: f"{m.run} 2026" for name, m in zip(names, members, strict=True)}
    del made_of[first]
    made_of[second] = "elsewhere-12345678 2026"  # a run that another has taken the place of
    assert used(stacker="mean", members=made_of) == {*others}
    assert all(m.is_used is None for m in image._members(names, state, None))
    text = answers(asks(state), "/image?id=train_00")
    shown = image.one_image(state, {"id": "train_00"})["members"]
    assert 0 < text.count("(not used)") == sum(member.is_used is False for member in shown)
    assert "it was not made of them" in text


def test_limits_are_shown_also_of_an_ensemble_that_never_met_test(state: State) -> None:
    judgement = state.judgement()
    assert judgement is not None
    assert judgement.run is not None
    meta = {k: v for k, v in judgement.run.meta.items() if k not in ("fell_back", "forecast")}
    other = State(library=state.library)
    run = replace(judgement.run, meta=meta)
    other._judgements[judgement.name] = replace(judgement, run=run)
    text = answers(asks(other), "/image?id=train_00")
    assert f"Decided by {meta['decision']}: a concept is decided from its limit on" in text
    assert re.search(r'class="limit">(limit 0\.\d\d|given to every CT image)', text)


def test_who_decided_is_named_and_may_be_changed(library: Library, state: State) -> None:
    client = asks(compared(library))
    for address in (
        "/categories", "/category?name=DRCT", "/concept?cui=C1", "/image?id=Image_0",
    ):  # fmt: skip
        for name in ("made", "other"):
            text = answers(client, f"{address}{'&' if '?' in address else '?'}run={name}")
            assert f'<option value="{name}" selected>' in text, address
    assert f"Decided by {state.titles[state.run_names[0]]}" in answers(asks(state), "/categories")


def test_no_doubt_is_told_from_no_look(library: Library) -> None:
    assert "looked, and found no image" in answers(asks(made_state(library)), "/?kind=doubted")
    assert "It looked, and found none" in answers(asks(made_state(library)), "/categories")
    unseen = asks(made_state(replace(library, doubts=None)))
    assert "nobody looked for them" in unseen.get("/?kind=doubted").text
    assert "has not looked for them so far" in answers(unseen, "/categories")


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
    assert lines[0] == "image_id,mark,note,marked_at_utc,split,category,true_cuis,true_concepts"
    assert lines[1].startswith("train_00,label doubtful,'=1+1,")
    assert lines[1].endswith(",train,DRCT,C1;C4;C5;C6,C1; C4; C5; C6")
    assert ">=1+1</p>" in client.get("/?kind=marked").text
    assert "=1+1" not in client.get("/").text
    seen = answers(client, back)
    assert 'href="#review">Marked: label doubtful</a>' in seen
    assert 'href="/?kind=marked">All marked images (1)</a>' in seen
    client.post("/mark", data={**form, "note": " two\r\n  <lines>\x1b "})
    two = "two\n&lt;lines&gt;\\x1b"
    assert f">{two}</textarea>" in client.get(back).text
    assert f">{two}</p>" in client.get("/?kind=marked").text
    client.post("/mark", data=form)
    away = client.post("/mark", data={**form, "mark": "", "back": "https://evil.example/"})
    assert away.headers["location"] == "/image?id=train_00#review"
    assert "<strong>1</strong>" not in client.get("/?kind=marked").text
    assert client.post("/mark", data={**form, "id": "other"}).status_code == 404
    refused = client.post("/mark", data={**form, "mark": "bad"})
    assert refused.status_code == 400
    assert "The note was:" in refused.text
    assert "=1+1" in refused.text


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
