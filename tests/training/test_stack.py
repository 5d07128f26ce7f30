"""Several networks at once: against each alone, repeated, overfitted, stopped."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.metrics import f1_score
from torch import Tensor, nn

import training.batches
from core.errors import ConceptError
from training.batches import Examples
from training.config import FitConfig
from training.devices.compute import Compute, Inputs
from training.devices.speed import Speed
from training.heads import Standardise, build_head
from training.loop import Fitted, fit
from training.losses.registry import CONTEXT_LOSSES, LOSSES
from training.members import fit_members, plan_members
from training.optim import OPTIMIZERS
from training.predict import Rows, predict
from training.stack import fit_chosen, fit_stack

N, D, L = 24, 6, 4
HERE = Compute()

Result = list[tuple[nn.Module, Fitted]]
Log = list[dict[str, Any]]


def features() -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(size=(N, D)).astype(np.float32))


def truth() -> csr_array:
    """Concepts that are linear in the features, and an image without any."""
    dense = features().numpy() @ np.random.default_rng(2).normal(size=(D, L)) > 0.5
    dense[3] = False
    return csr_array(dense)


def examples_of(values: Tensor, **changes: Any) -> Examples:
    batches: Callable[[Rows], Inputs] = lambda rows: (values[torch.from_numpy(rows)],)  # noqa: E731
    return replace(Examples(batches=batches, targets=truth(), rows=np.arange(N)), **changes)


CONFIG = FitConfig(
    hidden=(8,), dropout=0, input_dropout=0, batch_size=5, epochs=4, patience=4, n_members=3,
    learning_rate=0.02,
)  # fmt: skip
FOLDS = (np.arange(N) % 3).astype(np.int16)  # three folds of 8: every member learns from 16


def new_head(rows: Rows, config: FitConfig = CONFIG) -> nn.Module:
    return build_head(D, L, config=config)


def both(
    config: FitConfig,
    *,
    examples: Examples | None = None,
    new_model: Callable[[Rows], nn.Module] | None = None,
    folds: npt.NDArray[np.int16] = FOLDS,
    n_folds: int = 0,
    compute: Compute = HERE,
) -> list[tuple[Result, Log]]:
    """All members at once, and one after the other."""
    results = []
    for fit_all in (fit_stack, fit_members):
        log: Log = []
        made = fit_all(
            new_model or (lambda rows: new_head(rows, config)),
            examples or examples_of(features()),
            folds=folds,
            config=config,
            compute=compute,
            log=log.append,
            n_folds=n_folds,
        )
        results.append((made, sorted(log, key=lambda entry: (entry["member"], entry["epoch"]))))
    return results


def assert_same(results: list[tuple[Result, Log]], *, tolerance: float = 2e-5) -> None:
    """Equal weights, epochs and logs, but for the time they took."""
    (together, log), (alone, expected_log) = results
    assert len(log) == len(expected_log)
    for entry, expected in zip(log, expected_log, strict=True):
        assert entry.keys() == expected.keys()
        for name in entry.keys() - {"seconds", "images_per_s"}:
            assert entry[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-6), name
    for (model, fitted), (other, expected_fitted) in zip(together, alone, strict=True):
        assert fitted.epoch == expected_fitted.epoch
        assert fitted.f1 == pytest.approx(expected_fitted.f1)
        state, expected_state = model.state_dict(), other.state_dict()
        assert list(state) == list(expected_state)
        for name, value in state.items():
            torch.testing.assert_close(value, expected_state[name], rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("loss", [*LOSSES, *CONTEXT_LOSSES])
def test_each_network_becomes_what_it_does_alone_under_every_loss(loss: Any) -> None:
    assert_same(both(replace(CONFIG, loss=loss)))


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_each_network_becomes_what_it_does_alone_under_every_optimiser(optimizer: Any) -> None:
    # A decay this strong would show on a bias that had it.
    assert_same(both(replace(CONFIG, optimizer=optimizer, weight_decay=2.0, prior_bias=True)))


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "cosine", "warmup": 1.5},
        {"schedule": "constant", "ema": 0.9},
        {"clip_norm": 0.05},
        {"mixup": 0.4, "negative_smoothing": 0.1},
        {"bce_epochs": 2, "loss_temperature": 0.5},
        {"prior_bias": True, "head_init": "glorot", "stop_threshold": 0.4},
        {"seeds": 2, "batch_size": 3},  # 16 images: one is left over and joins the batch before
        {"hidden": ()},
        {"sampling": "rare", "loss": "asymmetric", "gamma_neg": 2.0, "loss_margin": 0.0},
    ],
    ids=lambda changes: "+".join(changes),
)
def test_each_network_becomes_what_it_does_alone_under_other_settings(
    changes: dict[str, Any],
) -> None:
    assert_same(both(replace(CONFIG, **changes)))


@pytest.mark.parametrize("changes", [{}, {"ema": 0.5}, {"optimizer": "sgd"}], ids=str)
def test_patience_is_each_networks_own(changes: dict[str, Any]) -> None:
    results = both(replace(CONFIG, epochs=14, patience=3, loss="bce", **changes))
    assert_same(results)
    lengths = [[entry["member"] for entry in results[0][1]].count(k) for k in range(3)]
    assert len(set(lengths)) > 1


def test_a_network_does_not_depend_on_its_companions() -> None:
    one, three = (both(replace(CONFIG, n_members=n))[0] for n in (1, 3))
    for name, value in one[0][0][0].state_dict().items():
        torch.testing.assert_close(value, three[0][0][0].state_dict()[name], rtol=1e-4, atol=2e-5)
    assert not torch.equal(*(next(model.parameters()) for model, _ in three[0][:2]))


def test_two_runs_are_equal_to_the_last_bit_and_another_seed_is_not() -> None:
    config = replace(CONFIG, dropout=0.3, input_dropout=0.2)
    weights = [
        [v.numpy().tobytes() for model, _ in both(c)[0][0] for v in model.state_dict().values()]
        for c in (config, config, replace(config, seed=1))
    ]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_dropout_leaves_out_its_share_of_each_network_and_keeps_the_mean() -> None:
    seen: list[Tensor] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.last = nn.Dropout(0.25), nn.Linear(40, L)

        def forward(self, x: Tensor) -> Tensor:
            dropped = self.drop(x)
            if self.training:
                seen.append(torch._C._functorch.get_unwrapped(dropped).detach())
            out: Tensor = self.last(dropped)
            return out

    config = replace(CONFIG, batch_size=16, epochs=1, patience=1)
    fit_stack(
        lambda rows: Watched(), examples_of(torch.ones(N, 40)), folds=FOLDS, config=config,
        compute=HERE, log=lambda entry: None,
    )  # fmt: skip
    values = seen[0]  # (3, 16, 40): 1,920 entries, whose deviation from 1/4 is 0.01
    assert sorted(set(values.flatten().tolist())) == pytest.approx([0, 4 / 3])
    assert (values == 0).float().mean() == pytest.approx(0.25, abs=0.04)
    assert not torch.equal(values[0], values[1])


def test_what_a_network_holds_out_is_never_met() -> None:
    folds = (np.arange(N) % 4).astype(np.int16)
    config = replace(CONFIG, n_members=1)
    plain = both(config, folds=folds, n_folds=2)
    assert_same(plain)
    members = plan_members(folds, config, n_folds=2)
    for number, member in enumerate(members):
        broken = features()
        broken[torch.from_numpy(member.held_out)] = torch.nan
        log: Log = []
        with pytest.raises(ConceptError, match="became nan"):  # the other network meets them
            fit_stack(
                new_head, examples_of(broken), folds=folds, config=config, compute=HERE,
                log=log.append, n_folds=2,
            )  # fmt: skip
        dense = truth().toarray()
        dense[member.held_out] = True
        other = both(
            config, examples=examples_of(features() , targets=csr_array(dense)), folds=folds,
            n_folds=2,
        )[0]  # fmt: skip
        for name, value in other[0][number][0].state_dict().items():
            assert torch.equal(value, plain[0][0][number][0].state_dict()[name])


def test_networks_with_fewer_images_set_the_length_of_an_epoch() -> None:
    folds = np.repeat([0, 1, 2], [4, 8, 12]).astype(np.int16)  # 20, 16 and 12 are learnt from
    met: list[Rows] = []

    def noted(inputs: Inputs, rows: Rows, epoch: int) -> Inputs:
        met.append(rows)
        return inputs

    config = replace(CONFIG, batch_size=12, epochs=2)
    fit_stack(
        new_head, examples_of(features(), augment=noted), folds=folds, config=config, compute=HERE,
        log=lambda entry: None,
    )  # fmt: skip
    assert [len(rows) for rows in met] == [36, 36]  # 12 of each network
    orders = [rows.reshape(3, 12) for rows in met]
    for member, learnt in enumerate((folds != 0, folds != 1, folds != 2)):
        for epoch, order in enumerate(orders, start=1):
            rows = np.random.default_rng((member, epoch)).permutation(np.flatnonzero(learnt))
            assert order[member].tolist() == rows[:12].tolist()


class Gated(nn.Module):
    """Several inputs, embeddings by layer and by index, buffers, a fixed weight."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.standardise = Standardise.fitted(values)
        self.of_kind, self.norm = nn.Embedding(3, D), nn.LayerNorm(D)
        self.table = nn.Parameter(torch.randn(3, L))
        self.fixed = nn.Parameter(torch.ones(D), requires_grad=False)
        self.last = nn.Linear(D, L, bias=False)

    def forward(self, x: Tensor, kind: Tensor) -> Tensor:
        gate = torch.sigmoid(self.of_kind(kind)) * self.fixed
        logits: Tensor = self.last(self.norm(self.standardise(x) * gate)) + self.table[kind]
        return logits


