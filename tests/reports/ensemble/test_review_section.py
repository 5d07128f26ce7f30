"""The report's section on review: with its figure and tables, absent where too little is known."""

import numpy as np
import pytest

from core.images import ImageTable
from core.labels import LabelSpace
from core.metrics import Scores
from core.runs.ensemble import EnsembleRun, newest_ensemble, write_scores
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import new_folder, write_json
from reports.ensemble.review import orders_of, review_sections
from reports.pages.figures import percent
from reports.pages.markdown import as_markdown
from reports.review_order import ReviewOrder

N = 120


def values() -> dict[str, Scores]:
    """What is known of the scored images; one is left out of the mean."""
    rng = np.random.default_rng(0)
    truth = rng.random(N).round(6)
    truth[4] = np.nan
    forecast = np.clip(np.nan_to_num(truth) + 0.1 * rng.standard_normal(N), 0, 1).round(6)
    forecast[4] = np.nan
    found = {"forecast": forecast, "truth": truth, "mass": rng.random(N), "highest": rng.random(N)}
    return {**found, "entropy": (rng.random(N) - np.nan_to_num(truth) + 2).round(6)}


GROUPS = tuple(f"g{i // 2}" for i in range(N))


def run_of(workspace: Workspace, found: dict[str, Scores], *, n: int = N) -> EnsembleRun:
    """A finished run that kept so much of n scored images."""
    ids = tuple(f"v{i:03d}" for i in range(n))
    table = ImageTable(
        image_ids=("t", *ids),
        paths=("t", *ids),
        categories=("DRCT",) * (n + 1),
        splits=("train", *["valid"] * n),
        folds=np.arange(n + 1, dtype=np.int16) % 4,
        groups=("t", *GROUPS[:n]),
        concepts=(("C1",),) * (n + 1),
    )
    corpus = Corpus(
        name="made", table=table, labels=LabelSpace(("C1",)), names={}, edition=2020,
        fingerprint="made0000", notes=(),
    )  # fmt: skip
    meta = {
        "corpus": "made0000", "margin": 1.0, "decision": "one threshold, 0.30",
        "ladder": [["prior", ""], ["submission", "decision: one threshold, 0.30"]],
    }  # fmt: skip
    with new_folder(workspace.ensembles / "stack-1", meta) as draft:
        write_json(draft / "config.json", {})
        scores = {name: np.full(n, 0.5) for name in ("prior", "submission")}
        write_scores(draft / "valid_f1.csv", image_ids=ids, scores=scores)
        if found:
            kept = {name: own[:n] for name, own in found.items()}
            write_scores(draft / "forecast_images.csv", image_ids=ids, scores=kept)
    return newest_ensemble(corpus, workspace)


def test_the_section_tells_what_review_brings_and_by_which_order(workspace: Workspace) -> None:
    (section,) = review_sections(run_of(workspace, values()))
    assert section.heading == "What to review first"
    assert set(section.figures) == {"report_review"}
    text = as_markdown("made", [section])
    assert "](report_review.svg)" in text
    found = values()
    rows = sorted((f, t) for f, t in zip(found["forecast"], found["truth"], strict=True) if f == f)
    truth = [t for _, t in rows]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    for share, n in ((0.05, 6), (0.1, 12), (0.2, 24)):
        first, rest = np.mean(truth[:n]), np.mean(truth[n:])
        after = (n + sum(truth[n:])) / 119
        (own,) = [row for row in cells if row and row[0] == percent(share)]
        assert own[1:] == [str(n), *(f"{value:.3f}" for value in (first, rest, after))]
    lines = [line for line in text.splitlines() if line.startswith("| e") or "highest" in line]
    assert [line.split("|")[1].strip() for line in lines] == [
        "expected F1", "highest probability", "entropy",
    ]  # fmt: skip
    assert "+" in lines[1]  # the highest probability was drawn: expected F1 gains over it


@pytest.mark.parametrize(
    ("found", "n"),
    [({}, N), (values(), 19)],
)
def test_without_a_forecast_or_with_few_images_there_is_none(
    workspace: Workspace, found: dict[str, Scores], n: int
) -> None:
    assert review_sections(run_of(workspace, found, n=n)) == []


def test_a_run_that_kept_no_entropy_has_the_other_orders(workspace: Workspace) -> None:
    found = {name: own for name, own in values().items() if name != "entropy"}
    (section,) = review_sections(run_of(workspace, found))
    text = as_markdown("made", [section])
    assert "highest probability" in text
    assert "entropy" not in text


def test_orders_are_of_the_same_images_the_least_sure_first() -> None:
    found = values()
    orders = orders_of(found, groups=GROUPS)
    assert list(orders) == ["forecast", "highest", "entropy"]
    assert {len(order.scores) for order in orders.values()} == {N - 1}
    for name, sureness in (
        ("forecast", found["forecast"]),
        ("highest", found["highest"]),
        ("entropy", -found["entropy"]),
    ):
        here = np.where(np.isnan(found["forecast"]), np.nan, sureness)
        slow = ReviewOrder.of(here, found["truth"], groups=GROUPS)
        np.testing.assert_array_equal(orders[name].scores, slow.scores)
    assert orders["entropy"].area > orders["highest"].area  # which was drawn
