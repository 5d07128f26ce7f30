"""Commands ended by signals at any moment, and started again: what is lost, counted.

    python -m tests.robustness.kill FOLDER [--kills 100] [--seed 0] [--signal KILL]
        [--names COMMAND ...]

Chains are run one after the other until so many commands were ended by the signal. Each command is
ended a few times at moments drawn from as long as it takes undisturbed, then it is run to its end.
A chain is lost where a command does not end well then, or the submission is another than
undisturbed; tracebacks of commands that were ended are counted as well.
"""

import argparse
import json
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.robustness.chain import (
    CHAIN,
    Outcome,
    command,
    drafts,
    import_everything,
    reference,
    run,
    start,
)

_AT_MOST = 3  # kills of a command in a chain


def attack(
    home: Path, *, kills: int, seed: int, number: int, names: Sequence[str] = tuple(CHAIN)
) -> Counter[str]:
    """Run chains, and count how they ended; a line of each goes to stdout.

    Args:
        home: an empty folder.
        kills: commands to be ended in all.
        seed: decides when.
        number: of the signal.
        names: commands of the chain, in its order.
    """
    rng = random.Random(seed)
    undisturbed, seconds = reference(home, names)
    counts = Counter[str]()
    while counts["killed"] < kills:
        workspace = home / f"chain-{counts['chains']}"
        lost: list[str] = []
        at: list[str] = []
        began = time.monotonic()
        for name in names:
            log = home / f"{workspace.name}-{name}.log"
            for _ in range(rng.randint(1, _AT_MOST)):
                running = start(command(name, workspace), log=log)
                moment = rng.uniform(0, seconds[name])
                counts["started"] += 1
                since = time.monotonic()
                if running.wait_for(moment):  # the machine is less busy than it was
                    seconds[name] = time.monotonic() - since
                else:
                    running.end_by(number)
                ended = running.wait()
                is_hit = ended.code == -number or ended.code in (128 + number, 130)
                counts["killed"] += is_hit
                if is_hit:
                    counts[f"killed in {name}"] += 1
                    at.append(f"{name} {moment:.2f}")
                elif ended.code:
                    lost.append(f"{name}: {ended.code} {ended.last}")
                if ended.is_bug:
                    lost.append(f"{name} traceback: {ended.last}")
                    shutil.copy(log, log.with_suffix(".bug"))
            ended = run(command(name, workspace), log=log)
            if ended.code or ended.is_bug:
                lost.append(f"{name} again: {ended.code} {ended.last}")
                shutil.copy(log, log.with_suffix(".bug"))
        lost += Outcome.of(workspace).differences(undisturbed)
        left = drafts(workspace)
        counts["chains"] += 1
        counts["chains with a loss"] += bool(lost)
        counts["drafts left"] += len(left)
        print(json.dumps([at, round(time.monotonic() - began, 1), lost, left]), flush=True)
        if not lost:
            shutil.rmtree(workspace)
    return counts


def main() -> None:
    """Attack, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signal", choices=("KILL", "TERM", "INT"), default="KILL")
    parser.add_argument("--names", nargs="+", choices=list(CHAIN), default=list(CHAIN))
    asked = parser.parse_args()
    asked.home.mkdir(parents=True)
    import_everything()
    number = signal.Signals[f"SIG{asked.signal}"]
    counts = attack(
        asked.home, kills=asked.kills, seed=asked.seed, number=number, names=asked.names
    )
    print(json.dumps(counts, indent=1))


if __name__ == "__main__":
    main()
