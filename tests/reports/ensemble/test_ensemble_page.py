"""The report of a workspace, its numbers worked by hand."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy.sparse import csr_array

from core.errors import ImageError, MissingStageError
from core.images import ImageTable
from core.labels import LabelSpace
from core.metrics import Interval
from core.runs.decided import Decided
from core.runs.ensemble import newest_ensemble, write_scores
from core.runs.ladder import LadderStep, write_steps
from core.runs.leakage import DUPLICATES_FILE, NearDuplicate, save_duplicates
from core.runs.learning import LearningPoint, write_points
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import new_folder, write_json
from reports.ensemble.page import report_sections, write_report
from reports.pages.markdown import as_markdown

IDS = ("t1", "a", "b", "c", "d", "e", "f")
CATEGORIES = ("DRCT", "DRCT", "DRCT", "DRXR", "DRXR", "DRUS", "DRUS")

# Cross-fitted F1 of the six validation images; image f has no true concept and is left out.
SCORES = {
    "prior": [0.5, 1.0, 0.0, 0.0, 0.25, np.nan],
    "routed": [1.0, 1.0, 0.5, 0.5, 0.75, np.nan],
    "submission": [1.0, 1.0, 1.0, 0.5, 0.25, np.nan],
}

META: dict[str, Any] = {
    "margin": 1.0,
    "decision": "one threshold, 0.30",
    "decision_scores": {"global": 0.75, "expected-f1": 0.7},
    "ladder": [
        ["prior", ""],
        ["routed", "best member: routed"],
        ["submission", "decision: one threshold, 0.30"],
    ],
}


def made_corpus(*, category: str | None = None) -> Corpus:
    """One training image and six of validation, each a group of its own."""
    table = ImageTable(
        image_ids=IDS,
        paths=IDS,
        categories=CATEGORIES if category is None else (category,) * len(IDS),
        splits=("train", *["valid"] * 6),
        folds=np.array([0, 0, 1, 0, 1, 0, 1], dtype=np.int16),
        groups=IDS,
        concepts=(("C1", "C2"), *[("C1",)] * 5, ()),
    )
    return Corpus(
        name="made", table=table, labels=LabelSpace(("C1", "C2")), names={}, edition=2020,
        fingerprint="made0000", notes=("3 images without a file, left out",),
    )  # fmt: skip


def labels_of_made() -> LabelSpace:
    return LabelSpace(("C1", "C2"))


def save_ensemble(
    workspace: Workspace, name: str = "stack-1", *, corpus: str = "made0000", made: str = "2026-01"
) -> Path:
    home = workspace.ensembles / name
    with new_folder(home, {"corpus": corpus, **META}) as draft:
        write_json(draft / "config.json", {})
        scores = {source: np.array(values) for source, values in SCORES.items()}
        write_scores(draft / "valid_f1.csv", image_ids=IDS[1:], scores=scores)
    provenance = {"python": "3.11.7", "machine": "two cores", "packages": {"numpy": "2.1"}}
    write_json(home / "meta.json", {"corpus": corpus, **META, "made": made, **provenance})
    return home


def rows_of(text: str, first_cell: str) -> dict[str, list[str]]:
    """Cells of the table whose header begins so, by the first cell of the row."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    start = next(i for i, cells in enumerate(lines) if cells and cells[0] == first_cell)
    table = {}
    for cells in lines[start:]:
        if not cells:
            break
        table[cells[0]] = cells[1:]
    return table


