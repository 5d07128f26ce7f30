"""What `fuse` made, as it lies on disk: names, folders, guesses, the newest run of a strategy."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.categories import UNKNOWN
from core.embeddings import makers_of
from core.images import ImageTable
from core.predictions import Predictions
from core.runs.out_of_fold import fold_folders, load_folds
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import asked, is_complete, read_meta, read_whole
from core.storage.tables import meant_as_written, read_rows

PRIOR = "prior"
"""The strategy that sees no image: how often a concept stands on images of the category."""

NO_METADATA = "blind"
"""The strategy that sees no metadata: the line that the others are measured from."""

ZERO_SHOT = "zero-shot"
"""The strategy that scores names of concepts by a model of images and texts."""

WITHHELD = "-withheld"
"""What ends the names of the predictions that were made without the category."""

_KEYS = ("strategy", "contains", "embeddings")


@dataclass(frozen=True, kw_only=True)
class FusedSource:
    """A finished fusion run.

    Attributes:
        folder: its run folder.
        strategy: what made it.
        meta: what the run says of itself.
    """

    folder: Path
    strategy: str
    meta: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "FusedSource":
        """The finished run in a folder.

        Raises:
            PredictionsError: it is none, or unfinished.
        """
        meta = read_meta(folder, "corpus", "made", *_KEYS)
        return cls(folder=folder, strategy=meta["strategy"], meta=meta)

    @property
    def asked(self) -> tuple[int, str]:
        """When it was made or last asked for; later ones sort behind."""
        return asked(self.meta)

    @property
    def contains(self) -> tuple[str, ...]:
        """Names of the detector runs that its predictions already include."""
        return tuple(self.meta["contains"])

    def predictions(self, split: str) -> Predictions:
        """What it predicts for `valid` or `test`, or out of fold for `labelled`."""
        return load_folds(self.folder / "predictions", split)

    def without_category(self, split: str) -> Predictions | None:
        """Predictions made without the category; None where that makes no difference."""
        home = self.folder / "predictions"
        if not all(map(is_complete, fold_folders(home, split, suffix=WITHHELD))):
            return None
        return load_folds(home, split, suffix=WITHHELD)


def find_fused_sources(
    workspace: Workspace, corpus_fingerprint: str, *, comparable: bool = False
) -> list[FusedSource]:
    """The newest finished run of each strategy on this corpus.

    Args:
        workspace: where to look.
        corpus_fingerprint: of the corpus; runs on another one are passed over.
        comparable: only runs on the pooled features of the very newest.

    Returns:
        In the order of the strategies' first folders, which stays while runs are made anew.
    """
    runs = [
        FusedSource(folder=folder, strategy=meta["strategy"], meta=meta)
        for folder, meta in workspace.runs_on(workspace.fusion, corpus_fingerprint, *_KEYS)
    ]
    if comparable and runs:
        features = max(runs, key=_age).meta["embeddings"]
        runs = [run for run in runs if run.meta["embeddings"] == features]
    newest: dict[str, FusedSource] = {}
    for run in runs:
        newest[run.strategy] = max(run, newest.get(run.strategy, run), key=_age)
    return list(newest.values())


_OF_NO_FEATURES = (PRIOR, "routed")
"""Strategies that say the same on other features, but for what a guessed category changes."""


def newest_fused_members(workspace: Workspace, corpus_fingerprint: str) -> dict[str, FusedSource]:
    """The newest finished run of each strategy on the features of each encoder, by name.

    A source is called by its strategy, `retrieval`, and where there are runs of it on features of
    several makers (see `core.embeddings.maker_of`), by those as well: `retrieval/resnet50`,
    `retrieval/finetune`. What hardly depends on features (`prior`, `routed`, whatever trains its
    own network) counts once.

    Args:
        workspace: where to look.
        corpus_fingerprint: of the corpus; runs on another one are passed over.

    Returns:
        In the order of the strategies' first folders, of one strategy in that of the makers' names:
        neither changes while runs are made anew.
    """
    newest: dict[str, dict[str, FusedSource]] = {}
    for folder, meta in workspace.runs_on(workspace.fusion, corpus_fingerprint, *_KEYS):
        run = FusedSource(folder=folder, strategy=meta["strategy"], meta=meta)
        alone = run.strategy in _OF_NO_FEATURES or run.strategy.endswith("-e2e")
        of_strategy = newest.setdefault(run.strategy, {})
        maker = "" if alone else makers_of(meta["embeddings"])
        of_strategy[maker] = max(run, of_strategy.get(maker, run), key=_age)
    return {
        strategy if len(found) == 1 else f"{strategy}/{maker}": run
        for strategy, found in newest.items()
        for maker, run in sorted(found.items())
    }


DOUBTED = "doubted.csv"
"""Images whose category is doubted, for somebody to look at, in the folder of the guess."""

GUESSED = "guessed.csv"
"""Images without a category and what their features say of it, in the folder of the guess."""


def with_guesses(table: ImageTable, guesses: Mapping[str, str]) -> ImageTable:
    """The images with the guess in place of a category that is not given, where there is one.

    Args:
        table: any images.
        guesses: of `find_guesses`.
    """
    known = zip(table.image_ids, table.categories, strict=True)
    return replace(table, categories=tuple(own or guesses.get(i, UNKNOWN) for i, own in known))


def find_guesses(workspace: Workspace, corpus: Corpus) -> dict[str, str]:
    """Image id to the likeliest category, of images that have none, by the newest guess.

    Of a cross-fitted corpus each view has a guess, and a labelled image that of the view that holds
    it out. Empty where nothing was guessed, as before `fuse`.
    """
    guesses: dict[str, str] = {}
    for view, newest in _newest_guesses(workspace, corpus):
        learnt = frozenset(view.table.of(split="train").image_ids) if corpus.crossfit else ()
        read_whole(newest)
        with meant_as_written(newest / GUESSED):
            header, *rows = read_rows(newest / GUESSED)
            at, guess = header.index("image_id"), header.index("guess")
            guesses |= {row[at]: row[guess] for row in rows if row[at] not in learnt}
    return guesses


def _newest_guesses(workspace: Workspace, corpus: Corpus) -> Iterator[tuple[Corpus, Path]]:
    """The folder of the newest guess of each view of the corpus that has one."""
    folders = [f for f in workspace.fusion.glob("category-*") if f.is_dir()]
    metas = {folder: read_meta(folder) for folder in folders}
    for view in corpus.views if folders else ():  # a view takes as long as reading the corpus
        own = [f for f in folders if metas[f].get("corpus") == view.fingerprint]
        if own:
            yield view, max(own, key=lambda folder: (asked(metas[folder]), folder))


@dataclass(frozen=True)
class Doubt:
    """A category that the pooled features contradict.

    Attributes:
        given: the category of the image.
        guess: what its features say.
        certainty: probability of the guess, in [0, 1].
    """

    given: str
    guess: str
    certainty: float


def find_doubts(workspace: Workspace, corpus: Corpus) -> dict[str, Doubt] | None:
    """Image id to the doubt, of images whose category the newest guess of a view doubts.

    None where nothing was guessed, and nobody knows.

    Raises:
        PredictionsError: a list is not as it was written.
    """
    doubts: dict[str, Doubt] | None = None
    for _, newest in _newest_guesses(workspace, corpus):
        doubts = doubts or {}
        with meant_as_written(newest / DOUBTED):
            header, *rows = read_rows(newest / DOUBTED)
            for line in rows:
                row = dict(zip(header, line, strict=True))
                name = row["image_id"]
                if name not in corpus.table.row_of:
                    name = name.removeprefix("'")  # as it stands in tables for people
                certainty = float(row[row["guess"]])
                doubts[name] = Doubt(given=row["given"], guess=row["guess"], certainty=certainty)
    return doubts


def _age(run: FusedSource) -> tuple[tuple[int, str], Path]:
    return run.asked, run.folder
