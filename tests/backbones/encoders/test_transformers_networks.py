"""Networks of images of transformers, held against the library's own answers."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from backbones.encoders.encoder import head_distances
from backbones.encoders.transformers_files import FAMILIES
from backbones.encoders.transformers_networks import TransformersEncoder
from backbones.encoders.worlds import encoder_of
from core.errors import ConfigError
from tests.backbones.encoders.conftest import (
    COMMIT,
    Nearness,
    Ours,
    backbone_of,
    cached,
    check_blueprint,
    check_groups,
    pixels_of,
    step_once,
)

SMALL = {
    **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3},
    **{"num_attention_heads": 2, "image_size": 64, "patch_size": 16},
}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 2, 1, 1]}
SWIN = {
    **{"embed_dim": 8, "depths": [1, 2, 1], "num_heads": [1, 2, 2]},
    **{"image_size": 64, "patch_size": 4, "window_size": 4},
}
SETTINGS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(FAMILIES, SMALL),
    "dinov2_with_registers": {**SMALL, "num_register_tokens": 4},
    "dinov3_vit": {**SMALL, "num_register_tokens": 4},
    "beit": {**SMALL, "use_relative_position_bias": True},
    "dinov3_convnext": STAGES,
    "convnext": {**STAGES, "image_size": 64},
    "convnextv2": {**STAGES, "image_size": 64},
    "resnet": {**STAGES, "embedding_size": 8},
    "regnet": {**STAGES, "embedding_size": 8, "groups_width": 8},
    "swin": SWIN,
    "swinv2": SWIN,
    "focalnet": {
        **{"embed_dim": 8, "depths": [1, 2, 1], "image_size": 64},
        **{"hidden_sizes": [8, 16, 32], "focal_levels": [2] * 3, "focal_windows": [3] * 3},
    },
    "mobilenet_v2": {"depth_multiplier": 0.25, "image_size": 64, "initializer_range": 0.3},
    "mobilevit": {
        **{"hidden_sizes": [16, 24, 32], "image_size": 64},
        **{"neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 40]},
    },
    "poolformer": STAGES,
    "pvt_v2": {**STAGES, "num_attention_heads": [1, 1, 2, 2], "image_size": 64},
    "segformer": {**STAGES, "num_attention_heads": [1, 1, 2, 2]},
}
"""Small networks of all known types."""

PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "dinov2": ("BitImageProcessor", {"size": {"shortest_edge": 64}, "crop_size": 64}),
    "clip": ("CLIPImageProcessor", {"size": 64, "crop_size": {"height": 64, "width": 64}}),
    "siglip": ("SiglipImageProcessor", {"size": {"height": 64, "width": 64}}),
    "convnext": ("ConvNextImageProcessor", {"size": {"shortest_edge": 64}}),
}
OTHER: tuple[str, dict[str, Any]] = ("ViTImageProcessor", {"size": {"height": 64, "width": 64}})

Saved = Callable[[str], Path]


@pytest.fixture(scope="session", autouse=True)
def quiet() -> None:
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()


def processor_of(kind: str) -> Any:
    name, settings = PROCESSORS.get(kind.removesuffix("_vision_model"), OTHER)
    return getattr(transformers, name)(**settings)


def settings_of(kind: str) -> Any:
    if kind not in ("clip", "chinese_clip", "siglip"):
        return transformers.CONFIG_MAPPING[kind](**SETTINGS[kind])
    text = {**SMALL, "vocab_size": 64, "max_position_embeddings": 8}
    both = {"vision_config": SMALL, "text_config": text}
    return transformers.CONFIG_MAPPING[kind](**both)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A folder as `save_pretrained` writes a model and its image processor, by its type."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp("transformers") / kind
            torch.manual_seed(0)
            arguments = {"add_pooling_layer": True} if kind == "data2vec-vision" else {}
            model = transformers.AutoModel.from_config(settings_of(kind), **arguments)
            for name, parameter in model.named_parameters():  # some start at nothing
                if (parameter.numel() > 1 and parameter.std() == 0) or name.endswith(
                    ("probe", "embedding.weight")
                ):
                    torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.3)
            model.save_pretrained(folder)
            processor_of(kind).save_pretrained(folder)
            made[kind] = folder
        return made[kind]

    return make


def owners(folder: Path, pictures: list[Path]) -> torch.Tensor:
    """What the library's model pools, of images that its processor squashes to the square."""
    arguments = {"add_pooling_layer": True} if folder.name == "data2vec-vision" else {}
    model = transformers.AutoModel.from_pretrained(folder, **arguments).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    images = [Image.open(path).convert("RGB") for path in pictures]
    squashed = {"size": {"height": 64, "width": 64}, "do_center_crop": False}
    if type(processor).__name__.startswith("ConvNext"):  # it crops what it is not told to
        images = [image.resize((64, 64), Image.Resampling.BICUBIC) for image in images]
        squashed = {"do_resize": False}
    prepared = processor(images, return_tensors="pt", **squashed)["pixel_values"]
    with torch.no_grad():
        answer: Any = getattr(model, "vision_model", model)(prepared)
    own = FAMILIES.get(model.config.model_type, FAMILIES["dinov2"]).own
    if own == "token":
        token: torch.Tensor = answer.last_hidden_state[:, 0]
        return token
    if own == "mean":
        last: torch.Tensor = answer.last_hidden_state
        return last.mean(dim=1) if last.ndim == 3 else last.mean(dim=(2, 3))
    pooled: torch.Tensor = answer.pooler_output
    return pooled.flatten(1)


