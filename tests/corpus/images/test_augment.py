"""Augmentation of batches."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from corpus.images.augment import N_DRAWS, TRANSFORMS, keep, light, random_mirror

MIRROR, TURN, SHIFT_X, SHIFT_Y, SCALE, BRIGHTNESS, CONTRAST = range(N_DRAWS)
STILL = 0.5
"""In the middle between both ends; of the mirror: not mirrored."""


def noise(*shape: int) -> Tensor:
    return torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def some_draws(n: int) -> Tensor:
    return torch.rand(n, N_DRAWS, generator=torch.Generator().manual_seed(1))


def draws(*which: int, value: float = 0.0) -> Tensor:
    """For one image: still, but for these."""
    row = torch.full((1, N_DRAWS), STILL)
    row[0, list(which)] = value
    return row


def smooth(size: int) -> Tensor:
    """(1, 3, size, size) with slopes of some levels a pixel."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    waves = [128 + 60 * torch.sin(x / 7 + k) + 50 * torch.cos(y / 9 + x / 13) for k in range(3)]
    return torch.stack(waves).round().to(torch.uint8)[None]


def test_keep_keeps() -> None:
    images = noise(3, 3, 4, 4)
    assert keep(images, some_draws(3)) is images


def test_an_image_is_mirrored_left_to_right_where_its_draw_is_below_a_half() -> None:
    images = noise(4, 3, 2, 3)
    numbers = torch.full((4, N_DRAWS), 0.9)
    numbers[:, MIRROR] = torch.tensor([0.0, 0.499, 0.5, 0.999])
    mirrored = random_mirror(images, numbers)
    assert torch.equal(mirrored[:2], images[:2][..., [2, 1, 0]])
    assert torch.equal(mirrored[2:], images[2:])


def test_in_the_middle_of_every_range_light_changes_nothing() -> None:
    images = noise(1, 3, 16, 20)
    assert torch.equal(light(images, draws()), images)


def test_light_mirrors_as_hflip_does() -> None:
    images = noise(1, 3, 16, 20)
    assert torch.equal(light(images, draws(MIRROR)), images.flip(3))


def test_light_shifts_by_a_twentieth_at_most_and_fills_with_black() -> None:
    images = noise(1, 3, 20, 40)
    # The lowest draw looks 5 % of 40 = 2 pixels to the left and 5 % of 20 = 1 pixel up.
    moved = light(images, draws(SHIFT_X, SHIFT_Y)).int()
    assert (moved[:, :, 1:, 2:] - images[:, :, :-1, :-2].int()).abs().max() <= 1
    assert moved[:, :, :1].max() <= 1
    assert moved[:, :, :, :2].max() <= 1


@pytest.mark.parametrize(("which", "value"), [(TURN, 0.0), (TURN, 0.8), (SCALE, 0.0), (SCALE, 0.9)])
def test_light_turns_and_scales_as_torchvision_does(which: int, value: float) -> None:
    images = smooth(64)
    settings: dict[str, Any] = {"angle": 0.0, "scale": 1.0}
    if which == TURN:
        settings["angle"] = -10 + 20 * value
    else:
        settings["scale"] = 0.9 + 0.2 * value
    expected = functional.affine(
        images, translate=[0, 0], shear=[0.0], interpolation=InterpolationMode.BILINEAR, **settings
    ).int()
    found = light(images, draws(which, value=value)).int()
    inside = (found - expected)[:, :, 8:-8, 8:-8].abs()
    assert inside.max() <= 1
    assert (expected - images.int())[:, :, 8:-8, 8:-8].abs().max() > 10


def test_images_that_are_not_square_are_turned_without_shear() -> None:
    images = smooth(64)[:, :, :40]
    expected = functional.affine(
        images,
        angle=-10.0,
        translate=[0, 0],
        scale=1.0,
        shear=[0.0],
        interpolation=InterpolationMode.BILINEAR,
    ).int()
    found = light(images, draws(TURN)).int()
    assert (found - expected)[:, :, 10:-10, 10:-10].abs().max() <= 1


def test_brightness_multiplies_and_contrast_keeps_the_mean() -> None:
    images = torch.tensor([40, 80, 120, 160], dtype=torch.uint8).repeat(1, 3, 4, 1)  # mean 100
    darker = light(images, draws(BRIGHTNESS))
    assert darker[0, 0, 0].tolist() == [34, 68, 102, 136]  # 0.85 times
    flatter = light(images, draws(CONTRAST))
    # 100 + 0.85 * (-60, -20, 20, 60)
    assert flatter[0, 0, 0].tolist() == [49, 83, 117, 151]
    both = light(images, draws(BRIGHTNESS, CONTRAST))
    # 0.85 * (49, 83, 117, 151) = 41.65, 70.55, 99.45, 128.35
    assert both[0, 0, 0].tolist() == [42, 71, 99, 128]


def test_what_becomes_too_bright_is_white() -> None:
    images = torch.full((1, 3, 8, 8), 250, dtype=torch.uint8)
    assert (light(images, draws(BRIGHTNESS, value=0.9)) == 255).all()


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_an_image_undergoes_the_same_in_every_batch(
    name: str, memory_format: torch.memory_format
) -> None:
    images, numbers = noise(7, 3, 33, 33), some_draws(7)
    before = images.clone()
    apply = TRANSFORMS[name]
    whole = apply(images.contiguous(memory_format=memory_format), numbers)
    assert whole.is_contiguous(memory_format=memory_format)
    assert (whole.shape, whole.dtype) == (images.shape, torch.uint8)
    assert torch.equal(images, before)
    for parts in ([3, 4], [1] * 7, [6, 1]):
        cut = zip(torch.split(images, parts), torch.split(numbers, parts), strict=True)
        assert torch.equal(torch.cat([apply(few, of_few) for few, of_few in cut]), whole)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    assert torch.equal(apply(images[order], numbers[order]), whole[order])
    assert apply(images[:0], numbers[:0]).shape == (0, 3, 33, 33)


def test_light_stays_within_what_it_says() -> None:
    """The corners of a bright square move by no more than turn, shift and scale allow."""
    images = torch.zeros(200, 3, 64, 64, dtype=torch.uint8)
    images[:, :, 22:42, 22:42] = 200
    seen = light(images, some_draws(200))[:, 0] > 60
    # Half a side is 10; turned by 10 degrees it reaches 10 * (0.985 + 0.174) = 11.6, a tenth larger
    # 12.7, shifted by a twentieth of 64, 3.2, as far as 15.9 from the middle, and a pixel of blur.
    reach = 10 * (math.cos(math.radians(10)) + math.sin(math.radians(10))) * 1.1 + 0.05 * 64 + 1
    assert round(reach, 1) == 16.9
    places = seen.nonzero()[:, 1:] + 0.5 - 32
    assert 13 < places.abs().max() <= reach
    areas = seen.sum(dim=(1, 2)) / 400
    assert areas.min() > 0.75
    assert areas.max() < 1.3
    # The mean is 200 * 400 / 4096 = 19.5: levels from 0.85 * (0.85 * 200 + 0.15 * 19.5) = 147
    # to 1.15 * (1.15 * 200 - 0.15 * 19.5) = 261, which is cut at 255.
    levels = light(images, some_draws(200))[:, 0, 32, 32]
    assert 147 <= levels.min() < 160
    assert 240 < levels.max() <= 255


def test_every_name_of_the_settings_is_there() -> None:
    assert set(TRANSFORMS) == {"none", "hflip", "light"}
