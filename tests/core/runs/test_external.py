"""What networks started from, by the runs of a workspace."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.embeddings import Embeddings
from core.runs.external import (
    NOT_STATED,
    ExternalResource,
    resources_of_detector,
    resources_of_fused,
    resources_of_members,
    rows_of_resources,
)
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import new_folder, write_json

LITE = ExternalResource(encoder="tf_efficientnet_lite0", source="lite==0.1", licence="Apache-2.0")
VIT = ExternalResource(encoder="local-dir:vit", source="vit", licence=NOT_STATED)


def save(folder: Path, backbone: str, **meta: object) -> Path:
    said = {"corpus": "gen00000", "category": "global", "preset": "quick", "embeddings": [], **meta}
    with new_folder(folder, said) as draft:
        write_json(draft / "config.json", {"backbone": backbone})
    return folder


@pytest.fixture
def home(workspace: Workspace) -> Path:
    """Detectors: frozen on two encoders, fine-tuned from it, random, one of before."""
    home = workspace.backbones / "global"
    vit = {"backbone": "local-dir:/home/me/vit", "weights_from": "vit, sha256 1a"}
    save(
        home / "finetune-00000001", "tf_efficientnet_lite0", weights_from="lite==0.1, sha256 2b",
        weights_licence="Apache-2.0", joined=[vit], embeddings=["old-64px-0000000a"],
    )  # fmt: skip
    save(
        home / "again-00000002", "tf_efficientnet_lite0",
        weights_from="global/finetune-00000001, sha256 3c", weights_licence="Apache-2.0",
    )  # fmt: skip
    save(home / "drawn-00000003", "test_vit", weights_from="random", weights_licence="")
    save(home / "before-00000004", "resnet50")
    return home


def test_a_detector_has_those_of_its_encoders_and_of_the_one_it_started_from(home: Path) -> None:
    assert resources_of_detector(home / "finetune-00000001") == (LITE, VIT)
    assert resources_of_detector(home / "again-00000002") == (LITE, VIT)
    assert resources_of_detector(home / "drawn-00000003") == ()
    assert resources_of_detector(home / "gone-00000005") == ()
    before = ExternalResource(encoder="resnet50", source=NOT_STATED, licence=NOT_STATED)
    assert resources_of_detector(home / "before-00000004") == (before,)


def test_features_know_theirs_or_their_detector_does(
    home: Path, generated: Corpus, workspace: Workspace
) -> None:
    made = Embeddings(source="a", image_ids=("a",), values=np.zeros((1, 2), dtype=np.float32))
    encoder = {"backbone": "b0", "weights_from": "b0 weights", "weights_licence": "mit"}
    made.save(workspace.embeddings / "b0-64px-0000000b", encoder=encoder)
    names = ["b0-64px-0000000b", "old-64px-0000000a"]
    own = ExternalResource(encoder="b0", source="b0 weights", licence="mit")
    meta: dict[str, Any] = {"embeddings": names, "contains": ["global/finetune-00000001"]}
    found = resources_of_fused(meta, generated, workspace=workspace)
    assert found == (own, LITE, VIT)
    external: Any = [encoder | {"weights_from": "global/again-00000002, sha256 4d"}] * 2
    meta = {"embeddings": [], "contains": [], "chosen": {"external": external}}
    assert resources_of_fused(meta, generated, workspace=workspace) == (LITE, VIT)


def test_members_share_theirs_and_what_was_made_elsewhere_is_said(
    home: Path, generated: Corpus, workspace: Workspace
) -> None:
    members = {
        "prior": "", "global/finetune": "finetune-00000001 now", "global/again": "again-00000002 x",
        "theirs": "sha256 0a1b",
    }  # fmt: skip
    users = resources_of_members(members, generated, workspace=workspace)
    assert rows_of_resources(users) == [
        ("tf_efficientnet_lite0", "lite==0.1", "Apache-2.0", "global/finetune, global/again"),
        ("local-dir:vit", "vit", "not stated", "global/finetune, global/again"),
        ("not known", "theirs, made elsewhere", "not stated", "theirs"),
    ]