@pytest.mark.parametrize("most", [2**30, 0], ids=["resident", "read for each batch"])
def test_networks_may_have_several_inputs_embeddings_and_buffers(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.batches, "_MOST_BYTES", most)
    values, kinds = 3 + 2 * features(), torch.arange(N) % 3

    def batches(rows: Rows) -> Inputs:
        chosen = torch.from_numpy(rows)
        return values[chosen], kinds[chosen]

    examples = examples_of(
        values, batches=batches, kinds=tuple(f"K{k}" for k in kinds.tolist()), n_at_once=5
    )
    results = both(
        replace(CONFIG, weight_decay=2.0, epochs=6),
        examples=examples,
        new_model=lambda rows: Gated(values[torch.from_numpy(rows)]),
        folds=np.repeat([0, 1, 2], 8).astype(np.int16),
    )
    assert_same(results)
    assert "f1_by_category" in results[0][1][0]
    fixed = [dict(model.named_parameters())["fixed"] for model, _ in results[0][0]]
    assert all(torch.equal(weight, torch.ones(D)) for weight in fixed)


def test_batch_normalisation_keeps_statistics_of_its_own_in_each_network() -> None:
    def new_model(rows: Rows) -> nn.Module:
        # With a bias, whose gradient is 0, AdamW would blow up the rounding of it.
        first = nn.Linear(D, 8, bias=False)
        return nn.Sequential(first, nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, L))

    assert_same(both(CONFIG, new_model=new_model))


