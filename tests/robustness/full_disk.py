"""Commands on disks that are full, and in folders that cannot be written: what they say, counted.

    python -m tests.robustness.full_disk FOLDER [--rounds 3] [--seed 0]

Each command of the chain meets a disk of its own (a tmpfs, so root is needed) with less and less
room, then a file size that no file may exceed, then a disk that is read-only. It must end with exit
code 2 and one line that names a path, or end well; made room for, the same command must end well
and the submission be that of an undisturbed chain.
"""

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.robustness.chain import (
    CHAIN,
    Ended,
    Outcome,
    command,
    drafts,
    import_everything,
    reference,
    run,
)

_MIB = 2**20


def attack(home: Path, *, rounds: int, seed: int) -> Counter[str]:
    """Run chains, and count how they ended; a line of each goes to stdout.

    Args:
        home: an empty folder.
        rounds: chains.
        seed: decides how much room there is.
    """
    rng = random.Random(seed)
    undisturbed, _ = reference(home)
    counts = Counter[str]()
    for number in range(rounds):
        disk = home / f"disk-{number}"
        disk.mkdir()
        _mount("-t", "tmpfs", "-o", "size=256m", "tmpfs", disk)
        try:
            lost = _chain(disk / "runs", home / f"{number}.log", rng, counts)
            lost += Outcome.of(disk / "runs").differences(undisturbed)
            left = drafts(disk / "runs")
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)
        counts["chains"] += 1
        counts["chains with a loss"] += bool(lost)
        counts["drafts left"] += len(left)
        print(json.dumps([number, lost, left]), flush=True)
    shutil.rmtree(home, ignore_errors=True)
    return counts


def _chain(workspace: Path, log: Path, rng: random.Random, counts: Counter[str]) -> list[str]:
    lost = []
    for name in CHAIN:
        words, disk = command(name, workspace), workspace.parent
        usage = shutil.disk_usage(disk).used
        for kind in ("full", "limit", "read-only"):
            room = rng.randrange(1, 4 * _MIB)
            if kind == "full":
                _mount("-o", f"remount,size={usage + room}", disk)
            elif kind == "read-only":
                _mount("-o", "remount,ro", disk)

            def limit(room: int = room) -> None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (room // 8, room // 8))

            ended = run(words, log=log, before=limit if kind == "limit" else None)
            _mount("-o", "remount,rw,size=256m", disk)
            counts[f"{kind}: commands"] += 1
            counts[f"{kind}: refused"] += ended.code == 2
            if fault := _fault(ended, workspace):
                lost.append(f"{name}, {kind} {room}: {fault}")
        ended = run(words, log=log)
        if ended.code:
            lost.append(f"{name} again: {ended.code} {ended.last}")
    return lost


def _fault(ended: Ended, workspace: Path) -> str:
    """What is wrong with how a command ended on a full or read-only disk; "" for nothing."""
    if ended.code == 0:
        return ""
    if ended.is_bug or ended.code != 2:
        return f"{ended.code} {ended.last}"
    return "" if str(workspace.parent) in ended.last else f"names no path: {ended.last}"


def _mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def main() -> None:
    """Attack, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    asked.home.mkdir(parents=True)
    if shutil.which("mount") is None:
        sys.exit("no disks can be mounted here")
    import_everything()
    print(json.dumps(attack(asked.home, rounds=asked.rounds, seed=asked.seed), indent=1))


if __name__ == "__main__":
    main()
