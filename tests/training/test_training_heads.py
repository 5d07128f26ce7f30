"""Heads: their layers, where they start, and the standardisation before them."""

import pytest
import torch
from torch import nn

from backbones.settings.config import BackboneConfig
from training.heads import Standardise, build_head, start_at_prior, weights_to_come


def test_standardised_training_features_have_mean_0_and_deviation_1() -> None:
    features = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    layer = Standardise.fitted(features)
    # means 2 and 20, deviations 1 and 10
    torch.testing.assert_close(layer(features), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    assert layer.state_dict().keys() == {"mean", "std"}


def test_a_feature_that_was_constant_in_training_cannot_drown_the_others() -> None:
    features = torch.tensor([[0.0, 5.0, 1.0], [0.0, 5.0, 3.0]])
    layer = Standardise.fitted(features)
    # Deviations 0, 0 and 1: a tenth of their mean is 1/30, so 0.5 is 15 deviations.
    torch.testing.assert_close(layer(features)[:, :2], torch.zeros(2, 2))
    torch.testing.assert_close(
        layer(torch.tensor([[0.5, 5.0, 2.0]])), torch.tensor([[15.0, 0.0, 0.0]])
    )


def test_features_that_are_all_constant_become_0() -> None:
    features = torch.full((4, 3), 0.1)
    torch.testing.assert_close(Standardise.fitted(features)(features), torch.zeros(4, 3))


@pytest.mark.parametrize("hidden", [(), (16,), (16, 8)])
def test_a_head_has_its_layers_and_dropout_after_each(hidden: tuple[int, ...]) -> None:
    config = BackboneConfig(hidden=hidden, dropout=0.25, input_dropout=0.1)
    head = build_head(32, 5, config=config)
    widths = [layer.out_features for layer in head if isinstance(layer, nn.Linear)]
    dropped = [layer.p for layer in head if isinstance(layer, nn.Dropout)]
    assert widths == [*hidden, 5]
    assert dropped == [0.1, *[0.25 for _ in hidden]]
    assert head(torch.zeros(2, 32)).shape == (2, 5)


def test_a_head_may_start_at_the_share_of_each_concept() -> None:
    head = build_head(4, 3, config=BackboneConfig(hidden=(5,))).eval()
    start_at_prior(head, torch.tensor([0.0, 4.0, 9.0]), n_images=9)
    # (0 + .5) / 10, (4 + .5) / 10, (9 + .5) / 10 where the features are 0 and so are other biases
    for layer in head.children():
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.weight)
    probs = torch.sigmoid(head(torch.zeros(1, 4)))
    torch.testing.assert_close(probs, torch.tensor([[0.05, 0.45, 0.95]]))


def test_glorot_draws_weights_within_its_bound_and_no_biases() -> None:
    head = build_head(
        100, 50, config=BackboneConfig(hidden=(), head_init="glorot", input_dropout=0.0)
    )
    [layer] = [m for m in head.modules() if isinstance(m, nn.Linear)]
    bound = (6 / 150) ** 0.5
    assert 0.95 * bound < float(layer.weight.detach().abs().max()) <= bound
    assert not layer.bias.any()


def test_weights_that_are_to_come_are_not_drawn() -> None:
    state = torch.random.get_rng_state()
    with weights_to_come():
        head = build_head(4, 3, config=BackboneConfig(hidden=(5,), head_init="glorot"))
    torch.testing.assert_close(torch.random.get_rng_state(), state)
    assert [tuple(p.shape) for p in head.parameters()] == [(5, 4), (5,), (3, 5), (3,)]
    drawn = build_head(4, 3, config=BackboneConfig(hidden=(5,)))
    head.load_state_dict(drawn.state_dict())
    torch.testing.assert_close(head.state_dict(), drawn.state_dict(), rtol=0, atol=0)
    assert not torch.equal(torch.random.get_rng_state(), state)  # outside they are


@pytest.mark.timeout(60)
@pytest.mark.parametrize("ends", [(-2.0, 2.0), (0.1, 9.0), (2.0, 9.0)])
def test_what_torch_draws_until_it_fits_ends_whatever_the_memory_held(
    ends: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "empty_like", lambda tensor: torch.full(tensor.shape, 1e9))
    weights = nn.Parameter(torch.full((50,), 1e9))  # as memory that nobody wrote may be
    own = torch.full((50,), 1e9)
    with weights_to_come():
        nn.init.trunc_normal_(weights, 0.0, 1.0, *ends)
        nn.init.trunc_normal_(own, 0.0, 1.0, *ends)
        assert nn.init.ones_(torch.zeros(2)).all()
    for drawn in (weights.detach(), own):
        assert drawn.abs().max() <= 9
    assert own.min() >= ends[0]
    assert own.std() > 0
