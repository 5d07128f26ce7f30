"""How fast networks train at the probed setting, against plain fp32 in contiguous memory.

A step is forward, backward and AdamW, at 1,000 concepts. Three sides take turns, a step each:
the plain setting in a process that gives its memory back, the plain and the probed setting in one
that keeps it. The losses of the first step must agree.

    python -m benchmarks.training.bench_speed [NETWORK...]
"""

import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

import timm
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from backbones.encoders.worlds import encoder_of
from backbones.networks.build import Backbone
from benchmarks.machine import environment
from training.devices.device import keep_memory
from training.devices.speed import PLAIN, Speed, choose_speed, drawn_images

NETWORKS = (
    "resnet50",
    "densenet121",
    "mobilenetv3_large_100",
    "tf_efficientnet_lite0",
    "vgg16",
    "convnext_tiny",
    "tf_efficientnetv2_b0",
    "vit_small_patch16_224",
)
SIZE = 224
N_CONCEPTS = 1000
BATCH = 16
N_RUNS = 5

TimedStep = Callable[[], tuple[float, float]]


def build(name: str) -> nn.Module:
    """The network with random weights, from uint8 images to logits."""
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, num_classes=N_CONCEPTS)
    encoder = encoder_of(name)
    normalisation = encoder.stated().normalisation
    return Backbone(network, encoder=encoder, normalisation=normalisation, size=SIZE)


def training(name: str, speed: Speed) -> TimedStep:
    """A step of training at a speed: its seconds and its loss."""
    model = speed.place(build(name).train())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    torch.manual_seed(0)
    images = speed.arrange(drawn_images(BATCH, SIZE))
    targets = (torch.rand(BATCH, N_CONCEPTS) < 0.01).float()

    def step() -> tuple[float, float]:
        start = time.perf_counter()
        with speed.autocast("cpu"):
            logits = model(images).float()
        loss = binary_cross_entropy_with_logits(logits, targets)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        return time.perf_counter() - start, loss.item()

    return step


def serve(pipe: Connection, name: str, speeds: list[Speed], *, keeps: bool) -> None:
    """Take a step at the speed of each number that comes, until a negative one."""
    if keeps:
        keep_memory()
    steps = [training(name, speed) for speed in speeds]
    while (number := pipe.recv()) >= 0:
        pipe.send(steps[number]())


def choose(pipe: Connection, name: str) -> None:
    """Probe as a training would, in a process of its own."""
    keep_memory()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        speed = choose_speed(
            Path(folder),
            lambda: build(name),
            name=name,
            size=SIZE,
            batch_size=BATCH,
            n_concepts=N_CONCEPTS,
            precision="auto",
            device="cpu",
            train=True,
        )
    pipe.send((speed, time.perf_counter() - start))


def start(target: Callable[..., None], *args: object, **options: object) -> Connection:
    """A process, by the pipe to it; nothing is inherited, the allocator's settings least of all."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    context.Process(target=target, args=(there, *args), kwargs=options, daemon=True).start()
    there.close()  # held by the process alone, so that its end is noticed
    return here


def row(name: str) -> str:
    """A network's line of the table."""
    speed, probe_s = cast(tuple[Speed, float], start(choose, name).recv())
    keeping = start(serve, name, [PLAIN, speed], keeps=True)
    sides = ((start(serve, name, [PLAIN], keeps=False), 0), (keeping, 0), (keeping, 1))
    taken: list[list[float]] = [[], [], []]
    losses = []
    for number in range(1 + N_RUNS):  # the first step of each warms up
        for seconds, (pipe, which) in zip(taken, sides, strict=True):
            pipe.send(which)
            step_s, loss = pipe.recv()
            if number:
                seconds.append(step_s)
            else:
                losses.append(loss)
    for pipe, _ in sides[:2]:
        pipe.send(-1)
    assert max(losses) <= 1.01 * min(losses), f"{name}: the sides differ, {losses}"
    rates = [[BATCH / s for s in seconds] for seconds in taken]
    medians = [statistics.median(side) for side in rates]
    cells = [f"{statistics.median(r):.1f} ({min(r):.1f} - {max(r):.1f})" for r in rates]
    gains = [f"{medians[2] / plain:.2f}" for plain in medians[:2]]
    return f"| {' | '.join((name, *cells, *gains, str(speed), f'{probe_s:.0f} s'))} |"


def main() -> None:
    print(f"Training, images/s: median of {N_RUNS} and range; {BATCH} images of {SIZE} px a step\n")
    print(
        "| network | fp32 | fp32, memory kept | probed, memory kept | times fp32"
        " | times fp32, memory kept | probed setting | probe |"
    )
    print("| --- " * 8 + "|")
    for name in sys.argv[1:] or NETWORKS:
        print(row(name), flush=True)
    print(f"\n{environment('torch', 'timm', n_threads=torch.get_num_threads())}")


if __name__ == "__main__":
    main()
