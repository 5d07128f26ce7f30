"""Text towers of open_clip's models, held against open_clip's own answers."""

import importlib
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backbones.encoders.contrastive.text_towers import points_beside, text_points
from backbones.encoders.worlds import encoder_of
from core.errors import ConfigError
from tests.backbones.encoders.conftest import cached

open_clip = pytest.importorskip("open_clip")

Saved = Callable[[str], Path]

NAMES = ["Pleural effusion", "Lung", "X-Ray Computed Tomography", "Uterus"]
PROMPTS = ("{}", "a radiology image of {}")

VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "pleural", "effusion", "lung", "a", "of"]
SMALL = {"width": 32, "heads": 2, "layers": 2}

TEXTS: dict[str, dict[str, Any]] = {
    "clip": {"context_length": 24, "vocab_size": 49408, **SMALL},
    # SigLIP's layout: no mask, the last token counts, so that padding does.
    "siglip": {
        **{"context_length": 16, "vocab_size": 49408, "no_causal_mask": True, **SMALL},
        **{"pool_type": "last", "proj_bias": True, "tokenizer_kwargs": {"clean": "canonicalize"}},
    },
    # BiomedCLIP's: a BERT of transformers with a tokenizer of its own.
    "bert": {
        **{"hf_model_name": "some/bert", "hf_tokenizer_name": "some/bert"},
        **{"hf_pooler_type": "cls_last_hidden_state_pooler", "hf_proj_type": "mlp"},
        **{"context_length": 20},
    },
}

every_tower = pytest.mark.parametrize("kind", TEXTS)


def write_bert(folder: Path) -> None:
    """Settings and tokenizer of a tiny BERT, as transformers saves them."""
    transformers = pytest.importorskip("transformers")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32,
    ).save_pretrained(folder)  # fmt: skip