FEW = ("dinov2", "dinov2_with_registers", "dinov3_vit", "clip", "siglip", "convnext", "swin")
"""What people bring: RAD-DINO and DINOv2, DINOv3, CLIP, MedSigLIP and SigLIP 2, two with stages."""

few_families = pytest.mark.parametrize("kind", FEW)


@few_families
def test_features_are_what_the_model_pools(
    kind: str, saved: Saved, small_pictures: list[Path], ours: Ours, nearness: Nearness
) -> None:
    folder = saved(kind)
    plain, centred = nearness(ours(f"transformers:{folder}"), owners(folder, small_pictures))
    assert plain >= 0.9999
    assert centred >= 0.999  # its own scaling of images differs from Pillow's by a level


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted({*FAMILIES, "chinese_clip"} - {*FEW}))
def test_all_known_types_are_asked_in_their_own_way(
    kind: str, saved: Saved, small_pictures: list[Path], ours: Ours, nearness: Nearness
) -> None:
    folder = saved(kind)
    text = f"transformers:{folder}"
    plain, centred = nearness(ours(text), owners(folder, small_pictures))
    assert plain >= 0.9999
    assert centred >= 0.999
    check_blueprint(text)
    check_groups(text)
    step_once(text, layer_decay=0.7)
    step_once(text, regime="last")
    ours(text, pooling="gem")


@few_families
def test_a_blueprint_builds_the_same_network_without_files(
    kind: str, saved: Saved, no_network: list[object]
) -> None:
    check_blueprint(f"transformers:{saved(kind)}")
    assert not no_network


@few_families
def test_groups_of_layers_hold_every_parameter_once(kind: str, saved: Saved) -> None:
    check_groups(f"transformers:{saved(kind)}")


@pytest.mark.parametrize(
    ("kind", "distances"),
    [
        (
            "dinov2",  # three blocks
            {
                **{"embeddings.cls_token": 4, "encoder.layer.0.norm1.weight": 3},
                **{"encoder.layer.2.norm1.weight": 1, "layernorm.weight": 0},
            },
        ),
        ("siglip", {"embeddings.patch_embedding.weight": 4, "head.probe": 0}),
        (
            "swin",  # stages of one, two and one blocks; the layer between two is of the one before
            {
                **{"embeddings.norm.weight": 5, "encoder.layers.0.downsample.norm.weight": 4},
                **{"encoder.layers.1.blocks.0.layernorm_before.weight": 3},
                **{"encoder.layers.1.downsample.norm.weight": 2, "layernorm.weight": 0},
            },
        ),
        (
            "convnext",  # of one, two, one and one; a stage begins with the layer that halves it
            {
                **{"embeddings.layernorm.weight": 6},
                **{"encoder.stages.1.downsampling_layer.0.weight": 4},
                **{"encoder.stages.3.layers.0.dwconv.weight": 1, "layernorm.weight": 0},
            },
        ),
    ],
)
def test_distances_are_those_counted_by_hand(
    kind: str, distances: dict[str, int], saved: Saved
) -> None:
    encoder = encoder_of(f"transformers:{saved(kind)}")
    found = head_distances(encoder, encoder.build(pretrained=False), coarse=False)
    assert {name: found.get(name) for name in distances} == distances


