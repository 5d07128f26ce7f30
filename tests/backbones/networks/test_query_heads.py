"""Heads that ask the places of a map: against loops, one by one, by name, in bounded memory."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import layer_norm

import backbones.networks.queries
from backbones.networks.queries import (
    QueryDecoder,
    QueryHead,
    WordHead,
    Words,
    build_head_on,
    head_like,
    layer_widths,
)
from backbones.networks.weights import start_head
from backbones.settings.config import BackboneConfig
from core.config import fingerprint
from core.errors import ConfigError
from core.labels import LabelSpace
from core.storage.folders import new_folder
from training.checkpoint import numbered, save_tensors
from training.heads import GroupedLayer, start_at_prior, weights_to_come

B, D, P, L = 3, 20, 9, 11
QUERIES = BackboneConfig(
    regime="full", image_sizes=(64,), head="queries", n_queries=4, query_width=64, dropout=0.0,
    input_dropout=0.0,
)  # fmt: skip
WORDS = replace(QUERIES, head="words")


def places(*, n: int = B, seed: int = 0) -> Tensor:
    return torch.rand(n, D, P, generator=torch.Generator().manual_seed(seed))


def points(n: int = L) -> Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(1))


def query_head(
    n_concepts: int = L, config: BackboneConfig = QUERIES, *, seed: int = 0
) -> QueryHead:
    torch.manual_seed(seed)
    head = build_head_on(D, n_concepts, config=config)
    assert isinstance(head, QueryHead)
    return head


def word_head(words: Words | None = None, *, seed: int = 0) -> WordHead:
    words = words or Words(points=points())
    torch.manual_seed(seed)
    head = build_head_on(D, len(words.points), config=WORDS, words=words)
    assert isinstance(head, WordHead)
    return head


def _layer(layer: nn.Linear, x: Tensor) -> Tensor:
    return torch.einsum("oi,...i->...o", layer.weight, x) + layer.bias


def _normalised(decoder: QueryDecoder, number: int, x: Tensor) -> Tensor:
    norm = decoder.norms[number]
    assert isinstance(norm, nn.LayerNorm)
    return layer_norm(x, x.shape[-1:], norm.weight, norm.bias)


def answer_by_loops(decoder: QueryDecoder, query: Tensor, seen: Tensor) -> Tensor:
    """(width,) what one query is answered about the places (D, P) of one image."""
    tokens = torch.stack([torch.relu(_layer(decoder.place, place)) for place in seen.T])
    asked = _normalised(decoder, 0, query)
    wanted = _layer(decoder.query, asked)
    keys, values = _layer(decoder.key, tokens), _layer(decoder.value, tokens)
    parts = []
    for head in torch.split(torch.arange(len(query)), len(query) // 8):
        fit = torch.einsum("pd,d->p", keys[:, head], wanted[head]) / len(head) ** 0.5
        share = torch.exp(fit) / torch.exp(fit).sum()
        parts.append(torch.einsum("p,pd->d", share, values[:, head]))
    found = _normalised(decoder, 1, asked + _layer(decoder.joined, torch.cat(parts)))
    further = _layer(decoder.second, torch.relu(_layer(decoder.first, found)))
    return _normalised(decoder, 2, found + further)


@pytest.mark.parametrize(("n_queries", "n_each"), [(4, 3), (100, 1)])
def test_queries_of_groups_and_of_concepts_are_what_loops_give(n_queries: int, n_each: int) -> None:
    head, seen = query_head(config=replace(QUERIES, n_queries=n_queries)), places()
    assert head.queries.shape == (-(-L // n_each), 64)
    expected = torch.zeros(B, L)
    with torch.no_grad():
        for image in range(B):
            for concept in range(L):
                group, own = divmod(concept, n_each)
                answer = answer_by_loops(head.decoder, head.queries[group], seen[image])
                weights = head.last.weight[group, :, own]
                expected[image, concept] = answer @ weights + head.last.bias[concept]
    torch.testing.assert_close(head(seen).detach(), expected)


def test_names_are_asked_for_as_loops_do() -> None:
    head, seen = word_head(), places()
    expected = torch.zeros(B, L)
    with torch.no_grad():
        for image in range(B):
            for concept in range(L):
                query = _layer(head.word, head.points[concept])
                answer = answer_by_loops(head.decoder, query, seen[image])
                expected[image, concept] = _layer(head.last, answer).squeeze()
    torch.testing.assert_close(head.eval()(seen).detach(), expected)


@pytest.mark.parametrize(
    ("n_concepts", "most", "n_groups", "n_each"),
    [(11, 4, 4, 3), (10, 4, 4, 3), (9, 4, 3, 3), (4, 4, 4, 1), (3, 4, 3, 1), (1, 4, 1, 1),
     (261, 100, 87, 3), (3047, 100, 99, 31)],
)  # fmt: skip
def test_no_query_is_without_concepts(
    n_concepts: int, most: int, n_groups: int, n_each: int
) -> None:
    layer = GroupedLayer(8, n_concepts, most_groups=most)
    assert layer.weight.shape == (n_groups, 8, n_each)
    assert (n_groups - 1) * n_each < n_concepts <= n_groups * n_each
    assert layer(torch.zeros(2, n_groups, 8)).shape == (2, n_concepts)


def test_what_a_name_is_answered_does_not_depend_on_the_others() -> None:
    few = Words(points=points()[[7, 2]])
    torch.testing.assert_close(
        word_head(few).eval()(places()), word_head().eval()(places())[:, [7, 2]]
    )


def test_the_order_of_places_is_of_no_account() -> None:
    seen = places()
    torch.testing.assert_close(query_head()(seen), query_head()(seen.flip(2)))


def test_queries_look_at_places_and_not_at_their_mean() -> None:
    seen = places()
    flat = seen.mean(dim=2, keepdim=True).expand_as(seen)
    assert (query_head()(seen) - query_head()(flat)).abs().max() > 1e-3


def test_names_in_blocks_are_names_at_once_with_their_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def taught() -> tuple[Tensor, list[Tensor]]:
        head, seen = word_head().train(), places().requires_grad_()
        logits = head(seen)
        (logits.sigmoid() * torch.arange(1, L + 1)).sum().backward()
        return logits.detach(), [p.grad for p in head.parameters() if p.grad is not None]

    whole, expected = taught()
    monkeypatch.setattr(backbones.networks.queries, "_AT_ONCE", 4)
    found, gradients = taught()
    torch.testing.assert_close(found, whole)
    assert len(gradients) == len(expected) == len(list(word_head().parameters()))
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other)


def _held(head: nn.Module, seen: Tensor) -> int:
    """Numbers that are kept for the way back."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        head.train()(seen)
    return sum(kept.values())


