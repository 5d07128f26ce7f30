"""Members from folders of predictions that a user names, made elsewhere or passed over."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from core.errors import ConfigError, PredictionsError
from core.predictions import AnyPredictions, read_predictions, within
from core.progress import say
from core.runs.workspace import Corpus, is_run
from core.storage.folders import is_complete, read_meta
from ensembles.member import Member
from ensembles.stacking.registry import STACKERS

_DECIDED = "submission"


def outside_members(
    folders: Sequence[Path], corpus: Corpus, *, beside: Sequence[Member]
) -> list[Member]:
    """The members in these folders, each once; of one that is a member already a line says so.

    A folder holds `valid` and `test`, or `predictions` with these, as the run of a detector or of a
    fusion strategy does. Images of the split that it does not predict and concepts that it does not
    have are unknown to it, as to a specialist; its images and concepts that the corpus does not
    have are left out. One line says how many of each.

    Args:
        folders: the last part is the member's name; a detector's run is called by its category as
            well, `DRCT/finetune-0a1b2c3d`.
        corpus: the prepared corpus.
        beside: the members from the workspace.

    Raises:
        ConfigError: a name is taken.
        PredictionsError: a folder is missing or unfinished, or it has no image of valid.
    """
    known = {member.folder: member.name for member in beside}
    found: list[Member] = []
    for given in folders:
        folder = given.resolve()
        if folder.name == "predictions" and is_run(folder.parent):
            folder = folder.parent
        if folder in known:
            say(f"--member {given}: already a member, {known[folder]}")
            continue
        name = _name(folder)
        if name in {*known.values(), *STACKERS, _DECIDED}:
            raise ConfigError(f"--member {given}: the name {name!r} is taken; rename the folder")
        known[folder] = name
        found.append(_read(folder, name, corpus, given=given))
    return found


def _name(folder: Path) -> str:
    category = read_meta(folder).get("category") if is_complete(folder) else None
    return f"{category}/{folder.name}" if category else folder.name


def _read(folder: Path, name: str, corpus: Corpus, *, given: Path) -> Member:
    home = folder / "predictions" if (folder / "predictions").is_dir() else folder
    whole = {split: read_predictions(home / split) for split in ("valid", "test")}
    parts = {}
    for split, predictions in whole.items():
        ids = corpus.table.of(split=split).image_ids
        parts[split] = within(predictions, frozenset(ids), corpus.labels)
    if not len(parts["valid"]):
        raise PredictionsError(f"--member {given}: no image of valid in it to weigh it by")
    say(_coverage(name, whole, parts, corpus))
    return Member(
        name=name,
        folder=folder,
        origin=_digest(home),
        valid=parts["valid"],
        test=parts["test"],
    )


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
