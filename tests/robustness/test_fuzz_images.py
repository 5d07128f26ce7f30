"""Three thousand damaged images; `fuzz_images` itself takes any number."""

import pytest

from tests.robustness.fuzz_images import main


@pytest.mark.slow
def test_no_damaged_image_ends_in_anything_but_a_picture_or_a_line() -> None:
    assert main(["--count", "3000", "--seed", "19"]) == 0
