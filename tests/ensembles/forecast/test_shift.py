"""Another kind of images is noticed without labels; another draw of the same kind is not."""

from dataclasses import replace

import numpy as np
import pytest

from ensembles.forecast.shift import ImageTraits, Shift, shift_between


def kind(
    n: int,
    *,
    seed: int,
    share: float = 0.5,
    mass: float = 5.0,
    more_in_ct: float = 0.0,
    names: tuple[str, str] = ("DRCT", "DRXR"),
    group_size: int = 1,
) -> ImageTraits:
    """Images of two categories, of which the first has so many expected concepts more."""
    rng = np.random.default_rng(seed)
    first = rng.random(n // group_size).repeat(group_size) < share
    own = rng.normal(0.0, 1.0, n // group_size).repeat(group_size)
    return ImageTraits(
        mass=mass + own + more_in_ct * first,
        highest=rng.uniform(0.3, 1.0, n),
        categories=np.where(first, *names).tolist(),
        groups=[f"g{seed}-{i // group_size}" if group_size > 1 else "" for i in range(n)],
    )


def test_another_draw_of_the_same_kind_is_not_called_different() -> None:
    for seed in range(20):
        found = shift_between(kind(800, seed=seed), kind(600, seed=100 + seed))
        assert found == Shift(mix=[], meaning=[])


def test_other_probabilities_in_the_same_categories_change_what_they_mean() -> None:
    found = shift_between(kind(800, seed=0), kind(600, seed=1, mass=7.0))
    assert found.mix == []
    assert found.meaning == ["6.9 expected concepts an image against 5.0"]
    unsure = kind(600, seed=1)
    found = shift_between(kind(800, seed=0), replace(unsure, highest=unsure.highest * 0.6))
    assert [words.split(" in ")[0] for words in found.meaning] == ["nothing above 0.5"]


def test_another_mix_of_categories_is_no_change_of_meaning() -> None:
    before = kind(800, seed=0, share=0.3, more_in_ct=4.0)
    found = shift_between(before, kind(600, seed=1, share=0.8, more_in_ct=4.0))
    assert [words.split()[0] for words in found.mix] == ["DRCT", "DRXR"]
    assert found.meaning == []  # though an image has two expected concepts more
    assert found.words == list(found.mix)


@pytest.mark.parametrize("other", ["DRPE", ""])
@pytest.mark.parametrize("share", [0.0, 0.9])
def test_categories_that_valid_does_not_have_are_named(share: float, other: str) -> None:
    now = kind(600, seed=1, share=share, names=("DRCT", other))
    found = shift_between(kind(800, seed=0), now)
    unseen = np.mean(np.array(now.categories) == other)
    words = f"{unseen:.0%} of its images in categories that those lack ({other or 'none given'})"
    assert found.meaning == [words]
    few = kind(600, seed=1, share=0.98, names=("DRCT", other))
    assert shift_between(kind(800, seed=0), few).meaning == []


def test_errors_come_from_whole_groups() -> None:
    """Ten studies of sixty images differ by chance by what six hundred patients would not."""

    def n_noticed(*, known_groups: bool) -> int:
        found = 0
        for seed in range(20):
            parts = (kind(600, seed=s, group_size=60) for s in (seed, 50 + seed))
            if not known_groups:
                parts = (replace(part, groups=[""] * 600) for part in parts)
            found += bool(shift_between(*parts).meaning)
        return found

    assert n_noticed(known_groups=True) <= 2
    assert n_noticed(known_groups=False) >= 10
