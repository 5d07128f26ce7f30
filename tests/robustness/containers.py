"""Two containers or two machines at work in one workspace at once: what is lost, counted.

    python -m tests.robustness.containers FOLDER [--rounds 20] [--seed 0] [--kinds KIND ...]

Of each round both run the whole chain, each command at the same time, the second a moment later. A
round is lost where a command of either ends otherwise than well, an image of the corpus is missing
or another, or the submission is another than undisturbed; what is left lying is counted as well.
"""

import argparse
import json
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.robustness.chain import (
    CHAIN,
    Container,
    Outcome,
    command,
    drafts,
    import_everything,
    reference,
    start,
    try_containers,
)

KINDS: dict[str, tuple[Container, Container]] = {
    "containers": (Container(host="one", process=5), Container(host="two", process=9)),
    "users": (Container(host="one", user=True), Container(host="two", user=True)),
    "machines": (
        Container(host="same", boot="11111111-0000-0000-0000-000000000001"),
        Container(host="same", boot="22222222-0000-0000-0000-000000000002"),
    ),
    "local-locks": (
        Container(host="same", boot="11111111-0000-0000-0000-000000000001", locks="local"),
        Container(host="same", boot="22222222-0000-0000-0000-000000000002", locks="local"),
    ),
    "no-locks": (
        Container(host="same", boot="11111111-0000-0000-0000-000000000001", locks="none"),
        Container(host="same", boot="22222222-0000-0000-0000-000000000002", locks="none"),
    ),
    "containers-no-locks": (
        Container(host="one", locks="none"),
        Container(host="two", locks="none"),
    ),
}
"""Pairs of containers; `no-locks` and `local-locks` are two machines."""


def attack(
    home: Path,
    *,
    rounds: int,
    seed: int,
    kinds: Sequence[str],
    names: Sequence[str] = tuple(CHAIN),
    apart_s: float = 0.6,
) -> Counter[str]:
    """Run rounds of each kind, and count how they ended; a line of each goes to stdout.

    Args:
        home: an empty folder.
        rounds: of each kind.
        seed: decides how far apart the two start.
        kinds: of `KINDS`.
        names: commands of the chain, in its order.
        apart_s: the second starts so much later at most.
    """
    rng = random.Random(seed)
    undisturbed, _ = reference(home, names)
    counts = Counter[str]()
    for kind in kinds:
        for number in range(rounds):
            workspace = home / f"{kind}-{number}"
            began, lost = time.monotonic(), []
            for name in names:
                lost += _both(name, kind, workspace, apart_s=rng.uniform(0, apart_s))
            lost += Outcome.of(workspace).differences(undisturbed)
            left = drafts(workspace)
            counts[f"{kind}: rounds"] += 1
            counts[f"{kind}: rounds with a loss"] += bool(lost)
            counts[f"{kind}: drafts left"] += len(left)
            counts.update(f"{kind}: {what.partition(':')[0]}" for what in lost)
            seconds = round(time.monotonic() - began, 1)
            print(json.dumps([kind, number, seconds, lost, left]), flush=True)
            if not lost:
                shutil.rmtree(workspace)
    return counts


def _both(name: str, kind: str, workspace: Path, *, apart_s: float) -> list[str]:
    """What went wrong when both containers run a command at once."""
    logs = [workspace.with_name(f"{workspace.name}-{name}-{who}.log") for who in (1, 2)]
    running = []
    for container, log in zip(KINDS[kind], logs, strict=True):
        running.append(start(command(name, workspace), log=log, container=container))
        if len(running) == 1:
            time.sleep(apart_s)
    lost = []
    for each, log in zip(running, logs, strict=True):
        ended = each.wait()
        if ended.is_bug:
            lost.append(f"{name} traceback: {ended.last}")
        elif ended.code:
            lost.append(f"{name} refused: {ended.code} {ended.last}")
        else:
            log.unlink()
    return lost


def main() -> None:
    """Attack, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=["containers"])
    parser.add_argument("--names", nargs="+", choices=list(CHAIN), default=list(CHAIN))
    asked = parser.parse_args()
    asked.home.mkdir(parents=True)
    import_everything()
    for kind in asked.kinds:
        for container in KINDS[kind]:
            if reason := try_containers(container):
                sys.exit(f"{kind}: this machine has no such containers ({reason})")
    counts = attack(
        asked.home,
        rounds=asked.rounds,
        seed=asked.seed,
        kinds=asked.kinds,
        names=asked.names,
    )
    print(json.dumps(counts, indent=1))


if __name__ == "__main__":
    main()
