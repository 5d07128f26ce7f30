"""The card of a bundle: README.md, which Hugging Face's hub reads as that of a model."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from backbones.networks.carriers import CARRIERS, licence_of
from core.categories import CATEGORIES, UNKNOWN, Category
from core.images import ImageTable
from core.metrics import Interval, bootstrap
from core.predictions import read_predictions
from core.runs.ensemble import EnsembleRun
from core.runs.external import (
    NOT_STATED,
    ExternalResource,
    note_on_resources,
    resources_of_members,
    rows_of_resources,
)
from core.runs.workspace import Workspace
from core.storage.text import brief, code, plain
from inference.bundle.files import FORMAT
from inference.loaded.ensemble import LoadedEnsemble, LoadedMember
from inference.loaded.networks import LoadedDetector

_FEW_IMAGES = 100
"""Labelled images of a category below which it counts as hardly seen."""

_FEW_OF_CONCEPT = 10
"""The same of a concept."""

_LISTED = 12  # concepts that are named


def card_of(run: EnsembleRun, *, ensemble: LoadedEnsemble, version: str, training_ids: bool) -> str:
    """The text of the card, from what the ensemble's run holds.

    Args:
        run: of the ensemble.
        ensemble: the same, read again.
        version: of radfuse.
        training_ids: whether ids of training images are in the bundle.
    """
    card = _Card(run, ensemble, version=version, training_ids=training_ids)
    return "\n".join([card.header(), *card.sections()])


class _Card:
    def __init__(
        self, run: EnsembleRun, ensemble: LoadedEnsemble, *, version: str, training_ids: bool
    ) -> None:
        self.run, self.ensemble, self.training_ids = run, ensemble, training_ids
        self.version = version
        self.corpus = run.corpus
        self.learnt = run.corpus.table.of(split=run.corpus.learnt_from)
        self.learnt = self.learnt.take(self.learnt.labelled).as_training_images()
        self.title = f"radfuse ensemble, {brief(run.corpus.name).strip('.')}"
        self.submission = _score(run, "submission")

    def header(self) -> str:
        """The block of YAML that Hugging Face's hub reads."""
        split = "cross-fitted" if self.corpus.crossfit else "valid"
        lines = [
            "---",
            "license: other",
            f"license_name: {self._licence()}",
            "library_name: radfuse",
            "pipeline_tag: image-classification",
            "tags:",
            *(f"- {tag}" for tag in ("radfuse", "radiology", "medical-imaging", "multi-label",
                                     "concept-detection", "umls", "ensemble")),
            "metrics:",
            "- f1",
            "model-index:",
            f"- name: {json.dumps(self.title)}",
            "  results:",
            "  - task:",
            "      type: image-classification",
            '      name: "concept detection (several labels an image)"',
            "    dataset:",
            "      type: radiology-images",
            f"      name: {json.dumps(brief(self.corpus.name), ensure_ascii=False)}",
            f"      split: {split}",
            "    metrics:",
            "    - type: f1",
            f'      name: "sample F1, {self._how()}, n = {self.submission.n}"',
            f"      value: {self.submission.value:.4f}",
            "---",
            "",
        ]  # fmt: skip
        return "\n".join(lines)

    def _licence(self) -> str:
        """For the hub: of the weights that networks started from, if all have the same."""
        known = {resource.licence for resource in self._resources}
        if len(known) == 1 and (licence := known.pop()) in _OF_LICENCES:
            return f"weights-{licence.lower()}-images-as-below"
        return "see-licences-below"

    def _how(self) -> str:
        return "out of fold" if self.corpus.crossfit else "on valid"

    def sections(self) -> Iterable[str]:
        """The page, section by section."""
        yield self._first()
        yield self._use()
        yield self._scores()
        yield self._members()
        yield self._data()
        yield self._limits()
        yield self._licences()
        yield self._versions()

    def _first(self) -> str:
        ensemble, made = self.ensemble, plain(self.run.meta["made"][:10])
        there = [Category(c).meaning for c, n in self._categories() if n and c]
        kinds = f" of {_words(there)}" if there else ""
        submission = f"**{_brief(self.submission)}**, n = {self.submission.n:,}"
        columns = f"; {_words(ensemble.columns)}" if ensemble.columns else ""
        near = ", how near the training images are" if ensemble.reference else ""
        lines = [
            f"# {plain(self.title)}",
            "",
            "Which UMLS concepts does a radiology image show? This ensemble of"
            f" {len(ensemble.members)} sources decides among {len(ensemble.labels):,} concepts. It"
            f" was made on {made} from {len(self.learnt):,} labelled images{kinds}.",
            "",
            "| | |",
            "| :-- | :-- |",
            f"| sample F1, {self._how()} | {submission} |",
            *self._forecast(),
            f"| decided by | {plain(self.run.meta['decision'])} |",
            f"| takes | {self._looks()}; the category where it is known{plain(columns)} |",
            "| gives | concepts with calibrated probability and what decided, the F1 that the set"
            f" is expected to score{near} |",
            "",
            "**Research software and no medical device: do not use it for diagnosis, treatment or"
            " any decision about a patient.**",
            "",
        ]
        return "\n".join(lines)

    def _looks(self) -> str:
        sizes = sorted({size for size, _ in self.ensemble.looks})
        return f"images, seen at {_words([str(size) for size in sizes])} pixels"

    def _forecast(self) -> list[str]:
        found = self.run.meta.get("forecast")
        if not found:
            return []
        interval = f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
        return [f"| forecast for the corpus' test images | {interval}, n = {found['n']:,} |"]

    def _use(self) -> str:
        return """## How to use it

With radfuse (the version below) installed, on any machine; nothing else is needed, and nothing is
downloaded:

```console
$ radfuse predict scans/ more/*.png list.csv --bundle THIS-FOLDER --out decided.csv
$ radfuse serve --bundle THIS-FOLDER        # POST /predict
```

```python
from radfuse import load

model = load("THIS-FOLDER")
model.predict(["scan.png"])                 # a DataFrame, a row a concept
```

The category of an image is what `--category CT` (`category="CT"`), a table's column, a folder
called by it (`DRCT`) or a DICOM header says, else it is guessed. Files are decoded as those that it
learnt from. `sha256sum -c SHA256SUMS` checks the folder, as every reading of it does. No file in it
is code, and none is unpickled.
"""

    def _scores(self) -> str:
        names, run = self.run.names, self.run
        images = "labelled images, each decided by networks and rules that had not met it"
        lines = [
            "## What it reaches",
            "",
            "Sample F1, the mean over images of the F1 between true and decided concepts, with its"
            " 95 % interval (bootstrap of whole groups), on"
            f" {self.submission.n:,} {images if self.corpus.crossfit else 'validation images'}."
            " Each step was tried on top of the last one that was kept; `submission` is what lies"
            " here:",
            "",
            "| | sample F1 [95 %] | gain over the line above that was kept |",
            "| :-- | --: | --: |",
        ]
        lines += [
            f"| {plain(step.name)}{'' if step.state != 'not kept' else ' (not kept)'} |"
            f" {_brief(step.f1)} | {'' if step.gain is None else _signed(step.gain)} |"
            for step in run.steps
        ]
        lines += ["", "| category | n | sample F1 [95 %] |", "| :-- | --: | --: |"]
        scores = run.record.scores["submission"]
        for category in [c for c in CATEGORIES if (names == c).any()]:
            here = names == category
            if np.isnan(scores[here]).all():
                continue
            found = bootstrap(scores[here], groups=run.scored.take(here).groups)
            lines.append(f"| {_category(category)} | {found.n:,} | {_brief(found)} |")
        valid = run.steps_on_valid
        if valid:
            lines += [
                "",
                f"On the {valid[-1].f1.n:,} validation images alone: {_brief(valid[-1].f1)}.",
            ]
        return "\n".join([*lines, ""])

    def _members(self) -> str:
        lines = [
            "## What is in it",
            "",
            f"| source | is | sample F1, {self._how()} |",
            "| :-- | :-- | --: |",
        ]
        for member in self.ensemble.members:
            found = _score(self.run, member.name)
            lines.append(f"| {code(member.name)} | {plain(_what(member))} | {_brief(found)} |")
        stacker = self.run.meta["stacker"]
        names = [member.name for member in self.ensemble.members]
        how = (
            f"What is decided goes by {code(stacker)} alone, which did best: the others name"
            " further candidates."
            if stacker in names
            else f"They are stacked by {code(stacker)}."
        )
        lines += ["", f"{how} {self._neighbours()}"]
        return "\n".join([*lines, ""])

    def _neighbours(self) -> str:
        if self.ensemble.reference is None:
            return "No training image is kept in any form."
        n = len(self.ensemble.reference.rows)
        kept = "with their concepts, categories and ids" if self.training_ids else (
            "with their concepts and categories, without ids"
        )  # fmt: skip
        return (
            f"Pooled features of {n:,} training images are in it to be compared with, {kept}; the"
            " images themselves are not. Whoever has the same images could tell them by their"
            " features."
        )

    def _categories(self) -> list[tuple[str, int]]:
        found = Counter(self.learnt.categories)
        return [(category, found[category]) for category in (*CATEGORIES, UNKNOWN)]

    def _data(self) -> str:
        table, corpus = self.corpus.table, self.corpus
        splits = Counter(table.splits)
        labels = corpus.labels.encode([own or () for own in self.learnt.concepts]).matrix
        counts = np.asarray(labels.sum(axis=0)).ravel()
        lines = [
            "## What it was made from",
            "",
            f"Corpus {code(corpus.name)}, protocol `{corpus.protocol}`: "
            + _words([f"{n:,} images of {split}" for split, n in splits.items()])
            + f". {len(self.learnt):,} of them, in {len({*self.learnt.groups}):,} groups (patients"
            " or studies, where they are known), were learnt from; they have"
            f" {counts.sum() / max(1, len(self.learnt)):.1f} concepts each. Half of the"
            f" {len(counts):,} concepts stand on {int(np.median(counts))} of them or fewer.",
            "",
            "| category | images learnt from |",
            "| :-- | --: |",
            *(f"| {_category(category)} | {n:,} |" for category, n in self._categories() if n),
        ]
        licences = _column(self.learnt, "license", "licence", "licenses", "License")
        if licences:
            lines += ["", "| licence, as the corpus says | images learnt from |", "| :-- | --: |"]
            lines += [
                f"| {plain(brief(name)) or 'not said'} | {n:,} |"
                for name, n in licences.most_common()
            ]
        return "\n".join([*lines, ""])

    def _limits(self) -> str:
        few = [(c, n) for c, n in self._categories() if c and n < _FEW_IMAGES]
        labels = self.corpus.labels
        counts = np.asarray(
            labels.encode([own or () for own in self.learnt.concepts]).matrix.sum(axis=0)
        ).ravel()
        rare = int((counts < _FEW_OF_CONCEPT).sum())
        lines = [
            "## Limits",
            "",
            f"- Concepts that are not among its {len(labels):,} are never named, however plain.",
            f"- {rare:,} concepts stand on fewer than {_FEW_OF_CONCEPT} of the images that it"
            " learnt from, and are found seldom.",
        ]
        silent = self._never_decided()
        if silent is not None:
            which, n = silent
            named = [f"{cui} {self.corpus.names.get(cui, '')}".strip() for cui in which[:_LISTED]]
            more = f" and {len(which) - _LISTED:,} more" if len(which) > _LISTED else ""
            lines.append(
                f"- {len(which):,} concepts were decided on none of the corpus' {n:,} test images"
                + (f": {plain(', '.join(named))}{more}." if which else ".")
            )
        if few:
            seen = [f"{Category(c).meaning} ({n or 'none'})" for c, n in few]
            lines.append(
                f"- Categories hardly seen: {_words(seen)}. Scores on so few say little of others."
            )
        far = " `distance` tells how far an image lies from what it learnt from; look twice where"
        far += " it is above 0.5."
        lines += [
            "- Images unlike those it learnt from (another region, scanner, hospital or age of"
            " patients, photographs of screens, figures with letters in them) get an answer all the"
            f" same.{far if self.ensemble.distance else ''}",
            "- Labels of such corpora are drawn from captions and incomplete: a concept that is not"
            " named is not absent.",
            "- Probabilities are calibrated on images like those of the corpus.",
            "",
            "### Intended use",
            "",
            "Research on concept detection, and tagging of radiology archives with a person who"
            " looks at what matters. It was not examined for bias between groups of patients. It is"
            " no medical device: not for diagnosis, triage, treatment or any decision about a"
            " patient.",
        ]
        return "\n".join([*lines, ""])

    def _never_decided(self) -> tuple[list[str], int] | None:
        """Concepts that no test image got, and how many test images there are."""
        folder = self.run.folder / "predictions" / "test"
        if not folder.is_dir():
            return None
        said = read_predictions(folder)
        table = self.corpus.table
        rows = table.take(table.row_numbers(said.image_ids))
        decided = self.ensemble.rule.decide(
            said.probs, categories=rows.categories, labels=self.corpus.labels
        )
        seen = np.asarray(decided.sum(axis=0)).ravel() > 0
        return [c for c, own in zip(self.corpus.labels.cuis, seen, strict=True) if not own], len(
            rows
        )

    def _licences(self) -> str:
        lines = [
            "## Licences",
            "",
            "External resources: the weights in here follow from these, and from the images above,"
            " whose terms hold for what is learnt from them as far as your law says so:",
            "",
        ]
        rows = rows_of_resources(self._resources)
        if rows:
            lines += [
                "| encoder | weights from | their licence | in |",
                "| :-- | :-- | :-- | :-- |",
            ]
            lines += [f"| {code(own[0])} | {' | '.join(map(plain, own[1:]))} |" for own in rows]
            lines += ["", note] if (note := note_on_resources(self._resources)) else []
        else:
            lines.append("None: all networks started from random weights.")
        lines += [
            "",
            "radfuse itself: Apache-2.0. Whoever passes this bundle on names its licence here.",
        ]
        return "\n".join([*lines, ""])

    @cached_property
    def _resources(self) -> dict[ExternalResource, tuple[str, ...]]:
        workspace = Workspace(self.run.folder.parents[1])
        found = resources_of_members(self.run.meta["members"], self.corpus, workspace=workspace)
        known = {own: replace(own, licence=_licence(own)) for own in found}
        return {known[own]: names for own, names in found.items()}

    def _versions(self) -> str:
        meta = self.run.meta
        packages = [f"{name} {version}" for name, version in meta["packages"].items()]
        made = f"{meta['python']}, {', '.join(packages)}; on {meta['machine']}"
        return "\n".join([
            "## Versions",
            "",
            f"Written by radfuse {self.version} in layout {FORMAT} of bundles; a version of radfuse"
            " that reads another layout refuses it rather than misreads it. Made with Python"
            f" {plain(brief(made, longest=2000))}. Other versions of"
            " these packages, and other processors, round otherwise in the last digits.",
            "",
        ])  # fmt: skip


