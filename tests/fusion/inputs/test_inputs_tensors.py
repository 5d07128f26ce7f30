"""What networks are built from: shares and sightings of concepts by category."""

import numpy as np
import torch

from fusion.inputs.tensors import NetworkInputs, Training


def training(category: list[list[float]], targets: list[list[float]]) -> Training:
    n = len(category)
    padded = torch.tensor([row + [0.0] * 5 for row in category])
    return Training(
        inputs=(torch.zeros(n, 3), padded, torch.zeros(n, 2)), targets=torch.tensor(targets)
    )


def test_shares_of_a_category_lean_on_the_share_among_all() -> None:
    # Three images: two CT-like with concept 0, one other without; concept 1 on the last alone.
    made = training([[1, 0], [1, 0], [0, 1]], [[1.0, 0], [1, 0], [0, 1]])
    # rate = (2 + 1/2) / 4, (1 + 1/2) / 4; first category: (2 + rate) / 3, (0 + rate) / 3
    torch.testing.assert_close(made.prior()[0], torch.tensor([2.625 / 3, 0.375 / 3]))
    torch.testing.assert_close(made.prior()[1], torch.tensor([0.625 / 2, 1.375 / 2]))
    torch.testing.assert_close(made.prior()[6], torch.tensor([0.625, 0.375]))  # no image


def test_a_posterior_counts_as_parts_of_images() -> None:
    made = training([[0.5, 0.5], [1, 0]], [[1.0, 0], [1, 1]])
    rate = torch.tensor([2.5 / 3, 1.5 / 3])
    torch.testing.assert_close(made.prior()[0], (torch.tensor([1.5, 1.0]) + rate) / (1.5 + 1))


def test_a_category_has_seen_what_its_images_have_and_one_without_images_all() -> None:
    made = training([[1, 0], [0, 1]], [[1.0, 0], [1, 1]])
    assert made.seen()[0].tolist() == [1, 0]
    assert made.seen()[1].tolist() == [1, 1]
    assert made.seen()[6].tolist() == [1, 1]


def test_sizes_are_those_of_the_inputs() -> None:
    made = training([[1, 0]], [[1.0, 0]])
    assert (made.n_features, made.n_context, made.n_concepts) == (3, 9, 2)


def test_a_batch_has_the_rows_asked_for_in_their_order() -> None:
    values = torch.arange(8.0).reshape(4, 2)
    network_inputs = NetworkInputs(features=values, category=values + 10, metadata=values + 20)
    for part, offset in zip(network_inputs.batch(np.array([3, 1])), (0, 10, 20), strict=True):
        assert part.tolist() == [[6 + offset, 7 + offset], [2 + offset, 3 + offset]]
