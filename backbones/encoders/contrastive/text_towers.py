"""Names as points where a model of images and texts puts images: its text tower, asked offline."""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from backbones.encoders.contrastive.open_clip_files import (
    WORLD,
    OpenClipModel,
    open_clip_model,
    open_clip_weights,
)
from backbones.encoders.downloads import hub_folder, package
from backbones.encoders.encoder import brief
from backbones.encoders.transformers_files import UNREADABLE, built_of, transformers_package
from backbones.encoders.worlds import encoder_of
from backbones.networks.checkpoint_files import read_checkpoint
from backbones.networks.weights import origin_of, settled
from backbones.settings.config import BackboneConfig
from core.errors import ConfigError, as_typed, first_line
from core.storage.documents import parse_json, plain_file

_IMAGES, _TEXTS, _SCALE = "visual.", "text.", "logit_scale"
"""What tensors of a whole model are called, or begin with."""

_OF_CLIP = (
    "text_projection",
    "positional_embedding",
    "token_embedding.",
    "transformer.",
    "ln_final",
)
"""What those of a text tower begin with where it is no part of its own."""

_CONFIG, _TOKENIZER = "config.json", "tokenizer_config.json"

_VOCABULARIES = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model"),
    *("sentencepiece.bpe.model", "tokenizer.model", "special_tokens_map.json"),
)

_CLEANING = ("clean", "strip_sep_token", "language")
"""What a model may say of its tokenizer; anything else could name code."""

_AT_ONCE = 128

Tokenise = Callable[[list[str]], Tensor]


@dataclass(frozen=True, kw_only=True)
class TextPoints:
    """Texts as a contrastive model sees them.

    Attributes:
        points: (L, E) unit rows, in the space of the model's image embeddings.
        scale: that cosines are multiplied by.
    """

    points: npt.NDArray[np.float64]
    scale: float


def points_beside(
    encoder: Mapping[str, Any],
    names: Sequence[str],
    *,
    prompts: Sequence[str],
    width: int,
    features: str,
) -> TextPoints:
    """Where the pair puts names whose image tower gave some features.

    Args:
        encoder: what is noted beside the features, see `backbones.detectors.features.encoder_meta`.
        names: L of them.
        prompts: sentences with `{}` in the place of the name.
        width: numbers of a feature.
        features: their name, for a message.

    Raises:
        ConfigError: they are of another encoder, of other weights than the text tower that is
            there, or no image embeddings; or as `text_points`.
    """
    text = str(encoder.get("backbone", ""))
    if not text.startswith(WORLD):
        raise ConfigError(
            f"contrastive: features {features} are of {brief(text) or 'a fine-tuned network'},"
            f" which reads no texts; {_EXPECTED}"
        )
    pooling = encoder.get("pooling", "own")
    model = open_clip_model(text)
    if pooling != "own" or width != model.embed_dim:
        raise ConfigError(
            f"contrastive: features {features} are no image embeddings of {brief(text)}, which have"
            f" {model.embed_dim:,} numbers; make them with pooling=own"
        )
    origin = origin_of(settled(BackboneConfig(backbone=text, image_sizes=(), resample="own")))
    blueprint = encoder_of(text).blueprint()
    if str(origin) != encoder.get("weights_from") or blueprint != encoder.get("blueprint"):
        again = as_typed(f"train-backbone --backbone {shlex.quote(text)}")
        raise ConfigError(
            f"contrastive: features {features} are of weights {encoder.get('weights_from')},"
            f" {brief(text)} has {origin}; run `{again}` again"
        )
    return _asked_once(text, str(origin), tuple(names), tuple(prompts))


@lru_cache(maxsize=1)  # all views of a corpus ask the same
def _asked_once(
    text: str, origin: str, names: tuple[str, ...], prompts: tuple[str, ...]
) -> TextPoints:
    return text_points(text, names, prompts=prompts)


_EXPECTED = (
    "expected a model of images and texts, open_clip:NAME/TAG, open_clip:hf-hub:ORG/NAME or"
    " open_clip:FOLDER"
)