def build(kind: str, folder: Path) -> Any:
    """A model of open_clip with random weights, built by open_clip alone."""
    texts = dict(TEXTS[kind])
    if kind == "bert":
        texts["hf_model_name"] = str(folder)  # else open_clip asks the hub for its settings
        texts["hf_model_pretrained"] = False
    settings = {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": texts}
    if kind == "siglip":
        settings["init_logit_bias"] = -10
    torch.manual_seed(0)
    kind_of = open_clip.model.CLIP if kind == "clip" else open_clip.model.CustomTextCLIP
    model = kind_of(**settings).eval().requires_grad_(False)
    if kind == "bert":  # drawn so near 0 that all texts are alike
        for values in model.text.transformer.parameters():
            values.mul_(10)
    return model


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A folder as open_clip saves a model, by the kind of its text tower."""
    safetensors = importlib.import_module("safetensors.torch")
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp("pair") / kind
            folder.mkdir()
            if kind == "bert":
                write_bert(folder)
            settings = {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXTS[kind]}
            both = {"model_cfg": settings, "preprocess_cfg": {}}
            (folder / "open_clip_config.json").write_text(json.dumps(both))
            state = build(kind, folder).state_dict()
            safetensors.save_file(state, folder / "open_clip_model.safetensors")
            (folder / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
            made[kind] = folder
        return made[kind]

    return make


@pytest.fixture
def copied(saved: Saved, tmp_path: Path) -> Saved:
    """A copy of such a folder, to be changed."""
    return lambda kind: Path(shutil.copytree(saved(kind), tmp_path / kind))


def owners_tokens(kind: str, folder: Path, texts: list[str]) -> torch.Tensor:
    """Tokens by open_clip alone."""
    tokens: torch.Tensor = open_clip.get_tokenizer(f"local-dir:{folder}")(texts)
    return tokens


@every_tower
def test_points_are_those_of_encode_text(kind: str, saved: Saved, no_network: list[object]) -> None:
    folder = saved(kind)
    model = build(kind, folder)
    expected = torch.zeros(len(NAMES), 24)
    for prompt in PROMPTS:
        tokens = owners_tokens(kind, folder, [prompt.replace("{}", name) for name in NAMES])
        with torch.no_grad():
            expected += model.encode_text(tokens, normalize=True)
    expected = torch.nn.functional.normalize(expected, dim=1)
    found = text_points(f"open_clip:{folder}", NAMES, prompts=PROMPTS)
    np.testing.assert_allclose(found.points, expected.numpy(), atol=1e-5)
    assert found.scale == pytest.approx(1 / 0.07, rel=1e-5)
    assert np.ptp(found.points, axis=0).max() > 0.05  # names differ
    assert not no_network


@every_tower
def test_scores_are_the_logits_of_the_whole_model(kind: str, saved: Saved) -> None:
    folder = saved(kind)
    model, images = build(kind, folder), torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        logits, _ = model.get_logits(images, owners_tokens(kind, folder, NAMES))
        features = encoder_of(f"open_clip:{folder}").build(pretrained=True).eval()(images)
    if model.logit_bias is not None:  # one number for all, which calibration finds again
        logits = logits - model.logit_bias
    texts = text_points(f"open_clip:{folder}", NAMES, prompts=("{}",))
    points = torch.from_numpy(texts.points).float()
    found = texts.scale * torch.nn.functional.normalize(features, dim=1) @ points.T
    np.testing.assert_allclose(found.numpy(), logits.numpy(), atol=1e-5)


def test_many_names_are_asked_in_parts(saved: Saved) -> None:
    names = [f"structure {number}" for number in range(300)]
    together = text_points(f"open_clip:{saved('clip')}", names, prompts=("{}",)).points
    few = text_points(f"open_clip:{saved('clip')}", names[290:], prompts=("{}",)).points
    np.testing.assert_allclose(together[290:], few, atol=1e-6)


def test_a_tower_within_the_hubs_cache_is_read_without_it(
    saved: Saved, tmp_path: Path, no_network: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached(tmp_path, "some/pair", folder=saved("bert"))
    found = text_points("open_clip:hf-hub:some/pair", NAMES, prompts=("{}",))
    expected = text_points(f"open_clip:{saved('bert')}", NAMES, prompts=("{}",))
    np.testing.assert_array_equal(found.points, expected.points)
    assert not no_network


def changed(folder: Path, **texts: Any) -> str:
    """The folder with other settings of its text tower; None takes one away."""
    path = folder / "open_clip_config.json"
    settings = json.loads(path.read_text())
    own = settings["model_cfg"]["text_cfg"] | texts
    settings["model_cfg"]["text_cfg"] = {k: v for k, v in own.items() if v is not None}
    path.write_text(json.dumps(settings))
    return f"open_clip:{folder}"


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"layers": 3}, "does not fit the text tower of its settings: 12 tensors"),
        ({"pool_type": 3, "width": "many"}, "open_clip cannot build its text tower"),
        ({"breadth": 3}, "open_clip cannot build its text tower"),
        ({"tokenizer_kwargs": {"trust_remote_code": True}}, "takes 'trust_remote_code', unknown"),
        ({"hf_tokenizer_name": "some/other"}, "read by some/other, whose tokenizer_config.json is"),
        ({"hf_model_name": "some/bert"}, "read by some/bert, whose config.json is not there; put"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    texts: dict[str, Any], said: str, copied: Saved, no_network: list[object]
) -> None:
    text = changed(copied("clip"), **texts)
    with pytest.raises(ConfigError, match=f"^contrastive: .*{said}"):
        text_points(text, NAMES, prompts=("{}",))
    assert not no_network  # of a folder nothing is downloaded


def test_a_folder_without_texts_is_refused(copied: Saved) -> None:
    safetensors = importlib.import_module("safetensors.torch")
    folder = copied("clip")
    path = folder / "open_clip_model.safetensors"
    images = {k: v.clone() for k, v in safetensors.load_file(path).items() if k[:7] == "visual."}
    safetensors.save_file(images, path)
    with pytest.raises(ConfigError, match=r"^contrastive: .* holds no text tower"):
        text_points(f"open_clip:{folder}", NAMES, prompts=("{}",))
    settings = json.loads((folder / "open_clip_config.json").read_text())
    del settings["model_cfg"]["text_cfg"]
    other = folder.parent / "images"
    shutil.copytree(folder, other)
    (other / "open_clip_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=r"^contrastive: .* its settings have no text_cfg"):
        text_points(f"open_clip:{other}", NAMES, prompts=("{}",))


def test_code_beside_a_tokenizer_never_runs(copied: Saved) -> None:
    folder = copied("bert")
    ran = folder / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass Own: pass\n")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}))
    path = folder / "config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"auto_map": {"AutoModel": "own.Own"}}))
    with suppress(ConfigError):
        text_points(f"open_clip:{folder}", NAMES, prompts=("{}",))
    assert not ran.exists()


def test_a_language_model_of_another_kind_is_refused(copied: Saved) -> None:
    folder = copied("bert")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ConfigError, match="of the type 'llama'; text towers of transformers are"):
        text_points(f"open_clip:{folder}", NAMES, prompts=("{}",))


def test_a_tokenizer_of_another_model_is_refused(copied: Saved) -> None:
    folder = copied("bert")
    (folder / "vocab.txt").write_text("\n".join([*WORDS, *(f"word{n}" for n in range(90))]))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"its tokenizer knows .* or more, its text tower fewer"):
        text_points(f"open_clip:{folder}", ["word80"], prompts=("{}",))


def test_an_encoder_without_texts_is_refused() -> None:
    with pytest.raises(ConfigError, match="resnet50: expected a model of images and texts"):
        text_points("resnet50", NAMES, prompts=("{}",))


def noted(text: str) -> dict[str, Any]:
    """What is noted beside features of a model's image tower."""
    from backbones.detectors.features import encoder_meta
    from backbones.networks.weights import settled
    from backbones.settings.config import BackboneConfig

    given = BackboneConfig(backbone=text, image_sizes=(), resample="own")
    return encoder_meta(settled(given))


def test_features_that_are_not_the_pairs_are_refused(saved: Saved, copied: Saved) -> None:
    own = noted(f"open_clip:{saved('clip')}")
    asked: dict[str, Any] = {"prompts": ("{}",), "features": "kept"}
    assert len(points_beside(own, NAMES, width=24, **asked).points) == len(NAMES)
    with pytest.raises(ConfigError, match=r"features kept are no image embeddings .* 24 numbers"):
        points_beside(own, NAMES, width=32, **asked)
    with pytest.raises(ConfigError, match="make them with pooling=own"):
        points_beside(own | {"pooling": "mean"}, NAMES, width=24, **asked)
    with pytest.raises(ConfigError, match=r"features kept are of resnet50, which reads no texts"):
        points_beside(own | {"backbone": "resnet50"}, NAMES, width=24, **asked)
    with pytest.raises(ConfigError, match="are of a fine-tuned network, which reads no texts"):
        points_beside({}, NAMES, width=24, **asked)
    with pytest.raises(
        ConfigError, match=r"kept are of weights .*; run `python cli.py train-backbone"
    ):
        points_beside(own | {"weights_from": "others"}, NAMES, width=24, **asked)
