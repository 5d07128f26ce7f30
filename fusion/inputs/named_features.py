"""Which pooled features a user means, by a folder, an encoder, a preset or a run."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from core.embeddings import maker_of
from core.errors import ConfigError, MissingStageError
from core.runs.detectors import DetectorRun
from core.runs.workspace import Workspace
from core.storage.folders import is_complete, read_meta


def features_named(
    asked: Sequence[str], runs: Sequence[DetectorRun], *, workspace: Workspace
) -> tuple[str, ...]:
    """Names of the folders that hold these features; those of one encoder stand together.

    Features are called by their folder, with or without the key at its end; by their encoder, as it
    was given to `train-backbone` or as folders have it; or by a detector's preset or run folder, by
    its name or path. Of an encoder, preset or run they are all that its newest detector takes.

    Args:
        asked: at least one.
        runs: detectors of the corpus, the newest last.
        workspace: where features lie.

    Raises:
        MissingStageError: there are none of such a name; what there is, is listed.
        ConfigError: a name stands for several.
    """
    found = dict.fromkeys(n for name in asked for n in _named(name, runs, workspace.embeddings))
    makers = list(dict.fromkeys(map(maker_of, found)))
    return tuple(sorted(found, key=lambda name: makers.index(maker_of(name))))


def _named(asked: str, runs: Sequence[DetectorRun], home: Path) -> Iterable[str]:
    if asked and Path(asked).name == asked and is_complete(home / asked):
        return [asked]
    newest = [run for run in reversed(runs) if run.embeddings]
    place = Path(asked).expanduser().resolve() if Path(asked).name != asked else None
    for run in newest:
        if asked in (run.preset, run.folder.name, run.name) or place == run.folder.resolve():
            return run.embeddings
    known = dict.fromkeys(name for run in newest for name in run.embeddings)
    if kept := _all_called(asked, [*known], home):
        # Of an encoder: all that the newest detector takes of it, at every size.
        return next(own for run in newest if (own := [n for n in run.embeddings if n in kept]))
    there = sorted({maker_of(name) for name in known} | {run.preset for run in newest})
    raise MissingStageError(
        f"pooled features {asked} not found in {home}: none of this corpus have such a folder,"
        f" encoder, preset or run; there are {', '.join(there) or 'none'}. Others are made by"
        f" `{Workspace(home.parent).command('train-backbone --backbone NAME')}`"
    )


def _all_called(asked: str, known: Sequence[str], home: Path) -> set[str]:
    """Features of the one encoder, or the one folder, of that name; none without any.

    Raises:
        ConfigError: there are several.
    """
    makers, said = {name: maker_of(name) for name in known}, _ways_to_say(asked)
    ways = (
        {name: _text(home / name) for name in known},
        makers,
        {name: maker.rpartition("-")[0] for name, maker in makers.items()},  # of four digits
        {name: name.rpartition("-")[0] for name in known},
    )
    for called in ways:
        own = {name for name, own in called.items() if own in said}
        several = {makers[name] for name in own} if called is not ways[-1] else own
        if len(several) > 1:
            raise ConfigError(
                f"embeddings: {asked} stands for several: {', '.join(sorted(several))}; name one"
            )
        if own:
            return own
    return set()


def _ways_to_say(asked: str) -> set[str]:
    """A name, and where it is an encoder's string that as it is noted: folders by their path."""
    world, colon, name = asked.partition(":")
    if not colon:
        return {asked}
    if world == "timm":
        return {asked, name}
    path = Path(name.removeprefix(_FOLDER)).expanduser().absolute()
    return {asked, f"{world}:{path}", f"{world}:{_FOLDER}{path}"}


_FOLDER = "local-dir:"
"""What open_clip has before a folder."""


def _text(folder: Path) -> str:
    """The encoder's string, as it was given; "" where that is not noted."""
    if not is_complete(folder):
        return ""
    return str(read_meta(folder).get("encoder", {}).get("backbone", ""))
