"""A workspace as it is looked through: its images, their true concepts, what stands beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from core.categories import CATEGORIES, UNKNOWN
from core.errors import ConceptError
from core.images import SPLITS
from core.labels import LabelSpace, Targets
from core.progress import say
from core.runs.fused import Doubt, find_doubts, find_guesses, with_guesses
from core.runs.leakage import known_duplicates
from core.runs.workspace import Corpus, Workspace

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


@dataclass(frozen=True, kw_only=True)
class Library:
    """N images with L concepts, as arrays that searches run over.

    Attributes:
        corpus: the prepared corpus.
        workspace: that it lies in.
        categories: N categories, guessed ones among them.
        guessed: (N,) whether the category is a guess.
        doubts: by row, of images whose category is doubted; None where nobody looked, or the list
            is damaged.
        duplicates: by row, rows and similarities of near-duplicates; None where they were not
            looked for.
    """

    corpus: Corpus
    workspace: Workspace
    categories: tuple[str, ...]
    guessed: Bools
    doubts: Mapping[int, Doubt] | None
    duplicates: Mapping[int, Sequence[tuple[int, float]]] | None

    @classmethod
    def open(cls, workspace: Workspace) -> "Library":
        """Read the prepared corpus of a workspace and what was found out about its images.

        Raises:
            MissingStageError: none was prepared.
        """
        corpus = workspace.open_corpus()
        table = corpus.table
        categories = with_guesses(table, find_guesses(workspace, corpus)).categories
        row_of = table.row_of
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
            guessed=np.array(categories, dtype=np.str_)
            != np.array(table.categories, dtype=np.str_),
            doubts=_doubts(workspace, corpus),
            duplicates=duplicates,
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

    @property
    def row_of(self) -> Mapping[str, int]:
        """Row of each image, by id."""
        return self.corpus.table.row_of

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

    def titled(self, cui: str) -> str:
        """The name with the CUI behind it, as a field for concepts shows and takes it."""
        name = self.name_of(cui)
        return cui if name == cui else f"{name} ({cui})"

    @cached_property
    def searchable_names(self) -> Sequence[tuple[str, str]]:
        """CUI and `name cui` in small letters of each concept of the label space, in its order."""
        names = self.corpus.names
        return [(cui, f"{names.get(cui, '')} {cui}".strip().lower()) for cui in self.labels.cuis]


def _doubts(workspace: Workspace, corpus: Corpus) -> dict[int, Doubt] | None:
    """Doubts by row; None where nobody looked, or where a list is damaged, which is said."""
    try:
        found = find_doubts(workspace, corpus)
    except ConceptError as error:
        say(f"passed over: {error}")
        return None
    row_of = corpus.table.row_of
    return (
        None if found is None else {row_of[i]: doubt for i, doubt in found.items() if i in row_of}
    )


def rows_with(matrix: csr_array, column: int) -> Rows:
    """Rows in which a column is set."""
    at = np.flatnonzero(matrix.indices == column)
    return np.searchsorted(matrix.indptr, at, side="right") - 1
