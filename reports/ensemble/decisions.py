"""Sections of the report on decisions: the rules that were tried, and thresholds of every level."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.categories import CATEGORIES, Category
from core.metrics import Interval, bootstrap
from core.runs.ensemble import DECISION_RULES, EnsembleRun
from core.storage.text import plain
from reports.pages.figures import draw_gains, shorten
from reports.pages.markdown import Section, errors, picture, table

PLAIN = "plain"
"""The rule that the others are compared with: one threshold of 49."""

SHOWN = 20
"""Concepts whose thresholds are shown: those farthest from the coarser one."""


def rules_section(run: EnsembleRun) -> Section:
    """The rules that were tried; with gains where the run kept the scores of the images."""
    scores: Mapping[str, float] = run.meta["decision_scores"]
    known = [
        f"- `{name}`: {rule.meaning}" for name, rule in DECISION_RULES.items() if name in scores
    ]
    texts = [
        "Cross-fitted sample F1 of the rules that were tried on the stacked probabilities, the"
        f" simplest first. A rule is used only where it beats the simpler one by"
        f" {errors(run.meta['margin'])} of the paired difference.",
        *(["\n".join(known)] if known else []),
    ]
    heading = "Decision rules"
    if PLAIN not in run.record.rules:
        rows = [[name, f"{score:.4f}"] for name, score in scores.items()]
        return Section(heading=heading, paragraphs=[*texts, table(["rule", "sample F1"], rows)])
    kept, groups = run.meta.get("rule", ""), run.scored.groups
    gains = {name: _gain(run, name, PLAIN) for name in run.record.rules if name != PLAIN}
    rows = [
        [
            name,
            str(bootstrap(image_f1, groups=groups)),
            gains[name].signed() if name in gains else "",
            "submitted" if name == kept else "",
        ]
        for name, image_f1 in run.record.rules.items()
    ]
    figure = draw_gains(
        gains,
        title="What each decision rule gains over one plain threshold",
        axis="gain in sample F1, paired, with its 95 % interval",
    )
    return Section(
        heading=heading,
        paragraphs=[
            *texts,
            picture("report_rules", "Gain of each decision rule over one plain threshold"),
            table(["rule", "sample F1", "gain over `plain`", ""], rows),
        ],
        figures={"report_rules": figure},
    )


def threshold_sections(run: EnsembleRun) -> Sequence[Section]:
    """What thresholds of each level gain, and which there are; nothing for earlier runs."""
    found = run.record.thresholds
    if found is None or PLAIN not in run.record.rules:
        return []
    levels: Mapping[str, Any] = found["levels"]
    paying = _paying(found)
    rows, coarser = [], PLAIN
    for level, thresholds in levels.items():
        n_own = {"category": len(thresholds["by_category"])}.get(
            level, len(thresholds["by_concept"])
        )
        rows.append(
            [
                level,
                "1" if level == "global" else f"{n_own:,}",
                str(bootstrap(run.record.rules[level], groups=run.scored.groups)),
                _gain(run, level, coarser).signed(),
                coarser,
                "yes" if level in paying else "no",
            ]
        )
        coarser = level if level in paying else coarser
    header = ["level", "own thresholds", "sample F1", "gain", "over", "pays"]
    return [
        Section(
            heading="Thresholds",
            paragraphs=[
                "From which probability on a concept is decided: one threshold for all, own ones of"
                " categories, own ones of concepts. Each level is tuned without the images that it"
                " is scored on; its gain is over the coarser level that pays, paired."
                f"{_ADJUSTED if run.meta.get('prior_adjustment') else ''}",
                table(header, rows),
                _used(run),
                *_own_categories(levels, pays="category" in paying),
                *_own_concepts(levels, run.corpus.names, pays="concept" in paying),
            ],
        )
    ]


_ADJUSTED = (
    " Log odds are adjusted by the concepts' prior before they are held against a threshold: the"
    " same threshold is a lower probability of a rare concept."
)


def _paying(found: Mapping[str, Any]) -> set[str]:
    """The levels that the kept thresholds have, the coarser ones among them."""
    paying = {"global", str(found["level"])}
    if found["level"] == "concept" and found["levels"]["concept"]["by_category"]:
        paying.add("category")
    return paying


def _used(run: EnsembleRun) -> str:
    rule = run.meta.get("rule", "")
    if run.record.thresholds is not None and rule == run.record.thresholds["level"]:
        return f"The submission decides by them, at the level `{rule}`."
    return f"The submission does not decide by them, but by {plain(run.meta['decision'])}."


def _own_categories(levels: Mapping[str, Any], *, pays: bool) -> list[str]:
    own: Mapping[str, float] = levels.get("category", {}).get("by_category", {})
    if not own:
        return ["No category has a threshold of its own."]
    coarser = _value(levels["global"]["global"])
    rows = [[_category(name), _value(value), coarser] for name, value in own.items()]
    text = "Categories with a threshold of their own" + _tried_only(pays)
    return [f"{text}:", table(["category", "its threshold", "that for all"], rows)]


def _own_concepts(levels: Mapping[str, Any], names: Mapping[str, str], *, pays: bool) -> list[str]:
    found = levels.get("concept", {})
    own: Mapping[str, float] = found.get("by_concept", {})
    if not own:
        return ["No concept has a threshold of its own."]
    coarser = [found["global"], *found["by_category"].values()]
    low, high = min(coarser), max(coarser)
    ordered = sorted(own, key=lambda cui: (-max(low - own[cui], own[cui] - high), cui))
    shared = _value(low) if low == high else f"{_value(low)} to {_value(high)}, by category"
    rows = [
        [shorten(f"{cui} {names.get(cui, '')}".strip()), _value(own[cui]), shared]
        for cui in ordered[:SHOWN]
    ]
    text = f"{len(own):,} concepts have a threshold of their own" + _tried_only(pays)
    text += f"; the {SHOWN} farthest from the coarser one:" if len(own) > SHOWN else ":"
    return [text, table(["concept", "its threshold", "the coarser one"], rows)]


def _tried_only(pays: bool) -> str:
    return "" if pays else " (tried, but not kept: they do not pay)"


def _gain(run: EnsembleRun, name: str, over: str) -> Interval:
    difference = run.record.rules[name] - run.record.rules[over]
    return bootstrap(difference, groups=run.scored.groups)


def _category(name: str) -> str:
    return f"{name} {Category(name).meaning}" if name in CATEGORIES else name or "unknown"


def _value(threshold: float) -> str:
    """A threshold; one that no probability reaches means never."""
    return f"{threshold:.3f}" if threshold <= 1 else "never"