def test_half_precision_is_nearly_the_same() -> None:
    compute = Compute(speed=Speed(precision="bf16"))
    config = replace(CONFIG, loss="bce", optimizer="sgd", epochs=2)
    (together, _), (alone, _) = both(config, compute=compute)
    for (model, _), (other, _) in zip(together, alone, strict=True):
        for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02)


def test_the_networks_have_tensors_of_their_own_in_the_end() -> None:
    results = both(replace(CONFIG, ema=0.5))[0][0]
    storages = [t.untyped_storage() for model, _ in results for t in model.state_dict().values()]
    assert len({storage.data_ptr() for storage in storages}) == len(storages)
    for model, _ in results:
        for parameter in model.parameters():
            assert parameter.is_contiguous()
            assert parameter.untyped_storage().nbytes() == parameter.nbytes
            assert parameter.grad is None


def test_eight_images_are_learnt_by_heart_by_every_network() -> None:
    config = replace(CONFIG, hidden=(64,), batch_size=8, epochs=150, patience=150)
    values, dense = features()[:8], np.random.default_rng(5).random((8, L)) < 0.4
    dense[:, 0] |= ~dense.any(axis=1)  # every image has a concept
    examples = replace(examples_of(values), targets=csr_array(dense), rows=np.arange(8))
    made = fit_stack(
        lambda rows: build_head(D, L, config=config), examples, folds=np.zeros(8, dtype=np.int16),
        config=config, compute=HERE, log=lambda entry: None,
    )  # fmt: skip
    for model, fitted in made:
        probs = predict(model, examples.batches, rows=np.arange(8), compute=HERE)
        assert f1_score(dense, probs > 0.5, average="samples") == 1.0
        assert fitted == Fitted(epoch=150, f1=None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"schedule": "plateau"}, "schedule plateau"), ({"micro_batch": 2}, "micro_batch 2")],
)
def test_what_can_not_be_done_at_once_is_done_in_order(
    changes: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (together, _), (alone, _) = both(replace(CONFIG, **changes))
    assert f"{reason}: networks are trained one after the other" in capsys.readouterr().err
    for (model, _), (other, _) in zip(together, alone, strict=True):
        for name, value in model.state_dict().items():
            assert torch.equal(value, other.state_dict()[name])


def fit_all(new_model: Callable[[Rows], nn.Module], values: Tensor, config: FitConfig) -> None:
    fit_stack(
        new_model, examples_of(values), folds=FOLDS, config=config, compute=HERE,
        log=lambda entry: None,
    )  # fmt: skip


def test_networks_with_other_layers_are_refused() -> None:
    of_kind = iter((nn.Linear(D, L), nn.Sequential(nn.Linear(D, L)), nn.Linear(D, L)))
    with pytest.raises(ValueError, match="network 1 has other layers than network 0"):
        fit_all(lambda rows: next(of_kind), features(), CONFIG)


def test_networks_with_tensors_of_other_shapes_are_refused() -> None:
    widths = iter((8, 8, 9))
    with pytest.raises(ValueError, match=r"network 2 has tensors of other shapes .* \['1.weight'"):
        fit_all(
            lambda rows: new_head(rows, replace(CONFIG, hidden=(next(widths),))), features(), CONFIG
        )


def test_a_loss_that_is_no_number_is_an_error() -> None:
    values = features()
    values[20] = torch.nan
    with pytest.raises(ConceptError, match="became nan in epoch 1; lower learning_rate"):
        fit_all(new_head, values, CONFIG)


class Failing(nn.Linear):
    message = ""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError(self.message)


def test_too_little_memory_is_said_and_other_errors_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Failing, "message", "DefaultCPUAllocator: can't allocate memory")
    with pytest.raises(ConceptError, match=r"out of memory with 3 networks at once .*n_members"):
        fit_all(lambda rows: Failing(D, L), features(), CONFIG)
    monkeypatch.setattr(Failing, "message", "a fault of the model")
    with pytest.raises(RuntimeError, match="a fault of the model"):
        fit_all(lambda rows: Failing(D, L), features(), CONFIG)


