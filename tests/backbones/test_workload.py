import copy
from contextlib import nullcontext

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from backbones.networks.build import Backbone
from backbones.workload import Workload, drawn_images

MEAN = STD = (0.5, 0.5, 0.5)


def network(name: str, n_outputs: int) -> Backbone:
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, num_classes=n_outputs, drop_rate=0.5)
    return Backbone(network, mean=MEAN, std=STD)


def learning(model: nn.Module) -> Workload:
    torch.manual_seed(0)
    return Workload(model, size=32, n_images=4, n_concepts=10, device="cpu")


def test_drawn_images_are_grey_and_differ_within_and_among_each_other() -> None:
    torch.manual_seed(0)
    images = drawn_images(6, 48)
    assert (images.dtype, images.shape) == (torch.uint8, (6, 3, 48, 48))
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])
    assert images[:, 0].flatten(1).float().std(dim=1).min() > 5
    assert len({tuple(image.flatten().tolist()) for image in images}) == 6


def test_a_step_gives_the_mean_cross_entropy_and_the_gradient_of_the_last_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), Half(), nn.Linear(3 * 32 * 32, 10))
    work = learning(model)
    found = work.gradients(model, work.images, nullcontext, scale=1.0)
    logits = model(work.images)
    p, y = torch.sigmoid(logits), work.targets
    loss = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    assert found.loss == pytest.approx(loss.item(), rel=1e-4)
    # d loss / d logit = (p - y) / (B L), times the features
    expected = ((p - y) / y.numel()).T @ model[:2](work.images)
    torch.testing.assert_close(found.direction, expected, rtol=1e-4, atol=1e-5)


class Half(nn.Module):
    """Pixels as numbers around zero."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.float() / 128 - 1


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_steps_repeat_to_the_bit_and_leave_the_weights_alone(name: str) -> None:
    model = network(name, 10)
    if name == "test_vit":
        model.network.set_input_size((32, 32))  # type: ignore[operator]  # a method of timm's
    before = copy.deepcopy(dict(model.named_parameters()))
    work = learning(model)
    first, second = (work.gradients(model, work.images, nullcontext, scale=1.0) for _ in "ab")
    assert first.loss == second.loss  # dropout of one half would change it
    assert torch.equal(first.direction, second.direction)
    assert all(torch.equal(before[name], value) for name, value in model.named_parameters())


def test_the_scale_of_the_loss_scales_gradients_alone() -> None:
    work = learning(network("test_resnet", 10))
    once = work.gradients(work.model, work.images, nullcontext, scale=1.0)
    scaled = work.gradients(work.model, work.images, nullcontext, scale=8.0)
    assert scaled.loss == once.loss
    torch.testing.assert_close(scaled.direction, 8 * once.direction)


def test_normalisation_goes_by_the_batch_but_where_the_model_keeps_it() -> None:
    class Locked(nn.Sequential):
        def train(self, mode: bool = True) -> "Locked":
            super().train(mode)
            self[0].eval()
            return self

    model = Locked(nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.Dropout())
    learning(model)
    assert [module.training for module in model] == [False, True, False]


def test_features_are_centred_and_their_spread_is_the_loss() -> None:
    model = network("test_resnet", 0).eval()
    work = Workload(model, size=32, n_images=4, n_concepts=0, device="cpu")
    found = work.features(work.images, nullcontext)
    with torch.inference_mode():
        features = model(work.images)
    assert found.direction.mean(dim=0).abs().max() < 1e-5 * features.abs().max()
    assert found.loss == pytest.approx(features.std(dim=0, unbiased=False).square().mean().sqrt())
    direction = (features - features.mean(dim=0)).flatten()
    assert cosine_similarity(found.direction.flatten(), direction, dim=0) > 1 - 1e-6
