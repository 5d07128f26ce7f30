"""Batches of cached images."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.errors import AlignmentError, ImageError
from corpus.images.augment import N_DRAWS
from corpus.images.batches import CachedImages
from corpus.images.cache import ImageCache
from corpus.images.planes import Planes

ROWS = np.arange(5)

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
PIXELS[[1, 3]] = PIXELS[[1, 3], :, :, :1]  # b and d are grey


@pytest.fixture
def cache() -> ImageCache:
    return ImageCache(image_ids=("a", "b", "c", "d", "e"), planes=Planes.of(PIXELS), errors={})


def test_rows_count_in_the_images_asked_for(cache: ImageCache) -> None:
    images = CachedImages.of(cache, ["d", "a", "c"])
    (batch,) = images(np.array([2, 0]))
    assert batch.shape == (2, 3, 4, 4)
    assert batch.dtype == torch.uint8
    expected = PIXELS[[2, 3]].transpose(0, 3, 1, 2)  # c, d
    np.testing.assert_array_equal(batch.numpy(), expected)


def test_a_batch_is_its_images_one_by_one(cache: ImageCache) -> None:
    images = CachedImages.of(cache, cache.image_ids)
    (whole,) = images(np.arange(5))
    single = [images(np.array([row]))[0] for row in range(5)]
    assert torch.equal(whole, torch.cat(single))


def test_an_image_that_is_not_in_the_cache_is_named(cache: ImageCache) -> None:
    with pytest.raises(AlignmentError, match=r"image cache: 1 of 2 images have no row: \['z'\]"):
        CachedImages.of(cache, ["a", "z"])


def test_an_image_that_went_since_it_was_prepared_is_not_taken_for_a_black_one(
    cache: ImageCache,
) -> None:
    spoilt = replace(cache, errors={"c": "c.jpg: no such file"})
    with pytest.raises(
        ImageError,
        match=r"1 of 2 images cannot be decoded any more, first c\.jpg: no such file; run",
    ):
        CachedImages.of(spoilt, ["a", "c"])
    assert len(CachedImages.of(spoilt, ["a", "b"]).rows) == 2


def test_batches_are_channels_last_and_the_same_in_every_epoch(cache: ImageCache) -> None:
    images = CachedImages.of(cache, cache.image_ids, augment="light", seed=1)
    (batch,) = images(ROWS, 3)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(batch.numpy(), PIXELS.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("augment", ["hflip", "light"])
def test_augmentation_is_decided_by_seed_and_epoch(cache: ImageCache, augment: str) -> None:
    first, again, other = (
        CachedImages.of(cache, cache.image_ids, augment=augment, seed=seed) for seed in (1, 1, 2)
    )
    (batch,) = first(ROWS)
    seen = first.augmented(batch, ROWS, epoch=1)
    first.augmented(batch, ROWS, epoch=2)  # another epoch between them changes nothing
    assert torch.equal(seen, again.augmented(batch, ROWS, epoch=1))
    assert any(
        not torch.equal(seen, first.augmented(batch, ROWS, epoch=epoch)) for epoch in range(2, 6)
    )
    assert any(not torch.equal(seen, other.augmented(batch, ROWS, epoch=e)) for e in range(1, 5))


@pytest.mark.parametrize("augment", ["hflip", "light"])
def test_an_image_looks_the_same_in_whatever_batch_it_comes(
    cache: ImageCache, augment: str
) -> None:
    images = CachedImages.of(cache, cache.image_ids, augment=augment, seed=3)
    whole = images.augmented(images(ROWS)[0], ROWS, epoch=7)
    for rows in (np.array([4, 1]), np.array([2]), ROWS[::-1].copy()):
        part = images.augmented(images(rows)[0], rows, epoch=7)
        assert torch.equal(part, whole[torch.from_numpy(rows)])


def test_the_draws_are_those_of_a_generator_keyed_by_seed_and_epoch(cache: ImageCache) -> None:
    images = CachedImages.of(cache, cache.image_ids, augment="light", seed=5)
    key = np.array([5, 9], dtype=np.uint64)
    table = np.random.Generator(np.random.Philox(key=key)).random((5, N_DRAWS), np.float32)
    np.testing.assert_array_equal(images.draws(np.array([3, 0]), 9).numpy(), table[[3, 0]])
    fewer = CachedImages.of(cache, cache.image_ids[:4], augment="light", seed=5)
    assert torch.equal(fewer.draws(ROWS[:4], 9), images.draws(ROWS[:4], 9))


def test_images_that_are_not_augmented_stay_as_they_are(cache: ImageCache) -> None:
    images = CachedImages.of(cache, cache.image_ids, augment="none", seed=1)
    (batch,) = images(ROWS)
    assert images.augmented(batch, ROWS, epoch=1) is batch


def test_a_batch_may_be_changed_without_changing_the_cache(cache: ImageCache) -> None:
    CachedImages.of(cache, cache.image_ids)(ROWS)[0].zero_()
    np.testing.assert_array_equal(cache.planes.pixels(ROWS), PIXELS)


def test_rows_beyond_the_last_are_mirrors(cache: ImageCache) -> None:
    images = CachedImages.of(cache, ["d", "a", "c"])
    (batch,) = images(np.array([2, 5, 3]))
    c, d = (PIXELS[row].transpose(2, 0, 1) for row in (2, 3))
    np.testing.assert_array_equal(batch.numpy(), [c, c[:, :, ::-1], d[:, :, ::-1]])
    assert batch.is_contiguous(memory_format=torch.channels_last)
