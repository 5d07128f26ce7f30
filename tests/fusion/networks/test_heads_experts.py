"""The mixture of experts: who is heard on which image."""

import torch

from fusion.inputs.tensors import Training
from fusion.networks.heads import Experts
from training.config import FitConfig

N, L = 12, 3
FEATURES = torch.randn(N, 5, generator=torch.Generator().manual_seed(0))
CATEGORY = torch.eye(7)[torch.arange(N) % 2]
NONE = torch.zeros(N, 0)
TRAINING = Training(inputs=(FEATURES, CATEGORY, NONE), targets=torch.ones(N, L))


def experts() -> Experts:
    torch.manual_seed(0)
    return Experts(TRAINING, FitConfig(hidden=(8,))).eval()


def test_an_expert_is_heard_on_its_own_images_alone() -> None:
    model, other = experts(), experts()
    with torch.no_grad():
        other.own.bias[: other.units] += 5  # the expert of the first category
    changed = (model(FEATURES, CATEGORY, NONE) != other(FEATURES, CATEGORY, NONE)).any(dim=1)
    assert changed.tolist() == (CATEGORY[:, 0] == 1).tolist()


def test_without_a_category_the_general_network_answers_alone() -> None:
    model, other = experts(), experts()
    with torch.no_grad():
        for part in (other.own, other.answer):
            part.weight.add_(1)
    unknown = torch.zeros(N, 7)
    torch.testing.assert_close(model(FEATURES, unknown, NONE), other(FEATURES, unknown, NONE))


def test_a_gate_chooses_for_each_concept_of_a_category() -> None:
    model = experts()
    with torch.no_grad():
        model.gate.weight[0, 0] = 50  # concept 0 of the first category: the expert
        model.gate.weight[1, 0] = -50  # concept 1: the general network
    first = CATEGORY[:, 0] == 1
    with torch.no_grad():
        said = model(FEATURES, CATEGORY, NONE)[first]
        model.answer.bias.add_(1)
        moved = model(FEATURES, CATEGORY, NONE)[first] - said
    expected = torch.tensor([1.0, 0.0, 0.5]).expand_as(moved)
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=1e-5)
