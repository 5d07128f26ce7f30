import torch

from backbones.fit_config import FitConfig
from fusion.head import OneHotHead

FEATURES = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)) * 3 + 2


def test_a_head_takes_features_and_category_to_logits() -> None:
    head = OneHotHead(FEATURES, 4, FitConfig(hidden=(8,)))
    assert head(FEATURES, torch.zeros(20, 7)).shape == (20, 4)


def test_the_category_changes_what_a_head_says_of_the_same_features() -> None:
    torch.manual_seed(0)
    head = OneHotHead(FEATURES, 4, FitConfig(hidden=())).eval()
    categories = torch.eye(7)
    with torch.inference_mode():
        logits = head(FEATURES[:1].expand(7, 5), categories)
        unknown = head(FEATURES[:1], torch.zeros(1, 7))
        weight, bias = head.layers[1].weight, head.layers[1].bias
        assert isinstance(weight, torch.Tensor)
        assert isinstance(bias, torch.Tensor)
        # One layer: the logits are those of the features, and three times the category's weights.
        standard = (FEATURES[:1] - FEATURES.mean(dim=0)) / FEATURES.std(dim=0, unbiased=False)
        of_features = standard @ weight[:, :5].T + bias
        torch.testing.assert_close(unknown, of_features, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(logits, of_features + 3 * weight[:, 5:].T, atol=1e-5, rtol=1e-5)


def test_the_standardisation_is_kept_in_the_weights() -> None:
    head = OneHotHead(FEATURES, 4, FitConfig())
    other = OneHotHead(torch.zeros(3, 5), 4, FitConfig())
    other.load_state_dict(head.state_dict(), strict=True)
    torch.testing.assert_close(other.standardise(FEATURES), head.standardise(FEATURES))
