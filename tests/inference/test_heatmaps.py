"""Which places of an image speak for a concept: by hand, by sums, by what must change it."""

import io
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import nn

from backbones.encoders.pooling import Pooling
from backbones.encoders.worlds import encoder_of
from backbones.networks.build import Backbone
from backbones.settings.config import BackboneConfig
from backbones.train import train_backbones
from core.errors import AlignmentError, ConfigError, LabelSpaceError, MissingStageError
from core.images import ImageTable
from core.labels import LabelSpace
from core.runs.detectors import DetectorRun, find_runs
from core.runs.workspace import Corpus, Workspace
from inference.heat.evidence import DetectorSight, dealt_out, read_sight
from inference.heat.paint import colour_layer, colours, laid_over
from inference.heat.places import PlacedNetwork, SeenImage
from inference.heatmaps import HeatMapper
from tests.conftest import save_prepared
from training.devices.compute import Compute
from training.devices.speed import PLAIN, Speed
from training.heads import Standardise

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

SWIN = "timm:" + json.dumps({
    "architecture": "swin_tiny_patch4_window7_224",
    "arguments": {
        "img_size": 128, "window_size": 4, "embed_dim": 24, "depths": [1, 2], "num_heads": [2, 4],
    },
    "images": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
})  # fmt: skip
ENCODERS = {
    "cnn": ("test_efficientnet", 192),
    "convnext": ("test_convnext", 192),
    "swin": (SWIN, 128),
    "vit": ("test_vit", 128),
}
HEADS = BackboneConfig(
    backbone="test_resnet", weights="none", image_sizes=(64,), probe=False, hidden=(), epochs=2,
    patience=2, batch_size=16, n_members=1,
)  # fmt: skip
CONCEPTS = tuple(f"C{number}" for number in range(8))
LABELS = LabelSpace(CONCEPTS)

every_encoder = pytest.mark.parametrize(("text", "size"), ENCODERS.values(), ids=ENCODERS)