@pytest.mark.parametrize("schedule", ["one-cycle", "plateau"])  # at once, and one after the other
def test_networks_on_chosen_images_are_what_each_becomes_alone(schedule: Any) -> None:
    config = replace(CONFIG, schedule=schedule)
    chosen = [np.arange(0, N, 2), np.arange(12), np.arange(12, N)]
    together = fit_chosen(
        new_head, examples_of(features()), learnt=chosen, seeds=[4, 4, 9], config=config,
        compute=HERE,
    )  # fmt: skip
    for model, places, seed in zip(together, chosen, (4, 4, 9), strict=True):
        torch.manual_seed(seed)
        alone, stop = new_head(places, config), np.zeros(12, dtype=np.bool_)
        own = replace(examples_of(features()), targets=truth()[places], rows=places)
        fit(alone, own, stop=stop, config=config, seed=seed, compute=HERE)
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value, alone.state_dict()[name], rtol=1e-4, atol=2e-5)


def test_images_that_were_not_chosen_change_nothing() -> None:
    values, chosen = features(), np.arange(0, N, 2)
    altered = values.clone()
    altered[1::2] += 5
    one, other = (
        fit_chosen(
            new_head, examples_of(own), learnt=[chosen], seeds=[1], config=CONFIG, compute=HERE
        )[0].state_dict()
        for own in (values, altered)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
