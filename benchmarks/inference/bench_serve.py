"""One image from end to end through the server: how long, at 1, 10 and 100 clients.

Clients are threads of this process, each with a connection of its own, which ask for one image at
a time, one after the other, for a while. The server is a process of its own on the same cores, as
`serve` starts it. Answers are counted by their status, connections without one by their error.
Memory is the server's resident one.

    python -m benchmarks.inference.bench_serve WORKSPACE IMAGES [--seconds S] [--clients N ...]
        [-- options of serve]

IMAGES is a folder of files, of which some are drawn; where a folder in it is called by a category,
that is named in the request.
"""

import argparse
import http.client
import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.machine import N_THREADS, environment, memory_of
from benchmarks.training.training_work import PACKAGES
from core.categories import CATEGORIES

N_IMAGES = 256
ROOT = Path(__file__).parents[2]


@dataclass(kw_only=True)
class Asked:
    """What some clients were answered."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    took_s: float = 0.0


def start(workspace: Path, options: Sequence[str]) -> tuple[subprocess.Popen[str], int, float]:
    """A server that is ready, its port, and the seconds it took."""
    command = [sys.executable, str(ROOT / "cli.py"), "serve", "-w", str(workspace), "--port", "0"]
    begun = time.perf_counter()
    server = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    port = 0
    for line in server.stderr:
        if found := re.search(r"listening on http://\S+:(\d+)", line):
            port = int(found[1])
        if line.strip() == "ready":
            break
    else:
        sys.exit(f"the server ended with {server.wait()}")
    took_s = time.perf_counter() - begun
    threading.Thread(target=server.stderr.read, daemon=True).start()  # the log goes on
    return server, port, took_s


def client(port: int, images: Sequence[tuple[str, bytes]], *, until: float, told: Asked) -> None:
    """Ask for one image after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    drawn = random.Random(threading.get_ident())
    while time.perf_counter() < until:
        category, content = drawn.choice(images)
        target = "/predict?" + urllib.parse.urlencode({"category": category})
        begun = time.perf_counter()
        try:
            connection.request("POST", target, content, {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            answer.read()
            status = str(answer.status)
        except (OSError, http.client.HTTPException) as error:
            status = type(error).__name__
            connection.close()
        if status == "200":
            told.seconds.append(time.perf_counter() - begun)
        told.statuses[status] += 1
    connection.close()


def ask(port: int, images: Sequence[tuple[str, bytes]], *, n_clients: int, seconds: float) -> Asked:
    """What so many clients are answered in so many seconds."""
    told = [Asked() for _ in range(n_clients)]
    begun = time.perf_counter()
    until = begun + seconds
    threads = [
        threading.Thread(target=client, args=(port, images), kwargs={"until": until, "told": own})
        for own in told
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = Asked(took_s=time.perf_counter() - begun)
    for own in told:
        everything.seconds += own.seconds
        everything.statuses += own.statuses
    return everything


def cpu_s(pid: int) -> float:
    """Seconds of processor that a process took."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def block_size(port: int) -> tuple[float, float]:
    """Images and blocks so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    names = ("radfuse_block_images_sum", "radfuse_block_images_count")
    n_images, n_blocks = (float(re.findall(rf"^{name} (\S+)", text, re.M)[0]) for name in names)
    return n_images, n_blocks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 10, 100])
    own, options = sys.argv[1:], []
    if "--" in own:
        own, options = own[: own.index("--")], own[own.index("--") + 1 :]
    given = parser.parse_args(own)
    files = sorted(p for p in given.images.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
    random.Random(0).shuffle(files)
    images = [
        (next((part for part in p.parts[::-1] if part in CATEGORIES), ""), p.read_bytes())
        for p in files[:N_IMAGES]
    ]
    server, port, took_s = start(given.workspace, options)
    try:
        ask(port, images, n_clients=4, seconds=3)
        before = memory_of(server.pid)["VmRSS"]
        print(f"ready after {took_s:.1f} s, {before:,.0f} MiB after the first images\n")
        print(
            "| clients | decided | by status | images/s | median, ms | p90 | p99"
            " | images a block | CPU ms an image | MiB |"
        )
        print("| --: " * 10 + "|")
        for n_clients in given.clients:
            n_before, blocks_before, cpu = *block_size(port), cpu_s(server.pid)
            told = ask(port, images, n_clients=n_clients, seconds=given.seconds)
            n_after, blocks_after = block_size(port)
            cpu = cpu_s(server.pid) - cpu
            n = len(told.seconds)
            statuses = ", ".join(f"{s}: {n:,}" for s, n in sorted(told.statuses.items()))
            low, high, last = 1000 * np.quantile(told.seconds or [np.nan], (0.5, 0.9, 0.99))
            print(
                f"| {n_clients} | {n:,} | {statuses} | {n / told.took_s:.1f}"
                f" | {low:,.0f} | {high:,.0f} | {last:,.0f}"
                f" | {(n_after - n_before) / max(1, blocks_after - blocks_before):.1f}"
                f" | {1000 * cpu / max(1, n):,.0f} | {memory_of(server.pid)['VmRSS']:,.0f} |",
                flush=True,
            )
    finally:
        server.terminate()
        code = server.wait(60)
    size = statistics.median(len(content) for _, content in images) / 1024
    print(f"\n{len(images)} images of {size:,.0f} KiB; the server ended with {code}")
    print(environment("fastapi", "uvicorn", "h11", *PACKAGES, n_threads=N_THREADS))


if __name__ == "__main__":
    main()
