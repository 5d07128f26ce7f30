"""Offsets and masks of logits by the category, worked by hand."""

import torch

from fusion.inputs.tensors import Training
from fusion.networks.heads import Masked, PriorOffset
from training.config import FitConfig

CATEGORY = torch.eye(7)[[0, 0, 1, 1]]
TARGETS = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1]])
FEATURES = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
NONE = torch.zeros(4, 0)
TRAINING = Training(inputs=(FEATURES, CATEGORY, NONE), targets=TARGETS)
CONFIG = FitConfig(hidden=(6,))


def test_a_network_that_says_nothing_leaves_the_prior() -> None:
    model = PriorOffset(TRAINING, CONFIG).eval()
    for parameter in model.head.parameters():
        torch.nn.init.zeros_(parameter)
    said = torch.sigmoid(model(FEATURES, CATEGORY, NONE))
    torch.testing.assert_close(said[0], TRAINING.prior()[0].clamp(1e-4, 1 - 1e-4))
    half = torch.tensor([[0.5, 0.5, 0, 0, 0, 0, 0]])
    torch.testing.assert_close(
        torch.sigmoid(model(FEATURES[:1], half, NONE[:1]))[0], TRAINING.prior()[:2].mean(dim=0)
    )
    unknown = torch.sigmoid(model(FEATURES[:1], torch.zeros(1, 7), NONE[:1]))[0]
    torch.testing.assert_close(unknown, TARGETS.mean(dim=0))


def test_a_concept_never_seen_in_the_category_is_ruled_out() -> None:
    model = Masked(TRAINING, CONFIG).eval()
    masked, free = model(FEATURES, CATEGORY, NONE), model.head(FEATURES, CATEGORY, NONE)
    lost = free - masked
    # Concept 2 stands on images of the second category only, concept 0 on those of the first.
    expected = -torch.log(torch.tensor([[1, 1, 1e-4]] * 2 + [[1e-4, 1, 1]] * 2))
    torch.testing.assert_close(lost, expected, atol=1e-4, rtol=1e-4)


def test_an_unknown_category_rules_nothing_out() -> None:
    model = Masked(TRAINING, CONFIG).eval()
    unknown = torch.zeros(4, 7)
    torch.testing.assert_close(model(FEATURES, unknown, NONE), model.head(FEATURES, unknown, NONE))
