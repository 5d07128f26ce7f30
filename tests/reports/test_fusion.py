"""The comparison of fusion strategies, against plain recomputations."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from core.metrics import bootstrap, cross_fitted_f1
from core.predictions import Predictions
from core.runs.workspace import Corpus, Workspace
from reports.fusion import constant_share, write_comparison
from tests.conftest import SaveRun


def f1_of(folder: Path, corpus: Corpus, name: str = "valid") -> np.ndarray:
    valid = corpus.labelled_images("valid")
    probs = Predictions.load(folder / "predictions" / name).rows(valid.image_ids).probs
    targets = valid.targets(corpus.labels)
    return cross_fitted_f1(probs, targets, folds=valid.folds, empty_truth="left out")


def table_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["strategy"]: row for row in csv.DictReader(file)}


def test_every_strategy_stands_with_its_gain_over_the_head_without_metadata(
    generated: Corpus, workspace: Workspace, fused: SaveRun
) -> None:
    blind, informed = fused("blind", noise=3.0), fused("one-hot", noise=1.5)
    page = write_comparison(generated, workspace)
    assert page is not None
    groups = generated.labelled_images("valid").groups
    gain = bootstrap(f1_of(informed, generated) - f1_of(blind, generated), groups=groups)
    assert gain.low > 0
    text = page.read_text(encoding="utf-8")
    assert gain.signed() in text
    rows = table_of(page.with_name("fusion.csv"))
    assert float(rows["one-hot"]["gain"]) == gain.value
    assert (rows["blind"]["gain"], rows["blind"]["f1_withheld"]) == ("", "")
    assert float(rows["blind"]["f1"]) == bootstrap(f1_of(blind, generated), groups=groups).value
    assert page.with_name("fusion_gain.svg").is_file()
    assert "![Gain of each strategy with its interval, but for the prior](fusion_gain.svg)" in text
    assert "## Rare concepts" in text
    assert "80 validation images" in text


def test_what_withholding_the_category_costs_is_told(
    generated: Corpus, workspace: Workspace, fused: SaveRun
) -> None:
    fused("blind", noise=3.0)
    home, worse = fused("one-hot", noise=1.5), fused("film", noise=2.5)
    Predictions.load(worse / "predictions" / "valid").save(home / "predictions" / "valid-withheld")
    page = write_comparison(generated, workspace)
    assert page is not None
    loss = f1_of(home, generated, "valid-withheld") - f1_of(home, generated)
    groups = generated.labelled_images("valid").groups
    assert bootstrap(loss, groups=groups).signed() in page.read_text(encoding="utf-8")


def test_without_the_head_without_metadata_there_are_no_gains(
    generated: Corpus, workspace: Workspace, fused: SaveRun
) -> None:
    fused("prior")
    page = write_comparison(generated, workspace)
    assert page is not None
    assert "fusion_gain" not in page.read_text(encoding="utf-8")
    assert table_of(page.with_name("fusion.csv"))["prior"]["gain"] == ""


def test_without_runs_there_is_no_page(generated: Corpus, workspace: Workspace) -> None:
    assert write_comparison(generated, workspace) is None


def test_strategies_stand_in_the_order_they_were_asked_for_those_on_other_features_do_not(
    generated: Corpus, workspace: Workspace, fused: SaveRun
) -> None:
    fused("film", embeddings=("other",))
    for name in ("one-hot", "blind", "prior"):
        fused(name)
    page = write_comparison(generated, workspace)
    assert page is not None
    assert list(table_of(page.with_name("fusion.csv"))) == ["one-hot", "blind", "prior"]


def test_a_constant_concept_counts_where_it_is_decided_on_images_of_its_category(
    generated: Corpus,
) -> None:
    valid = generated.labelled_images("valid")
    decided = np.zeros((len(valid), len(generated.labels)), dtype=np.bool_)
    ct = np.flatnonzero(np.array(valid.categories) == "DRCT")
    decided[ct[: len(ct) // 2], generated.labels.columns(["C00"])[0]] = True
    share = constant_share(
        generated, valid, decided=csr_array(decided), at_least=50
    )  # C00 on CT alone
    assert share == pytest.approx((len(ct) // 2) / len(ct))
    assert np.isnan(constant_share(generated, valid, decided=csr_array(decided), at_least=1000))