@pytest.mark.parametrize("kind", ["queries", "words"])
def test_memory_of_thousands_of_concepts_is_that_of_a_hundred_queries(kind: str) -> None:
    n, n_concepts = 2, 3047
    config = replace(QUERIES, head=kind, n_queries=100)  # type: ignore[arg-type]  # a literal
    words = Words(points=points(n_concepts)) if kind == "words" else None
    head = build_head_on(D, n_concepts, config=config, words=words)
    weights = sum(parameter.numel() for parameter in head.parameters())
    # Of an answer: what the attention, three norms and the wider layer keep, 64 numbers each.
    assert _held(head, places(n=n)) < weights + n * 100 * 64 * 16
    assert n * n_concepts * 64 > n * 100 * 64 * 16  # a single (B, L, d) would be more


def test_a_concept_without_training_images_teaches_nothing_and_is_scored_by_its_name() -> None:
    learnt = torch.ones(L, dtype=torch.bool)
    learnt[[2, 5]] = False
    head = word_head(Words(points=points(), learnt=learnt)).train()
    logits = head(places())
    assert (torch.sigmoid(logits[:, ~learnt]) < 1e-8).all()
    (slope,) = torch.autograd.grad(logits[:, ~learnt].sum(), head.last.weight)
    assert not slope.any()
    (slope,) = torch.autograd.grad(head(places()).sum(), head.last.weight)
    assert slope.any()
    torch.testing.assert_close(head.eval()(places()), word_head().eval()(places()))
    assert set(head.state_dict()) == set(word_head().state_dict())
    assert "learnt" not in head.state_dict()


def test_a_head_may_start_at_the_share_of_each_concept_or_of_all() -> None:
    positives = torch.tensor([0.0, 4.0, 9.0])
    head = query_head(3)
    start_at_prior(nn.Sequential(nn.Linear(3, 3), head), positives, n_images=9)
    torch.testing.assert_close(head.last.bias.sigmoid(), torch.tensor([0.05, 0.45, 0.95]))
    named = word_head(Words(points=points(3)))
    start_at_prior(named, positives, n_images=9)
    torch.testing.assert_close(named.last.bias.sigmoid(), torch.tensor([0.05 + 0.45 + 0.95]) / 3)


def test_glorot_draws_every_layer_within_its_bound_and_no_biases() -> None:
    head = query_head(config=replace(QUERIES, head_init="glorot"))
    bound = (6 / (64 + 3)) ** 0.5
    assert 0.9 * bound < float(head.last.weight.detach().abs().max()) <= bound
    assert not head.last.bias.any()
    assert not head.decoder.place.bias.any()


