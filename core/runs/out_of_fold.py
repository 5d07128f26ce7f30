"""Out-of-fold predictions: on disk a folder a fold, in memory one value.

Part k of K was made without fold k, which it predicts, so each folder is plain predictions with
images fitted on of its own, `labelled-<k>of<K>`, and the check that no source predicts what it was
fitted on holds for each. Read together they keep their parts.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from scipy.sparse import csr_array, vstack

from core.errors import LabelSpaceError, LeakageError, PredictionsError, first_few, repeated
from core.images import ImageTable
from core.predictions import (
    AnyPredictions,
    Predictions,
    Probs,
    SparsePredictions,
    read_predictions,
)
from core.runs.workspace import Corpus
from core.storage.arrays import SharedRows


def join_folds(parts: Sequence[Predictions], *, copied: bool = True) -> Predictions:
    """Out-of-fold predictions of one source as one value, a part a fold.

    Args:
        parts: at least one; each without the images that it was fitted on. One alone is returned as
            it is.
        copied: whether the probabilities are one array; if not, they stay where they are, mapped
            from disk for instance, and only read like one (`SharedRows`).

    Returns:
        All images, in the order of the parts; each is held against what its part was fitted on.

    Raises:
        LeakageError: an image stands in two parts, or a part was fitted on an image it predicts.
        LabelSpaceError: the parts have different concepts.
    """
    if len(parts) == 1:
        return parts[0]
    _check_folds(parts)
    fitted = tuple(p for part in parts if len(part) for p in part.fitted_parts)
    if len(fitted) < 2:
        return next((part for part in parts if len(part)), parts[0])
    probs = [part.probs for part in parts]
    return replace(
        parts[0],
        image_ids=tuple(image_id for part in parts for image_id in part.image_ids),
        probs=np.concatenate(probs) if copied else cast(Probs, SharedRows.joined(probs)),
        fitted_on=frozenset().union(*(part.fitted_on for part in fitted)),
        parts=fitted,
    )


def _check_folds(parts: Sequence[AnyPredictions]) -> None:
    first, *others = parts
    if strange := [p.source for p in others if p.labels.cuis != first.labels.cuis]:
        raise LabelSpaceError(f"{strange[0]}: a fold has other concepts than the first")
    if twice := repeated([image_id for part in parts for image_id in part.image_ids]):
        raise LeakageError(
            f"{first.source}: {len(twice)} images stand in two folds: {first_few(twice)}"
        )
    for part in parts:
        part.require_out_of_sample()


def join_sparse_folds(parts: Sequence[SparsePredictions]) -> SparsePredictions:
    """As `join_folds`, of sparse predictions."""
    _check_folds(parts)
    return SparsePredictions(
        bare=join_folds([part.bare for part in parts]),
        labels=parts[0].labels,
        probs=csr_array(vstack([part.probs for part in parts], format="csr")),
    )


def prior_out_of_fold(corpus: Corpus) -> Predictions:
    """What the category prior says of the images that a second stage is fitted on.

    Under `crossfit` it is counted without the fold of the image, under `holdout` on train.
    """
    if not corpus.crossfit:
        return corpus.prior.predict(corpus.table.of(split=corpus.scored))
    folds = []
    for view in corpus.views:
        valid = view.table.of(split="valid")
        folds.append(view.prior.predict(valid.take(valid.labelled)))
    return join_folds(folds, copied=False)


def check_out_of_sample(sources: Sequence[AnyPredictions], table: ImageTable) -> None:
    """Refuse sources that were fitted on an image they predict, or on one of the same group.

    Images of a patient or study resemble each other: a detector that saw one of them knows the
    others too well. An image that is not in the table has no known group; only its id is compared.
    A group without a name ("") holds nothing together.

    Images of test are compared by their ids alone: where an official split has a patient in train
    and in test, that was said when the corpus was prepared, and nothing is fitted or chosen on the
    predictions of test.

    Args:
        table: the images of all splits.

    Raises:
        LeakageError: a source was fitted on such an image; the source and the images are named.
        AlignmentError: a source predicts an image that is not in the table.
    """
    group_of = dict(zip(table.image_ids, table.groups, strict=True))
    test = {row for row, split in enumerate(table.splits) if split == "test"}
    for source in sources:
        source.require_out_of_sample()
        rows = table.row_numbers(source.image_ids).tolist()
        judged = [i for i, row in zip(source.image_ids, rows, strict=True) if row not in test]
        bare = source.bare if isinstance(source, SparsePredictions) else source
        if judged:
            bare.rows(judged).require_groups_apart(group_of)


def fold_name(name: str, part: int, *, n_parts: int) -> str:
    """Name of the out-of-fold predictions of a part, counted from 1 for a reader.

    Example:
        >>> fold_name("labelled", 0, n_parts=5)
        'labelled-1of5'
    """
    return f"{name}-{part + 1}of{n_parts}"


def names_of_fold(names: Sequence[str], part: int) -> tuple[str, ...]:
    """Those of some names that are of no fold, and those of this one.

    Example:
        >>> names_of_fold(["b0-224px", "global-1of2", "global-2of2"], 1)
        ('b0-224px', 'global-2of2')
    """
    found = ((name, re.search(r"-(\d+)of\d+$", name)) for name in names)
    return tuple(name for name, fold in found if fold is None or int(fold[1]) == part + 1)


def save_folds(predictions: Predictions, home: Path, *, name: str, suffix: str = "") -> None:
    """Write a folder a part, `<name>-<k>of<K><suffix>`; without parts one, `<name><suffix>`."""
    if not predictions.parts:
        predictions.save(home / f"{name}{suffix}")
        return
    parts = predictions.by_part()
    for number, part in enumerate(parts):
        part.save(home / f"{fold_name(name, number, n_parts=len(parts))}{suffix}")


def load_folds(home: Path, name: str, *, suffix: str = "", copied: bool = True) -> Predictions:
    """The predictions of `<name><suffix>`, or those of its folds joined; see `join_folds`.

    Raises:
        PredictionsError: the folder or one of the folds is missing or unfinished.
        LabelSpaceError, LeakageError: the folds do not fit together; see `join_folds`.
    """
    folders = fold_folders(home, name, suffix=suffix)
    return join_folds([Predictions.load(folder) for folder in folders], copied=copied)


def read_folds(home: Path, name: str) -> AnyPredictions:
    """As `load_folds` without a copy, in either form; all folds have the same."""
    parts = [read_predictions(folder) for folder in fold_folders(home, name)]
    sparse = [part for part in parts if isinstance(part, SparsePredictions)]
    if not sparse:
        return join_folds([p for p in parts if isinstance(p, Predictions)], copied=False)
    if len(sparse) < len(parts):
        raise PredictionsError(f"{home}: some folds of {name} are sparse, some are not")
    return join_sparse_folds(sparse)


def fold_folders(home: Path, name: str, *, suffix: str = "") -> list[Path]:
    """The folder `<name><suffix>`, or those of all folds where it is not there.

    Raises:
        PredictionsError: there are folds of two different numbers of folds.
    """
    pattern = re.compile(rf"{re.escape(name)}-\d+of(\d+){re.escape(suffix)}")
    whole = home / f"{name}{suffix}"
    found = [match for path in home.glob(f"{name}-*") if (match := pattern.fullmatch(path.name))]
    if whole.exists() or not found:
        return [whole]
    n_parts = int(found[0][1])
    names = [f"{fold_name(name, part, n_parts=n_parts)}{suffix}" for part in range(n_parts)]
    if strange := sorted({match[0] for match in found} - set(names)):
        raise PredictionsError(f"{home / strange[0]}: a fold beside those of {n_parts} folds")
    return [home / each for each in names]
