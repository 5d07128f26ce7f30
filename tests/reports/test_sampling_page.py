"""The page of `sample --curve`: its numbers are those of the trials."""

import csv
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from core.metrics import bootstrap, mean_in_order
from core.runs.learning import BUCKETS, SampleTrial, bucket_of_concepts, judged
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import write_json
from reports.sampling import (
    Curves,
    draw_curves,
    read_curves,
    recall,
    recall_gain,
    true_by_bucket,
    write_curve,
)
from training.config import FitConfig


@pytest.fixture
def trials(generated: Corpus, tmp_path: Path) -> Path:
    """Networks that see the less the fewer images they had; `loss` sees more than `random`."""
    table = generated.labelled_images("valid")
    truth = table.targets(generated.labels).matrix.toarray()
    points = [("all", 1.0, 0.2)]
    for share, noise in ((0.25, 0.7), (0.5, 0.5)):
        points += [("random", share, noise), ("random, rare kept", share, noise)]
        points += [("loss", share, noise - 0.15)]
    for name, share, noise in points:
        for number in range(2):
            rng = np.random.default_rng(number)
            probs = (0.5 + 0.35 * (2 * truth - 1) + noise * rng.normal(size=truth.shape)).clip(0, 1)
            f1, hits = judged(
                probs.astype(np.float32), table, labels=generated.labels,
                buckets=bucket_of_concepts(generated),
            )  # fmt: skip
            SampleTrial(
                name=name, share=share, number=number, n_kept=round(120 * share), seconds=0.5,
                image_ids=table.image_ids, f1=f1, hits=hits,
            ).save(tmp_path / "trials" / name.replace(", ", "-") / f"{number}-{share}")  # fmt: skip
    settings = {**asdict(FitConfig()), "backbone": "b0", "joined": (), "image_sizes": (64,)}
    sampled = {"sample_rare": 5, "sample_within": "dominant", "sample_power": 1.0}
    write_json(tmp_path / "trials" / "config.json", {**settings, **sampled, "same_steps": True})
    return tmp_path / "trials"


def curves_of(trials: Path, corpus: Corpus) -> Curves:
    scored = corpus.labelled_images("valid")
    return read_curves(trials, corpus, scored=scored, n_true=true_by_bucket(corpus, scored))


def test_the_tables_hold_what_the_trials_reached(
    generated: Corpus, workspace: Workspace, trials: Path
) -> None:
    page, figure = write_curve(generated, workspace, folder=trials)
    text = page.read_text(encoding="utf-8")
    assert figure.is_file()
    scored = generated.labelled_images("valid")
    n_true = true_by_bucket(generated, scored)
    curves = curves_of(trials, generated)
    loss, random, every = curves["loss"][0.5], curves["random"][0.5], curves["all"][1.0]
    gain = bootstrap(loss.scores.f1 - random.scores.f1, groups=scored.groups)
    assert loss.gain == gain
    assert gain.low > 0
    assert gain.signed() in text
    with page.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        rows = {(row["strategy"], row["share"]): row for row in csv.DictReader(file)}
    assert float(rows["loss", "0.5"]["gain"]) == pytest.approx(gain.value)
    assert float(rows["all", "1.0"]["f1"]) == pytest.approx(mean_in_order(every.scores.f1))
    assert float(rows["all", "1.0"]["loss"]) == 0
    bucket = BUCKETS.index("21-100")
    few, base = curves["loss"][0.25].scores, curves["random"][0.25].scores
    expected = recall(few, n_true, bucket=bucket)
    assert float(rows["loss", "0.25"]["recall_21-100"]) == pytest.approx(expected)
    own = recall_gain(few, base, scored=scored, n_true=n_true, bucket=bucket)
    ends = ("", "_low", "_high")
    found = [float(rows["loss", "0.25"][f"recall_gain_21-100{end}"]) for end in ends]
    assert found == pytest.approx([own.value, own.low, own.high])
    assert rows["all", "1.0"]["recall_gain_21-100"] == ""  # nothing random keeps as many
    assert f"{every.f1.value:.4f} |" in text.partition("## Gain")[0]
    assert "2 networks of their own seeds" in text
    assert "so that all take about as many steps" in text
    assert "learning_rate 0.001, batch_size 64, epochs 30" in text


def test_the_gain_in_recall_is_that_of_the_pairs(generated: Corpus, trials: Path) -> None:
    scored = generated.labelled_images("valid")
    curves, n_true = curves_of(trials, generated), true_by_bucket(generated, scored)
    one, base = curves["loss"][0.5].scores, curves["random"][0.5].scores
    for bucket in range(len(BUCKETS)):
        if n_true[:, bucket].sum():
            gain = recall_gain(one, base, scored=scored, n_true=n_true, bucket=bucket)
            difference = recall(one, n_true, bucket=bucket) - recall(base, n_true, bucket=bucket)
            assert gain.value == pytest.approx(difference)
            assert gain.n == n_true[:, bucket].sum()


def test_the_figure_shows_every_strategy_at_every_share(generated: Corpus, trials: Path) -> None:
    scored = generated.labelled_images("valid")
    curves, n_true = curves_of(trials, generated), true_by_bucket(generated, scored)
    figure = draw_curves(curves, n_true=n_true)
    assert isinstance(figure, Figure)
    first = figure.axes[0]
    drawn = {line.get_label(): line for line in first.get_lines()}
    for name in ("random", "random, rare kept", "loss"):
        assert np.asarray(drawn[name].get_xdata()).tolist() == [0.25, 0.5, 1.0]
        expected = [mean_in_order(curves[name][share].scores.f1) for share in (0.25, 0.5)]
        assert np.asarray(drawn[name].get_ydata())[:2].tolist() == pytest.approx(expected)
    n_shown = sum(n_true[:, bucket].sum() > 0 for bucket in range(len(BUCKETS)))
    assert len(figure.axes) == 2 * (1 + n_shown)
    # Below a bucket's recall stands its gain: a line from low to high and a mark at the value.
    bucket = BUCKETS.index("21-100")
    gain = curves["loss"][0.25].recall_gains[bucket]
    assert gain is not None
    shown = [b for b in range(len(BUCKETS)) if n_true[:, b].sum()]
    below = figure.axes[1 + n_shown + 1 + shown.index(bucket)]
    drawn_gains = [np.asarray(line.get_ydata()).tolist() for line in below.get_lines()]
    assert [gain.low, gain.high] in drawn_gains
    assert [gain.value] in drawn_gains