def text_points(text: str, names: Sequence[str], *, prompts: Sequence[str]) -> TextPoints:
    """Where a model puts names: the mean over prompts of the unit vectors, at length 1.

    Args:
        text: the model, `open_clip:` and what `OpenClipEncoder` takes behind it.
        names: L of them.
        prompts: sentences with `{}` in the place of the name.

    Raises:
        ConfigError: it is no model of images and texts, or a part that reads texts is missing.

    Source: Radford et al., ICML 2021, section 3.1.4.
    """
    if not text.startswith(WORLD):
        raise ConfigError(f"contrastive: {brief(text)}: {_EXPECTED}")
    model = open_clip_model(text)
    if not model.texts:
        raise ConfigError(f"contrastive: {brief(text)}: its settings have no text_cfg")
    path = open_clip_weights(text)
    tower, tokenise = _tower(text, model), _tokeniser(text, model)
    scale = _load(tower, path)
    total = np.zeros((len(names), model.embed_dim))
    for prompt in prompts:
        total += _asked(text, tower, tokenise, [prompt.replace("{}", name) for name in names])
    return TextPoints(points=_unit(total), scale=scale)


def _unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def _asked(text: str, tower: Any, tokenise: Tokenise, texts: list[str]) -> npt.NDArray[np.float64]:
    """(L, E) unit vectors of some texts."""
    parts, mask = [], getattr(tower, "attn_mask", None)
    with torch.inference_mode():
        for start in range(0, len(texts), _AT_ONCE):
            whole = tokenise(texts[start : start + _AT_ONCE])
            tokens = _trimmed(whole, tower)
            n = tokens.shape[1]
            try:
                if n < whole.shape[1] and mask is not None:  # else it may be longer than the text
                    tower.attn_mask = mask[:n, :n]
                found: Tensor = tower(tokens)
            except IndexError:  # of an embedding
                raise ConfigError(
                    f"contrastive: {brief(text)}: its tokenizer knows {int(tokens.max()) + 1:,}"
                    " tokens or more, its text tower fewer: one of them is another model's"
                ) from None
            finally:
                if mask is not None:
                    tower.attn_mask = mask
            parts.append(found.double().numpy())
    return _unit(np.concatenate(parts))


def _trimmed(tokens: Tensor, tower: Any) -> Tensor:
    """(n, T') tokens without the columns at the end that no answer depends on.

    Texts are padded to 77 or 256 tokens, names have ten.
    """
    if hasattr(tower, "pooler"):  # it masks what is padded
        used = tokens != tower.config.pad_token_id
    elif tower.pool_type == "argmax" and tower.attn_mask is not None and tower.cls_emb is None:
        ends = tokens.argmax(dim=1, keepdim=True)  # nothing sees what comes behind it
        used = torch.arange(tokens.shape[1]) <= ends
    else:
        return tokens
    return tokens[:, : int(used.any(dim=0).nonzero().max()) + 1]


def _tower(text: str, model: OpenClipModel) -> nn.Module:
    """The text tower without its weights.

    Raises:
        ConfigError: it cannot be built.
    """
    settings = {**model.texts, "hf_model_pretrained": False, "output_tokens": False}
    try:
        if settings.get("hf_model_name"):
            return _language_model(text, model, settings).eval()
        clip = package("open_clip.model", extra="open-clip")
        tower: nn.Module = clip._build_text_tower(model.embed_dim, settings, model.quick_gelu)
    except (*UNREADABLE, AssertionError) as error:
        raise ConfigError(
            f"contrastive: {brief(text)}: open_clip cannot build its text tower"
            f" ({first_line(error)})"
        ) from None
    return tower.eval()


def _language_model(text: str, model: OpenClipModel, settings: Mapping[str, Any]) -> nn.Module:
    """A text tower that is a model of transformers, as BiomedCLIP's.

    open_clip itself would ask the hub for its settings.
    """
    transformers = transformers_package()
    known = package("open_clip.hf_configs", extra="open-clip").arch_dict
    hf_model = package("open_clip.hf_model", extra="open-clip")
    folder = _beside(text, model, str(settings["hf_model_name"]), config=_CONFIG)
    raw = parse_json(plain_file(folder / _CONFIG, error=ConfigError).read_text(encoding="utf-8"))
    kind = raw.get("model_type") if isinstance(raw, dict) else None
    if kind not in known:
        raise ConfigError(
            f"contrastive: {folder / _CONFIG}: of the type {kind!r}; text towers of transformers"
            f" are {', '.join(known)}"
        )
    config = transformers.CONFIG_MAPPING[kind].from_dict(built_of(raw))
    pooler = settings.get("hf_pooler_type", "mean_pooler")
    tower: Any = hf_model.HFTextEncoder(
        str(settings["hf_model_name"]),
        output_dim=model.embed_dim,
        config=config,
        pooler_type=pooler,
        proj_type=settings.get("hf_proj_type", "mlp"),
    )
    if config.is_encoder_decoder:
        tower.transformer = tower.transformer.encoder
    elif pooler != "cls_pooler":
        tower.transformer.pooler = None
    found: nn.Module = tower
    return found


