"""Where things lie in a workspace, and the corpus that every stage works on."""

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from core.categories import CATEGORIES
from core.errors import DamageError, MissingStageError, PredictionsError, as_typed, first_few
from core.images import LABELLED, ImageTable
from core.labels import LabelSpace
from core.prior import CategoryPrior
from core.runs.decoding import USUAL, Decoding
from core.storage.documents import parse_json
from core.storage.folders import is_complete, read_meta, read_whole, write_json
from core.storage.sums import HOLDS
from core.storage.tables import read_pairs

HALF = "valid_half"
"""Column of the image table that says which half of valid an image is in, `val1` or `val2`."""

_PREPARED = "prepared.json"

Protocol = Literal["holdout", "crossfit"]
"""How labelled images are used: `holdout` has detectors and fusion learn from train and the second
stage from valid; `crossfit` has both learn from train and valid, along folds of them all."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A prepared corpus.

    Attributes:
        name: the layout it was read from, as a reader would call it.
        table: all images of all splits.
        labels: the full label space: every concept of the images learnt from, sorted.
        names: preferred name of a concept, where one is known.
        edition: year whose submission format and score apply.
        fingerprint: eight hex digits; changes with the images, their concepts or their folds.
        notes: what was counted, left out or strange, one line each.
        protocol: how train and valid are used.
        decoding: how files are read that leave a choice; every cache of the images keeps to it.
    """

    name: str
    table: ImageTable
    labels: LabelSpace
    names: Mapping[str, str]
    edition: int
    fingerprint: str
    notes: tuple[str, ...]
    protocol: Protocol = "holdout"
    decoding: Decoding = USUAL

    @property
    def crossfit(self) -> bool:
        """Whether train and valid were dealt into folds together."""
        return self.protocol == "crossfit"

    @property
    def learnt_from(self) -> str:
        """Name of the images that detectors and fusion learn from: `train` or `labelled`."""
        return LABELLED if self.crossfit else "train"

    @property
    def scored(self) -> str:
        """Name of the images that a second stage is fitted and judged on: `valid` or `labelled`.

        Every source predicts them out of sample.
        """
        return LABELLED if self.crossfit else "valid"

    @cached_property
    def n_folds(self) -> int:
        """Folds of the images that a second stage is fitted on; 0 where none is labelled."""
        return int(self.table.of(split=self.scored).folds.max(initial=-1)) + 1

    @cached_property
    def views(self) -> "tuple[Corpus, ...]":
        """The corpora that a source is fitted on, one after the other.

        Under `holdout` there is one, the corpus itself. Under `crossfit` there are K, and each is a
        held-out corpus of its own: in view k the labelled images of fold k are valid, all others
        train. So what learns from the train of a view may predict its valid, and together the
        views predict every labelled image by something that has not met it. Labels, folds and
        categories are those of the corpus; train or valid images that are not labelled stand in the
        valid of every view: nothing learns from them.
        """
        return tuple(map(self._view, range(self.n_folds))) if self.crossfit else (self,)

    def _view(self, fold: int) -> "Corpus":
        rows = zip(self.table.splits, self.table.labelled, self.table.folds, strict=True)
        splits = tuple(
            "test" if split == "test" else "train" if labelled and own != fold else "valid"
            for split, labelled, own in rows
        )
        return replace(
            self,
            table=replace(self.table, splits=splits),
            fingerprint=f"{self.fingerprint}-{fold + 1}",
            protocol="holdout",
        )

    def as_holdout(self) -> "Corpus":
        """The same images under `holdout`, for the paper's experiments, which valid images stop.

        The label space is that of train, and folds stay as they are.

        Raises:
            MissingStageError: train and valid share a group, as only `crossfit` allows.
        """
        if not self.crossfit:
            return self
        train, valid = (self.table.of(split=split) for split in ("train", "valid"))
        if shared := sorted({*train.groups} & {*valid.groups}):
            raise MissingStageError(
                f"{self.name}: groups with images in train and in valid: {first_few(shared)}; deal"
                " whole groups to one split, and run `prepare` again"
            )
        return replace(
            self,
            labels=LabelSpace.of(concepts or () for concepts in train.concepts),
            fingerprint=f"{self.fingerprint}-holdout",
            protocol="holdout",
        )

    @cached_property
    def readable_ids(self) -> tuple[str, ...]:
        """Ids of the images that can be decoded, in table order."""
        return self.table.take(self._readable).image_ids

    @cached_property
    def _readable(self) -> npt.NDArray[np.bool_]:
        marks = self.table.metadata.get("readable")
        return np.array([m != "0" for m in marks or ("1",) * len(self.table)], dtype=np.bool_)

    @cached_property
    def training_categories(self) -> tuple[str, ...]:
        """Categories with images to train a specialist on."""
        found = set(self.training_images().categories)
        return tuple(category for category in CATEGORIES if category in found)

    @cached_property
    def prior(self) -> CategoryPrior:
        """What the category says, counted on all labelled images that are learnt from."""
        learnt = self.table.of(split=self.learnt_from)
        return CategoryPrior.of(learnt.take(learnt.labelled).as_training_images(), self.labels)

    def training_images(self, *, category: str | None = None) -> ImageTable:
        """The labelled, readable images that are learnt from, or those of a category.

        Where no category is given it is the one that their concepts tell: nothing may be predicted
        from it.
        """
        return self.labelled_images(self.learnt_from).as_training_images().of(category=category)

    def images(self, split: str, *, category: str | None = None) -> ImageTable:
        """The images of a split or of `labelled`, or of a category in it, that can be decoded."""
        return self.table.take(self._readable).of(split=split, category=category)

    def valid_half(self, name: str, *, category: str | None = None) -> ImageTable:
        """The labelled, readable images of `val1` or `val2`, or of all of `valid`.

        Those of a category where one is asked for, also by what their concepts tell of it: they are
        to stop a training, which looks at their concepts anyway.

        Raises:
            MissingStageError: the corpus was prepared before halves were drawn.
        """
        valid = self.labelled_images("valid")
        if category is not None:
            valid = valid.as_training_images().of(category=category)
        if name == "valid":
            return valid
        halves = valid.metadata.get(HALF)
        if halves is None:
            raise MissingStageError(
                f"{self.name}: prepared without the halves val1 and val2; run `prepare` again"
            )
        return valid.take(np.array(halves, dtype=np.str_) == name)

    def labelled_images(self, split: str, *, category: str | None = None) -> ImageTable:
        """The images of a split, or of a category in it, whose concepts are known."""
        images = self.images(split, category=category)
        return images.take(images.labelled)


