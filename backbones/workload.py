"""Steps of a network on drawn images, to be timed and compared."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate
from torch.nn.modules.batchnorm import _BatchNorm

from training.devices.probe import Outcome

Context = Callable[[], AbstractContextManager[Any]]


class Workload:
    """A network and drawn images; its steps leave the weights alone."""

    def __init__(
        self, model: nn.Module, *, size: int, n_images: int, n_concepts: int, device: str
    ) -> None:
        """Draw images and, where there are concepts, true ones.

        Args:
            model: of uint8 images (B, 3, size, size): logits (B, L), or features where L is 0.
            size: of the images, in pixels.
            n_images: at most in a step.
            n_concepts: L; 0 for features, in inference.
            device: where the steps are taken.
        """
        self.model = model.to(device)
        self.images = drawn_images(n_images, size).to(device)
        self.targets = (torch.rand(n_images, n_concepts) < 0.05).float().to(device)
        if n_concepts:
            _train_without_dropout(model)
        else:
            model.eval()

    def features(self, images: Tensor, context: Context) -> Outcome:
        """How far features spread, and the features without their mean over the images."""
        with torch.inference_mode(), context():
            features = self.model(images).float().cpu()
        centred = features - features.mean(dim=0)
        return Outcome(loss=float(centred.square().mean().sqrt()), direction=centred)

    def gradients(
        self, forward: Callable[..., Any], images: Tensor, context: Context, *, scale: float
    ) -> Outcome:
        """The loss, and the gradient of the last layer's weights.

        Args:
            forward: the model, or the model compiled.
            images: (B, 3, size, size), B at most the images there are.
            context: of the forward pass.
            scale: of the loss as its gradients are taken.
        """
        self.model.zero_grad(set_to_none=True)
        with context():
            logits = forward(images).float()
        loss = binary_cross_entropy_with_logits(logits, self.targets[: len(images)])
        torch.autograd.backward(loss * scale)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None and p.dim() > 1]
        return Outcome(loss=loss.item(), direction=gradients[-1])  # item waits for the device


def _train_without_dropout(model: nn.Module) -> None:
    """Dropout costs next to nothing, but what it draws depends on the memory format.

    Normalisation that the model does not train stays as it is.
    """
    model.train()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    model.eval()
    for norm in norms:
        norm.train()


def drawn_images(n_images: int, size: int) -> Tensor:
    """Grey images (n, 3, size, size), uint8, of soft blobs in three sizes, each image its own mix.

    On white noise all images give nearly the same features, and rounding looks large beside what is
    left of the difference between them: 57 % of it for DenseNet121 in bf16, 1 % on these and on
    radiographs.
    """
    total = torch.zeros(n_images, 1, size, size)
    for n_blobs in (3, 9, 27):
        coarse = torch.randn(n_images, 1, n_blobs, n_blobs) * torch.rand(n_images, 1, 1, 1)
        total += interpolate(coarse, size=(size, size), mode="bicubic")
    return (128 + 60 * total).clamp(0, 255).to(torch.uint8).repeat(1, 3, 1, 1)
