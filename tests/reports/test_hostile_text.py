"""Ids and names that are Markdown, HTML, formulas or commands reach every page as text."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
from scipy.sparse import csr_array

from core.errors import ImageError
from core.images import ImageTable
from core.labels import LabelSpace
from core.metrics import Interval
from core.runs.decided import Decided
from core.runs.ensemble import newest_ensemble, write_scores
from core.runs.external import ExternalResource
from core.runs.learning import LearningPoint, write_points
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import new_folder, write_json
from core.storage.tables import read_rows
from reports.ensemble.page import report_sections
from reports.ensemble.paper_tables import paper_tables
from reports.ensemble.provenance import MadeStep
from reports.pages.figures import save_figure, style
from reports.pages.html import html_page
from reports.pages.markdown import Section, as_markdown, resources_table
from reports.statistics.page import write_stats

HOSTILE = (
    "![x](http://evil.example/x.png)",
    "![x](y.svg)",
    "[x](http://evil.example)",
    "[x]: http://evil.example",
    "<http://evil.example>",
    "<script>alert(1)</script>",
    '<img src="http://evil.example/x.png">',
    "&lt;img src=x&gt; &#60;b&#62;",
    "| a | b |",
    "$\\frac{1}{0}$ $x$ $",
    "\x1b[31mred\u202e",
    "=cmd|' /C calc'!A0",
    "```\ncode",
    "# head\n- list",
    'id="x" url(#y) --> <!--',
    "Röntgen 肺 😀",
)


class Page(HTMLParser):
    """Elements of a page, and every address in it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        for name, value in attrs:
            if name in ("href", "src", "srcset", "action", "data", "xlink:href"):
                self.addresses.append(value or "")
            assert not name.startswith("on"), name

    def handle_data(self, data: str) -> None:
        self.text += data


OURS = {
    *("html", "head", "meta", "title", "style", "body", "main", "nav", "ul", "li", "a", "span"),
    *(
        "h1",
        "h2",
        "h3",
        "ol",
        "img",
        "p",
        "strong",
        "em",
        "code",
        "div",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    ),
    *("svg", "g", "path", "defs", "use", "clippath", "rect", "image"),
}


def assert_own(page: str) -> Page:
    read = Page()
    read.feed(page)
    assert read.names <= OURS
    ours = ("#", "data:image/png;base64,", "data:image/jpeg;base64,")
    assert all(address.startswith(ours) for address in read.addresses)
    assert "default-src 'none'" in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    return read


def made_corpus(text: str) -> Corpus:
    """Six images of which all that can be named is called so; ids have no ends of lines."""
    ids = tuple(f"{n}{text}".replace("\n", " ") for n in range(6))
    cuis = tuple(f"{text}{n}".strip().replace("\n", " ") for n in range(2))
    table = ImageTable(
        image_ids=ids,
        paths=ids,
        categories=("DRCT", "DRCT", "DRXR", "DRXR", "DRCT", "DRXR"),
        splits=("train",) * 3 + ("valid",) * 3,
        folds=np.array([0, 1, 0, 0, 1, 0], dtype=np.int16),
        groups=ids,
        concepts=(cuis, cuis[:1], cuis[1:], cuis, cuis[:1], cuis),
    )
    return Corpus(
        name=text, table=table, labels=LabelSpace(tuple(sorted(cuis))), names=dict.fromkeys(
            cuis, text
        ), edition=2020, fingerprint="made0000", notes=(f"{text}: 3 images left out", text),
    )  # fmt: skip


def made_run(workspace: Workspace, corpus: Corpus, text: str) -> None:
    meta: dict[str, Any] = {
        "corpus": "made0000", "margin": 1.0, "decision": text, "rule": text,
        "decision_scores": {text: 0.75}, "ladder": [["prior", ""], [text, text]],
        "python": text, "machine": text, "packages": {text: text}, "made": "2026",
    }  # fmt: skip
    home = workspace.ensembles / "stack-1"
    with new_folder(home, meta) as draft:
        write_json(draft / "config.json", {})
        scores = {"prior": np.array([0.5, 1.0, 0.0]), text: np.array([1.0, 0.25, 0.5])}
        write_scores(draft / "valid_f1.csv", image_ids=corpus.table.image_ids[3:], scores=scores)
    write_json(home / "meta.json", meta)
    interval = Interval(0.5, 0.4, 0.6, 3)
    points = [LearningPoint(share=s, n_images=3.0, f1=interval, gain=interval) for s in (0.5, 1.0)]
    write_points(home / "learning_curve.csv", points)
    if ";" in text:  # which parts concepts in files of ours: no concept can be called so
        return
    decided = corpus.labels.encode([corpus.labels.cuis, corpus.labels.cuis[:1], ()]).matrix
    unknown = np.full(3, np.nan)
    Decided(
        image_ids=corpus.table.image_ids[3:],
        concepts=csr_array(decided.astype(np.float32)),
        expected_f1=unknown,
        disagreement=unknown,
    ).save(home / "decided.csv", labels=corpus.labels)


