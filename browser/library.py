"""A workspace as it is looked through: its images, their true concepts, what stands beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.categories import CATEGORIES, UNKNOWN
from core.errors import ConceptError
from core.images import SPLITS
from core.labels import LabelSpace, Targets
from core.progress import say
from core.runs.fused import find_guesses
from core.runs.leakage import known_duplicates
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import read_meta
from core.storage.tables import meant_as_written, read_rows

Rows = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int8]

CATEGORY_NAMES: Mapping[str, str] = {
    "DRAN": "angiography",
    "DRCO": "combined (PET/CT)",
    "DRCT": "CT",
    "DRMR": "MRI",
    "DRPE": "PET",
    "DRUS": "ultrasound",
    "DRXR": "X-ray",
    UNKNOWN: "no category",
}
"""Categories in words."""


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


@dataclass(frozen=True, kw_only=True)
class Library:
    """N images with L concepts, as arrays that searches run over.

    Attributes:
        corpus: the prepared corpus.
        workspace: that it lies in.
        categories: N categories, guessed ones among them.
        guessed: (N,) whether the category is a guess.
        doubts: by row, of images whose category is doubted.
        looked_for_doubts: whether `fuse` held categories against features.
        duplicates: by row, rows and similarities of near-duplicates; None where they were not
            looked for.
    """

    corpus: Corpus
    workspace: Workspace
    categories: tuple[str, ...]
    guessed: Bools
    doubts: Mapping[int, Doubt]
    duplicates: Mapping[int, Sequence[tuple[int, float]]] | None
    looked_for_doubts: bool = True

    @classmethod
    def open(cls, workspace: Workspace) -> "Library":
        """Read the prepared corpus of a workspace and what was found out about its images.

        Raises:
            MissingStageError: none was prepared.
        """
        corpus = workspace.open_corpus()
        table = corpus.table
        guesses = find_guesses(workspace, corpus)
        known = list(zip(table.image_ids, table.categories, strict=True))
        categories = tuple(own or guesses.get(image_id, UNKNOWN) for image_id, own in known)
        row_of = {image_id: row for row, image_id in enumerate(table.image_ids)}
        found = known_duplicates(corpus, workspace)
        duplicates: dict[int, list[tuple[int, float]]] | None = None if found is None else {}
        for pair in found or ():
            one, other = row_of.get(pair.image_id), row_of.get(pair.other_id)
            if duplicates is None or one is None or other is None:
                continue
            duplicates.setdefault(one, []).append((other, pair.similarity))
            duplicates.setdefault(other, []).append((one, pair.similarity))
        return cls(
            corpus=corpus,
            workspace=workspace,
            categories=categories,
            guessed=np.array([not own for _, own in known], dtype=np.bool_)
            & np.array([bool(name) for name in categories], dtype=np.bool_),
            doubts=_doubts(workspace, corpus, row_of),
            duplicates=duplicates,
            looked_for_doubts=any(workspace.fusion.glob("category-*")),
        )

    def __len__(self) -> int:
        return len(self.corpus.table)

    @property
    def image_ids(self) -> tuple[str, ...]:
        """N ids."""
        return self.corpus.table.image_ids

    @property
    def labels(self) -> LabelSpace:
        """The L concepts."""
        return self.corpus.labels

    @cached_property
    def row_of(self) -> Mapping[str, int]:
        """Row of each image, by id."""
        return {image_id: row for row, image_id in enumerate(self.image_ids)}

    @cached_property
    def labelled(self) -> Bools:
        """(N,) whether the true concepts of an image are known."""
        return self.corpus.table.labelled

    @property
    def truth(self) -> csr_array:
        """(N, L) boolean: the true concepts; empty rows where they are not known.

        Concepts outside the label space, which nothing can decide, are not in it.
        """
        return self._targets.matrix

    @cached_property
    def _targets(self) -> Targets:
        return self.labels.encode([known or () for known in self.corpus.table.concepts])

    @property
    def n_outside(self) -> npt.NDArray[np.int32]:
        """(N,) true concepts outside the label space."""
        return self._targets.n_outside

    @cached_property
    def split_codes(self) -> Codes:
        """(N,) place of each image's split in `SPLITS`."""
        place = {name: code for code, name in enumerate(SPLITS)}
        return np.array([place[name] for name in self.corpus.table.splits], dtype=np.int8)

    @cached_property
    def category_codes(self) -> Codes:
        """(N,) place of each image's category in `CATEGORIES`, -1 where there is none."""
        place: dict[str, int] = {str(name): code for code, name in enumerate(CATEGORIES)}
        return np.array([place.get(name, -1) for name in self.categories], dtype=np.int8)

    @cached_property
    def group_sizes(self) -> npt.NDArray[np.int64]:
        """(N,) images in each image's group; 1 where it is alone."""
        _, own, sizes = np.unique(
            np.array(self.corpus.table.groups, dtype=object).astype(np.str_),
            return_inverse=True,
            return_counts=True,
        )
        named = np.array([bool(group) for group in self.corpus.table.groups])
        return np.where(named, sizes[own], 1)

    @cached_property
    def lower_ids(self) -> npt.NDArray[np.str_]:
        """(N,) ids in small letters, to search in."""
        return np.char.lower(np.array(self.image_ids, dtype=np.str_))

    def is_category(self, name: str) -> Bools:
        """(N,) whether an image is of the category; `none` stands for no category."""
        code = -1 if name == "none" else [str(each) for each in CATEGORIES].index(name)
        return np.asarray(self.category_codes == code)

    def name_of(self, cui: str) -> str:
        """The preferred name of a concept, or the CUI where none is known."""
        return self.corpus.names.get(cui) or cui

    @cached_property
    def searchable_names(self) -> Sequence[tuple[str, str]]:
        """CUI and `name cui` in small letters of each concept of the label space, in its order."""
        names = self.corpus.names
        return [(cui, f"{names.get(cui, '')} {cui}".strip().lower()) for cui in self.labels.cuis]


def _doubts(workspace: Workspace, corpus: Corpus, row_of: Mapping[str, int]) -> dict[int, Doubt]:
    """Of the newest guess of each view; a damaged list is said and passed over."""
    doubts: dict[int, Doubt] = {}
    known = {corpus.fingerprint, *(f"{corpus.fingerprint}-{k + 1}" for k in range(corpus.n_folds))}
    for folder in sorted(workspace.fusion.glob("category-*")):
        path = folder / "doubted.csv"
        try:
            if read_meta(folder).get("corpus") not in known or not path.is_file():
                continue
            doubts |= _read_doubts(path, row_of)
        except ConceptError as error:
            say(f"passed over: {error}")
    return doubts


def _read_doubts(path: Path, row_of: Mapping[str, int]) -> dict[int, Doubt]:
    with meant_as_written(path):
        header, *rows = read_rows(path)
        at = {name: header.index(name) for name in header}
        return {
            row_of[line[at["image_id"]].removeprefix("'")]: Doubt(
                given=line[at["given"]],
                guess=line[at["guess"]],
                certainty=float(line[at[line[at["guess"]]]]),
            )
            for line in rows
            if line[at["image_id"]].removeprefix("'") in row_of
        }
