"""Twenty pictures, and what an encoder makes of them beside its library's own forward pass."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from backbones.networks.build import build_backbone
from backbones.networks.weights import settled
from backbones.settings.config import BackboneConfig
from corpus.images.decode import decode

RADBENCH = Path(__file__).parents[4] / "shared" / "radbench" / "train"

Features = Callable[..., Tensor]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Radiographs of radbench where they lie beside the checkout, else drawn ones: JPEG, grey."""
    if RADBENCH.is_dir():
        return sorted(RADBENCH.glob("*/*.jpg"))[::150][:20]
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(20):
        coarse = rng.integers(0, 256, (3 + number % 5, 4 + number % 3)).astype(np.uint8)
        size = (330 + 17 * number, 300)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(
            folder / f"{number:02d}.jpg", quality=90
        )
    return sorted(folder.glob("*.jpg"))


@pytest.fixture(scope="session")
def features(pictures: list[Path]) -> Features:
    """(N, D) pooled features of the first pictures, as a detector is given them."""

    def call(config: BackboneConfig, n_images: int = 20) -> Tensor:
        config = settled(config)
        backbone = build_backbone(config).eval()
        size, resample = config.image_sizes[0], config.resample
        assert resample != "own"
        made = []
        with torch.inference_mode():
            for path in pictures[:n_images]:
                pixels = decode(path, size=size, resample=resample).pixels
                made.append(backbone(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])[0])
        return torch.stack(made)

    return call


def assert_alike(ours: Tensor, theirs: Iterable[Tensor], *, differing: float = 0.999) -> None:
    """Cosines of 0.9999 and more, and of what differs from image to image of `differing`.

    The JPEG decoder scales down to twice the size first, and nobody's bilinear filter is another's.
    """
    expected = torch.stack(list(theirs))
    assert ours.shape == expected.shape
    assert torch.cosine_similarity(ours, expected).min() >= 0.9999
    centred = ours - ours.mean(0), expected - expected.mean(0)
    assert torch.cosine_similarity(*centred).min() >= differing
