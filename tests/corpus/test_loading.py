"""Batches of cached images."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.errors import AlignmentError, ImageError
from corpus.cache import ImageCache
from corpus.loading import CachedImages


@pytest.fixture
def cache() -> ImageCache:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    pixels.flags.writeable = False  # as it comes from disk
    return ImageCache(image_ids=("a", "b", "c", "d", "e"), pixels=pixels, errors={})


def test_rows_count_in_the_images_asked_for(cache: ImageCache) -> None:
    images = CachedImages.of(cache, ["d", "a", "c"])
    (batch,) = images(np.array([2, 0]))
    assert batch.shape == (2, 3, 4, 4)
    assert batch.dtype == torch.uint8
    expected = cache.pixels[[2, 3]].transpose(0, 3, 1, 2)  # c, d
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


def test_augmented_batches_are_decided_by_the_seed(cache: ImageCache) -> None:
    def batches(seed: int) -> list[torch.Tensor]:
        images = CachedImages.of(cache, cache.image_ids, augment="hflip", seed=seed)
        return [images(np.arange(5))[0] for _ in range(4)]

    first, again, other = (torch.stack(batches(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])  # drawn anew for each batch


def test_images_that_are_not_augmented_stay_as_they_are(cache: ImageCache) -> None:
    images = CachedImages.of(cache, cache.image_ids, augment="none", seed=1)
    assert torch.equal(images(np.arange(5))[0], images(np.arange(5))[0])


def test_a_batch_may_be_changed_without_changing_the_cache(cache: ImageCache) -> None:
    before = cache.pixels.copy()
    CachedImages.of(cache, cache.image_ids)(np.arange(5))[0].zero_()
    np.testing.assert_array_equal(cache.pixels, before)
