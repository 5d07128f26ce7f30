"""Section of the report on how everything was made: commands, versions, machines."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.categories import CATEGORIES
from core.errors import as_typed
from core.runs.detectors import GLOBAL
from core.runs.ensemble import EnsembleRun
from core.runs.workspace import Workspace
from core.storage.folders import is_complete, read_meta
from core.storage.sums import COMMAND
from core.storage.text import brief, code, plain
from reports.pages.markdown import Section, versions_of

_SHOWN = 20  # runs that are named in a cell

_LONGEST = 2000  # characters of a command


@dataclass(frozen=True, kw_only=True)
class MadeStep:
    """What was made by one command, as it notes it.

    Attributes:
        what: corpus, detectors, fusion or ensemble.
        runs: names of the folders.
        command: as it was typed, without the program and the workspace; "" where it is not noted.
        machine: Python and machine.
        device: that networks were trained on; "" where none was.
        packages: versions, as one text.
    """

    what: str
    runs: tuple[str, ...]
    command: str
    machine: str
    device: str
    packages: str


def steps_of(run: EnsembleRun, workspace: Workspace) -> list[MadeStep]:
    """How the run and all that it is made of came to be, in the order of the stages.

    Folders of one stage that one command made on one machine are one step. What is not there any
    more, or was made elsewhere, is left out.

    Raises:
        DamageError: a folder's notes were changed.
    """
    found: dict[tuple[str, ...], list[str]] = {}
    for what, folder in _folders(run, workspace):
        meta = read_meta(folder)
        versions = meta.get("packages") or {}
        key = (
            what,
            str(meta.get(COMMAND) or ""),
            f"Python {meta.get('python', 'not noted')}, {meta.get('machine', 'not noted')}",
            str(meta.get("device") or ""),
            ", ".join(f"{name} {version}" for name, version in versions.items()),
        )
        home = workspace.backbones if what == "detectors" else folder.parent
        found.setdefault(key, []).append(folder.relative_to(home).as_posix())
    return [
        MadeStep(
            what=what, runs=tuple(runs), command=command, machine=machine, device=device,
            packages=packages,
        )
        for (what, command, machine, device, packages), runs in found.items()
    ]  # fmt: skip


def _folders(run: EnsembleRun, workspace: Workspace) -> Iterator[tuple[str, Path]]:
    """Finished folders by stage: those of members, of detectors in them, and the run's own."""
    fused, detectors = [], []
    for name, origin in (run.meta.get("members") or {}).items():
        folder, category = str(origin).partition(" ")[0], name.partition("/")[0]
        if category in (GLOBAL, *CATEGORIES):
            detectors.append(workspace.backbones / category / folder)
        elif folder and is_complete(workspace.fusion / folder):
            fused.append(workspace.fusion / folder)
            contained = read_meta(fused[-1]).get("contains") or ()
            detectors += [workspace.backbones / inner for inner in contained]
    for what, folders in (
        ("corpus", [workspace.corpus]),
        ("detectors", detectors),
        ("fusion", fused),
        ("ensemble", [run.folder]),
    ):
        for path in dict.fromkeys(folders):
            if is_complete(path):
                yield what, path


def provenance_section(run: EnsembleRun, steps: Sequence[MadeStep] = ()) -> Section:
    """The run with its versions, and commands by which a reader can repeat it.

    Args:
        run: the ensemble.
        steps: of `steps_of`; none where that was not looked for.
    """
    meta = run.meta
    first = f"Run {code(run.folder.name)}, {plain(meta['made'])}, {versions_of(meta)}."
    if not steps:
        return Section(heading="How it was made", paragraphs=[first])
    return Section(
        heading="How it was made",
        paragraphs=[
            first,
            "These commands, in this order and each with `-w WORKSPACE`, repeat it; they stand as"
            " they were typed.",
            "\n".join(f"{n}. {_typed(step)}" for n, step in enumerate(_commands(steps), start=1)),
            "What they made, and on what:",
            "\n".join(f"- {step.what}, {_place(step)}: {_runs(step)}" for step in steps),
            *_packages(run, steps),
        ],
    )


def _commands(steps: Sequence[MadeStep]) -> list[str]:
    """Each command once, at its first place."""
    return list(dict.fromkeys(step.command for step in steps))


def _typed(command: str) -> str:
    if not command:
        return "a step that noted no command: made from Python, or by an earlier version"
    return code(brief(as_typed(command), longest=_LONGEST))


def _place(step: MadeStep) -> str:
    device = f", networks on {step.device}" if step.device else ""
    return plain(brief(f"{step.machine}{device}"))


def _runs(step: MadeStep) -> str:
    more = len(step.runs) - _SHOWN
    shown = ", ".join(code(brief(name)) for name in step.runs[:_SHOWN])
    return f"{shown} and {more:,} more" if more > 0 else shown


def _packages(run: EnsembleRun, steps: Sequence[MadeStep]) -> list[str]:
    """Versions of the stages that were made with other ones than the ensemble."""
    own = ", ".join(f"{k} {v}" for k, v in (run.meta.get("packages") or {}).items())
    others: dict[str, list[str]] = {}
    for step in steps:
        if step.packages != own:
            others.setdefault(step.packages, []).append(step.what)
    if not others:
        return ["All of it was made with the versions above."]
    return [
        f"Made with other versions: {', '.join(dict.fromkeys(stages))}"
        f" ({plain(brief(packages, longest=_LONGEST)) or 'not noted'})."
        for packages, stages in others.items()
    ]
