"""Pictures that encoders are compared on, and how near two sets of features are."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backbones.networks.build import Backbone, build_backbone
from backbones.networks.weights import settled
from backbones.settings.config import BackboneConfig
from corpus.images.decode import decode

Nearness = Callable[[torch.Tensor, torch.Tensor], tuple[float, float]]
Ours = Callable[..., torch.Tensor]

SHAPES = ((90, 120), (120, 90), (101, 101), (64, 125), (77, 53), (127, 121))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twenty JPEGs of several shapes, grey and coloured, smooth as photographs are."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(20):
        width, height = SHAPES[number % len(SHAPES)]
        coarse = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        picture = picture.convert("L") if number % 3 else picture
        picture.save(folder / f"{number:02d}.jpg", quality=92)
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def nearness() -> Nearness:
    """The least cosine of two sets of features (N, D): as they are, and less their mean.

    Features of a random network hardly differ from image to image, so that the cosine alone would
    find any two alike.
    """

    def measure(ours: torch.Tensor, owners: torch.Tensor) -> tuple[float, float]:
        plain = torch.nn.functional.cosine_similarity(ours, owners).min()
        mean = owners.mean(dim=0)
        centred = torch.nn.functional.cosine_similarity(ours - mean, owners - mean).min()
        return float(plain), float(centred)

    return measure


def backbone_of(text: str, **settings: object) -> tuple[Backbone, BackboneConfig]:
    given = {"weights": "hub", "image_sizes": (), "resample": "own", **settings}
    config = settled(BackboneConfig(backbone=text, **given))
    return build_backbone(config).eval(), config


def pixels_of(paths: list[Path], config: BackboneConfig) -> torch.Tensor:
    """(N, 3, S, S) uint8, as a run decodes its images."""
    size, resample = config.image_sizes[0], config.resample
    assert resample != "own"
    decoded = [decode(path, size=size, resample=resample).pixels for path in paths]
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)


@pytest.fixture(scope="session")
def ours(pictures: list[Path]) -> Ours:
    """Features (20, D) of the pictures, from files on, by an encoder's string."""

    def ask(text: str, **settings: object) -> torch.Tensor:
        backbone, config = backbone_of(text, **settings)
        with torch.no_grad():
            features: torch.Tensor = backbone(pixels_of(pictures, config))
        return features

    return ask


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """The addresses that were asked for; none answers."""
    asked: list[object] = []

    def refuse(host: object, *_: object, **__: object) -> list[object]:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield asked