def built(text: str, size: int, *, pooling: Pooling = "own", seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    encoder = encoder_of(text)
    network = encoder.build(pretrained=False)
    encoder.resize(network, size)
    return Backbone(
        network, encoder=encoder, normalisation=encoder.stated().normalisation, pooling=pooling,
        size=size,
    )  # fmt: skip


def placed(backbone: Backbone, size: int, *, mirror: bool = False) -> PlacedNetwork:
    return PlacedNetwork(backbone, look=(size, "bilinear"), mirror=mirror, compute=Compute())


def linear(n_features: int, *, seed: int) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(n_features, len(CONCEPTS)).requires_grad_(False)


def sight_of(network: PlacedNetwork, head: nn.Module) -> DetectorSight:
    return DetectorSight(labels=LABELS, networks=[network], heads=[head], frozen=False)


def picture(size: int) -> Pixels:
    """Noise, a bright block at the right and one at the lower left."""
    pixels = np.random.default_rng(0).integers(0, 60, (size, size, 3), dtype=np.uint8)
    pixels[size // 9 : size // 3, size // 2 :] += 120
    pixels[size // 2 :, : size // 4] += 90
    return pixels


def seen_by_hand(values: list[list[float]], *, rows: int = 1) -> SeenImage:
    """Features that are means over four places."""
    leaf = torch.tensor([values] * rows).requires_grad_()
    return SeenImage(
        features=leaf.mean(dim=2), leaf=leaf, layout="places", n_places=4, means=slice(0, 2)
    )


def test_under_a_mean_and_weights_a_place_adds_weights_times_its_activations() -> None:
    seen = seen_by_hand([[4.0, 0.0, 8.0, 0.0], [0.0, 4.0, 4.0, 0.0]])
    weights = torch.tensor([[[2.0, -1.0]]])
    # e_p = (2 a_p - b_p) / 4: 8/4, -4/4, (16-4)/4, 0
    found = seen.evidence(weights, torch.zeros(1))
    assert found.tolist() == [[[2.0, -1.0], [3.0, 0.0]]]
    # z = 2 * mean(4, 0, 8, 0) - mean(0, 4, 4, 0) = 2 * 3 - 2
    assert found.sum().item() == 4.0


def test_what_an_average_image_adds_is_taken_off_in_equal_shares() -> None:
    seen = seen_by_hand([[4.0, 0.0, 8.0, 0.0], [0.0, 4.0, 4.0, 0.0]])
    found = seen.evidence(torch.tensor([[[2.0, -1.0]]]), torch.tensor([6.0]))
    assert found.tolist() == [[[0.5, -2.5], [1.5, -1.5]]]


def test_places_of_the_mirror_are_turned_back() -> None:
    seen = seen_by_hand([[4.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], rows=2)
    gradients = torch.tensor([[[1.0, 0.0], [3.0, 0.0]]])
    # The image adds 4/4 on the left, its mirror 3 * 4/4 there, which is the right of the image.
    found = seen.evidence(gradients, torch.zeros(1))
    assert found.tolist() == [[[1.0, 3.0], [0.0, 0.0]]]


def test_a_map_of_fewer_places_is_dealt_out_by_the_area_they_share() -> None:
    # Of two places on a side the first third lies in one, the second half and half.
    maps = torch.tensor([[[9.0, 0.0], [0.0, -9.0]]])
    found = dealt_out(maps, side=3)
    assert found[0].numpy() == pytest.approx(np.array([[4, 2, 0], [2, 0, -2], [0, -2, -4]]))
    assert dealt_out(torch.rand(3, 7, 7), side=10).shape == (3, 10, 10)
    assert dealt_out(maps, side=2) is maps


@pytest.mark.parametrize("text", ["test_efficientnet", "test_resnet", SWIN, "torchvision:resnet18"])
@pytest.mark.parametrize("mirror", [False, True])
def test_the_map_of_a_linear_head_on_a_mean_sums_to_the_logit_less_its_bias(
    text: str, mirror: bool
) -> None:
    backbone = built(text, 128)
    head = linear(backbone.n_features, seed=1)
    network = placed(backbone, 128, mirror=mirror)
    assert network.layer is None
    found = sight_of(network, head).of({network.look: picture(128)}, concepts=CONCEPTS, heads=[0])
    expected = found.logits - head.bias.numpy()
    assert found.places.sum(axis=(1, 2)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("pooling", ["none", "mean"])
def test_so_does_that_of_all_places_side_by_side_where_grad_cam_would_not(
    pooling: Pooling,
) -> None:
    backbone = built("test_resnet", 128, pooling=pooling)
    head = linear(backbone.n_features, seed=1)
    network = placed(backbone, 128)
    found = sight_of(network, head).of({network.look: picture(128)}, concepts=CONCEPTS, heads=[0])
    expected = found.logits - head.bias.numpy()
    assert found.places.sum(axis=(1, 2)) == pytest.approx(expected, abs=1e-4)


def test_evidence_on_standardised_features_is_held_against_the_mean_training_image() -> None:
    backbone = built("test_resnet", 128)
    network = placed(backbone, 128)
    head = nn.Sequential(
        Standardise.fitted(torch.rand(20, backbone.n_features)),
        linear(backbone.n_features, seed=1),
    )
    sight = DetectorSight(labels=LABELS, networks=[network], heads=[head], frozen=True)
    found = sight.of({network.look: picture(128)}, concepts=CONCEPTS, heads=[0])
    bias = head[1].bias.numpy()  # type: ignore[operator]  # a tensor
    assert found.places.sum(axis=(1, 2)) == pytest.approx(found.logits - bias, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "pooling", "kind", "layout"),
    [
        ("test_convnext", "own", "Identity", "maps"),
        ("test_vit", "own", "LayerNorm", "tokens"),
        ("test_vit", "cls", "LayerNorm", "tokens"),
        ("torchvision:vit_b_32", "own", "LayerNorm", "tokens"),
        ("deit_tiny_distilled_patch16_224", "own", "LayerNorm", "tokens"),
    ],
)
def test_the_layer_is_the_last_one_whose_places_matter(
    text: str, pooling: Pooling, kind: str, layout: str
) -> None:
    size = 224 if "224" in text else 96
    network = placed(built(text, size, pooling=pooling), size)
    assert network.layer is not None
    assert (type(network.layer.module).__name__, network.layer.layout) == (kind, layout)
    seen = network.see(picture(size))
    assert seen.features[0].detach().numpy() == pytest.approx(
        network.backbone(torch.tensor(picture(size)).permute(2, 0, 1)[None])[0].numpy(), abs=1e-5
    )
    wanted = torch.randn(1, *seen.features.shape)
    assert seen.evidence(wanted, torch.zeros(1)).abs().amax() > 0


def test_a_place_of_convnext_speaks_beside_the_others_of_its_image() -> None:
    """What is normalised after the mean has no scale: its gradient adds up to nothing."""
    backbone = built("test_convnext", 192)
    network = placed(backbone, 192)
    head = linear(backbone.n_features, seed=1)
    found = sight_of(network, head).of({network.look: picture(192)}, concepts=CONCEPTS, heads=[0])
    assert np.abs(found.places.sum(axis=(1, 2))).max() < 0.02 * np.abs(found.places).max()


@every_encoder
def test_maps_in_half_precision_and_another_memory_format_are_nearly_the_same(
    text: str, size: int
) -> None:
    head = linear(built(text, size).n_features, seed=1)

    def maps(speed: Speed) -> Floats:
        network = PlacedNetwork(
            built(text, size), look=(size, "bilinear"), mirror=True, compute=Compute(speed=speed)
        )
        pixels = {network.look: picture(size)}
        return sight_of(network, head).of(pixels, concepts=CONCEPTS, heads=[0]).places

    plain, fast = maps(PLAIN), maps(Speed(precision="bf16", channels_last=True))
    for one, another in zip(plain, fast, strict=True):
        assert np.corrcoef(one.ravel(), another.ravel())[0, 1] > 0.98


@every_encoder
def test_maps_change_with_the_weights_from_the_head_down(text: str, size: int) -> None:
    """The randomisation test of Adebayo et al., Sanity checks for saliency maps, 2018."""
    backbone, other = built(text, size), built(text, size, seed=5)

    def maps(head: nn.Module) -> Floats:
        network = placed(backbone, size)
        return (
            sight_of(network, head)
            .of({network.look: picture(size)}, concepts=CONCEPTS, heads=[0])
            .places
        )

    before = maps(linear(backbone.n_features, seed=1))
    head = linear(backbone.n_features, seed=2)
    groups = backbone.encoder.layer_groups(backbone.network, coarse=True)
    own, drawn = (dict(each.network.named_parameters()) for each in (backbone, other))
    for names in (None, *reversed(groups)):
        with torch.no_grad():
            for name in names or ():
                own[name].copy_(drawn[name])
        pairs = zip(before, maps(head), strict=True)
        ranks = [spearmanr(one, another, axis=None).statistic for one, another in pairs]
        # Of a few dozen places, many correlate by chance, either way, but none stays as it was.
        assert max(ranks) < 0.9
        assert np.mean(ranks) < 0.4


@dataclass(frozen=True)
class Planted:
    """Images of which the half with a bright square, one of 16 places, has C1."""

    corpus: Corpus
    workspace: Workspace
    squares: Mapping[str, tuple[int, int]]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("planted")
    rng, squares, n = np.random.default_rng(0), {}, 72
    ids = tuple(f"image_{number:02d}" for number in range(n))
    for number, image_id in enumerate(ids):
        pixels = rng.normal(70, 12, (128, 128))
        row, column = (int(at) for at in rng.integers(0, 4, 2))
        if number % 2:
            squares[image_id] = (row, column)
            pixels[32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = 230
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(home / f"{image_id}.png")
    table = ImageTable(
        image_ids=ids,
        paths=tuple(str(home / f"{image_id}.png") for image_id in ids),
        categories=("DRXR",) * n,
        splits=("train",) * 60 + ("test",) * 12,
        folds=np.array([i // 2 % 2 if i < 60 else -1 for i in range(n)], dtype=np.int16),
        groups=ids,
        concepts=tuple(
            None if i >= 60 else ("C1", "C2") if ids[i] in squares else ("C2",) for i in range(n)
        ),
        metadata={"readable": ("1",) * n},
    )
    corpus = Corpus(
        name="planted", table=table, labels=LabelSpace(("C1", "C2")), names={}, edition=2020,
        fingerprint="plant000", notes=(), protocol="crossfit",
    )  # fmt: skip
    return Planted(corpus, save_prepared(corpus, home / "runs"), squares)


def trained(
    corpus: Corpus, workspace: Workspace, preset: str, config: BackboneConfig
) -> DetectorRun:
    train_backbones(
        corpus, workspace, names=["global"], config=config, preset=preset, compute=Compute()
    )
    (run,) = [r for r in find_runs(workspace, corpus.fingerprint) if r.preset == preset]
    return run


@pytest.mark.parametrize("text", ["test_resnet", SWIN, "test_vit"], ids=["cnn", "swin", "vit"])
def test_the_square_that_alone_decides_a_concept_is_where_its_map_is_highest(
    planted: Planted, text: str
) -> None:
    config = replace(HEADS, backbone=text, image_sizes=(128,), epochs=30, patience=30)
    run = trained(planted.corpus, planted.workspace, f"p{len(text)}", config)
    mapper = HeatMapper.of(planted.workspace, planted.corpus, detector=run)
    probs: dict[bool, list[float]] = {True: [], False: []}
    for image_id in planted.corpus.table.image_ids[36:]:  # labelled ones and all of test
        found = mapper.maps_of(image_id, concepts=["C1"])
        probs[image_id in planted.squares].append(float(found.probabilities[0]))
        if image_id not in planted.squares:
            continue
        heat = found.maps[0]
        at = np.unravel_index(heat.argmax(), heat.shape)
        place = tuple(int(4 * (index + 0.5) / len(heat)) for index in at)
        assert place == planted.squares[image_id], image_id
    assert np.mean(probs[True]) > np.mean(probs[False]) + 0.2  # it was learnt


Made = Mapping[str, DetectorRun]


@pytest.fixture(scope="module")
def small(crossfitted: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    torch.set_num_threads(1)
    return save_prepared(crossfitted, tmp_path_factory.mktemp("heat") / "runs")


@pytest.fixture(scope="module")
def runs(crossfitted: Corpus, small: Workspace) -> Made:
    """Heads on two sizes with mirrors; on two encoders; on a ConvNeXt; fine-tuned networks."""
    configs = {
        "sizes": replace(HEADS, image_sizes=(64, 96), mirror=True),
        "joined": replace(HEADS, joined=("test_vit",), hidden=(8,)),
        "seeds": replace(HEADS, backbone="test_convnext", seeds=2),
        "fine": replace(HEADS, regime="full", mirror=True, backbone="test_efficientnet"),
    }
    return {name: trained(crossfitted, small, name, own) for name, own in configs.items()}


@pytest.fixture(scope="module")
def mappers(crossfitted: Corpus, small: Workspace, runs: Made) -> Mapping[str, HeatMapper]:
    return {name: HeatMapper.of(small, crossfitted, detector=run) for name, run in runs.items()}


@pytest.fixture(scope="module")
def mapper(mappers: Mapping[str, HeatMapper]) -> HeatMapper:
    return mappers["sizes"]


NAMES = ("sizes", "joined", "seeds", "fine")


@pytest.mark.parametrize("name", NAMES)
def test_a_labelled_image_is_shown_by_the_networks_that_never_met_it_and_test_by_all(
    name: str, mappers: Mapping[str, HeatMapper], runs: Made
) -> None:
    mapper, n_seeds = mappers[name], 2 if name == "seeds" else 1
    for image_id, split, n_networks in (
        ("train_00", "labelled", n_seeds),
        ("valid_03", "labelled", n_seeds),
        ("test_02", "test", 3 * n_seeds),
    ):
        found = mapper.maps_of(image_id, concepts=mapper.labels.cuis)
        said = runs[name].predictions(split).rows([image_id]).probs[0]
        assert found.probabilities == pytest.approx(said, abs=1e-5)
        assert (found.n_networks, found.met) == (n_networks, False)
        assert found.maps.dtype == np.float32
        assert found.maps.min() >= 0
        highest = found.maps.max(axis=(1, 2))
        assert highest.tolist() == (found.peaks > 0).astype(float).tolist()


@pytest.mark.parametrize("name", ["sizes", "fine"])
def test_the_map_is_that_of_its_fold_and_the_mean_over_folds_where_all_are_asked(
    name: str, crossfitted: Corpus, small: Workspace, runs: Made
) -> None:
    sight = read_sight(runs[name], workspace=small, corpus=crossfitted, device="cpu")
    mapper = HeatMapper(sight, run=runs[name], corpus=crossfitted)
    cuis = crossfitted.labels.cuis
    squares = {(s, r): np.asarray(picture(s)) for s, r in sight.looks}
    each = [sight.of(squares, concepts=cuis, heads=[k]) for k in range(3)]
    (row,) = crossfitted.table.row_numbers(["train_05"]).tolist()
    own = each[int(crossfitted.table.folds[row])].places
    peaks = np.maximum(own, 0).max(axis=(1, 2))
    found = mapper.maps(squares, concepts=cuis, image_id="train_05")
    assert found.peaks == pytest.approx(peaks, abs=1e-6)
    assert found.maps * found.peaks[:, None, None] == pytest.approx(np.maximum(own, 0), abs=1e-6)
    mean = np.mean([one.places for one in each], axis=0)
    for new in (mapper.maps(squares, concepts=cuis),
                mapper.maps(squares, concepts=cuis, image_id="test_00")):  # fmt: skip
        positive = np.maximum(mean, 0)
        assert new.maps * new.peaks[:, None, None] == pytest.approx(positive, abs=1e-6)
        assert new.logits == pytest.approx(np.mean([one.logits for one in each], axis=0), abs=1e-5)


def test_all_sizes_and_networks_together_sum_to_the_logit_less_the_bias(
    crossfitted: Corpus, small: Workspace, runs: Made
) -> None:
    sight = read_sight(runs["sizes"], workspace=small, corpus=crossfitted, device="cpu")
    squares = {(s, r): np.asarray(picture(s)) for s, r in sight.looks}
    found = sight.of(squares, concepts=crossfitted.labels.cuis, heads=[0, 1, 2])
    assert found.places.shape == (7, 3, 3)  # of 96 pixels; those of 64 have two by two
    states = [head.state_dict() for head in sight.heads]
    bias = np.mean([[*state.values()][-1].numpy() for state in states], axis=0)
    assert found.places.sum(axis=(1, 2)) == pytest.approx(found.logits - bias, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_concepts_together_are_concepts_one_by_one(
    name: str, mappers: Mapping[str, HeatMapper]
) -> None:
    mapper, cuis = mappers[name], mappers[name].labels.cuis
    pixels = np.asarray(picture(120)[:100])
    whole = mapper.maps(pixels, concepts=cuis)
    for number, cui in enumerate(cuis):
        one = mapper.maps(pixels, concepts=[cui])
        assert np.array_equal(one.maps[0], whole.maps[number])
        assert one.logits[0] == whole.logits[number]
    assert mapper.maps(pixels, concepts=cuis[::-1]).concepts == cuis[::-1]
    assert mapper.maps(pixels, concepts=[]).maps.shape == (0, *whole.maps.shape[1:])


def test_an_image_that_networks_have_met_is_told(corpus: Corpus, trained_once: Workspace) -> None:
    (run,) = [r for r in find_runs(trained_once, corpus.fingerprint) if r.category == "global"]
    mapper = HeatMapper.of(trained_once, corpus, detector=run)
    asked = {i: mapper.maps_of(i, concepts=["C3"]) for i in ("train_00", "valid_00", "test_00")}
    assert {image_id: found.met for image_id, found in asked.items()} == {
        "train_00": True, "valid_00": False, "test_00": False,
    }  # fmt: skip


def test_networks_that_held_out_a_part_of_train_are_asked_of_it(
    corpus: Corpus, tmp_path: Path
) -> None:
    workspace = save_prepared(corpus, tmp_path / "runs")
    run = trained(corpus, workspace, "parts", replace(HEADS, folds=2))
    mapper = HeatMapper.of(workspace, corpus, detector=run)
    for image_id in ("train_00", "train_02"):
        found = mapper.maps_of(image_id, concepts=corpus.labels.cuis)
        said = run.predictions("train").rows([image_id]).probs[0]
        assert (found.n_networks, found.met) == (1, False)
        assert found.probabilities == pytest.approx(said, abs=1e-5)
    assert mapper.maps_of("valid_00", concepts=["C3"]).n_networks == 2


def test_what_is_prepared_and_what_is_decoded_give_the_same(
    mapper: HeatMapper, crossfitted: Corpus
) -> None:
    (row,) = crossfitted.table.row_numbers(["train_01"]).tolist()
    with Image.open(crossfitted.table.paths[row]) as image:
        pixels = np.asarray(image)
    given = mapper.maps(pixels, concepts=["C4"], image_id="train_01")
    assert given.maps == pytest.approx(mapper.maps_of("train_01", concepts=["C4"]).maps, abs=1e-5)


def test_what_is_no_concept_no_image_or_of_another_corpus_is_refused(
    mapper: HeatMapper, crossfitted: Corpus, small: Workspace, runs: Made
) -> None:
    pixels = picture(64)
    with pytest.raises(LabelSpaceError, match="C77"):
        mapper.maps(pixels, concepts=["C3", "C77"])
    with pytest.raises(AlignmentError, match="has no image 'nobody'"):
        mapper.maps(pixels, concepts=["C3"], image_id="nobody")
    with pytest.raises(AlignmentError, match="nobody"):
        mapper.maps_of("nobody", concepts=["C3"])
    with pytest.raises(ConfigError, match="found 64 x 64 x 4 of uint8"):
        mapper.maps(np.zeros((64, 64, 4), np.uint8), concepts=["C3"])
    with pytest.raises(ConfigError, match="found 64 x 64 of float64"):
        mapper.maps(np.zeros((64, 64)), concepts=["C3"])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected 96 x 96 x 3 of uint8, scaled by bilinear"):
        mapper.maps({(64, "bilinear"): pixels}, concepts=["C3"])
    with pytest.raises(MissingStageError, match="trained on another corpus"):
        HeatMapper.of(small, replace(crossfitted, fingerprint="other000"), detector=runs["sizes"])


@pytest.mark.parametrize(
    ("text", "size", "message"),
    [
        ("test_efficientnet", 32, "at 32 pixels has 1 places, which form no square"),
        ("crossvit_tiny_240", 240, "has no single last map"),
    ],
)
def test_a_network_without_places_is_refused(text: str, size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        placed(built(text, size), size)


def test_a_network_whose_places_do_not_matter_is_refused() -> None:
    backbone = built("test_vit", 96)
    backbone.network.blocks = nn.Identity()  # the class token meets no place
    with pytest.raises(ConfigError, match="no layer with places that its features depend on"):
        placed(backbone, 96)


def test_a_layer_of_colour_is_transparent_where_there_is_little_and_ever_lighter() -> None:
    table = colours().astype(float)
    assert table.shape == (256, 4)
    assert not table[:26, 3].any()
    assert (np.diff(table[:, 3]) >= 0).all()
    assert table[255].tolist() == [240, 249, 33, 178]  # seven tenths of 255
    lightness = table[:, :3] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) > -0.5).all()
    heat = np.zeros((2, 2), np.float32)
    heat[0, 1] = 1
    with Image.open(io.BytesIO(colour_layer(heat, width=30, height=20))) as image:
        drawn = np.asarray(image)
    assert drawn.shape == (20, 30, 4)
    assert drawn[0, 29].tolist() == [240, 249, 33, 178]
    assert drawn[19, 0, 3] == 0


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
def test_a_map_laid_over_an_image_leaves_it_as_it_is_where_there_is_nothing(
    shape: tuple[int, ...],
) -> None:
    heat = np.array([[0, 1]], np.float32)
    pixels = np.full(shape, 100, np.uint8)
    with Image.open(io.BytesIO(laid_over(pixels, heat))) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (30, 20))
        drawn = np.asarray(image)
    assert drawn[:, 0].tolist() == [[100, 100, 100]] * 20
    # 0.7 of the colour and 0.3 of the image: 0.698 * 240 + 0.302 * 100 = 198
    assert drawn[10, 29].tolist() == pytest.approx([198, 204, 53], abs=1)


@pytest.mark.parametrize(
    ("heat", "width", "message"),
    [
        (np.full((2, 2), 1.5), 9, "from 0 to 1"),
        (np.full((2, 2), np.nan), 9, "from 0 to 1"),
        (np.zeros((1, 2, 2)), 9, r"found shape \(1, 2, 2\)"),
        (np.zeros((0, 2)), 9, r"found shape \(0, 2\)"),
        (np.zeros((2, 2)), 0, "1 to 16,384 pixels a side, 0 x 9"),
    ],
)
def test_what_cannot_be_painted_is_refused(heat: Any, width: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        colour_layer(heat, width=width, height=9)


def test_what_is_no_image_is_not_laid_under_a_map() -> None:
    with pytest.raises(ConfigError, match="found 9 x 9 x 4 of uint8"):
        laid_over(np.zeros((9, 9, 4), np.uint8), np.zeros((2, 2), np.float32))


def test_nothing_heavy_is_imported_before_a_detector_is_opened() -> None:
    code = (
        "import sys, inference.heatmaps, inference.heat.paint;"
        " print({'torch', 'timm', 'matplotlib'} & {*sys.modules})"
    )
    home = Path(__file__).parents[2]
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=home, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "set()"
