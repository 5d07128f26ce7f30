"""Networks of images of transformers, held against the library's own answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image

from backbones.encoders.transformers_networks import FAMILIES
from tests.backbones.encoders.conftest import Nearness, Ours

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
    "mobilenet_v2": {"depth_multiplier": 0.25, "image_size": 64},
    "mobilevit": {
        **{"hidden_sizes": [16, 24, 32], "image_size": 64},
        **{"neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 40]},
    },
    "poolformer": STAGES,
    "pvt_v2": {**STAGES, "num_attention_heads": [1, 1, 2, 2], "image_size": 64},
    "segformer": {**STAGES, "num_attention_heads": [1, 1, 2, 2]},
}
"""Small networks of all known types."""

PROCESSORS = {
    "dinov2": ("BitImageProcessor", {"size": {"shortest_edge": 64}, "crop_size": 64}),
    "clip": ("CLIPImageProcessor", {"size": 64, "crop_size": {"height": 64, "width": 64}}),
    "siglip": ("SiglipImageProcessor", {"size": {"height": 64, "width": 64}}),
    "convnext": ("ConvNextImageProcessor", {"size": {"shortest_edge": 64}}),
}
OTHER = ("ViTImageProcessor", {"size": {"height": 64, "width": 64}})

every_family = pytest.mark.parametrize("kind", [*FAMILIES, "clip", "siglip"])

Saved = Callable[[str], Path]


@pytest.fixture(scope="session", autouse=True)
def quiet() -> None:
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()


def processor_of(kind: str) -> Any:
    name, settings = PROCESSORS.get(kind.removesuffix("_vision_model"), OTHER)
    return getattr(transformers, name)(**settings)


def settings_of(kind: str) -> Any:
    if kind not in ("clip", "siglip"):
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
                if (
                    (parameter.numel() > 1
                    and parameter.std() == 0)
                    or name.endswith(("probe", "embedding.weight"))
                ):
                    torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.3)
            model.save_pretrained(folder)
            processor_of(kind).save_pretrained(folder)
            made[kind] = folder
        return made[kind]

    return make


def owners(folder: Path, small_pictures: list[Path]) -> torch.Tensor:
    """What the library's model pools, of images that its processor squashes to the square."""
    arguments = {"add_pooling_layer": True} if folder.name == "data2vec-vision" else {}
    model = transformers.AutoModel.from_pretrained(folder, **arguments).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    images = [Image.open(path).convert("RGB") for path in small_pictures]
    squashed = {"size": {"height": 64, "width": 64}, "do_center_crop": False}
    if type(processor).__name__.startswith("ConvNext"):  # it crops what it is not told to
        images = [image.resize((64, 64), Image.Resampling.BICUBIC) for image in images]
        squashed = {"do_resize": False}
    prepared = processor(images, return_tensors="pt", **squashed)["pixel_values"]
    with torch.no_grad():
        answer = getattr(model, "vision_model", model)(prepared)
    own = FAMILIES.get(model.config.model_type, FAMILIES["dinov2"]).own
    if own == "token":
        return answer.last_hidden_state[:, 0]
    if own == "mean":
        last = answer.last_hidden_state
        return last.mean(dim=1) if last.ndim == 3 else last.mean(dim=(2, 3))
    return answer.pooler_output.flatten(1)


@every_family
def test_features_are_what_the_model_pools(
    kind: str, saved: Saved, small_pictures: list[Path], ours: Ours, nearness: Nearness
) -> None:
    folder = saved(kind)
    found = ours(f"transformers:{folder}")
    plain, centred = nearness(found, owners(folder, small_pictures))
    print(kind, plain, centred, tuple(found.shape))
    assert plain >= 0.9999
    assert centred >= 0.99
