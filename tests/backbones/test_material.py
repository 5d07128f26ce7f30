"""What a detector learns from."""

import numpy as np
import torch
from torch import nn

from backbones.build import Detector, Standardise
from backbones.config import BackboneConfig
from backbones.material import frozen_material, full_material
from core.config import overlay
from core.workspace import Corpus, Workspace

FROZEN = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(64,), mirror=False, hidden=(8,)
)
FULL = overlay(FROZEN, {"regime": "full", "augment": "hflip"})

ROWS = np.arange(40)


def test_a_frozen_network_gives_features_and_a_head_that_standardises_them(
    corpus: Corpus, workspace: Workspace
) -> None:
    material = frozen_material(corpus, workspace, FROZEN, device="cpu")
    assert material.image_ids == corpus.readable_ids
    (features,) = material.train()(ROWS)
    assert features.shape == (40, 256)
    torch.testing.assert_close(material.evaluate(ROWS)[0], features, rtol=0, atol=0)
    model = material.new_model(ROWS, 6)
    assert model(features).shape == (40, 6)
    first = next(iter(model.children()))
    assert isinstance(first, Standardise)
    torch.testing.assert_close(first(features).mean(dim=0), torch.zeros(256), atol=1e-4, rtol=0)


def test_only_training_images_set_the_standardisation(corpus: Corpus, workspace: Workspace) -> None:
    material = frozen_material(corpus, workspace, FROZEN, device="cpu")
    layers = [next(iter(material.new_model(rows, 6).children())) for rows in (ROWS, ROWS[:10])]
    means = [layer.state_dict()["mean"] for layer in layers]
    torch.testing.assert_close(means[1], material.evaluate(ROWS[:10])[0].mean(dim=0))
    assert not torch.equal(means[0], means[1])


def test_a_whole_network_is_given_the_images(corpus: Corpus, workspace: Workspace) -> None:
    material = full_material(corpus, workspace, FULL, device="cpu")
    (images,) = material.evaluate(ROWS[:3])
    assert (images.shape, images.dtype) == ((3, 3, 64, 64), torch.uint8)
    model = material.new_model(ROWS, 6)
    assert isinstance(model, Detector)
    assert isinstance(model, nn.Module)
    assert model(images).shape == (3, 6)


def test_augmentation_starts_anew_for_each_detector_and_spares_scoring(
    corpus: Corpus, workspace: Workspace
) -> None:
    material = full_material(corpus, workspace, FULL, device="cpu")
    first, second = material.train(), material.train()
    for _ in range(3):
        torch.testing.assert_close(first(ROWS)[0], second(ROWS)[0], rtol=0, atol=0)
    assert not torch.equal(first(ROWS)[0], material.evaluate(ROWS)[0])
    torch.testing.assert_close(material.evaluate(ROWS)[0], material.evaluate(ROWS)[0])
