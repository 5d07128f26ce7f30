"""The page of `stats`, its tables and its figures."""

import csv
import re
from pathlib import Path

import pytest

from core.errors import ConfigError, CorpusError
from core.images import ImageTable
from core.labels import LabelSpace
from core.runs.workspace import Corpus
from reports.statistics.page import write_stats
from tests.reports.made import made_table

NEVER = {"categories.csv", "concepts-by-category.svg", "images-by-category.svg"}
"""Files that need categories."""


def corpus_of(table: ImageTable, *, names: dict[str, str] | None = None) -> Corpus:
    return Corpus(
        name="made", table=table, labels=LabelSpace(()), names=names or {}, edition=2020,
        fingerprint="made0000", notes=("3 images without a file, left out",),
    )  # fmt: skip


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def stats(generated: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the generated corpus: 120 + 80 labelled images of three categories."""
    folder = tmp_path_factory.mktemp("stats") / "reports" / "stats"
    lines = write_stats(generated, folder)
    assert lines[0] == str(folder / "stats.md")
    assert lines[2] == "  images: 120 train, 80 valid, 40 test"
    return folder


def test_every_figure_of_the_page_is_there_as_svg_and_png(stats: Path) -> None:
    page = (stats / "stats.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\((.+?)\)", page))
    assert linked == {name for name in written(stats) if name.endswith(".svg")}
    assert len(linked) == 8
    assert {name.replace(".svg", ".png") for name in linked} <= written(stats)


def test_images_are_counted_by_split_and_category(stats: Path, generated: Corpus) -> None:
    rows = read(stats / "images.csv")
    assert [row["split"] for row in rows] == ["train", "valid", "test", "total"]
    assert [row["total"] for row in rows] == ["120", "80", "40", "240"]
    ct = sum(category == "DRCT" for category in generated.table.categories)
    assert rows[-1]["DRCT"] == str(ct)


def test_the_tables_agree_with_plain_counting(stats: Path, generated: Corpus) -> None:
    known = [c for c in generated.table.concepts if c is not None]
    labels = {row["images"]: row for row in read(stats / "labels.csv")}
    n_pairs = sum(map(len, known))
    assert labels["train and valid"]["n_assignments"] == str(n_pairs)
    assert float(labels["train and valid"]["cardinality"]) == pytest.approx(n_pairs / 200)
    concepts = {row["cui"]: row for row in read(stats / "concepts.csv")}
    assert len(concepts) == 13  # C00 to C11 and C99
    for cui, row in concepts.items():
        assert int(row["train"]) + int(row["valid"]) == sum(cui in c for c in known)
    histogram = read(stats / "concepts-an-image.csv")
    bars = [(int(r["concepts"]), int(r["train"]) + int(r["valid"])) for r in histogram]
    assert sum(concepts * images for concepts, images in bars) == n_pairs


def test_constant_concepts_are_named_with_their_category(stats: Path) -> None:
    rows = {row["cui"]: row for row in read(stats / "categories.csv")}
    assert rows["C00"]["kind"] == "constant and exclusive"
    assert rows["C00"]["constant_in"] == "DRCT"
    assert float(rows["C00"]["told_above_chance"]) == pytest.approx(1.0)
    assert rows["C03"]["kind"] == "shared"
    assert "C99" not in rows  # it stands on an image of valid only
    page = (stats / "stats.md").read_text(encoding="utf-8")
    assert "score a sample F1 of 0." in page


def test_what_valid_alone_has_is_told(stats: Path) -> None:
    page = (stats / "stats.md").read_text(encoding="utf-8")
    assert "1 assignments there (0." in page
    [row] = [row for row in read(stats / "drift.csv") if row["cui"] == "C99"]
    assert (row["train"], row["valid"], row["q"]) == ("0", "1", "")


def test_the_same_corpus_gives_the_same_bytes(tmp_path: Path) -> None:
    table = made_table(
        [("C1", "C2"), ("C2",), ("C3",), ()] * 10,
        splits=["train"] * 30 + ["valid"] * 10,
        categories=["DRCT", "DRUS"] * 20,
    )
    found = []
    for _ in range(2):  # the second one replaces the first
        write_stats(corpus_of(table), tmp_path / "stats")
        found.append({path.name: path.read_bytes() for path in (tmp_path / "stats").iterdir()})
    assert len(found[0]) == 25  # eight figures twice, seven tables, the page, meta.json
    assert found[0] == found[1]


def test_what_somebody_put_into_the_folder_is_not_thrown_away(tmp_path: Path) -> None:
    corpus = corpus_of(made_table([("C1",), ("C2",)]))
    write_stats(corpus, tmp_path / "stats")
    (tmp_path / "stats" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"stats: would be replaced, but holds .+\['notes.txt'\]"):
        write_stats(corpus, tmp_path / "stats")
    assert (tmp_path / "stats" / "notes.txt").read_text() == "mine"


def test_a_single_image_without_category_or_name_has_a_page(tmp_path: Path) -> None:
    lines = write_stats(corpus_of(made_table([("C1",)])), tmp_path / "stats")
    assert not NEVER & written(tmp_path / "stats")
    assert "  fewer than two categories: concepts are not set against them" in lines
    assert "  not both train and valid with concepts: they are not compared" in lines
    page = (tmp_path / "stats" / "stats.md").read_text(encoding="utf-8")
    assert "| train     |      1 |" in page
    assert "3 images without a file, left out" in page


def test_images_without_concepts_count_in_the_mean_and_in_the_first_bar(tmp_path: Path) -> None:
    write_stats(corpus_of(made_table([("C1", "C2"), (), ()])), tmp_path / "stats")
    [row] = read(tmp_path / "stats" / "labels.csv")
    assert (row["n_without"], row["cardinality"], row["density"]) == ("2", "0.666667", "0.333333")
    assert read(tmp_path / "stats" / "concepts-an-image.csv")[0] == {"concepts": "0", "train": "2"}


def test_any_name_of_a_concept_is_shown_as_it_is(tmp_path: Path) -> None:
    names = {"C1": "a|b $x$ <i>", "C2": "a name that is much longer than what stands in a figure"}
    table = made_table([("C1", "C2", "C3")] * 25, categories=["DRCT"] * 12 + ["DRUS"] * 13)
    write_stats(corpus_of(table, names=names), tmp_path / "stats")
    page = (tmp_path / "stats" / "stats.md").read_text(encoding="utf-8")
    assert "C1 a\\|b \\$x\\$ \\<i> + C3" in page
    assert len({line.count(" | ") for line in page.splitlines() if line.startswith("| C1 a")}) <= 2
    assert {row["name"] for row in read(tmp_path / "stats" / "concepts.csv")} == {
        "", *names.values()
    }  # fmt: skip


def test_without_any_concept_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="none of 2 images has a concept"):
        write_stats(corpus_of(made_table([(), None])), tmp_path / "stats")
    assert not (tmp_path / "stats").exists()
