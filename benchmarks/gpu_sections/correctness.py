"""Section 1: the device computes what a processor computes, and goes on where it was killed."""

import copy
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from backbones.networks.build import build_backbone
from backbones.settings.config import BackboneConfig
from benchmarks.gpu_sections.findings import Outcome, SkippedError, check
from fusion.retrieval.nearest import find_nearest
from training.batches import Examples
from training.config import FitConfig
from training.devices.compute import Compute
from training.devices.speed import drawn_images
from training.heads import build_head
from training.losses.registry import CONTEXT_LOSSES, LOSSES, LossContext, loss_for
from training.members import fit_members
from training.optim import OPTIMIZERS, build_optimizer
from training.predict import predict
from training.stack import fit_stack

ROOT = Path(__file__).parents[2]

_TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4}
"""Largest difference from float64 on a processor, as a share of the largest value."""

_HEADS_TOLERANCE = 5e-3
"""Of probabilities after a training in float32, in which differences of rounding have grown."""


def run(device: str, *, tiny: bool) -> None:
    """All checks of the section."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for dtype in _TOLERANCES:
        wanted = f"within {_TOLERANCES[dtype]:g} of the processor in float64"
        name = str(dtype).removeprefix("torch.")
        check(
            f"losses and their gradients, {name}",
            partial(_losses, device, dtype),
            wanted=wanted,
        )
        check(
            f"five steps of each optimiser, {name}", partial(_steps, device, dtype), wanted=wanted
        )
        check(f"features of a network, {name}", partial(_features, device, dtype), wanted=wanted)
    check(
        "nearest neighbours",
        partial(_neighbours, device, n=2_000 if tiny else 50_000),
        wanted="cosines within 1e-5 of float64",
    )
    check(
        "heads trained in a stack",
        partial(_heads, device),
        wanted=f"probabilities within {_HEADS_TOLERANCE:g} of one after the other, and of the CPU",
    )
    for precision in ("fp32",) if tiny else ("fp32", "bf16"):
        check(
            f"killed twice and gone on, {precision}",
            partial(_resumed, device, precision),
            wanted="the same bits, or named",
        )
    check("the tests marked gpu", partial(_tests, device), wanted="all pass", needs=("pytest",))


def _difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest expected value."""
    a, b = found.detach().double().cpu(), expected.detach().double().cpu()
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-30))


def _within(differences: Mapping[Any, float], most: float) -> Outcome:
    worst = max(differences, key=lambda name: differences[name])
    return Outcome(
        ok=all(value <= most for value in differences.values()),
        result=f"{differences[worst]:.1e} at most ({worst}), of {len(differences)}",
        values=dict(differences),
    )


def _losses(device: str, dtype: torch.dtype) -> Outcome:
    """Each loss and its gradient."""
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(0, 3, (64, 200)))
    targets = torch.from_numpy(rng.random((64, 200)) < 0.05).double()
    positives = torch.from_numpy(rng.integers(1, 500, 200)).double()

    def value_and_gradient(name: Any, place: str, kind: torch.dtype) -> tuple[Tensor, Tensor]:
        z, y, n = (tensor.to(place, kind) for tensor in (logits, targets, positives))
        z.requires_grad_()
        context = LossContext(positives=n, n_images=10_000, epoch=2)
        value = loss_for(name, context, temperature=1.5)(z, y)
        (gradient,) = torch.autograd.grad(value.mean(), z)
        return value, gradient

    differences = {}
    for name in (*LOSSES, *CONTEXT_LOSSES):
        found = value_and_gradient(name, device, dtype)
        expected = value_and_gradient(name, "cpu", torch.float64)
        differences[name] = max(_difference(a, b) for a, b in zip(found, expected, strict=True))
    return _within(differences, _TOLERANCES[dtype])


def _steps(device: str, dtype: torch.dtype) -> Outcome:
    """Weights after five steps of each optimiser from the same weights."""

    def weights(name: Any, place: str, kind: torch.dtype) -> Tensor:
        torch.manual_seed(0)
        x, y = torch.randn(32, 40), (torch.rand(32, 10) < 0.3).float()
        model = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 10)).to(place, kind)
        optimizer = build_optimizer(model, FitConfig(optimizer=name, learning_rate=1e-3))
        for _ in range(5):
            optimizer.zero_grad(set_to_none=True)
            loss = LOSSES["f1*bce"](model(x.to(place, kind)), y.to(place, kind)).mean()
            torch.autograd.backward(loss)
            optimizer.step()
        return torch.cat([p.detach().flatten().cpu() for p in model.parameters()])

    differences = {
        name: _difference(weights(name, device, dtype), weights(name, "cpu", torch.float64))
        for name in OPTIMIZERS
    }
    return _within(differences, _TOLERANCES[dtype])