def test_a_head_is_built_for_tensors_without_drawing_and_without_reading_names() -> None:
    for config, head in ((QUERIES, query_head()), (WORDS, word_head())):
        state = {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
        with weights_to_come():
            again = head_like(state, n_features=D, n_concepts=L, config=config)
        again.load_state_dict(head.state_dict())
        assert torch.equal(again.eval()(places()), head.eval()(places()))
        n_there = sum(tensor.numel() for tensor in state.values())
        widths = layer_widths(config, L, detector=state)
        assert sum(a * b for a, b in pairwise(widths)) <= n_there


SPACE = LabelSpace(tuple(f"C{number}" for number in range(6)))
FEWER = LabelSpace(("C1", "C4", "C9"))


def run_with(head: nn.Module, folder: Path) -> Path:
    """A fine-tuned run of which the head matters alone."""
    meta = {"regime": "full", "n_networks": 1}
    with new_folder(folder, meta) as draft:
        SPACE.save(draft / "labels.txt")
        state = {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
        save_tensors(draft / "model.safetensors", numbered([state]))
    return folder


def test_queries_of_groups_start_from_those_of_the_same_concepts_alone(tmp_path: Path) -> None:
    config = replace(QUERIES, n_queries=3, weights=str(tmp_path / "run"))
    theirs = query_head(6, config, seed=1)
    run_with(theirs, tmp_path / "run")
    same, fewer = query_head(6, config, seed=2), query_head(3, config, seed=2)
    fresh = fewer.queries.detach().clone()
    start_head(same, SPACE, config=config)
    start_head(fewer, FEWER, config=config)
    assert torch.equal(same(places()), theirs(places()))
    assert torch.equal(fewer.queries, fresh)
    assert torch.equal(fewer.decoder.first.weight, theirs.decoder.first.weight)
    assert torch.equal(fewer.last.bias[:2], theirs.last.bias[[1, 4]])


def test_a_query_of_its_own_is_taken_over_with_its_concept(tmp_path: Path) -> None:
    config = replace(QUERIES, n_queries=100, weights=str(tmp_path / "run"))
    theirs = query_head(6, config, seed=1)
    run_with(theirs, tmp_path / "run")
    own = query_head(3, config, seed=2)
    start_head(own, FEWER, config=config)
    torch.testing.assert_close(own(places())[:, :2], theirs(places())[:, [1, 4]])


@pytest.mark.parametrize("text", ["hashed", "sentences"])
def test_names_are_taken_over_where_the_text_space_is_the_same(tmp_path: Path, text: str) -> None:
    config = replace(WORDS, weights=str(tmp_path / "run"))
    theirs = word_head(Words(points=points(6)), seed=1)
    run_with(theirs, tmp_path / "run")
    # Of hashed names each fit has a space of its own; a sentence model has one for all.
    other = torch.randn(3, 5)
    if text == "sentences":
        other[:2] = points(6)[[1, 4]]
    own, known = word_head(Words(points=other.clone()), seed=2), LabelSpace(("C1", "C4"))
    word = own.word.weight.detach().clone()
    start_head(own, FEWER, config=config)
    assert torch.equal(own.last.weight, theirs.last.weight)
    assert torch.equal(own.word.weight, theirs.word.weight if text == "sentences" else word)
    assert torch.equal(own.points, other)
    within = word_head(Words(points=other[:2].clone()), seed=2)
    start_head(within, known, config=config)
    torch.testing.assert_close(within.eval()(places()), theirs.eval()(places())[:, [1, 4]])


def test_another_kind_of_head_is_not_taken_over(tmp_path: Path) -> None:
    config = replace(WORDS, weights=str(tmp_path / "run"))
    run_with(query_head(6), tmp_path / "run")
    own = word_head(Words(points=points(6)))
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    start_head(own, SPACE, config=config)
    assert all(torch.equal(tensor, before[name]) for name, tensor in own.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regime": "frozen"}, "the regime frozen keeps pooled features alone"),
        ({"pooling": "gem"}, "pooling gem: the head queries is given all places"),
        ({"query_width": 100}, "query_width: expected a multiple of 8, found 100"),
        ({"query_width": 32}, "query_width: expected 64 to 2,048"),
        ({"n_queries": 0}, "n_queries: expected 1 to 100,000"),
    ],
)
def test_what_does_not_go_with_queries_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(QUERIES, **changes)  # type: ignore[arg-type]


def test_a_head_of_words_takes_names() -> None:
    with pytest.raises(ValueError, match="takes names"):
        build_head_on(D, L, config=WORDS)


def test_settings_of_queries_leave_the_names_of_other_runs_as_they_were() -> None:
    plain = BackboneConfig()
    assert fingerprint(plain) == fingerprint(replace(plain, head="layers", n_queries=100))
    assert len({fingerprint(c) for c in (QUERIES, WORDS, replace(QUERIES, head="layers"))}) == 3


def test_eight_images_are_learnt_by_heart() -> None:
    seen, truth = places(n=8, seed=3), (torch.rand(8, L) < 0.3).float()
    for head in (query_head(), word_head()):
        optimiser = torch.optim.AdamW(head.parameters(), lr=1e-3)
        for _ in range(150):
            loss = nn.functional.binary_cross_entropy_with_logits(head(seen), truth)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        decided = head.eval()(seen) > 0
        np.testing.assert_array_equal(decided.numpy(), truth.numpy() > 0)
