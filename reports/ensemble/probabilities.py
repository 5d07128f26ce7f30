"""Sections of the report on probabilities: their calibration, and the score forecast by them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.metrics import Interval, bootstrap
from core.runs.ensemble import EnsembleRun
from core.storage.text import plain
from reports.ensemble.figures import draw_deciles, draw_reliability
from reports.pages.figures import percent
from reports.pages.markdown import Section, picture, table

N_DECILES = 10

_LEAST = 2  # images of a point in the figure of the forecast


def calibration_sections(run: EnsembleRun) -> Sequence[Section]:
    """Which calibration was chosen, and how reliable it is; nothing where none was."""
    losses, chosen = run.meta.get("calibration_log_loss"), run.meta.get("calibration")
    if not losses:
        return []
    rows = [[k, f"{v:.5f}", "chosen" if k == chosen else ""] for k, v in losses.items()]
    paragraphs = [
        "A calibration turns scores into probabilities that mean what they say. Cross-fitted log"
        " loss of each kind over pairs of image and concept, lower is better; one that is less"
        " simple is chosen only where it wins by the margin.",
        table(["calibration", "log loss, nats a pair", ""], rows),
    ]
    if not run.record.reliability:
        return [Section(heading="Calibration", paragraphs=paragraphs)]
    alt = "Share of pairs that is true by their probability, before and after calibration"
    paragraphs += [
        "Pairs by their probability: on the diagonal, of a hundred pairs at 20 % twenty are true.",
        picture("report_reliability", alt),
        _reliability_table(run),
    ]
    figures = {"report_reliability": draw_reliability(run.record.reliability)}
    return [Section(heading="Calibration", paragraphs=paragraphs, figures=figures)]


def forecast_sections(run: EnsembleRun) -> Sequence[Section]:
    """The forecast and its record; nothing where there is neither."""
    paragraphs, figures = _forecast_lines(run), {}
    if run.record.folds is not None:
        rows = [
            [
                f"{fold:.0f}",
                f"{n:,.0f}",
                f"{forecast:.4f}",
                f"{truth:.4f}",
                f"{forecast - truth:+.4f}",
            ]
            for fold, n, forecast, truth in run.record.folds
        ]
        paragraphs += [
            "The record: each fold forecast by what was fitted on the others, without a"
            " look at its labels.",
            table(["fold", "images", "forecast", "truth", "off by"], rows),
        ]
    if points := _deciles(run):
        alt = "F1 reached by tenths of the scored images against the F1 forecast for them"
        paragraphs.append(picture("report_forecast", alt))
        figures["report_forecast"] = draw_deciles(points)
    if not paragraphs:
        return []
    return [Section(heading="Forecast", paragraphs=paragraphs, figures=figures)]


def _forecast_lines(run: EnsembleRun) -> list[str]:
    made = run.meta.get("forecast")
    if not made:
        return []
    error = Interval(**made["error"])
    text = (
        f"The submission is forecast to score **{made['value']:.3f}**"
        f" [{made['low']:.3f}, {made['high']:.3f}] on {made['n']:,} test images: the expected F1 of"
        f" its concept sets under the calibrated probabilities{_LESS if made.get('far') else ''}."
        " Cross-fitted, on images of the same sources, such a forecast was"
        " off by"
        f" {error.signed()}"
    )
    text += ", which is beyond chance and taken off." if made["corrected"] else "."
    reach, far = made.get("reach"), made.get("far", [])  # not of a run of an earlier version
    differs = [f"- {plain(line)}" for line in made["differs"]]
    if not differs and not far:
        return [text, "Test images differ from these in no way that was looked at."]
    warning = "Test differs from these"
    warning += ", so the forecast is not to be relied on:" if reach is None else ":"
    parts = [text, *([warning, "\n".join(differs)] if differs else [])]
    if far:
        parts += [_UNLIKE, _far_table(far)]
    if reach:
        parts.append(
            f"Up to {percent(reach)} of test may be of sources that nothing was learnt from. The"
            " interval takes in by how much forecasts of such sources are off: each labelled source"
            " was left out for that."
        )
    if run.meta.get("fell_back"):
        parts.append(
            "These images are therefore decided by one threshold, not by what was chosen"
            f" ({plain(run.meta['decision'])})."
        )
    return parts


_LESS = ", less of images that lie far from those learnt from"

_UNLIKE = (
    "Images of these categories lie farther from the labelled ones than images of the same sources"
    " do, or can be told from them: another scanner, another hospital, another kind of image. Look"
    " at them before the score is relied on."
)


def _far_table(far: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            own["category"] or "none",
            f"{own['n']:,}",
            f"{own['n_far']:,}",
            f"{own['value']:.3f} [{own['low']:.3f}, {own['high']:.3f}]",
        ]
        for own in far
    ]
    return table(["category", "images", "unlike those learnt from", "forecast"], rows)


def _reliability_table(run: EnsembleRun) -> str:
    bins = {
        name: {(low, high): values for low, high, *values in rows.tolist()}
        for name, rows in run.record.reliability.items()
    }
    edges = sorted({edge for rows in bins.values() for edge in rows})
    header = ["probability"]
    for name in bins:
        header += [f"pairs {name}", f"predicted {name}", f"true {name}"]
    rows = []
    for edge in edges:
        row = [f"{100 * edge[0]:g} to {100 * edge[1]:g} %"]
        for values in bins.values():
            mean, share, n = values.get(edge, (0.0, 0.0, 0.0))
            row += [f"{n:,.0f}", percent(mean), percent(share)] if n else ["0", "", ""]
        rows.append(row)
    return table(header, rows)


def _deciles(run: EnsembleRun) -> list[tuple[float, Interval]]:
    """Mean forecast and F1 reached of images in the order of their forecast, in ten parts."""
    if not run.record.forecast:
        return []
    forecast, truth = run.record.forecast["forecast"], run.record.forecast["truth"]
    kept = np.flatnonzero(~np.isnan(truth) & ~np.isnan(forecast))
    n_parts = min(N_DECILES, len(kept) // _LEAST)
    if n_parts == 0:
        return []
    groups = np.array(run.scored.groups, dtype=np.str_)
    ordered = kept[np.argsort(forecast[kept], kind="stable")]
    return [
        (float(forecast[part].mean()), bootstrap(truth[part], groups=groups[part].tolist()))
        for part in np.array_split(ordered, n_parts)
    ]
