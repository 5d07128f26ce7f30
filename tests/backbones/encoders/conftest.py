"""Pictures that encoders are compared on, and what they make of them beside their own libraries."""

import shutil
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from backbones.encoders import blueprints
from backbones.encoders.worlds import encoder_of
from backbones.networks.build import Backbone, Detector, build_backbone, unlock_last
from backbones.networks.weights import settled
from backbones.settings.config import BackboneConfig
from core.config import overlay
from corpus.images.decode import decode
from training.optim import build_optimizer

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
    """(N, D) pooled features of the pictures or others, as a detector is given them."""

    def call(config: BackboneConfig, paths: list[Path] = pictures) -> Tensor:
        config = settled(config)
        backbone = build_backbone(config).eval()
        size, resample = config.image_sizes[0], config.resample
        assert resample != "own"
        made = []
        with torch.inference_mode():
            for path in paths:
                pixels = decode(path, size=size, resample=resample).pixels
                made.append(backbone(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])[0])
        return torch.stack(made)

    return call


def assert_alike(ours: Tensor, theirs: Iterable[Tensor], *, differing: float = 0.99) -> None:
    """Cosines of 0.9999 and more, and of what differs from image to image of `differing`.

    Pixels may be one level of 255 apart, by the rounding of an image that is scaled up.
    """
    expected = torch.stack(list(theirs))
    assert ours.shape == expected.shape
    assert torch.cosine_similarity(ours, expected).min() >= 0.9999
    centred = ours - ours.mean(0), expected - expected.mean(0)
    assert torch.cosine_similarity(*centred).min() >= differing


Nearness = Callable[[torch.Tensor, torch.Tensor], tuple[float, float]]
Ours = Callable[..., torch.Tensor]

SHAPES = ((90, 120), (120, 90), (101, 101), (64, 125), (77, 53), (127, 121))


@pytest.fixture(scope="session")
def small_pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twenty JPEGs of several shapes, grey and coloured, smooth as photographs are."""
    folder = tmp_path_factory.mktemp("small_pictures")
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
    config = settled(overlay(BackboneConfig(backbone=text), given))
    return build_backbone(config).eval(), config


def pixels_of(paths: list[Path], config: BackboneConfig) -> torch.Tensor:
    """(N, 3, S, S) uint8, as a run decodes its images."""
    size, resample = config.image_sizes[0], config.resample
    assert resample != "own"
    decoded = [decode(path, size=size, resample=resample).pixels for path in paths]
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)


@pytest.fixture(scope="session")
def ours(small_pictures: list[Path]) -> Ours:
    """Features (20, D) of the pictures, from files on, by an encoder's string."""

    def ask(text: str, **settings: object) -> torch.Tensor:
        backbone, config = backbone_of(text, **settings)
        with torch.no_grad():
            features: torch.Tensor = backbone(pixels_of(small_pictures, config))
        return features

    return ask


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The addresses that were asked for; none answers."""
    asked: list[object] = []

    def refuse(host: object, *_: object, **__: object) -> list[object]:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


def step_once(text: str, **settings: object) -> set[str]:
    """Names of the parameters that a step of training changes."""
    backbone, config = backbone_of(text, **{"regime": "full", **settings})
    detector = Detector(backbone, nn.Linear(backbone.n_features, 3))
    if config.regime == "last":
        unlock_last(detector, config.n_stages)
    before = {name: value.clone() for name, value in detector.named_parameters()}
    optimizer = build_optimizer(detector.train(), config)
    images = torch.randint(0, 256, (4, 3, *config.image_sizes * 2), dtype=torch.uint8)
    targets = torch.tensor([[0.0, 1.0, 1.0]]).expand(4, 3)
    loss = nn.functional.binary_cross_entropy_with_logits(detector(images), targets)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    after = dict(detector.named_parameters())
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def check_groups(text: str) -> None:
    """Every parameter is in one group, of blocks and of stages; only the last may be empty."""
    encoder = encoder_of(text)
    network = encoder.build(pretrained=False)
    names = [name for name, _ in network.named_parameters()]
    n_groups = []
    for coarse in (False, True):
        groups = encoder.layer_groups(network, coarse=coarse)
        assert sorted(name for group in groups for name in group) == sorted(names)
        assert all(groups[:-1])
        n_groups.append(len(groups))
    assert n_groups[0] >= n_groups[1] >= 4


def check_blueprint(text: str) -> None:
    """Its blueprint builds the same network, from nothing but the string."""
    encoder = encoder_of(text)
    blueprint = encoder.blueprint()
    assert text.partition("/")[2] not in blueprint
    again = encoder_of(blueprint)
    assert again.blueprint() == blueprint
    blueprints.check_blueprint(blueprint)
    stated, known = again.stated(), encoder.stated()
    assert (stated.size, stated.resample) == (known.size, known.resample)
    assert stated.normalisation == known.normalisation
    named = {f"network.{n}": t for n, t in encoder.build(pretrained=True).state_dict().items()}
    blueprints.check_layout(blueprint, named, size=known.size)
    network, other = encoder.build(pretrained=True).eval(), again.build(pretrained=False).eval()
    other.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, known.size, known.size)
    with torch.no_grad():
        # Where their numbers lie in memory decides a convolution's last bits.
        assert torch.allclose(encoder.own(network, images), again.own(other, images), atol=1e-5)


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cached(cache: Path, repo: str, *, folder: Path) -> None:
    """Lay a folder's files out as the hub's client keeps them."""
    kept = cache / f"models--{repo.replace('/', '--')}"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text(COMMIT)
    shutil.copytree(folder, kept / "snapshots" / COMMIT)
