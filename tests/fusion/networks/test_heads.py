"""Every fusion network: shapes, what it does with a category, a posterior, and nothing."""

import pytest
import torch
from torch import Tensor, nn

from core.errors import ConfigError
from fusion.inputs.tensors import Training
from fusion.networks.heads import OneHot
from fusion.networks.train import HEADS, Head
from training.config import FitConfig

N, D, L, M = 40, 5, 4, 2


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


FEATURES = torch.randn(N, D, generator=rng()) * 3 + 2
CATEGORY = torch.eye(7)[torch.arange(N) % 3]
METADATA = torch.randn(N, M, generator=rng(1))
TARGETS = (torch.rand(N, L, generator=rng(2)) < 0.4).float()
TRAINING = Training(inputs=(FEATURES, CATEGORY, METADATA), targets=TARGETS)

every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
every_informed = pytest.mark.parametrize(
    "head", [head for name, head in HEADS.items() if name != "blind"], ids=[*HEADS][1:]
)


def build(head: Head, config: FitConfig | None = None, training: Training = TRAINING) -> nn.Module:
    torch.manual_seed(0)
    return head(training, config or FitConfig(hidden=(8,))).eval()


def stirred(model: nn.Module) -> nn.Module:
    """The model with other weights, so that what starts as no influence has some."""
    generator = rng(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


@every_head
@pytest.mark.parametrize("hidden", [(8,), (8, 6)])
def test_features_category_and_metadata_become_logits(head: Head, hidden: tuple[int, ...]) -> None:
    model = build(head, FitConfig(hidden=hidden))
    assert model(FEATURES, CATEGORY, METADATA).shape == (N, L)


@every_informed
def test_the_category_changes_what_is_said_of_the_same_features(head: Head) -> None:
    model, one = stirred(build(head)), FEATURES[:1].expand(7, D)
    logits = model(one, torch.eye(7), METADATA[:1].expand(7, M))
    assert len({tuple(row.tolist()) for row in logits.round(decimals=5)[:3]}) == 3


def test_the_head_without_metadata_is_blind_to_it() -> None:
    model = stirred(build(HEADS["blind"]))
    torch.testing.assert_close(
        model(FEATURES, CATEGORY, METADATA),
        model(FEATURES, 0 * CATEGORY, METADATA + 1),
        rtol=0, atol=0,
    )  # fmt: skip


@every_informed
def test_an_unsure_category_is_said_between_the_sure_ones_or_as_they_are(head: Head) -> None:
    model, one = stirred(build(head)), FEATURES[:1].expand(3, D)
    kinds = torch.tensor(
        [[1.0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0], [0.98, 0.02, 0, 0, 0, 0, 0]]
    )
    first, second, nearly = model(one, kinds, METADATA[:1].expand(3, M))
    assert ((nearly - first).abs() < (second - first).abs() + 1e-3).all()
    assert not torch.equal(nearly, first)


@every_head
def test_nothing_known_of_the_category_is_no_error(head: Head) -> None:
    logits = build(head)(FEATURES, torch.zeros(N, 7), torch.zeros(N, M))
    assert torch.isfinite(logits).all()


@every_head
def test_every_part_learns(head: Head) -> None:
    model = stirred(build(head)).train()
    loss = nn.functional.binary_cross_entropy_with_logits(
        model(FEATURES, CATEGORY, METADATA), TARGETS
    )
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@every_head
def test_what_is_fitted_on_training_images_is_kept_in_the_weights(head: Head) -> None:
    model = stirred(build(head))
    others = Training(inputs=(FEATURES + 1, CATEGORY, METADATA), targets=1 - TARGETS)
    copied = build(head, training=others)
    copied.load_state_dict(model.state_dict(), strict=True)
    torch.testing.assert_close(
        copied(FEATURES, CATEGORY, METADATA), model(FEATURES, CATEGORY, METADATA)
    )


@pytest.mark.parametrize("name", ["one-hot-late", "film", "experts"])
def test_heads_that_need_a_hidden_layer_say_so(name: str) -> None:
    with pytest.raises(ConfigError, match="needs at least one hidden layer"):
        build(HEADS[name], FitConfig(hidden=()))


def test_one_layer_on_features_and_category_is_their_weighted_sum() -> None:
    bare = Training(inputs=(FEATURES, CATEGORY, torch.zeros(N, 0)), targets=TARGETS)
    head = build(OneHot, FitConfig(hidden=()), bare)
    assert isinstance(head, OneHot)
    none = torch.zeros(7, 0)
    with torch.inference_mode():
        logits = head(FEATURES[:1].expand(7, D), torch.eye(7), none)
        weight, bias = head.layers[1].weight, head.layers[1].bias
        assert isinstance(weight, Tensor)
        assert isinstance(bias, Tensor)
        standard = (FEATURES[:1] - FEATURES.mean(dim=0)) / FEATURES.std(dim=0, unbiased=False)
        # One layer: the logits are those of the features, and three times the category's weights.
        expected = standard @ weight[:, :D].T + bias + 3 * weight[:, D:].T
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
