"""What captions of training images teach a detector, which predicts without any.

They come from `ImageTable.as_training_images` alone, so that an image which is predicted has none.
"""

from backbones.settings.config import BackboneConfig
from core.config import fingerprint
from core.errors import ConfigError
from core.images import ImageTable
from core.runs.workspace import Corpus
from training.texts.spaces import HASHED, check_sentence_model, sentences_once
from training.texts.teacher import Teacher


def check_captions(corpus: Corpus, config: BackboneConfig) -> None:
    """Refuse to learn from captions where there are none, before any work.

    Raises:
        ConfigError: no training image of the corpus has a caption, or there is no such sentence
            model here.
    """
    if not config.caption_weight:
        return
    if not any(corpus.training_images().captions):
        raise ConfigError(
            f"caption_weight: {corpus.name} has no captions; see docs/captions.md for the files and"
            " columns that `prepare` takes them from, or leave caption_weight at 0"
        )
    check_sentence_model(config.caption_text, setting="caption_text")


def caption_key(corpus: Corpus, config: BackboneConfig) -> tuple[str, ...]:
    """What captions add to the name of a run; nothing where none is learnt from."""
    if not config.caption_weight:
        return ()
    images = corpus.training_images()
    return (fingerprint(list(zip(images.image_ids, images.captions, strict=True))),)


def caption_teacher(images: ImageTable, config: BackboneConfig, *, seed: int) -> Teacher | None:
    """The teacher of a network; None where captions weigh nothing, or no image has one.

    Args:
        images: n training images, of `as_training_images`.
        config: what captions weigh, and how they are read.
        seed: of a hashed space.
    """
    if not (config.caption_weight and any(images.captions)):
        return None
    if config.caption_text == HASHED:
        return Teacher.hashed(images.captions, weight=config.caption_weight, seed=seed)
    told = tuple(sorted({*images.captions} - {""}))
    points = sentences_once(told, model=config.caption_text, setting="caption_text")
    known = dict(zip(told, points, strict=True))
    return Teacher.placed(images.captions, known, weight=config.caption_weight)