@dataclass(frozen=True)
class Workspace:
    """A folder with one prepared corpus and everything made from it."""

    root: Path

    @property
    def corpus(self) -> Path:
        """The prepared corpus."""
        return self.root / "corpus"

    @property
    def phantom(self) -> Path:
        """The drawn corpus, where there is one."""
        return self.root / "phantom"

    @property
    def cache(self) -> Path:
        """Decoded images."""
        return self.root / "cache"

    @property
    def embeddings(self) -> Path:
        """Pooled features of frozen networks, shared by all detectors."""
        return self.root / "embeddings"

    @property
    def speed(self) -> Path:
        """Memory formats and precisions that were measured to be fastest."""
        return self.root / "speed"

    @property
    def backbones(self) -> Path:
        """Detectors: a folder a category, a folder a run."""
        return self.root / "backbones"

    @property
    def reproduced(self) -> Path:
        """The paper's experiments: a folder a scale, a folder a network."""
        return self.root / "reproduce"

    @property
    def fusion(self) -> Path:
        """Fusion runs."""
        return self.root / "fusion"

    @property
    def ensembles(self) -> Path:
        """Ensemble runs."""
        return self.root / "ensembles"

    @property
    def duplicates(self) -> Path:
        """Near-duplicates across the splits of the prepared corpus, where they were looked for."""
        return self.root / "duplicates"

    @property
    def reports(self) -> Path:
        """Reports."""
        return self.root / "reports"

    def has_corpus(self) -> bool:
        """Whether a corpus was prepared here."""
        # Of one that lost its meta.json the rest is there: it is damaged, and not to be replaced.
        return is_complete(self.corpus) or (self.corpus / "images.csv").exists()

    @property
    def prepared_from(self) -> str:
        """What the corpus was last prepared from, also if it is lost; "" for nothing, or a drawing.

        Nothing is known of workspaces of earlier versions.
        """
        try:
            noted = parse_json((self.root / _PREPARED).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ""
        return str(noted.get("source", "")) if isinstance(noted, dict) else ""

    @property
    def had_corpus(self) -> bool:
        """Whether a corpus was prepared here from a source, be it lost since."""
        return bool(self.prepared_from) or (self.cache.exists() and not self.phantom.exists())

    def note_source(self, source: str) -> None:
        """Keep what the corpus is prepared from; "" for the drawn one, which may be drawn again."""
        write_json(self.root / _PREPARED, {"source": source})

    def command(self, words: str) -> str:
        """A command as it is typed for this workspace.

        Example:
            >>> Workspace(Path("my runs")).command("fuse")
            "python cli.py fuse -w 'my runs'"
        """
        return as_typed(words, workspace=self.root)

    def require_corpus(self) -> None:
        """Refuse a workspace in which no corpus was prepared.

        Raises:
            MissingStageError: there is none; the commands that make one are named.
        """
        if self.has_corpus():
            return
        if source := self.prepared_from:
            raise MissingStageError(
                f"{self.corpus}: not there any more, or not whole; it was prepared from {source}:"
                f" run `{self.command(shlex.join(['prepare', source]))}` again"
            )
        found = "holds no prepared corpus" if self.root.is_dir() else "no such folder"
        raise MissingStageError(
            f"{self.root}: {found}; name the folder that you prepared with -w, or make it:"
            f" `{self.command('prepare SOURCE')}` reads your images,"
            f" `{self.command('demo')}` runs everything on drawn ones"
        )

    def open_corpus(self) -> Corpus:
        """The prepared corpus.

        Raises:
            MissingStageError: none was prepared, or its files are not those of this version; the
                command is named.
        """
        self.require_corpus()
        while True:
            meta = read_meta(self.corpus)
            try:
                corpus = self._read_corpus(meta)
            except (FileNotFoundError, KeyError, PredictionsError) as error:
                if read_meta(self.corpus) == meta:
                    if isinstance(error, DamageError):
                        raise
                    raise MissingStageError(
                        f"{self.corpus}: not whole, or made by another version ({error}); run"
                        f" `{self.command('prepare SOURCE')}` again"
                    ) from None
            else:
                if read_meta(self.corpus) == meta:  # else another was prepared in the meantime
                    return corpus

    def _read_corpus(self, meta: Mapping[str, Any]) -> Corpus:
        read_whole(self.corpus)
        return Corpus(
            name=meta["name"],
            table=ImageTable.load(self.corpus / "images.csv"),
            labels=LabelSpace.load(self.corpus / "labels.txt"),
            names=read_pairs(self.corpus / "names.csv"),
            edition=meta["edition"],
            fingerprint=meta["fingerprint"],
            notes=tuple(meta["notes"]),
            protocol=meta.get("protocol", "holdout"),
            decoding=Decoding(**meta.get("decoding", {})),
        )

    def finished_runs(self, folder: Path) -> list[Path]:
        """Finished run folders below a folder of this workspace, in the order of their paths.

        Raises:
            OSError: it, or a folder in it, is there and cannot be read.
        """
        return sorted(_runs_below(folder))

    def runs_on(
        self, folder: Path, fingerprint: str, *keys: str
    ) -> list[tuple[Path, dict[str, Any]]]:
        """Finished runs on a corpus with their `meta.json`, in the order of their paths.

        Runs on another corpus, or on this one before it was prepared anew, are passed over.

        Args:
            folder: where to look, `backbones`, `fusion` or `ensembles`.
            fingerprint: of the corpus.
            keys: entries that the meta of such a run must have.

        Raises:
            PredictionsError: a run lacks an entry; it was made by another version.
        """
        metas = [
            (run, read_meta(run, "corpus", "made", *keys)) for run in self.finished_runs(folder)
        ]
        return [(run, meta) for run, meta in metas if meta["corpus"] == fingerprint]


def _runs_below(folder: Path) -> Iterator[Path]:
    """Runs that are finished or were, without hidden folders and what is being made."""

    def refuse(error: OSError) -> None:  # runs in a folder that may not be read are no fewer runs
        if not isinstance(error, FileNotFoundError):
            raise error

    # Other processes may change it meanwhile.
    for place, folders, _ in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        path = Path(place)
        if path == folder:
            continue
        # A detector's config comes before its meta.json, while its networks are still there.
        if is_run(path) and (is_complete(path) or "members" not in folders):
            yield path
        if is_run(path) or is_complete(path):
            folders.clear()


def is_run(folder: Path) -> bool:
    """Whether a folder is a run of its own, not a part (predictions, embeddings) of one."""
    return os.path.lexists(folder / CONFIG) or (
        is_complete(folder) and CONFIG in read_meta(folder).get(HOLDS, {})
    )


CONFIG = "config.json"
"""The settings of a run, in its folder."""