def markdown(workspace: Workspace, *, category: str | None = None) -> str:
    """The page without its figures being saved, which takes seconds."""
    return as_markdown(
        "made", report_sections(newest_ensemble(made_corpus(category=category), workspace))
    )


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Both pages of a run with every file, written once."""
    workspace = Workspace(tmp_path_factory.mktemp("made"))
    save_everything(workspace)
    return write_report(made_corpus(), workspace)


def save_everything(workspace: Workspace, *, level: str = "concept") -> Path:
    """A run with every file of this version: of two rules on calibrated probabilities one pays."""
    run = save_ensemble(workspace)
    rules = {
        "plain": SCORES["routed"],
        "global": SCORES["routed"],
        "category": [1.0, 1.0, 0.5, 0.5, 1.0, np.nan],
        "concept": [1.0, 1.0, 1.0, 0.5, 1.0, np.nan],
        "ratio": [0.5, 1.0, 0.5, 0.5, 0.75, np.nan],
        "expected-f1": SCORES["submission"],
    }
    scores = {name: np.array(values) for name, values in rules.items()}
    write_scores(run / "rules_f1.csv", image_ids=IDS[1:], scores=scores)
    own = {f"C{i}": 0.3 + 0.01 * i for i in range(1, 26)} | {"C26": 2.0}
    by_category = {"DRXR": 0.45}
    levels = {
        "global": {"global": 0.3, "by_category": {}, "by_concept": {}},
        "category": {"global": 0.3, "by_category": by_category, "by_concept": {}},
        "concept": {"global": 0.3, "by_category": {}, "by_concept": own},
    }
    write_json(run / "thresholds.json", {"level": level, "levels": levels})
    half, gain = Interval(0.5, 0.25, 0.75, 5), Interval(0.125, -0.25, 0.5, 5)
    write_steps(run / "members.csv", [LadderStep(name="routed", f1=half, gain=gain)])
    header = "calibration,low,high,mean_predicted,share_true,n\n"
    bins = (
        "before,0.0,0.005,0.002,0.01,100\nbefore,0.9,1.0,0.95,0.9,10\nafter,0.9,1.0,0.95,0.96,9\n"
    )
    (run / "reliability.csv").write_text(header + bins)
    (run / "forecast.csv").write_text("fold,n,forecast,truth\n0,3,0.700000,0.750000\n1,2,0.6,0.5\n")
    found = {
        "forecast": np.array([0.9, 0.8, 0.7, 0.6, 0.5, np.nan]),
        "truth": np.array(SCORES["submission"]),
    }
    write_scores(run / "forecast_images.csv", image_ids=IDS[1:], scores=found)
    full, part = Interval(0.5, 0.4, 0.6, 5), Interval(0.25, 0.125, 0.375, 5)
    points = [
        LearningPoint(share=0.5, n_images=3.0, f1=full, gain=None),
        LearningPoint(share=1.0, n_images=6.0, f1=full, gain=part),
    ]
    write_points(run / "learning_curve.csv", points)
    # Of a to e, which have C1: a and b right, c nothing, d both, e C2; f, without any, has C1.
    sets = [["C1"], ["C1"], [], ["C1", "C2"], ["C2"], ["C1"]]
    decided = labels_of_made().encode(sets).matrix.astype(np.float32)
    nothing = np.full(6, np.nan)
    Decided(
        image_ids=IDS[1:], concepts=csr_array(decided), expected_f1=nothing, disagreement=nothing
    ).save(run / "decided.csv", labels=labels_of_made())
    rungs = [
        {"name": "prior", "title": "", "state": "kept", "is_rule": False},
        {"name": "routed", "title": "best member: routed", "state": "kept", "is_rule": False},
        {"name": "ratio", "title": "decision: ratio", "state": "not kept", "is_rule": True},
        {"name": "submission", "title": "submission: it", "state": "submitted", "is_rule": False},
    ]
    meta = json.loads((run / "meta.json").read_text())
    error = {"value": -0.01, "low": -0.02, "high": 0.03, "n": 5}
    meta |= {
        "ladder": rungs, "worth_to": "mean", "rule": level, "calibration": "vector",
        "calibration_log_loss": {"temperature": 0.25, "vector": 0.2},
        "forecast": {
            "value": 0.7, "low": 0.6, "high": 0.8, "n": 9, "error": error, "corrected": False,
            "differs": ["DRCT 40% against 50%"],
        },
    }  # fmt: skip
    write_json(run / "meta.json", meta)
    return run


@pytest.fixture
def report(workspace: Workspace) -> str:
    save_ensemble(workspace)
    return markdown(workspace)


def test_every_source_has_its_n_its_f1_and_its_interval_in_every_category(report: str) -> None:
    rows = rows_of(report, "source")
    assert rows["source"] == ["all, n = 5", "DRCT, n = 2", "DRUS, n = 1", "DRXR, n = 2"]
    assert set(rows) == {"source", ":---------", *SCORES}
    # prior, DRCT: (0.5 + 1.0) / 2. Two groups drawn from two: both the worse one in a quarter of
    # the draws, both the better one in another, so the 2.5 % and 97.5 % bounds are these.
    assert rows["prior"][1] == "0.750 [0.500, 1.000]"
    # DRUS: image e alone, f is left out; one group has no spread.
    assert [rows[source][2] for source in SCORES] == [
        "0.250 [0.250, 0.250]",
        "0.750 [0.750, 0.750]",
        "0.250 [0.250, 0.250]",
    ]
    # DRXR: (0 + 0) / 2, (0.5 + 0.5) / 2, (1 + 0.5) / 2.
    assert [rows[source][3] for source in SCORES] == [
        "0.000 [0.000, 0.000]",
        "0.500 [0.500, 0.500]",
        "0.750 [0.500, 1.000]",
    ]
    # All: (0.5 + 1 + 0 + 0 + 0.25) / 5, (1 + 1 + 0.5 + 0.5 + 0.75) / 5, (3 + 0.5 + 0.25) / 5.
    assert [rows[source][0][:6] for source in SCORES] == ["0.3500", "0.7500", "0.7500"]


def test_the_ladder_has_gains_over_the_last_one_kept(report: str) -> None:
    rows = rows_of(report, "n = 5")
    assert list(rows)[2:] == ["prior", "best member: routed", "decision: one threshold, 0.30"]
    assert rows["prior"][1:] == ["", "kept"]
    # routed - prior: 0.5, 0, 0.5, 0.5, 0.5: mean 0.4. A resample of five holds the 0 k times with
    # probability 0.33, 0.41, 0.20, 0.05, 0.01, 0.00: the 2.5 % bound is at k = 3, the mean of
    # 0.5, 0.5, 0, 0, 0; the 97.5 % bound at k = 0.
    assert rows["best member: routed"][1].startswith("+0.4000 [+0.2000, +0.5000]")
    # submission - routed: 0, 0, 0.5, 0, -0.5: mean 0.
    assert rows["decision: one threshold, 0.30"][1].startswith("+0.0000 [-")


def test_a_rung_that_was_not_kept_is_shown_and_not_stood_upon(workspace: Workspace) -> None:
    save_everything(workspace)
    rows = rows_of(markdown(workspace), "n = 5")
    # ratio - routed: -0.5, 0, 0, 0, 0: mean -0.1
    assert rows["decision: ratio"][1].startswith("-0.1000 [")
    assert [rows[name][-1] for name in list(rows)[2:]] == ["kept", "kept", "not kept", "submitted"]
    assert rows["submission: it"][1] == ""


def test_what_each_member_is_worth_is_shown_where_it_is_known(workspace: Workspace) -> None:
    save_everything(workspace)
    text = markdown(workspace)
    assert "the stacker `mean` at one threshold" in text
    cells = rows_of(text, "member")["routed"]
    assert cells == ["0.5000 [0.2500, 0.7500]", "+0.1250 [-0.2500, +0.5000]"]


def test_rules_have_their_gain_over_the_plain_threshold(workspace: Workspace) -> None:
    save_everything(workspace)
    rows = rows_of(markdown(workspace), "rule")
    assert rows["plain"][1:] == ["", ""]
    # concept - plain: 0, 0, 0.5, 0, 0.25: mean 0.15
    assert rows["concept"][1].startswith("+0.1500 [")
    assert rows["concept"][2] == "submitted"
    assert rows["expected-f1"][2] == ""


def test_each_level_of_thresholds_has_its_gain_over_the_coarser_one_that_pays(
    workspace: Workspace,
) -> None:
    save_everything(workspace)
    text = markdown(workspace)
    rows = rows_of(text, "level")
    assert [rows[level][0] for level in ("global", "category", "concept")] == ["1", "1", "26"]
    assert [rows[level][3:] for level in ("global", "category", "concept")] == [
        ["plain", "yes"],
        ["global", "no"],
        ["global", "yes"],
    ]
    # category - global: 0.25 on the last of five; concept - global: 0.5 and 0.25
    assert rows["category"][2].startswith("+0.0500 [")
    assert rows["concept"][2].startswith("+0.1500 [")
    assert "The submission decides by them, at the level `concept`." in text


def test_the_thresholds_farthest_from_the_coarser_one_are_shown_with_their_names(
    workspace: Workspace,
) -> None:
    save_everything(workspace)
    text = markdown(workspace)
    assert "26 concepts have a threshold of their own; the 20 farthest from" in text
    rows = rows_of(text[text.index("26 concepts") :], "concept")
    assert list(rows)[2:5] == ["C26", "C25", "C24"]
    assert len(rows) == 2 + 20
    assert rows["C26"] == ["never", "0.300"]
    assert rows["C25"] == ["0.550", "0.300"]
    assert list(rows)[-1] == "C7"
    assert "Categories with a threshold of their own (tried, but not kept: they do not pay)" in text
    assert rows_of(text[text.index("Categories with") :], "category")[
        "DRXR X-ray and 2D tomography"
    ] == ["0.450", "0.300"]


def test_thresholds_that_were_not_kept_are_said_to_be_so(workspace: Workspace) -> None:
    save_everything(workspace, level="global")
    text = markdown(workspace)
    assert "26 concepts have a threshold of their own (tried, but not kept: they do not" in text
    assert rows_of(text, "level")["concept"][-1] == "no"


def test_concepts_have_their_names_where_the_corpus_knows_them(workspace: Workspace) -> None:
    save_everything(workspace)
    corpus = replace(made_corpus(), names={"C25": "Chest | wall"})
    text = as_markdown("made", report_sections(newest_ensemble(corpus, workspace)))
    assert "| C25 Chest \\| wall" in text


def test_calibration_and_forecast_are_shown_where_the_run_has_them(workspace: Workspace) -> None:
    save_everything(workspace)
    text = markdown(workspace)
    assert rows_of(text, "calibration")["vector"] == ["0.20000", "chosen"]
    bins = rows_of(text, "probability")
    assert bins["0 to 0.5 %"] == ["100", "0.2 %", "1.0 %", "0", "", ""]
    assert bins["90 to 100 %"] == ["10", "95 %", "90 %", "9", "95 %", "96 %"]
    assert rows_of(text, "fold")["0"] == ["3", "0.7000", "0.7500", "-0.0500"]
    assert "forecast to score **0.700** [0.600, 0.800] on 9 test images" in text
    assert "- DRCT 40% against 50%\n" in text


FIGURES = ("ladder", "sources", "members", "rules", "reliability", "forecast", "learning")


def test_the_figures_lie_beside_the_page_and_in_the_html_file(pages: tuple[Path, Path]) -> None:
    text, page = (path.read_text(encoding="utf-8") for path in pages)
    for name in FIGURES:
        assert f"](report_{name}.svg)" in text
        assert (pages[0].parent / f"report_{name}.svg").is_file()
        assert (pages[0].parent / f"report_{name}.png").read_bytes()[1:4] == b"PNG"
        assert f'id="report_{name}-figure_1"' in page
    assert page.count("<svg ") == len(FIGURES) == page.count('role="img" aria-label="')


def test_the_html_file_is_well_formed_and_needs_nothing_from_elsewhere(
    pages: tuple[Path, Path],
) -> None:
    page = pages[1].read_text(encoding="utf-8")
    root = ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert not tags & {"script", "link", "img", "iframe", "object"}
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    named = [e.attrib["href"] for e in root.iter() if "href" in e.attrib]
    links = [
        link for link in named if not link.startswith("data:image/png;base64,")
    ]  # a colour bar
    assert links
    assert all(link.startswith("#") for link in links)
    assert {link[1:] for link in links} <= set(ids)  # to places in the page alone
    assert set(re.findall(r"url\((.)", page)) <= {"#"}
    assert "@import" not in page
    assert not re.search(r'(?<!xmlns=")https?://', page)


@pytest.mark.parametrize(
    ("missing", "heading"),
    [
        ("members.csv", "What each member is worth"),
        ("learning_curve.csv", "Would more labelled images help?"),
        ("decided.csv", "Examples"),
        ("thresholds.json", "Thresholds"),
        ("reliability.csv", None),
        ("forecast_images.csv", None),
        ("forecast.csv", None),
    ],
)
def test_a_part_that_a_run_has_no_file_for_is_left_out(
    workspace: Workspace, missing: str, heading: str | None
) -> None:
    run = save_everything(workspace)
    whole = set(re.findall(r"^## (.+)$", markdown(workspace), re.M))
    (run / missing).unlink()
    left = set(re.findall(r"^## (.+)$", markdown(workspace), re.M))
    assert whole - left == ({heading} if heading else set())


def test_a_run_of_an_earlier_version_has_fewer_parts(report: str) -> None:
    assert re.findall(r"^## (.+)$", report, re.M) == [
        "From the category prior to the submission",
        "Every source, by category",
        "Decision rules",
        "Concepts missed and invented",
        "How it was made",
    ]
    assert "kept no `decided.csv`" in report
    assert "run `python cli.py ensemble --submit` again" in report


def test_rules_that_were_tried_stand_with_their_scores(report: str) -> None:
    rows = rows_of(report, "rule")
    assert rows["global"] == ["0.7500"]
    assert rows["expected-f1"] == ["0.7000"]
    assert "which decides by one threshold, 0.30" in report


def test_notes_counts_and_provenance_are_in_it(report: str) -> None:
    assert "- 1 train, 6 valid, 0 test images; 2 concepts in train\n" in report
    assert "- 3 images without a file, left out\n" in report
    assert "Run `stack-1`, 2026-01, Python 3.11.7, two cores; numpy 2.1.\n" in report
    assert "DRCT computed tomography, DRUS ultrasound, DRXR X-ray and 2D tomography." in report


def test_without_categories_there_is_one_column(workspace: Workspace) -> None:
    save_ensemble(workspace)
    text = markdown(workspace, category="")
    assert rows_of(text, "source")["source"] == ["all, n = 5"]


def test_the_newest_ensemble_of_this_corpus_is_reported(workspace: Workspace) -> None:
    save_ensemble(workspace, "stack-a", made="2026-03")
    save_ensemble(workspace, "stack-b", made="2026-02")
    save_ensemble(workspace, "stack-c", corpus="another", made="2026-04")
    text = markdown(workspace)
    assert "Run `stack-a`, 2026-03" in text


@pytest.mark.parametrize("corpus", [None, "another"])
def test_without_an_ensemble_of_the_corpus_the_command_is_named(
    corpus: str | None, workspace: Workspace
) -> None:
    if corpus is not None:
        save_ensemble(workspace, corpus=corpus)
    with pytest.raises(MissingStageError, match=r"run `python cli.py ensemble --submit -w .+runs`"):
        write_report(made_corpus(), workspace)
    assert not workspace.reports.exists()


def test_the_report_of_the_same_run_is_the_same(workspace: Workspace) -> None:
    save_ensemble(workspace)
    first = [path.read_bytes() for path in write_report(made_corpus(), workspace)]
    assert [path.read_bytes() for path in write_report(made_corpus(), workspace)] == first


def test_a_page_says_when_test_was_not_decided_by_what_was_chosen(workspace: Workspace) -> None:
    run = save_everything(workspace)
    said = "These images are therefore decided by one threshold"
    assert said not in markdown(workspace)
    write_json(run / "meta.json", json.loads((run / "meta.json").read_text()) | {"fell_back": True})
    assert said in markdown(workspace)


def test_known_near_duplicates_are_told(workspace: Workspace) -> None:
    save_everything(workspace)
    corpus = made_corpus()
    valid, train = (corpus.table.of(split=split).image_ids[0] for split in ("valid", "train"))
    pair = NearDuplicate(train, "train", valid, "valid", 0.97, False, False)
    with new_folder(workspace.duplicates, {"corpus": corpus.fingerprint}) as draft:
        save_duplicates([pair], draft / DUPLICATES_FILE)
    text = write_report(corpus, workspace)[0].read_text(encoding="utf-8")
    assert "- near-duplicates across splits: train and valid: 1 pair (1 and 1 images)\n" in text
    assert "the submission on the 4 validation images that have no near-duplicate in train" in text


def test_misses_and_inventions_are_counted_by_concept(workspace: Workspace) -> None:
    save_everything(workspace)
    text = markdown(workspace)
    first = text[text.index("## Concepts missed") : text.index("## Examples")]
    missed, invented = first.split("Concepts invented:")
    # C1: true of a to e; decided of a, b, d and f, which has none. C2: decided of d and e in vain.
    assert rows_of(missed, "concept")["C1"] == ["C1", "5", "3", "2", "1", "0.667"]  # 6 / (6 + 3)
    assert "C2" not in rows_of(missed, "concept")
    rows = rows_of(invented, "concept")
    assert list(rows)[2:] == ["C2", "C1"]
    assert rows["C2"] == ["C2", "0", "0", "0", "2", "0.000"]
    assert "Of 2 concepts 0 were never decided" in first


def test_concepts_that_were_never_decided_are_counted(workspace: Workspace) -> None:
    run = save_everything(workspace)
    lines = (run / "decided.csv").read_text().splitlines()
    cleared = [",".join([*line.split(",")[:3], "", ""]) for line in lines[1:]]
    (run / "decided.csv").write_text("\n".join([lines[0], *cleared]) + "\n")
    text = markdown(workspace)
    assert "No concept was invented." in text
    expected = "Of 2 concepts 2 were never decided, of which 1 are true of a scored image (5 misses"
    assert expected in text


def test_each_category_has_its_best_and_its_worst_image_with_concepts_by_name(
    workspace: Workspace,
) -> None:
    save_everything(workspace)
    corpus = replace(made_corpus(), names={"C1": "Stripes; and more"})
    text = as_markdown("made", report_sections(newest_ensemble(corpus, workspace)))
    examples = text[text.index("## Examples") : text.index("## Thresholds")]
    assert "Pictures were left out (`--no-images`)." in examples
    # Both CT images have 1.0 and one concept right, so that a is either. Of the X-ray images c has
    # 1.0 and d 0.5; of the ultrasound images f is left out, and e stands alone.
    assert re.findall(r"\*\*(\w+), F1 ([\d.]+)\*\*: `(\w)`", examples) == [
        ("Best", "1.000", "a"),
        ("Best", "0.250", "e"),
        ("Best", "1.000", "c"),
        ("Worst", "0.500", "d"),
    ]
    assert examples.count("- **✓ right:** Stripes; and more\n") == 2  # of a and d
    assert examples.count("- **− missed:** Stripes; and more\n") == 2  # of c and e
    assert examples.count("- **\\+ invented:** C2") == 2  # of d and e


def test_pictures_stand_in_the_page_and_lie_beside_it_until_they_are_left_out(
    workspace: Workspace,
) -> None:
    save_everything(workspace)

    def read(path: Path) -> npt.NDArray[np.uint8]:
        if path.name == "c":
            raise ImageError(f"{path}: cut short")
        return np.full((300, 600, 3), 90, dtype=np.uint8)

    page, html = write_report(made_corpus(), workspace, read=read)
    names = sorted(path.name for path in workspace.reports.glob("*.jpg"))
    expected = ["drct_best", "drus_best", "drxr_worst"]
    assert names == [f"report_example_{name}.jpg" for name in expected]
    with Image.open(workspace.reports / names[0]) as image:
        assert image.size == (240, 120)
    text = page.read_text(encoding="utf-8")
    assert all(f"]({name})" in text for name in names)
    assert "(no picture: c: cut short)" in text
    assert "pass this page on only where they may be shown" in text
    shown = html.read_text(encoding="utf-8")
    assert shown.count('src="data:image/jpeg;base64,') == 3
    ElementTree.fromstring(shown.removeprefix("<!DOCTYPE html>"))
    before = [path.read_bytes() for path in sorted(workspace.reports.iterdir())]
    write_report(made_corpus(), workspace, read=read)
    assert [path.read_bytes() for path in sorted(workspace.reports.iterdir())] == before
    page, html = write_report(made_corpus(), workspace)
    assert not list(workspace.reports.glob("*.jpg"))
    assert "data:image/jpeg" not in html.read_text(encoding="utf-8")
    assert "`a`" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.1, 0.3, "**It still rises:**"),
        (-0.1, 0.3, "**It is flat, as far as can be told:**"),
        (-0.3, -0.1, "**It falls:**"),
    ],
)
def test_the_end_of_the_learning_curve_is_told(
    workspace: Workspace, low: float, high: float, said: str
) -> None:
    run = save_everything(workspace)
    f1, gain = Interval(0.5, 0.4, 0.6, 5), Interval((low + high) / 2, low, high, 5)
    points = [
        LearningPoint(share=0.5, n_images=3.0, f1=f1, gain=None),
        LearningPoint(share=1.0, n_images=6.0, f1=f1, gain=gain),
    ]
    write_points(run / "learning_curve.csv", points)
    text = markdown(workspace)
    assert said in text
    assert f"from 50 % to all, brings {gain.signed()}" in text
    assert rows_of(text, "share")["100 %"] == ["6", str(f1), gain.signed()]


def test_the_scores_are_written_as_latex_too(pages: tuple[Path, Path]) -> None:
    text = (pages[0].parent / "report.tex").read_text(encoding="ascii")
    assert "`report.tex` beside this page" in pages[0].read_text(encoding="utf-8")
    assert text.count("\\begin{table}") == text.count("\\end{table}") == 2
    # prior: (0.5 + 1 + 0 + 0 + 0.25) / 5
    assert "    prior & $0.3500$ & {[}$" in text
    assert "    routed & $0.7500$ & {[}$" in text
    assert re.search(
        r"best member: routed & \$0\.7500\$ & .+ & \$\+0\.4000\$ & .+ & kept \\\\", text
    )