def read_or_refuse(path: Path) -> npt.NDArray[np.uint8]:
    """A picture of the first image; the others cannot be read, and that says where they are."""
    if path.name.startswith("3") or str(path).startswith("3"):
        return np.zeros((9, 9), dtype=np.uint8)
    raise ImageError(f"{path}: {HOSTILE[5]}")


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_the_report_shows_text_and_loads_nothing(tmp_path: Path, text: str) -> None:
    """By its own HTML; and read as Markdown by others it has no element of the data either."""
    corpus, workspace = made_corpus(text), Workspace(tmp_path)
    made_run(workspace, replace(corpus, protocol="holdout"), text)
    sections = report_sections(
        newest_ensemble(replace(corpus, protocol="holdout"), workspace),
        resources={ExternalResource(encoder=text, source=text, licence=text): (text,)},
        read=read_or_refuse,
        steps=[
            MadeStep(
                what="detectors", runs=(text,), command=text, machine=text, device=text,
                packages=text * 2,
            )
        ],
    )  # fmt: skip
    drawn = {name: SVG for part in sections for name in part.figures}
    page = as_markdown(f"Concept detection on {text}", sections)
    pictures = {name: own for part in sections for name, own in part.pictures.items()}
    assert bool(pictures) == (";" not in text)
    read = assert_own(html_page(text, page, svgs=drawn, pictures=pictures))
    assert ("img" in read.names) == bool(pictures)
    shown = text.replace("\n", "\\n").replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    assert read.text.count(shown) >= 5
    assert not re.search(r"(?<!\\)\]\(http|(?<!\\)<(script|img|http)|(?<!\\)\]: http", page)


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_latex_tables_show_text(tmp_path: Path, text: str) -> None:
    corpus, workspace = replace(made_corpus(text), protocol="holdout"), Workspace(tmp_path)
    made_run(workspace, corpus, text)
    tables = paper_tables(newest_ensemble(corpus, workspace))
    assert tables.isascii()
    assert not re.search(r"(?<!\\textbackslash\{\})\\(frac|input|csname|def)", tables)
    ends = [line for line in tables.splitlines() if line.endswith(r"\\")]
    assert len(ends) == 6  # two headers, two rungs, two sources
    assert all(len(re.findall(r"(?<!\\)&", line)) in (2, 5) for line in ends)
    bare = re.sub(r"\\[\\{}$&#%_]", "", tables)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert len(re.findall(r"(?<!\\)%", tables)) == 1  # the comment


SVG = '<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>'


@pytest.mark.parametrize("text", [*HOSTILE[:3], HOSTILE[9], HOSTILE[10], HOSTILE[14]], ids=ascii)
def test_figures_draw_dollars_and_signs_as_they_are(tmp_path: Path, text: str) -> None:
    from reports.pages.figures import bars, shorten

    with style():
        figure = bars([shorten(text)], np.array([3]), total=3, title="T", axis="images")
        save_figure(figure, tmp_path, name="f")
    svg = (tmp_path / "f.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(svg)  # it is XML, whatever the text
    assert not root.findall(".//{http://www.w3.org/2000/svg}script")
    html = html_page("T", "![f](f.svg)", svgs={"f": svg})
    assert_own(html)


def test_statistics_and_their_tables_show_text(tmp_path: Path) -> None:
    text = " ".join(HOSTILE[:7]) + HOSTILE[9]
    write_stats(made_corpus(f"={text}"), tmp_path / "stats")
    page = (tmp_path / "stats" / "stats.md").read_text(encoding="utf-8")
    assert_own(html_page("T", page, svgs=dict.fromkeys(re.findall(r"\((\S+)\.svg\)", page), SVG)))
    rows = read_rows(tmp_path / "stats" / "concepts.csv")
    assert {row[0][:2] for row in rows[1:]} == {"'="}


def test_a_picture_that_is_not_the_pages_is_text() -> None:
    page = html_page("T", "![b](two.svg) ![c](http://evil.example/x.svg)", svgs={})
    assert "![b](two.svg) ![c](http://evil.example/x.svg)" in page
    assert_own(page)


def test_resources_are_short_and_text() -> None:
    said = {"backbone": "x" * 10_000, "weights_from": "\x1b[31m<b>", "weights_licence": ["a"] * 999}
    own = ExternalResource.of(said)
    assert max(map(len, (own.encoder, own.source, own.licence))) == 200
    page = as_markdown("T", [Section(heading="", paragraphs=[resources_table({own: ["m"]})])])
    assert "<b>" not in assert_own(html_page("T", page, svgs={})).names
    assert "\\x1b\\[31m" not in page or "\x1b" not in page