@pytest.mark.parametrize("kind", ["dinov2", "siglip", "convnext", "swin"])
def test_a_step_of_training_changes_what_it_should(kind: str, saved: Saved) -> None:
    text = f"transformers:{saved(kind)}"
    all_names = step_once(text, layer_decay=0.7)
    last_names = step_once(text, regime="last", n_stages=1)
    assert {"head.weight", "head.bias"} < last_names < all_names


@pytest.mark.parametrize("kind", [kind for kind in FEW if kind != "convnext"])
def test_another_size_is_taken(kind: str, saved: Saved) -> None:
    text = f"transformers:{saved(kind)}"
    per_side = 96 // 16
    backbone, _ = backbone_of(text, image_sizes=(96,), pooling="none", regime="full")
    width = backbone.as_pooled(96).n_features
    places = (96 // 16) ** 2 if kind == "swin" else per_side**2
    assert backbone.n_features == width * places


def test_a_size_that_would_lose_a_margin_is_refused(saved: Saved) -> None:
    with pytest.raises(ConfigError, match="takes images of a multiple of 16 pixels, not 72; give"):
        backbone_of(f"transformers:{saved('dinov2')}", image_sizes=(72,))


def test_poolings_tell_tokens_from_places(saved: Saved) -> None:
    registers, siglip = (f"transformers:{saved(k)}" for k in ("dinov2_with_registers", "siglip"))
    widths = {
        pooling: backbone_of(registers, pooling=pooling, regime="full")[0].n_features
        for pooling in ("own", "cls", "mean", "cls+mean", "gem", "none")
    }
    assert widths == {
        **{"own": 32, "cls": 32, "mean": 32, "cls+mean": 64, "gem": 32},
        "none": 32 * 16,  # without the class token and the four registers
    }
    with pytest.raises(ConfigError, match="pooling cls: this network has no class token"):
        backbone_of(siglip, pooling="cls")


@pytest.mark.parametrize("kind", ["dinov2", "dinov3_vit", "clip"])
def test_the_class_token_is_what_these_pool(kind: str, saved: Saved, ours: Ours) -> None:
    text = f"transformers:{saved(kind)}"
    assert torch.allclose(ours(text, pooling="cls"), ours(text), atol=1e-6)


def test_attention_of_both_kinds_gives_the_same(saved: Saved, small_pictures: list[Path]) -> None:
    backbone, config = backbone_of(f"transformers:{saved('dinov2')}")
    network: Any = backbone.network
    assert network.config._attn_implementation == "sdpa"
    images = pixels_of(small_pictures[:4], config)
    with torch.no_grad():
        quick = backbone(images)
        network.set_attn_implementation("eager")
        assert torch.allclose(backbone(images), quick, atol=1e-5)


def test_what_a_folder_states(saved: Saved, tmp_path: Path) -> None:
    folder = shutil.copytree(saved("dinov2"), tmp_path / "rad-dino")
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: msrla\n---\nRAD-DINO\n")
    stated = encoder_of(f"transformers:{folder}").stated()
    assert (stated.size, stated.resample, stated.licence) == (64, "bicubic", "msrla")
    assert stated.files == (folder / "model.safetensors",)
    assert stated.source == "rad-dino"


def test_a_folder_goes_by_its_whole_path(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved("dinov2")
    monkeypatch.chdir(folder.parent)
    assert TransformersEncoder(f"transformers:./{folder.name}").text == f"transformers:{folder}"
    assert TransformersEncoder("transformers:some/name").text == "transformers:some/name"


@pytest.mark.parametrize(
    ("settings", "size", "first_mean", "first_std", "resample"),
    [
        ({"size": 48, "resample": 2}, 48, 0.5, 0.5, "bilinear"),
        ({"size": {"shortest_edge": 80}, "do_center_crop": True, "crop_size": 64}, 64, 0.5, 0.5, 3),
        ({"size": {"height": 80, "width": 80}, "resample": 0}, 80, 0.5, 0.5, "nearest"),
        ({"do_resize": False}, 64, 0.5, 0.5, "bilinear"),
        # (255 x / 127.5 - 0.5) / 0.5 = (x - 0.25) / 0.25
        ({"size": 64, "rescale_factor": 1 / 127.5}, 64, 0.25, 0.25, "bilinear"),
        ({"size": 64, "do_rescale": False, "image_mean": [51.0] * 3}, 64, 0.2, 0.5 / 255, 2),
        ({"size": 64, "do_normalize": False}, 64, 0.0, 1.0, "bilinear"),
        # 255 x / 127.5 - 1, then neither mean nor deviation: (x - 0.5) / 0.5
        (
            {
                **{"image_processor_type": "EfficientNetImageProcessor", "rescale_offset": True},
                **{"rescale_factor": 1 / 127.5, "do_normalize": False, "size": 64},
            },
            *(64, 0.5, 0.5, 3),
        ),
    ],
)
def test_processors_are_read_in_all_their_forms(
    settings: dict[str, Any],
    size: int,
    first_mean: float,
    first_std: float,
    resample: str | int,
    saved: Saved,
    tmp_path: Path,
) -> None:
    names = {2: "bilinear", 3: "bicubic"}
    shutil.copy(saved("vit") / "config.json", tmp_path)
    kind = {"image_processor_type": "ViTImageProcessor", "image_mean": [0.5] * 3}
    given = {**kind, "image_std": [0.5] * 3, "resample": 2, **settings}
    if isinstance(resample, int):
        given["resample"], resample = resample, names[resample]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(given))
    stated = encoder_of(f"transformers:{tmp_path}").stated()
    assert (stated.size, stated.resample) == (size, resample)
    assert stated.normalisation.mean[0] == pytest.approx(first_mean)
    assert stated.normalisation.std[0] == pytest.approx(first_std)


def test_a_processor_among_others_is_found(saved: Saved, tmp_path: Path) -> None:
    shutil.copy(saved("vit") / "config.json", tmp_path)
    both = {"image_processor": {"image_processor_type": "SiglipImageProcessor", "size": 48}}
    (tmp_path / "processor_config.json").write_text(json.dumps(both))
    assert encoder_of(f"transformers:{tmp_path}").stated().size == 48


def test_weights_in_parts_are_read(saved: Saved, tmp_path: Path, ours: Ours) -> None:
    folder = saved("dinov2")
    model = transformers.AutoModel.from_pretrained(folder)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    shutil.copy(folder / "preprocessor_config.json", tmp_path)
    parts = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(parts) > 2
    text = f"transformers:{tmp_path}"
    assert encoder_of(text).stated().files == tuple(parts)
    assert torch.equal(ours(text), ours(f"transformers:{folder}"))


def test_a_torch_file_is_read_and_runs_nothing(saved: Saved, tmp_path: Path, ours: Ours) -> None:
    folder = saved("dinov2")
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(folder / name, tmp_path)
    state = load_file(folder / "model.safetensors")
    torch.save(state, tmp_path / "pytorch_model.bin")
    text = f"transformers:{tmp_path}"
    assert torch.equal(ours(text), ours(f"transformers:{folder}"))
    touched = tmp_path / "touched"
    torch.save({**state, "more": Touching(touched)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"^weights: transformers:.*: not weights alone$"):
        encoder_of(text).build(pretrained=True)
    assert not touched.exists()


def test_code_beside_the_weights_is_not_run(saved: Saved, tmp_path: Path, ours: Ours) -> None:
    folder, touched = Path(shutil.copytree(saved("dinov2"), tmp_path / "theirs")), tmp_path / "it"
    (folder / "theirs.py").write_text(f"open({str(touched)!r}, 'w')\n", encoding="utf-8")
    for name, kinds in {
        "config.json": ("AutoConfig", "AutoModel"),
        "preprocessor_config.json": ("AutoImageProcessor",),
    }.items():
        told = json.loads((folder / name).read_text(encoding="utf-8"))
        told["auto_map"] = dict.fromkeys(kinds, "theirs.Theirs")
        (folder / name).write_text(json.dumps(told), encoding="utf-8")
    assert torch.equal(ours(f"transformers:{folder}"), ours(f"transformers:{saved('dinov2')}"))
    assert not touched.exists()


class Touching:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_weights_that_lack_what_is_pooled_are_refused(saved: Saved, tmp_path: Path) -> None:
    folder = shutil.copytree(saved("siglip_vision_model"), tmp_path / "siglip")
    state = load_file(folder / "model.safetensors")
    state = {name: value for name, value in state.items() if not name.startswith("head.")}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ConfigError, match=r"lacks 11 tensors of its network, first 'head\..*would be random$"
    ):
        encoder_of(f"transformers:{folder}").build(pretrained=True)


def test_weights_that_are_broken_are_refused(saved: Saved, tmp_path: Path) -> None:
    folder = shutil.copytree(saved("dinov2"), tmp_path / "broken")
    (folder / "model.safetensors").write_bytes(b"12345678")
    with pytest.raises(ConfigError, match=r"^weights: transformers:"):
        encoder_of(f"transformers:{folder}").build(pretrained=True)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(ConfigError, match="not an index of weights"):
        encoder_of(f"transformers:{folder}").build(pretrained=True)


def test_a_folder_without_weights_builds_without_them_alone(saved: Saved, tmp_path: Path) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(saved("dinov2") / name, tmp_path)
    encoder = encoder_of(f"transformers:{tmp_path}")
    encoder.build(pretrained=False)
    with pytest.raises(ConfigError, match=r"has none \(model.safetensors or pytorch_model.bin\)"):
        encoder.build(pretrained=True)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "bert"}, "of the type 'bert', which is no network of images known here; k"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "of the type 't5', which is no network"),
        (
            {"model_type": "own", "auto_map": {"AutoModel": "code.Model"}},
            "of the type 'own', .* known here, and code of its own is never run",
        ),
        ({"model_type": "dinov2", "hidden_size": "wide"}, "its settings: "),
        ([], "of the type None"),
        (None, "its config.json: "),
    ],
)
def test_settings_of_no_network_of_images_are_refused(
    config: object, said: str, tmp_path: Path
) -> None:
    text = json.dumps(config) if config is not None else "{"
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=said):
        encoder_of(f"transformers:{tmp_path}").stated()


