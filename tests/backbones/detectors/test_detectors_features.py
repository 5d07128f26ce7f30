"""Pooled features: of an image whatever its batch, extracted once, resumed where they stopped."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch
from timm.models import save_for_hf

from backbones.detectors.features import extract, frozen_features, frozen_names, pool
from backbones.networks.build import build_backbone
from backbones.settings.config import BackboneConfig
from core.config import overlay
from core.embeddings import Embeddings
from core.runs.workspace import Corpus, Workspace
from corpus.images.cache import build_cache
from corpus.images.decode import decode
from training.devices.compute import Compute, FittingBatches

TINY = BackboneConfig(backbone="test_efficientnet", weights="none", image_sizes=(64,), probe=False)
HERE = Compute()


def features_of(corpus: Corpus, workspace: Workspace, config: BackboneConfig) -> Embeddings:
    return frozen_features(corpus, workspace, config=config, compute=HERE)


def by_hand(corpus: Corpus, row: int, *, size: int, flip: bool = False) -> npt.NDArray[np.float32]:
    """Features of one image by itself; the same random network is drawn from the same seed."""
    torch.manual_seed(0)
    backbone = build_backbone(TINY).eval()
    pixels = decode(Path(corpus.table.paths[row]), size=size, resample="bilinear").pixels
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    with torch.inference_mode():
        pooled: npt.NDArray[np.float32] = backbone(image.flip(3) if flip else image)[0].numpy()
    return pooled


def test_the_features_of_an_image_do_not_depend_on_its_batch(
    corpus: Corpus, workspace: Workspace
) -> None:
    features = features_of(corpus, workspace, TINY)
    assert features.image_ids == corpus.table.image_ids
    assert features.values.shape == (64, 256)
    for row in (0, 31, 32, 63):  # at the ends of the batches of 32
        np.testing.assert_allclose(
            features.values[row], by_hand(corpus, row, size=64), rtol=1e-4, atol=1e-5
        )


def test_the_last_batch_is_as_large_as_the_others() -> None:
    pixels = torch.randint(256, (5, 3, 64, 64), dtype=torch.uint8)
    asked = []

    def images(rows: npt.NDArray[np.intp]) -> torch.Tensor:
        asked.append(rows.tolist())
        return pixels[torch.from_numpy(rows)]

    with torch.inference_mode():
        found = pool(
            build_backbone(TINY).eval(), np.arange(5), images=images, batches=FittingBatches(2),
            compute=HERE, mirror=False,
        )  # fmt: skip
    assert asked == [[0, 1], [2, 3], [4, 4]]
    assert found.shape == (5, 256)


def test_mirrored_features_are_the_mean_of_the_image_and_its_mirror(
    corpus: Corpus, workspace: Workspace
) -> None:
    features = features_of(corpus, workspace, overlay(TINY, {"mirror": True}))
    for row in (0, 40):
        mean = (by_hand(corpus, row, size=64) + by_hand(corpus, row, size=64, flip=True)) / 2
        np.testing.assert_allclose(features.values[row], mean, rtol=1e-4, atol=1e-5)


def test_two_sizes_stand_side_by_side(corpus: Corpus, workspace: Workspace) -> None:
    config = overlay(TINY, {"image_sizes": (64, 96)})
    features = features_of(corpus, workspace, config)
    assert features.values.shape == (64, 512)
    assert features.source == "test_efficientnet 64 px + test_efficientnet 96 px"
    np.testing.assert_allclose(
        features.values[5, 256:], by_hand(corpus, 5, size=96), rtol=1e-4, atol=1e-5
    )
    alone = features_of(corpus, workspace, TINY)  # shares the folder of the first size
    np.testing.assert_array_equal(features.values[:, :256], alone.values)
    assert {f.name for f in workspace.embeddings.iterdir()} == set(frozen_names(corpus, config))


def test_what_decides_the_features_decides_their_folder(corpus: Corpus) -> None:
    (name,) = frozen_names(corpus, TINY)
    assert name.startswith("test_efficientnet-64px-")
    other = {"image_sizes": "96", "mirror": "true", "resample": "nearest", "weights": "hub"}
    other["precision"] = "bf16"
    names = {frozen_names(corpus, overlay(TINY, {key: value})) for key, value in other.items()}
    assert len(names | {(name,)}) == 6
    assert frozen_names(corpus, overlay(TINY, {"dropout": 0.1, "seed": 3})) == (name,)


def test_finished_features_are_not_extracted_again(corpus: Corpus, workspace: Workspace) -> None:
    features_of(corpus, workspace, TINY)
    (folder,) = workspace.embeddings.iterdir()
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    features_of(corpus, workspace, TINY)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("first_to_do", [32, 41])
def test_an_interrupted_extraction_goes_on_to_the_same_features(
    corpus: Corpus, workspace: Workspace, first_to_do: int
) -> None:
    whole = np.array(features_of(corpus, workspace, TINY).values)
    (folder,) = workspace.embeddings.iterdir()
    (folder / "meta.json").unlink()
    done: Any = np.lib.format.open_memmap(folder / "done.npy", mode="r+")
    values: Any = np.lib.format.open_memmap(folder / "values.npy", mode="r+")
    done[first_to_do:], values[first_to_do:], values[0] = 0, 0, 123
    torch.manual_seed(99)  # the network is random: it must be the same one all the same
    again = features_of(corpus, workspace, TINY).values
    if first_to_do == 32:  # the same batches as before: the same bytes
        np.testing.assert_array_equal(again[1:], whole[1:])
    np.testing.assert_allclose(again[1:], whole[1:], rtol=1e-4, atol=1e-5)
    assert (again[0] == 123).all()  # done before, so not extracted again


def test_images_that_cannot_be_decoded_have_no_features(
    corpus: Corpus, workspace: Workspace
) -> None:
    marks = tuple("0" if row in (2, 50) else "1" for row in range(64))
    table = replace(corpus.table, metadata={"readable": marks})
    partly = replace(corpus, table=table, fingerprint="partly00")
    features = features_of(partly, workspace, TINY)
    assert len(features) == 62
    assert not {table.image_ids[2], table.image_ids[50]} & set(features.image_ids)


def test_a_network_of_ones_own_is_pooled_into_a_folder(
    corpus: Corpus, workspace: Workspace
) -> None:
    torch.manual_seed(5)
    backbone = build_backbone(TINY)
    folder = workspace.embeddings / "own"
    extract(
        folder, backbone, corpus=corpus, workspace=workspace, config=TINY, size=64, compute=HERE
    )
    cache = build_cache(corpus.table, workspace.cache, size=64)
    image = torch.from_numpy(cache.planes.pixels(np.arange(1))).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = backbone.eval()(image)[0].numpy()
    np.testing.assert_allclose(Embeddings.load(folder).values[0], expected, rtol=1e-4, atol=1e-5)


def test_encoders_of_one_short_name_are_measured_each(
    corpus: Corpus, workspace: Workspace, tmp_path: Path
) -> None:
    """As `timm:resnet50` and `torchvision:resnet50`, or two folders called `model`."""
    for owner, network in (("a", "test_efficientnet"), ("b", "test_resnet")):
        folder = tmp_path / owner / "model"
        save_for_hf(timm.create_model(network), folder, safe_serialization=True)
        config = replace(TINY, image_sizes=(32,), probe=True, precision="fp32")
        features_of(corpus, workspace, replace(config, backbone=f"local-dir:{folder}"))
    assert len(list(workspace.speed.glob("model-*-32px-extract-*.json"))) == 2
