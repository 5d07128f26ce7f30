"""Members made elsewhere: folders of predictions that a user names."""

import hashlib
from collections.abc import Collection
from pathlib import Path

from core.errors import ConfigError, PredictionsError
from core.progress import say
from core.runs import read_meta
from core.sparse_predictions import AnyPredictions, read_predictions, within
from core.workspace import Corpus
from ensembles.member import Member

_DECIDED = "submission"


def outside_member(folder: Path, corpus: Corpus, *, taken: Collection[str]) -> Member:
    """The member in a folder that holds `valid` and `test`, or `predictions` with these.

    Images of the split that it does not predict and concepts that it does not have are unknown to
    it, as to a specialist; its images and concepts that the corpus does not have are left out. One
    line says how many of each.

    Args:
        folder: its last part is the member's name.
        corpus: the prepared corpus.
        taken: names that other members and stackers have.

    Raises:
        ConfigError: its name is taken.
        PredictionsError: a folder is missing or unfinished, or it has no image of valid.
    """
    home = folder / "predictions" if (folder / "predictions").is_dir() else folder
    name = folder.resolve().name
    if name in taken or name == _DECIDED:
        raise ConfigError(f"--member {folder}: the name {name!r} is taken; rename the folder")
    whole = {split: read_predictions(home / split) for split in ("valid", "test")}
    parts = {}
    for split, predictions in whole.items():
        ids = corpus.table.of(split=split).image_ids
        parts[split] = within(predictions, frozenset(ids), corpus.labels)
    if not len(parts["valid"]):
        raise PredictionsError(f"--member {folder}: no image of valid in it to weigh it by")
    say(_coverage(name, whole, parts, corpus))
    return Member(name=name, origin=_digest(home), valid=parts["valid"], test=parts["test"])


def _coverage(
    name: str, whole: dict[str, AnyPredictions], parts: dict[str, AnyPredictions], corpus: Corpus
) -> str:
    told = []
    for split, part in parts.items():
        n = len(corpus.table.of(split=split))
        told.append(f"{len(part):,} of {n:,} {split} images")
    n_foreign = sum(len(whole[split]) - len(parts[split]) for split in parts)
    labels = parts["valid"].labels
    n_odd = len(whole["valid"].labels) - len(labels)
    return (
        f"member {name}: {', '.join(told)}, {len(labels):,} of {len(corpus.labels):,} concepts;"
        f" what is missing is unknown to it; left out {n_foreign:,} images and {n_odd:,} concepts"
        " that the corpus lacks"
    )


def _digest(home: Path) -> str:
    """Of all files: what was made elsewhere may be changed in place."""
    digest = hashlib.sha256()
    for split in ("valid", "test"):
        read_meta(home / split)
        for path in sorted((home / split).iterdir()):
            if path.suffix in (".npy", ".txt"):
                digest.update(path.name.encode())
                with path.open("rb") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
    return f"sha256 {digest.hexdigest()[:16]}"
