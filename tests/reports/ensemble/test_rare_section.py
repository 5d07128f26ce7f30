"""The report on rare concepts: its tables and what it makes of them."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from core.labels import frequency_buckets
from core.metrics import Interval
from core.runs.ensemble import ONE_THRESHOLD, SUBMITTED, EnsembleRun, PriorPoint
from reports.ensemble.rare import rare_sections


def points(
    decided_by: str, strength: float, *, f1: tuple[float, float, float], recall: tuple[float, ...]
) -> list[PriorPoint]:
    """F1, and recall of concepts with 6 to 20 images, as value and interval of the gain."""

    def point(measure: str, bucket: str, value: float, gain: Any, n: int) -> PriorPoint:
        return PriorPoint(
            decided_by=decided_by, strength=strength, measure=measure, bucket=bucket, value=value,
            gain=gain, n=n,
        )  # fmt: skip

    gain = Interval(f1[0] - 0.8, f1[1], f1[2], 2000) if strength else None
    found = [point("F1", "", f1[0], gain, 2000)]
    for bucket in frequency_buckets():
        is_rare = bucket.name == "6-20"
        value = recall[0] if is_rare else float("nan") if bucket.low == 1 else 0.5
        gain = Interval(recall[0] - 0.1, recall[1], recall[2], 500) if strength else None
        n = 0 if np.isnan(value) else 500
        found.append(point("recall", bucket.name, value, gain if is_rare else None, n))
        found.append(point("precision", bucket.name, 0.25 if is_rare else float("nan"), None, 9))
    return found


def section(prior: list[PriorPoint], **meta: Any) -> str:
    run = SimpleNamespace(record=SimpleNamespace(prior=prior), meta=meta)
    sections = rare_sections(cast(EnsembleRun, run))
    text = "\n\n".join(paragraph for part in sections for paragraph in part.paragraphs)
    return text.replace("\\", "")  # cells are text, and brackets mean nothing in them


NONE = points(ONE_THRESHOLD, 0.0, f1=(0.8, 0, 0), recall=(0.1, 0, 0))
LITTLE = points(ONE_THRESHOLD, 0.1, f1=(0.799, -0.002, 0.001), recall=(0.11, -0.01, 0.03))
MORE = points(ONE_THRESHOLD, 0.2, f1=(0.797, -0.004, -0.002), recall=(0.15, 0.03, 0.07))


def test_the_weakest_strength_that_helps_for_sure_is_named_with_its_cost() -> None:
    text = section([*NONE, *LITTLE, *MORE])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells[0][1:4] == [
        "sample F1, n = 2,000", "recall, 1-5 images, n = 0", "recall, 6-20 images, n = 500",
    ]  # fmt: skip
    assert [own[0] for own in cells[2:]] == ["0", "0.1", "0.2"]
    assert cells[2][1:4] == ["0.8000", "-", "0.100"]
    assert cells[4][1] == "0.7970 (-0.0030 [-0.0040, -0.0020])"
    assert cells[4][3] == "0.150 (+0.050 [+0.030, +0.070])"
    assert cells[4][-1] == "0.250"
    assert "At 0.2 more concepts of 6-20 images are found, 15 % of their true pairs in" in text
    assert "in place of 10 %, for -0.0030 in sample F1. Higher" in text
    assert "The submission is not adjusted." in text


def test_a_cost_within_chance_is_said_to_be_so() -> None:
    sure = points(ONE_THRESHOLD, 0.1, f1=(0.799, -0.002, 0.001), recall=(0.12, 0.01, 0.03))
    assert "for -0.0010 in sample F1, which chance can bring. Higher" in section([*NONE, *sure])


def test_where_no_strength_helps_that_is_said() -> None:
    assert "nothing to be had by this setting here" in section([*NONE, *LITTLE])


def test_an_adjusted_submission_is_held_against_the_one_without() -> None:
    submitted = [
        *points(SUBMITTED, 0.0, f1=(0.8, 0, 0), recall=(0.1, 0, 0)),
        *points(SUBMITTED, 0.2, f1=(0.798, -0.003, -0.001), recall=(0.14, 0.02, 0.06)),
    ]
    text = section([*NONE, *MORE, *submitted], prior_adjustment=0.2)
    assert "**The submission is adjusted by 0.2.**" in text
    assert "0.7980 (-0.0020 [-0.0030, -0.0010])" in text
    assert "is not adjusted" not in text


def test_an_earlier_run_has_no_such_section() -> None:
    assert section([]) == ""