_OF_LICENCES = {carrier.licence for carrier in CARRIERS.values()}
"""Those that are known; others are a reader's own to look up."""


def _licence(resource: ExternalResource) -> str:
    """Of weights: as their run notes it, or, of a run of before, as their package says."""
    if resource.licence != NOT_STATED:
        return resource.licence
    return licence_of(resource.source) or NOT_STATED


def _what(member: LoadedMember) -> str:
    answer = member.answer
    if isinstance(answer, LoadedDetector):
        whom = "all images" if member.category not in CATEGORIES else _category(member.category)
        how = "heads on pooled features" if answer.features else "a fine-tuned network"
        return f"detector for {whom}: {how}, {len(answer.networks)} of them"
    known = _MEANINGS.get(type(answer).__name__, "")
    n = sum(map(len, getattr(answer, "networks", ())))
    return known.format(n=n) if known else type(answer).__name__


_MEANINGS = {
    "HeadsAnswer": "{n} networks on pooled features and category",
    "RetrievalAnswer": "votes of the most similar training images",
    "PriorAnswer": "what the category says, a guessed one by its certainty",
    "GivenPrior": "what the given category says",
    "ConstrainedAnswer": "another source with the category's constant concepts made sure",
    "VotedAnswer": "a network together with the votes of similar images",
    "RoutedAnswer": "specialists where they know, else the general detector",
}


def _score(run: EnsembleRun, name: str) -> Interval:
    return bootstrap(run.record.scores[name], groups=run.scored.groups)


def _brief(found: Interval) -> str:
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _signed(found: Interval) -> str:
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _category(category: str) -> str:
    return f"{category}, {Category(category).meaning}" if category else "not known"


def _words(parts: Sequence[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def _column(table: ImageTable, *names: str) -> Counter[str]:
    """How often each value of the first of these columns stands there; nothing without any."""
    column = next((table.metadata[name] for name in names if name in table.metadata), ())
    return Counter(column)
