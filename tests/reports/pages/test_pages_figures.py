"""Figures: the same bytes every time, and nothing in a name is taken for a formula."""

import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from reports.pages import figures


def made_bars(name: str = "C1  chest") -> Figure:
    return figures.bars([name, "C2"], np.array([30, 10]), total=40, title="top", axis="images")


def texts(figure: Figure) -> list[str]:
    """Every word of a figure."""
    found = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return [text for artist in found if (text := artist.get_text())]  # type: ignore[attr-defined]


def test_a_figure_is_saved_as_svg_and_png_without_date_twice_the_same(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        with figures.style():
            figures.save_figure(made_bars(), tmp_path / folder, name="top")
    for ending in ("svg", "png"):
        one, two = ((tmp_path / f / f"top.{ending}").read_bytes() for f in ("one", "two"))
        assert one == two
    assert not re.search("<dc:date>", (tmp_path / "one" / "top.svg").read_text())
    with Image.open(tmp_path / "one" / "top.png") as image:
        assert image.size[0] == 1400  # 7 inches at 200 dots


def test_the_style_is_gone_after_its_block() -> None:
    before = dict(matplotlib.rcParams)
    with figures.style():
        assert matplotlib.rcParams["svg.hashsalt"] == "radfuse"
    assert dict(matplotlib.rcParams) == before


def test_a_dollar_in_a_name_is_a_dollar(tmp_path: Path) -> None:
    with figures.style():
        figure = made_bars("C1  $frac{1}$ _x_ \\alpha")
        figures.save_figure(figure, tmp_path, name="top")
    assert "C1  $frac{1}$ _x_ \\alpha" in texts(figure)


def test_bars_say_their_number_and_share() -> None:
    assert {" 30 (75 %)", " 10 (25 %)", "C1  chest"} <= set(texts(made_bars()))


def test_a_histogram_names_its_mean_and_what_is_not_shown() -> None:
    figure = figures.columns(np.array([1, 2]), mean=0.67, title="t", axis="n", note="the rest")
    assert {"mean 0.67", "the rest"} <= set(texts(figure))


def test_wide_cells_hold_a_percentage_and_narrow_ones_a_number() -> None:
    few = figures.heat_map(
        np.array([[1.0, 0.034], [0.0, 0.5]]), rows=["a", "b"], columns=["c", "d"], title="t",
        legend="share",
    )  # fmt: skip
    assert {"100 %", "3.4 %", "50 %"} <= set(texts(few))
    many = figures.heat_map(
        np.full((1, 13), 0.42), rows=["a"], columns=[f"c{k}" for k in range(13)], title="t",
        legend="share",
    )  # fmt: skip
    assert texts(many).count("42") == 13


def test_the_scatter_keys_its_named_concepts_and_keeps_absent_ones_in_sight() -> None:
    figure = figures.scatter_shares(
        np.array([[0.1, 0.0, 1.0], [0.2, 0.01, 1.0]]),
        n_images=(100, 100),
        marked=np.array([True, False, False]),
        named=[(0, "C1  chest")],
        title="t",
    )
    assert {"1", "1  C1  chest"} <= set(texts(figure))
    [axes] = figure.axes
    low, _ = axes.get_xlim()
    for points in axes.collections:
        assert np.asarray(points.get_offsets())[:, 0].min(initial=1.0) >= 0.0
    assert low < 0.4 / 100


@pytest.mark.parametrize("n", [1, 30])
def test_one_concept_or_thirty_are_drawn(n: int, tmp_path: Path) -> None:
    with figures.style():
        figure = figures.bars(
            [f"C{k}" for k in range(n)], np.arange(n, 0, -1), total=n, title="t", axis="images"
        )
        figures.save_figure(figure, tmp_path, name="top")
    assert (tmp_path / "top.png").stat().st_size > 1000
