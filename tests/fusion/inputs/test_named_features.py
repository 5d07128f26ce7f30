"""Which pooled features a name stands for."""

from pathlib import Path

import numpy as np
import pytest

from core.embeddings import Embeddings
from core.errors import ConfigError, MissingStageError
from core.runs.detectors import DetectorRun
from core.runs.workspace import Workspace
from fusion.inputs.named_features import features_named

LITE = ("b0-224px-0000000a", "b0-320px-0000000b")
VITS = ("tiny-vit-1a2b-160px-0000000c", "tiny-vit-3c4d-160px-0000000d")
TUNED = ("global-finetune-0000000e-1of2", "global-finetune-0000000e-2of2")
OLD = ("b0-96px-0000000f",)


@pytest.fixture
def runs(workspace: Workspace) -> list[DetectorRun]:
    """Detectors, the newest last, whose features are there."""
    made = [
        ("quick-00000001", OLD), ("quick-00000002", LITE), ("finetune-0000000e", TUNED),
        ("quick-b0+tiny-vit-1a2b-00000003", (*LITE, VITS[0])),
        ("quick-tiny-vit-3c4d-00000004", VITS[1:]), ("swin-00000005", ()),
    ]  # fmt: skip
    for _, names in made:
        for name in names:
            encoder = {"backbone": "local-dir:/models/one/tiny-vit"} if name == VITS[0] else {}
            if not (workspace.embeddings / name).exists():
                Embeddings(
                    source=name, image_ids=("a",), values=np.zeros((1, 2), dtype=np.float32)
                ).save(workspace.embeddings / name, encoder=encoder)
    return [
        DetectorRun(
            folder=workspace.backbones / "global" / name,
            category="global",
            preset=name.rpartition("-")[0],
            asked=(number, ""),
            embeddings=names,
        )
        for number, (name, names) in enumerate(made)
    ]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["b0"], LITE),  # what the newest detector takes of it
        (["quick"], LITE),
        (["quick-00000001"], OLD),
        (["b0-96px"], OLD),
        (["b0-320px-0000000b"], LITE[1:]),
        (["finetune"], TUNED),
        (["tiny-vit-1a2b"], VITS[:1]),
        (["local-dir:/models/one/tiny-vit"], VITS[:1]),
        (["local-dir:models/one/tiny-vit"], VITS[:1]),  # from /, as it may have been given
        (["timm:b0"], LITE),
        (["quick-b0+tiny-vit-1a2b"], (*LITE, VITS[0])),
        (["b0-320px", "tiny-vit-3c4d", "b0-224px"], (LITE[1], LITE[0], VITS[1])),
    ],
)
def test_features_are_called_by_folder_encoder_preset_or_run(
    runs: list[DetectorRun],
    workspace: Workspace,
    asked: list[str],
    expected: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir("/")
    assert features_named(asked, runs, workspace=workspace) == expected


def test_a_run_is_called_by_the_path_that_its_training_printed(
    runs: list[DetectorRun], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs[0].folder
    monkeypatch.chdir(workspace.backbones.parent)
    for asked in (folder, folder.relative_to(Path.cwd()), "global/quick-00000001", f"{folder}/"):
        assert features_named([str(asked)], runs, workspace=workspace) == OLD
    with pytest.raises(MissingStageError, match="none of this corpus"):
        features_named([str(folder.with_name("quick-0000000f"))], runs, workspace=workspace)


def test_a_name_of_several_and_one_of_none_are_refused(
    runs: list[DetectorRun], workspace: Workspace
) -> None:
    several = "embeddings: tiny-vit stands for several: tiny-vit-1a2b, tiny-vit-3c4d; name one"
    with pytest.raises(ConfigError, match=several):
        features_named(["tiny-vit"], runs, workspace=workspace)
    listed = (
        "pooled features b1 not found in .*: none of this corpus have such a folder, encoder,"
        r" preset or run; there are b0, finetune, quick, .*, tiny-vit-3c4d\. Others are made by"
    )
    with pytest.raises(MissingStageError, match=listed):
        features_named(["b1"], runs, workspace=workspace)
    with pytest.raises(MissingStageError, match="there are none"):
        features_named([str(Path("..") / "b0")], [], workspace=workspace)
