"""By which commands a run and what it is made of came to be."""

from pathlib import Path
from typing import Any

import numpy as np

from core.images import ImageTable
from core.labels import LabelSpace
from core.runs.ensemble import EnsembleRecord, EnsembleRun
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import finish, write_json
from reports.ensemble.provenance import provenance_section, steps_of

HERE = {"python": "3.11", "machine": "two cores", "packages": {"numpy": "2.1"}, "made": "2026-01"}


def save(folder: Path, command: str | None, **entries: Any) -> None:
    """A finished folder that notes a command."""
    folder.mkdir(parents=True)
    finish(folder, {})
    noted = {} if command is None else {"command": command}
    (folder / "meta.json").unlink()
    write_json(folder / "meta.json", {**HERE, **noted, **entries})


def made_run(workspace: Workspace, members: dict[str, str], **entries: Any) -> EnsembleRun:
    home = workspace.ensembles / "stack-1"
    save(home, "ensemble --submit", members=members, **entries)
    table = ImageTable(
        image_ids=("a",), paths=("a",), categories=("",), splits=("valid",),
        folds=np.array([0], dtype=np.int16), groups=("a",), concepts=(("C1",),),
    )  # fmt: skip
    corpus = Corpus(
        name="made", table=table, labels=LabelSpace(("C1",)), names={}, edition=2020,
        fingerprint="made0000", notes=(),
    )  # fmt: skip
    record = EnsembleRecord(image_ids=("a",), scores={})
    meta = {**HERE, "members": members, **entries}
    return EnsembleRun(corpus=corpus, folder=home, meta=meta, record=record, scored=table, rungs=())


def test_each_stage_has_its_command_also_of_detectors_that_a_fused_source_holds(
    tmp_path: Path,
) -> None:
    workspace = Workspace(tmp_path)
    save(workspace.corpus, "prepare /data/x")
    gpu = {"device": "cuda (a card)", "packages": {"numpy": "1.9"}}
    save(workspace.backbones / "global" / "quick-1", "train-backbone", device="cpu")
    save(workspace.backbones / "DRCT" / "quick-1", "train-backbone", device="cpu")
    save(workspace.backbones / "DRUS" / "fine-2", "train-backbone --preset finetune", **gpu)
    save(workspace.fusion / "routed-3", "fuse", contains=["DRCT/quick-1", "DRUS/fine-2"])
    members = {
        "prior": "", "global": "quick-1 2026", "routed": "routed-3 2026", "gone": "gone-4 2026",
        "other": "sha256 0123",
    }  # fmt: skip
    run = made_run(workspace, members)
    steps = steps_of(run, workspace)
    assert [(step.what, step.command, step.runs) for step in steps] == [
        ("corpus", "prepare /data/x", ("corpus",)),
        ("detectors", "train-backbone", ("global/quick-1", "DRCT/quick-1")),
        ("detectors", "train-backbone --preset finetune", ("DRUS/fine-2",)),
        ("fusion", "fuse", ("routed-3",)),
        ("ensemble", "ensemble --submit", ("stack-1",)),
    ]
    text = "\n\n".join(provenance_section(run, steps).paragraphs)
    assert "1. `python cli.py prepare /data/x`\n2. `python cli.py train-backbone`\n3. " in text
    assert "- detectors, Python 3.11, two cores, networks on cuda (a card): `DRUS/fine-2`" in text
    assert "Made with other versions: detectors (numpy 1.9)." in text
    assert "Run `stack-1`, 2026-01, Python 3.11, two cores; numpy 2.1." in text


def test_what_an_earlier_version_did_not_note_is_said(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    save(workspace.corpus, None)
    run = made_run(workspace, {})
    text = "\n\n".join(provenance_section(run, steps_of(run, workspace)).paragraphs)
    assert (
        "1. a step that noted no command: made from Python, or by an earlier version\n2. `python"
        in text
    )
    assert "All of it was made with the versions above." in text


def test_a_command_is_text(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    save(workspace.corpus, "prepare '`x` <b>\n# y'")
    run = made_run(workspace, {})
    text = "\n\n".join(provenance_section(run, steps_of(run, workspace)).paragraphs)
    assert r"1. python cli.py prepare '\`x\` \<b>\\n# y'" in text
