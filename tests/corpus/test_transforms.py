import numpy as np
import torch

from corpus.transforms import TRANSFORMS, keep, random_mirror

IMAGES = torch.arange(400 * 2 * 3, dtype=torch.int32).view(400, 1, 2, 3)


def test_keep_keeps() -> None:
    assert keep(IMAGES, np.random.default_rng(0)) is IMAGES


def test_about_half_of_the_images_are_mirrored_left_to_right() -> None:
    mirrored = random_mirror(IMAGES, np.random.default_rng(0))
    n_mirrored = 0
    for before, after in zip(IMAGES, mirrored, strict=True):
        flipped = torch.equal(after, before[:, :, [2, 1, 0]])
        assert flipped or torch.equal(after, before)
        n_mirrored += flipped
    assert 160 < n_mirrored < 240  # 200, four deviations of 10 either way


def test_shapes_and_types_stay() -> None:
    images = torch.zeros(3, 3, 4, 5, dtype=torch.uint8)
    for transform in TRANSFORMS.values():
        changed = transform(images, np.random.default_rng(0))
        assert (changed.shape, changed.dtype) == (images.shape, images.dtype)
