"""Concepts asked for by their names of a model that was trained on images with their texts.

Such a pair of towers (CLIP, SigLIP, BiomedCLIP) puts images and texts into one space, where those
that belong together lie near. The images' embeddings are the pooled features of its image tower;
its text tower is asked once, for the names.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from backbones.encoders.contrastive.open_clip_files import WORLD
from backbones.encoders.contrastive.text_towers import TextPoints, points_beside
from core.errors import ConfigError
from core.runs.fused import ZERO_SHOT
from core.storage.folders import read_meta
from fusion.config import FuseConfig
from fusion.inputs.gather import FusionInputs
from fusion.networks.train import answered
from fusion.result import Earlier, FusedResult
from fusion.words.calibration import NamedConcepts, NamedTraining, NameScorer


def may_be_pair(encoder: str) -> bool:
    """Whether an encoder's name is of the library whose models read texts as well."""
    return encoder.startswith(WORLD)


class NamedByPair(NamedConcepts):
    """Names held against image embeddings at length 1."""

    def seen(self, features: Tensor) -> Tensor:
        """(B, D) at length 1."""
        return torch.nn.functional.normalize(features, dim=1)


def zero_shot(fusion_inputs: FusionInputs, config: FuseConfig, *, earlier: Earlier) -> FusedResult:
    """Scores of names by a contrastive pair, calibrated; the pair itself learns nothing here.

        score = scale cos(image embedding, embedding of the name)

    A score is the same whatever images are learnt from, so that those of training images are held
    out; its mean and deviation over images, how frequent the concept is and the category are not.

    Raises:
        ConfigError: the features are not those of a pair's image tower, or its text tower is not
            there.
    """
    images = NamedTraining(ZERO_SHOT, fusion_inputs, config=config, network=NamedByPair)
    found = _points(fusion_inputs, images.names, config.prompts)
    weights = found.scale * found.points.T
    scorer = NameScorer(components=images.seen()[images.rows], weights=lambda chosen: weights)
    return answered(ZERO_SHOT, [images.taught(scorer)], fusion_inputs=fusion_inputs)


def _points(
    fusion_inputs: FusionInputs, names: Sequence[str], prompts: Sequence[str]
) -> TextPoints:
    """Where the pair puts the names whose image tower gave the features."""
    features = fusion_inputs.names
    if len(features) > 1:
        raise ConfigError(
            f"{ZERO_SHOT}: takes one image embedding, found features {', '.join(features)}; name"
            " the pair alone with --set contrastive=ENCODER, its features made at one size"
        )
    encoder = read_meta(fusion_inputs.workspace.embeddings / features[0]).get("encoder") or {}
    return points_beside(
        encoder,
        names,
        prompts=prompts,
        width=fusion_inputs.network_inputs.features.shape[1],
        features=features[0],
    )
