"""What an ensemble's networks started from: weights of others, whose terms hold for what is learnt.

Organisers ask for the external resources of a submission; whoever passes weights on needs them too.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.categories import CATEGORIES
from core.runs.detectors import GLOBAL, find_runs
from core.runs.fused import ZERO_SHOT
from core.runs.workspace import Corpus, Workspace
from core.storage.documents import read_object
from core.storage.folders import is_complete, read_meta, read_whole
from core.storage.text import brief

RANDOM = "random"
"""What weights are from that were drawn: nobody's."""

NOT_STATED = "not stated"

MAY_HAVE_MET = (
    "what a pair of image and text towers was trained on is not known here; pairs trained on"
    " figures of PubMed Central (BiomedCLIP, PMC-CLIP) may have met images of the task, which are"
    " from there, with their captions, so that their scores may be better than on images of yours"
)
"""Of a pretrained pair: no guard can tell."""


@dataclass(frozen=True, kw_only=True, order=True)
class ExternalResource:
    """Weights that networks started from; texts are short, whoever wrote the run.

    Attributes:
        encoder: the network, as it was asked for; "" where it is not known.
        source: where its weights are from, without their checksum.
        licence: of them, as their source says; `NOT_STATED` where it does not.
    """

    encoder: str
    source: str
    licence: str

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "ExternalResource":
        """By what a run notes of an encoder."""
        return cls(
            encoder=brief(_shown(str(said.get("backbone") or ""))),
            source=brief(str(said.get("weights_from") or NOT_STATED).partition(", sha256")[0]),
            licence=brief(str(said.get("weights_licence") or NOT_STATED)),
        )


def _shown(encoder: str) -> str:
    """An encoder's string without where on this machine it lies.

    Example:
        >>> _shown("open_clip:local-dir:/home/me/tower"), _shown("hf-hub:timm/resnet50.a1_in1k")
        ('open_clip:local-dir:tower', 'hf-hub:timm/resnet50.a1_in1k')
    """
    return re.sub(r":/.*?([^/]+)/?$", r":\1", encoder)


def resources_of_detector(run: Path) -> tuple[ExternalResource, ...]:
    """What a detector's networks started from; of one that started from another, what that did.

    Args:
        run: its folder, in its workspace.

    Returns:
        Of each of its encoders; none of those that started at random.
    """
    if not is_complete(run):
        return ()
    meta, path = read_whole(run, only=["config.json"]), run / "config.json"
    config = read_object(path) if path.is_file() else {}
    own = ExternalResource.of({**meta, "backbone": config.get("backbone")})
    before = run.parents[1] / own.source  # category/run, where it is a detector
    first = resources_of_detector(before) if before != run and is_complete(before) else (own,)
    found = [*first, *map(ExternalResource.of, meta.get("joined", ()))]
    return tuple(own for own in dict.fromkeys(found) if own.source != RANDOM)


def resources_of_features(
    names: Iterable[str], corpus: Corpus, *, workspace: Workspace
) -> tuple[ExternalResource, ...]:
    """What the networks started from that gave some features.

    Args:
        names: of the features' folders.
        corpus: whose features they are.
        workspace: where they lie.
    """
    runs = find_runs(workspace, corpus.fingerprint)
    found: list[ExternalResource] = []
    for name in names:
        folder = workspace.embeddings / name
        noted = read_meta(folder).get("encoder") if is_complete(folder) else None
        if noted is not None:
            found.append(ExternalResource.of(noted))
            continue
        makers = [run for run in runs if name in run.embeddings]
        found += resources_of_detector(makers[-1].folder) if makers else ()
    return tuple(own for own in dict.fromkeys(found) if own.source != RANDOM)


def resources_of_fused(
    meta: Mapping[str, Any], corpus: Corpus, *, workspace: Workspace
) -> tuple[ExternalResource, ...]:
    """What the networks started from that a fused source is made of.

    Args:
        meta: of its run.
        corpus: on which it was made.
        workspace: where it lies.
    """
    found = [*resources_of_features(meta["embeddings"], corpus, workspace=workspace)]
    for name in meta["contains"]:
        found += resources_of_detector(workspace.backbones / name)
    own = meta.get("chosen", {}).get("external")  # of a network that was trained end to end
    for said in own if isinstance(own, list) else [own] if own else []:
        resource = ExternalResource.of(said)
        start = workspace.backbones / resource.source  # category/run, where it is a detector
        found += resources_of_detector(start) if is_complete(start) else (resource,)
    return tuple(own for own in dict.fromkeys(found) if own.source != RANDOM)


def resources_of_members(
    members: Mapping[str, str], corpus: Corpus, *, workspace: Workspace
) -> dict[ExternalResource, tuple[str, ...]]:
    """Weights that the networks of an ensemble started from, and which members they are in.

    Args:
        members: origin by name, as the meta of an ensemble's run has them.
        corpus: on which it was made.
        workspace: where its runs lie.

    Returns:
        Names of members by resource, in the order of the members. Of a member that was made
        elsewhere nothing is known, which is a resource as well.
    """
    users: dict[ExternalResource, list[str]] = {}
    for name, origin in members.items():
        for resource in _of_member(name, origin, corpus, workspace):
            users.setdefault(resource, []).append(name)
    return {resource: tuple(names) for resource, names in users.items()}


def _of_member(
    name: str, origin: str, corpus: Corpus, workspace: Workspace
) -> Iterator[ExternalResource]:
    run, category = origin.partition(" ")[0], name.partition("/")[0]
    if run == "sha256":
        yield ExternalResource(encoder="", source=f"{name}, made elsewhere", licence=NOT_STATED)
    elif run and category in (GLOBAL, *CATEGORIES):
        yield from resources_of_detector(workspace.backbones / category / run)
    elif run and is_complete(workspace.fusion / run):
        meta = read_meta(workspace.fusion / run, "embeddings", "contains")
        yield from resources_of_fused(meta, corpus, workspace=workspace)


def rows_of_resources(
    users: Mapping[ExternalResource, Sequence[str]],
) -> list[tuple[str, str, str, str]]:
    """Encoder, source, licence and users of each, in words."""
    return [
        (own.encoder or "not known", own.source, own.licence, ", ".join(names))
        for own, names in users.items()
    ]


def note_on_resources(users: Mapping[ExternalResource, Sequence[str]]) -> str:
    """What no guard can tell of them, as a paragraph; "" where there is nothing."""
    names = {name for of_resource in users.values() for name in of_resource}
    asked = any(name.partition("/")[0] == ZERO_SHOT for name in names)
    return f"{ZERO_SHOT}: {MAY_HAVE_MET}." if asked else ""