def test_a_folder_that_does_not_say_how_images_are_prepared_is_refused(
    saved: Saved, tmp_path: Path
) -> None:
    shutil.copy(saved("dinov2") / "config.json", tmp_path)
    with pytest.raises(ConfigError, match=r"no preprocessor_config.json there, .* beside it$"):
        encoder_of(f"transformers:{tmp_path}").stated()
    file = tmp_path / "preprocessor_config.json"
    sides = {"height": 64, "width": 96}
    file.write_text(json.dumps({"image_processor_type": "ViTImageProcessor", "size": sides}))
    with pytest.raises(ConfigError, match=r"its preprocessor_config.json: .* are not square"):
        encoder_of(f"transformers:{tmp_path}").stated()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./no/where", "no such folder, nor a name ORG/NAME of Hugging Face's hub"),
        ("/no/where", "no such folder, nor a name ORG/NAME of Hugging Face's hub"),
        ("{", "is no blueprint of a network of transformers"),
        ('{"config": {"model_type": "dinov2"}}', "is no blueprint of a network of transformers"),
        (
            '{"config": {"model_type": "bert"},'
            ' "images": {"size": 1, "mean": [0], "std": [1], "resample": "bicubic"}}',
            "which is no network of images known here",
        ),
    ],
)
def test_what_there_is_not_is_refused(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        encoder_of(f"transformers:{name}").stated()


def test_a_hub_out_of_reach_is_said_at_once(no_network: list[object]) -> None:
    began = time.monotonic()
    with pytest.raises(
        ConfigError, match=r"^weights: Hugging Face's hub cannot be reached for nobody/nothing \("
    ):
        encoder_of("transformers:nobody/nothing").stated()
    assert time.monotonic() - began < 5
    assert no_network


def test_what_the_hub_has_given_before_is_read_without_it(
    saved: Saved, tmp_path: Path, no_network: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached(tmp_path, "some/siglip", folder=saved("siglip"))
    encoder = encoder_of("transformers:some/siglip")
    stated = encoder.stated()
    assert stated.source == f"Hugging Face's hub, some/siglip at {COMMIT[:12]}"
    assert stated.files == ()
    del no_network[:]  # it was asked for what the cache lacks: a licence
    encoder.build(pretrained=True)
    assert not no_network


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        ConfigError,
        match=r"the package transformers; install it with pip install 'radfuse\[transformers\]'",
    ):
        encoder_of("transformers:some/other").stated()


def test_nothing_is_written_on_the_terminal(
    saved: Saved, capfd: pytest.CaptureFixture[str]
) -> None:
    transformers.logging.enable_progress_bar()
    encoder_of(f"transformers:{saved('clip')}").build(pretrained=True)
    assert capfd.readouterr() == ("", "")