def _features(device: str, dtype: torch.dtype) -> Outcome:
    """Pooled features of two networks with random weights, from uint8 images."""
    differences = {}
    for name, size in (("test_efficientnet", 64), ("test_vit", 160)):
        torch.manual_seed(0)
        config = BackboneConfig(backbone=name, weights="none", image_sizes=(size,))
        network, images = build_backbone(config).eval(), drawn_images(8, size)
        with torch.inference_mode():
            found = copy.deepcopy(network).to(device, dtype)(images.to(device))
            differences[name] = _difference(found, network.double()(images))
    return _within(differences, _TOLERANCES[dtype])


def _neighbours(device: str, *, n: int) -> Outcome:
    """The nearest of many vectors, beside brute force in float64."""
    rng = np.random.default_rng(0)
    queries, memory = (rng.normal(size=(m, 256)).astype(np.float32) for m in (200, n))
    found = find_nearest(queries, memory, k=20, device=device)

    def unit(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        exact: npt.NDArray[np.float64] = x.astype(np.float64)
        exact /= np.linalg.norm(exact, axis=1, keepdims=True)
        return exact

    cosines = unit(queries) @ unit(memory).T
    best = -np.sort(-cosines, axis=1)[:, :20]
    of_rows = np.take_along_axis(cosines, found.rows, axis=1)
    worst = max(np.abs(found.similarity - best).max(), np.abs(of_rows - best).max())
    return Outcome(
        ok=bool(worst <= 1e-5),
        result=f"{worst:.1e} at most, 200 queries, {n:,} vectors",
        values={"worst": float(worst)},
    )


def _heads(device: str) -> Outcome:
    """Three heads on features: in a stack on the device, one by one there, and on the processor."""
    rng = np.random.default_rng(0)
    n, width, n_concepts = 300, 64, 30
    features = torch.from_numpy(rng.normal(size=(n, width)).astype(np.float32))
    truth = features.numpy() @ rng.normal(size=(width, n_concepts)) > 8
    config = FitConfig(
        hidden=(32,), dropout=0, input_dropout=0, epochs=4, n_members=3, batch_size=32,
        loss="f1*bce", clip_norm=1.0, ema=0.9,
    )  # fmt: skip
    examples = Examples(
        batches=lambda rows: (features[torch.from_numpy(rows)],),
        targets=csr_array(truth),
        rows=np.arange(n),
    )
    folds = (np.arange(n) % 5).astype(np.int16)

    def probs(fit: Any, place: str) -> npt.NDArray[np.float64]:
        compute = Compute(device=place)
        fitted = fit(
            lambda rows: build_head(width, n_concepts, config=config),
            examples,
            folds=folds,
            config=config,
            compute=compute,
            log=lambda entry: None,
        )
        batches, rows = examples.batches, examples.rows
        every = [predict(m, batches, rows=rows, compute=compute) for m, _ in fitted]
        mean: npt.NDArray[np.float64] = np.mean(every, axis=0)
        return mean

    stacked = probs(fit_stack, device)
    alone, on_cpu = probs(fit_members, device), probs(fit_stack, "cpu")
    differences = {
        "one after the other": float(np.abs(stacked - alone).max()),
        "processor": float(np.abs(stacked - on_cpu).max()),
    }
    return _within(differences, _HEADS_TOLERANCE)


def _resumed(device: str, precision: str) -> Outcome:
    """A training that is killed after steps 2 and 7 of nine, beside one that is not."""
    (program,) = (ROOT / "tests").rglob("kill_and_resume.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RADFUSE_TEST_DEVICE": device}

    def outcomes(*trainings: tuple[int, ...]) -> list[Any]:
        with tempfile.TemporaryDirectory() as folder:
            told: list[str] = []
            for number, kills in enumerate(trainings):
                told += ["--", f"{folder}/{number}", "0", precision, *map(str, kills)]
            done = subprocess.run(
                [sys.executable, program, *told],
                cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return [json.loads(line) for line in done.stdout.splitlines()]

    whole, killed = outcomes((), (2, 7))
    if killed[0] == whole[0]:
        return Outcome(ok=True, result="the same bits")
    logs = zip(whole[3], killed[3], strict=True)
    worst = max(abs(a["loss"] - b["loss"]) / a["loss"] for a, b in logs)
    if outcomes(())[0][0] == whole[0]:
        return Outcome(ok=False, result=f"other bits; losses differ by {worst:.1e} of theirs")
    result = f"the device itself gives other bits each time; losses differ by {worst:.1e} of theirs"
    return Outcome(ok=worst < 1e-2, result=result)


def _tests(device: str) -> Outcome:
    """Pytest over the files that have such tests, without what its settings ask for beyond that."""
    if not device.startswith("cuda"):
        raise SkippedError("they need a CUDA device")
    marked = [p for p in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in p.read_text()]
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "pytest.ini"
        settings.write_text(f"[pytest]\npythonpath = {ROOT}\nmarkers =\n  gpu: a\n  slow: b\n")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-c", settings, "--rootdir", ROOT,
             "-p", "no:cacheprovider", *marked],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    print(done.stdout[-6000:], file=sys.stderr)
    last = next(iter(done.stdout.strip().splitlines()[-1:]), "nothing printed")
    return Outcome(ok=done.returncode == 0, result=last.strip("= "))
