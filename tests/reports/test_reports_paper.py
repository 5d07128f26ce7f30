"""The page of `reproduce`, its numbers worked by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from core.images import ImageTable
from core.labels import LabelSpace
from core.metrics import Interval
from core.predictions import Predictions
from core.runs.paper import FINDINGS, TABLE_4, find_trials, note_crash
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import provenance, write_json
from reports.paper import difference, score_half, score_pair, verdict, write_reproduction

VALID = ("a", "b", "c", "d")  # a and b are val1, c and d val2
TRUTH = (("C1",), ("C1", "C2"), ("C2",), ("C1",))


@pytest.fixture
def corpus() -> Corpus:
    table = ImageTable(
        image_ids=("t", *VALID),
        paths=("t", *VALID),
        categories=("",) * 5,
        splits=("train", *["valid"] * 4),
        folds=np.zeros(5, dtype=np.int16),
        groups=("t", *VALID),
        concepts=(("C1", "C2"), *TRUTH),
        metadata={"valid_half": ("", "val1", "val1", "val2", "val2")},
    )
    return Corpus(
        name="made", table=table, labels=LabelSpace(("C1", "C2")), names={}, edition=2020,
        fingerprint="made0000", notes=(),
    )  # fmt: skip


def save(
    workspace: Workspace, number: int, half: str, probs: list[list[float]], f1: float = 0.5
) -> Path:
    folder = workspace.reproduced / "small" / f"paper-{number:02d}-{half}-00000001"
    Predictions(
        source="global",
        image_ids=VALID,
        labels=LabelSpace(("C1", "C2")),
        probs=np.array(probs, dtype=np.float32),
        fitted_on=frozenset({"t"}),
    ).save(folder / "predictions" / "valid")
    settings = {
        "weights": "none", "hidden": [8, 8], "image_sizes": [32], "batch_size": 16,
    }  # fmt: skip
    write_json(folder / "config.json", settings)
    entries = [{"epoch": e, "loss": 0.5, "stop_loss": 0.4 / e, "f1": f1 / 2 * e} for e in (1, 2)]
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    meta = {
        "corpus": "made0000", "best_epoch": [2], "seconds": 90.0, "device": "cpu", **provenance(),
    }  # fmt: skip
    write_json(folder / "meta.json", meta)
    return folder


RIGHT = [[0.9, 0.1], [0.9, 0.9], [0.1, 0.9], [0.9, 0.1]]
UNSURE = [[0.9, 0.1], [0.9, 0.4], [0.1, 0.3], [0.4, 0.3]]


def test_a_network_is_scored_on_the_half_that_did_not_stop_it(
    corpus: Corpus, workspace: Workspace
) -> None:
    save(workspace, 3, "val1", UNSURE)
    save(workspace, 3, "val2", UNSURE)
    trials = find_trials(corpus, workspace, scale="small")
    first = score_half(corpus, trials[3, "val1"])
    assert first.images.image_ids == ("c", "d")
    assert first.image_f1.tolist() == [0.0, 0.0]  # nothing reaches 0.5
    second = score_half(corpus, trials[3, "val2"])
    assert second.image_f1.tolist() == [1.0, pytest.approx(2 / 3)]  # b lacks C2: 2*1 / (1 + 2)
    both = score_pair(corpus, trials, number=3)
    assert both is not None
    assert both.images.image_ids == ("c", "d", "a", "b")
    # With nomissing c gets C1 or C2, whichever is more probable: C2, right; d gets C1, right.
    assert score_half(corpus, trials[3, "val1"], nomissing=True).image_f1.tolist() == [1.0, 1.0]
    assert score_pair(corpus, trials, number=9) is None


def test_differences_are_paired_over_both_halves(corpus: Corpus, workspace: Workspace) -> None:
    for half in ("val1", "val2"):
        save(workspace, 9, half, RIGHT)
        save(workspace, 3, half, UNSURE)
    trials = find_trials(corpus, workspace, scale="small")
    found = difference(corpus, trials, finding=FINDINGS[0])  # 9 against 3
    assert found is not None
    # 1 against 0, 0, 1 and 2/3: a gain of 1, 1, 0 and 1/3
    assert found.value == pytest.approx((1 + 1 + 0 + 1 / 3) / 4)
    assert found.n == 4
    assert difference(corpus, trials, finding=FINDINGS[1]) is None  # 10 was not trained


@pytest.mark.parametrize(
    ("gains", "low", "high", "expected"),
    [
        (True, 0.01, 0.03, "holds"),
        (True, -0.01, 0.03, "not decided"),
        (True, -0.03, -0.01, "the reverse holds"),
        (False, 0.01, 0.03, "does not hold"),
        (False, -0.01, 0.03, "not contradicted"),
        (False, -0.03, -0.01, "it loses"),
    ],
)
def test_a_finding_holds_by_its_interval(
    gains: bool, low: float, high: float, expected: str
) -> None:
    finding = next(f for f in FINDINGS if f.gains == gains)
    assert verdict(finding, Interval(value=(low + high) / 2, low=low, high=high, n=9)) == expected
    assert verdict(finding, None) == ""


def test_the_page_has_theirs_beside_ours_and_says_what_is_missing(
    corpus: Corpus, workspace: Workspace
) -> None:
    for half in ("val1", "val2"):
        save(workspace, 3, half, RIGHT)
    crashed = workspace.reproduced / "small" / "paper-04-val1-00000001"
    note_crash(crashed, "RuntimeError: no memory left", corpus="made0000")
    path = write_reproduction(
        corpus, workspace, scale="small", title="small pictures", scores={"vgg16": 0.61}
    )
    text = path.read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert len([name for name in rows if name.isdigit()]) == len(TABLE_4)
    assert "0.3475" in rows["3"]
    assert "1.0000 [1.0000, 1.0000]" in rows["3"]
    assert "3.0 min" in rows["3"]  # two networks of 90 s
    assert "32 px, 2x8, batch 16, random weights" in rows["3"]
    assert "RuntimeError" in rows["4"]
    assert "not trained" in rows["5"]
    assert "0.6100" in rows["vgg16"]
    for name in ("figure-6", "curves"):
        assert f"](reproduce-small-{name}.png)" in text
        assert (path.parent / f"reproduce-small-{name}.svg").is_file()


def test_the_same_networks_give_the_same_page_and_figures(
    corpus: Corpus, workspace: Workspace
) -> None:
    for half in ("val1", "val2"):
        save(workspace, 3, half, RIGHT)
    seen = []
    for _ in range(2):
        write_reproduction(corpus, workspace, scale="small", title="small pictures")
        seen.append({p.name: p.read_bytes() for p in workspace.reports.iterdir()})
    assert seen[0] == seen[1]


def test_without_any_network_the_page_says_so(corpus: Corpus, workspace: Workspace) -> None:
    path = write_reproduction(corpus, workspace, scale="small", title="small pictures")
    assert "Nothing is trained yet." in path.read_text(encoding="utf-8")