def _beside(text: str, model: OpenClipModel, name: str, *, config: str) -> Path:
    """The folder with a file that a text tower takes: the model's own, or a folder of the hub.

    Of a model in a folder nothing is downloaded.

    Args:
        text: the model, for a message.
        model: the same.
        name: ORG/NAME where the hub has it.
        config: the file's name.

    Raises:
        ConfigError: it lies in neither.
    """
    if model.folder is not None and (model.folder / config).is_file():
        return model.folder
    try:
        return hub_folder(
            name,
            config=config,
            beside=_VOCABULARIES if config == _TOKENIZER else (),
            fetch=bool(model.repo),
        )
    except ConfigError as error:
        where = model.folder or "a folder with the model's files"
        raise ConfigError(
            f"contrastive: {brief(text)}: its texts are read by {name}, whose {config} is not"
            f" there; put the {'tokenizer' if config == _TOKENIZER else 'settings'} of that model"
            f" into {where} ({first_line(error)})"
        ) from None


def _tokeniser(text: str, model: OpenClipModel) -> Tokenise:
    """What makes tokens (n, T) of n texts, as open_clip does it for the model.

    Raises:
        ConfigError: its files are not there, or it takes settings that are not known here.
    """
    given = dict(model.texts.get("tokenizer_kwargs") or {})
    if unknown := sorted(set(given) - set(_CLEANING)):
        raise ConfigError(
            f"contrastive: {brief(text)}: its tokenizer takes {unknown[0]!r}, unknown"
        )
    tokenizers = package("open_clip.tokenizer", extra="open-clip")
    length = int(model.texts.get("context_length", tokenizers.DEFAULT_CONTEXT_LENGTH))
    name = model.texts.get("hf_tokenizer_name")
    if not name:
        plain: Tokenise = tokenizers.SimpleTokenizer(context_length=length, **given)
        return plain
    transformers_package()
    folder = _beside(text, model, str(name), config=_TOKENIZER)
    try:
        found: Tokenise = tokenizers.HFTokenizer(
            str(folder),
            context_length=length,
            tokenizer_mode=model.texts.get("tokenizer_mode"),
            **given,
            local_files_only=True,
            trust_remote_code=False,
        )
    except (*UNREADABLE, ImportError) as error:
        raise ConfigError(
            f"contrastive: {folder}: no tokenizer can be read ({first_line(error)})"
        ) from None
    return found


def _load(tower: nn.Module, path: Path) -> float:
    """Fill the tower with the weights of a file of the whole model.

    Returns:
        What the model multiplies cosines by; 1 where it does not say.

    Raises:
        ConfigError: the file cannot be read, or has not exactly the tower's tensors.
    """
    tensors = read_checkpoint(path).tensors
    plain = {re.sub(r"^module\.", "", name): tensor for name, tensor in tensors.items()}
    apart = any(name.startswith(_TEXTS) for name in plain)
    state = {
        name.removeprefix(_TEXTS): tensor
        for name, tensor in plain.items()
        if name.startswith(_TEXTS if apart else _OF_CLIP)
        and not name.endswith(".position_ids")  # numbers in order, which transformers kept once
    }
    own = tower.state_dict()
    if not state:
        raise ConfigError(f"contrastive: {path} holds no text tower, which scoring names takes")
    unfit = [n for n in own if n not in state or state[n].shape != own[n].shape]
    unfit += [name for name in state if name not in own]
    if unfit := [name for name in unfit if not name.endswith(".position_ids")]:
        raise ConfigError(
            f"contrastive: {path} does not fit the text tower of its settings: {len(unfit)} tensors"
            f" are missing, left over or of another shape, first {unfit[0]!r}"
        )
    tower.load_state_dict(state, strict=False)
    scale = plain.get(_SCALE)
    return 1.0 if scale is None else float(scale.float().exp())
