"""Which library a string names."""

import pytest

from backbones.encoders.timm_networks import TimmEncoder
from backbones.encoders.worlds import WORLDS, encoder_of
from core.errors import ConfigError


@pytest.mark.parametrize("text", ["resnet50.a1_in1k", "hf-hub:timm/resnet50", "local-dir:/a/b"])
def test_strings_of_timm_stay_as_they_are(text: str) -> None:
    assert encoder_of(text) == TimmEncoder(text)
    assert encoder_of(text).text == text


def test_a_name_of_timm_is_the_same_with_its_library_before_it() -> None:
    assert encoder_of("timm:resnet50").text == encoder_of("resnet50").text == "resnet50"


def test_every_world_takes_a_string() -> None:
    assert all(encoder_of(f"{world}:a").text for world in WORLDS)


def test_a_library_that_there_is_not_is_refused() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^backbone: 'keras:vgg': 'keras' is no library of encoders; expected a name of timm"
        r" or one of timm:NAME, hf-hub:NAME, local-dir:NAME",
    ):
        encoder_of("keras:vgg")


@pytest.mark.parametrize("text", ["timm:", "local-dir:"])
def test_a_library_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"'{text}': expected a name behind the colon"):
        encoder_of(text)
