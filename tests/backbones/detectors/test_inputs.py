"""What a detector learns from."""

import numpy as np
import torch

from backbones.detectors.inputs import frozen_inputs, image_inputs
from backbones.networks.build import Detector
from backbones.settings.config import BackboneConfig
from core.config import overlay
from core.runs.workspace import Corpus, Workspace
from training.devices.compute import Compute
from training.heads import Standardise

FROZEN = BackboneConfig(
    backbone="test_efficientnet", weights="none", image_sizes=(64,), hidden=(8,),
    probe=False,
)  # fmt: skip
FULL = overlay(FROZEN, {"regime": "full", "augment": "hflip"})

ROWS = np.arange(40)
HERE = Compute()


def test_a_frozen_network_gives_features_and_a_head_that_standardises_them(
    corpus: Corpus, workspace: Workspace
) -> None:
    inputs = frozen_inputs(corpus, workspace, config=FROZEN, compute=HERE)
    assert inputs.image_ids == corpus.readable_ids
    (features,) = inputs.batches(ROWS)
    assert features.shape == (40, 256)
    torch.testing.assert_close(inputs.batches(ROWS)[0], features, rtol=0, atol=0)
    model = inputs.new_model(ROWS, corpus.labels)
    assert model(features).shape == (40, len(corpus.labels))
    first = next(iter(model.children()))
    assert isinstance(first, Standardise)
    torch.testing.assert_close(first(features).mean(dim=0), torch.zeros(256), atol=1e-4, rtol=0)


def test_only_training_images_set_the_standardisation(corpus: Corpus, workspace: Workspace) -> None:
    inputs = frozen_inputs(corpus, workspace, config=FROZEN, compute=HERE)
    layers = [
        next(iter(inputs.new_model(rows, corpus.labels).children())) for rows in (ROWS, ROWS[:10])
    ]
    means = [layer.state_dict()["mean"] for layer in layers]
    torch.testing.assert_close(means[1], inputs.batches(ROWS[:10])[0].mean(dim=0))
    assert not torch.equal(means[0], means[1])


def test_a_whole_network_is_given_the_images(corpus: Corpus, workspace: Workspace) -> None:
    inputs = image_inputs(corpus, workspace, config=FULL, compute=HERE)
    (images,) = inputs.batches(ROWS[:3])
    assert (images.shape, images.dtype) == ((3, 3, 64, 64), torch.uint8)
    model = inputs.new_model(ROWS, corpus.labels)
    assert isinstance(model, Detector)
    assert model(images).shape == (3, len(corpus.labels))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_regime_last_locks_what_lies_before(corpus: Corpus, workspace: Workspace) -> None:
    inputs = image_inputs(corpus, workspace, config=overlay(FULL, {"regime": "last"}), compute=HERE)
    model = inputs.new_model(ROWS, corpus.labels)
    assert isinstance(model, Detector)
    free = [parameter.requires_grad for parameter in model.backbone.parameters()]
    assert any(free)
    assert not all(free)
    assert all(parameter.requires_grad for parameter in model.head.parameters())


def test_augmentation_depends_on_seed_epoch_and_image_alone(
    corpus: Corpus, workspace: Workspace
) -> None:
    inputs = image_inputs(corpus, workspace, config=FULL, compute=HERE)
    images = inputs.batches(ROWS)
    first, again, other = (inputs.augment(seed) for seed in (1, 1, 2))
    assert first is not None
    assert again is not None
    assert other is not None
    seen = first(images, ROWS, 1)[0]
    assert torch.equal(seen, again(images, ROWS, 1)[0])
    backwards = ROWS[::-1].copy()
    assert torch.equal(seen.flip(0), first(inputs.batches(backwards), backwards, 1)[0])
    assert not torch.equal(seen, images[0])
    assert not torch.equal(seen, first(images, ROWS, 2)[0])
    assert not torch.equal(seen, other(images, ROWS, 1)[0])
    plain = image_inputs(corpus, workspace, config=overlay(FULL, {"augment": "none"}), compute=HERE)
    assert plain.augment(1) is None
