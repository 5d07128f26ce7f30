"""Damage every file of every run in turn, run what comes after, and count what became of it.

    python -m tests.robustness.damage --out FOLDER [--cases 768] [--seed 0] [--every]

A small workspace is made in FOLDER once (or taken from --workspace). A case is a file and a kind of
damage: the workspace is copied, by hard links, the file of the copy is damaged, and `fuse`,
`ensemble --submit`, `report`, `predict`, `bundle` and `score` run on it, each in a process forked
from one that has imported everything. Where a command is refused, the command that its line names
is run, and then it is tried again. What comes out is held against what came out of the whole
workspace. Each case ends as one of

    right       all commands gave the same as without the damage
    mended      the same, after a line said what was damaged and that it was made anew
    cured       refused in one line that named a command, and all was the same once that had run
    said        something else came out, and a line said so
    no cure     refused in one line, but no command was named, or it did not help
    traceback   a command ended in a traceback, or was killed
    silent      a command ended well with another result and without a word about it

The last three are faults; the script ends with 1 where there is any. Outcomes are appended to
FOLDER/cases.csv, so that a run which was stopped goes on; tables go to stdout.
"""

import argparse
import contextlib
import csv
import ctypes
import hashlib
import importlib
import io
import os
import random
import re
import shlex
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDERS = (
    *("corpus", "cache", "embeddings", "speed", "backbones", "fusion", "ensembles"),
    *("duplicates", "reports"),
)
"""Of a workspace, those in which commands look for what others made."""

FAULTS = ("no cure", "traceback", "silent")
OUTCOMES = ("right", "mended", "cured", "said", *FAULTS)

_CURES = 4  # commands that may be needed, one after the other, before all is whole again
_SECONDS = 900  # a command that takes longer is killed, and counts as a traceback


def _deleted(path: Path) -> None:
    path.unlink()


def _emptied(path: Path) -> None:
    _write(path, b"")


def _halved(path: Path) -> None:
    content = path.read_bytes()
    _write(path, content[: len(content) // 2])


def _flipped(path: Path) -> None:
    """One bit of a byte in the middle; in text a letter becomes another one."""
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) // 2] ^= 1
    _write(path, bytes(content) or b"\0")


def _junk(path: Path) -> None:
    _write(path, random.Random(path.name).randbytes(max(path.stat().st_size, 1)))


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _unreadable(path: Path) -> None:
    _write(path, path.read_bytes())
    path.chmod(0)


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _write(path: Path, content: bytes) -> None:
    path.unlink()  # a file of its own: the one that was here is that of the whole workspace
    path.write_bytes(content)


KINDS: dict[str, Callable[[Path], None]] = {
    "deleted": _deleted,
    "emptied": _emptied,
    "halved": _halved,
    "flipped": _flipped,
    "junk": _junk,
    "folder": _folder,
    "unreadable": _unreadable,
    "loop": _loop,
}


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a command did.

    Attributes:
        code: exit code; 1 with a traceback is -1, killed by a signal -2.
        out, err: what it printed.
        seconds: of the processor.
        opened: files that it opened, as far as Python sees that.
    """

    code: int
    out: str
    err: str
    seconds: float
    opened: frozenset[str]


def run(words: Sequence[str], *, place: Path) -> Ran:
    """A command in a forked process, as `cli.main` would run it.

    Args:
        words: of the command line.
        place: a folder for what it prints.
    """
    out, err, seen = place / "stdout", place / "stderr", place / "opened"
    pid = os.fork()
    if pid == 0:
        _child(words, out, err, seen)
    deadline = time.monotonic() + _SECONDS
    while True:
        done, status, used = os.wait4(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            _, status, used = os.wait4(pid, 0)
            break
        time.sleep(0.005)
    printed, noted = (p.read_text(encoding="utf-8", errors="replace") for p in (out, err))
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        code = -2
    elif "Traceback (most recent call last)" in noted:
        code = -1
    opened = frozenset(seen.read_text(encoding="utf-8").splitlines())
    seconds = used.ru_utime + used.ru_stime
    return Ran(code=code, out=printed, err=noted, seconds=seconds, opened=opened)


def _child(words: Sequence[str], out: Path, err: Path, seen: Path) -> None:
    """Never returns."""
    import cli

    opened: set[str] = set()
    sys.addaudithook(lambda event, given: opened.add(str(given[0])) if event == "open" else None)

    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    _heed_rights()
    sys.argv = ["cli.py", *words]
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:  # noqa: BLE001 - as the interpreter would show it
        traceback.print_exc()
        code = 1
    with contextlib.suppress(OSError):  # where it ran as another user
        seen.write_text("".join(f"{name}\n" for name in sorted(opened)), encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def _heed_rights() -> None:
    """Give up root's right to read every file, for this process."""
    if os.getuid() == 0 and sys.platform == "linux":
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        data = (ctypes.c_uint32 * 6)()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.capget(header, data) == 0:
            for word in (0, 1):  # effective, permitted: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
                data[word] &= ~0b110
            libc.capset(header, data)


@dataclass(frozen=True, kw_only=True)
class Chain:
    """What is run on a workspace, and what is looked at afterwards.

    Attributes:
        source: the corpus that it was prepared from.
    """

    source: Path

    def making(self, home: Path) -> list[list[str]]:
        """Commands that make the workspace."""
        there = ["-w", str(home)]
        tiny = ["--set", "image_sizes=64", "--set", "epochs=2", "--device", "cpu", *there]
        return [
            ["prepare", str(self.source), "--set", "image_size=64", "--set", "folds=3", *there],
            ["stats", "--duplicates", *there],
            ["train-backbone", "--category", "global", *tiny],
            ["train-backbone", "--category", "DRCT", *tiny],
            self.commands(home)[0],
            self.commands(home)[1],
        ]

    def commands(self, home: Path) -> list[list[str]]:
        """Those that come after, in order."""
        there = ["-w", str(home)]
        chosen = [f"--strategy={name}" for name in ("one-hot", "retrieval", "voted", "routed")]
        images = sorted(map(str, (self.source / "test").glob("*/*")))[:2]
        settings = ["stackers=mean,lightgbm", "leave_one_out=false"]
        return [
            ["fuse", *chosen, "--set", "epochs=2", "--device", "cpu", *there],
            ["ensemble", "--submit", *(w for own in settings for w in ("--set", own)), *there],
            ["report", *there],
            ["predict", *images, "--device", "cpu", *there],
            ["bundle", str(home.parent / "bundle"), *there],
            [
                *("score", "SUBMISSION", "--edition", "2020", *there),
                *("--truth", str(self.source / "Test-Concepts.txt")),
            ],
        ]


def _results(words: Sequence[str], ran: Ran, home: Path) -> dict[str, str]:
    """What a command made, without what differs from time to time, by name."""
    made = {"stdout": ran.out}
    if words[0] == "ensemble" and ran.code == 0:
        path = Path(ran.out.splitlines()[-1])
        made |= {"submission": path.read_text(encoding="utf-8")}
        made |= {"concepts": (path.parent / "concepts.csv").read_text(encoding="utf-8")}
    if words[0] == "bundle" and ran.code == 0:
        for path in sorted((home.parent / "bundle").rglob("*")):
            if path.is_file() and path.name not in ("SHA256SUMS", "bundle.json", "README.md"):
                made[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    if words[0] == "report" and ran.code == 0:
        made["report"] = (home / "reports" / "report.md").read_text(encoding="utf-8")
    return {name: _plain(text, home) for name, text in made.items()}


def _plain(text: str, home: Path) -> str:
    """Without the workspace's place, keys of folders, and moments."""
    text = text.replace(str(home.parent), "")
    text = re.sub(r"\b[0-9a-f]{8}\b", "KEY", text)
    return re.sub(r"\d{4}-\d\d-\d\d([T ][\d:.]+(\+00:00)?( UTC)?)?", "WHEN", text)


def submission_in(home: Path) -> str:
    """The newest submission of a workspace."""
    found = sorted(home.glob("ensembles/stack-*/submission-*.*"), key=lambda p: p.stat().st_mtime)
    return str(found[-1]) if found else str(home / "none")


def _with_submission(words: Sequence[str], home: Path) -> list[str]:
    return [submission_in(home) if word == "SUBMISSION" else word for word in words]


def clone(whole: Path, copy: Path) -> None:
    """The workspace once more, its files shared; what is filled in place is copied."""
    shutil.rmtree(copy, ignore_errors=True)

    def share(source: str, target: str) -> None:
        # Caches and features are mapped to be written; they must not be written through a link.
        if "/cache/" in source or "/embeddings/" in source:
            shutil.copy2(source, target)
        else:
            os.link(source, target)

    shutil.copytree(whole, copy, copy_function=share, symlinks=True)


def files_of(home: Path) -> list[Path]:
    """Files of all runs, relative to the workspace."""
    found = [p for name in FOLDERS for p in (home / name).rglob("*") if p.is_file()]
    return sorted(p.relative_to(home) for p in found if not p.name.startswith("."))


def _refused(ran: Ran) -> bool:
    return ran.code == 2


def cure_in(line: str) -> list[str] | None:
    """The first command that a line names."""
    found = re.search(r"`python cli\.py ([^`]*)`", line)
    return shlex.split(found[1]) if found else None


@dataclass(frozen=True, kw_only=True)
class Clean:
    """What a command gives on the whole workspace.

    Attributes:
        words: of it.
        results: see `_results`.
        opened: files of the workspace, relative to it.
    """

    words: Sequence[str]
    results: dict[str, str]
    opened: frozenset[str]

    def meets(self, name: Path) -> bool:
        """Whether damage to a file may change anything: it is read, or tells that a run is one."""
        if name.name in ("meta.json", "config.json") or str(name) in self.opened:
            return True
        # Opened by libraries that Python does not see.
        return name.suffix == ".safetensors" and self.words[0] in ("predict", "bundle")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a case ended."""

    outcome: str
    command: str
    line: str


def try_case(
    chain: Chain,
    home: Path,
    name: Path,
    clean: Sequence[Clean],
    *,
    place: Path,
    seen: set[tuple[str, ...]],
) -> Outcome:
    """Run the commands on a damaged workspace, and the cures that their lines name.

    Args:
        chain, clean: the commands, and what they give on the whole workspace.
        home: the workspace.
        name: of the damaged file.
        place: a folder for what commands print.
        seen: ways in which a run came to be made anew after which all that follows was as it
            should be; it is added to. What takes such a way once more is not followed to its end.
    """
    lines: list[str] = []
    seen_now: list[tuple[str, ...]] = []
    cured = False
    way = [*name.parts[: _depth(name)]]
    for words, usual in zip(chain.commands(home), clean, strict=True):
        if not usual.meets(name):
            continue
        expected = usual.results
        for _ in range(_CURES):
            ran = run(given := _with_submission(words, home), place=place)
            if not _refused(ran):
                break
            refusal = ran.err.strip().splitlines()[-1] if ran.err.strip() else ""
            cure = cure_in(refusal)
            if cure is None:
                return Outcome(outcome="no cure", command=words[0], line=refusal)
            lines.append(refusal)
            cured = True
            fixed = run(cure, place=place)
            if fixed.code in (-1, -2):
                return Outcome(outcome="traceback", command=cure[0], line=_last(fixed.err))
            if fixed.code != 0:
                tried = f"{refusal} || {cure[0]} -> {_last(fixed.err)}"
                return Outcome(outcome="no cure", command=words[0], line=tried)
            lines.append(fixed.err)
            way.append(shlex.join(cure))
        if ran.code < 0:
            return Outcome(outcome="traceback", command=words[0], line=_last(ran.err))
        if ran.code != 0:
            return Outcome(outcome="no cure", command=words[0], line=_last(ran.err))
        lines.append(ran.err)
        found = _results(given, ran, home)
        if differing := [key for key in expected if found.get(key) != expected[key]]:
            if name.name in ran.err or str(name.parent) in ran.err:
                return Outcome(outcome="said", command=words[0], line=_last(ran.err))
            told = f"{differing[0]}: {_difference(expected[differing[0]], found.get(differing[0]))}"
            return Outcome(outcome="silent", command=words[0], line=told)
        if cured or _MENDED in ran.err:
            way.append(words[0])
            if tuple(way) in seen:
                break
            seen_now.append(tuple(way))
    seen.update(seen_now)
    if cured:
        return Outcome(outcome="cured", command="", line=lines[0])
    mended = [line for text in lines for line in text.splitlines() if _MENDED in line]
    return Outcome(outcome="mended" if mended else "right", command="", line="; ".join(mended[:1]))


_MENDED = "damaged, made anew"
"""In the line of a command that makes a damaged folder anew by itself."""


def _depth(name: Path) -> int:
    """How many parts of a file's path name its run."""
    return 3 if name.parts[0] in ("backbones", "reproduce") else 2


def _difference(expected: str, found: str | None) -> str:
    pairs = zip(expected.splitlines(), (found or "").splitlines(), strict=False)
    return next((f"{a[:90]!r} became {b[:90]!r}" for a, b in pairs if a != b), "length")


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:400] if lines else ""


def make_workspace(out: Path) -> tuple[Chain, Path]:
    """A small corpus, drawn, and a finished workspace of it; made once."""
    source, home = out / "source" / "phantom", out / "whole" / "runs"
    chain = Chain(source=source)
    if not (out / "made").is_file():
        drawn = ["prepare", "--set", "phantom_images=70", "--set", "image_size=32"]
        for words in [[*drawn, "-w", str(out / "source")], *chain.making(home)]:
            ran = run(words, place=out)
            if ran.code != 0:
                raise SystemExit(f"{shlex.join(words)}: {ran.err}")
        (out / "made").touch()
    return chain, home


def clean_results(chain: Chain, whole: Path, out: Path) -> list[Clean]:
    """What the commands give without damage; what two runs do not agree in is left out."""
    found = []
    for number in range(2):
        home = out / "clean" / "runs"
        clone(whole, home)
        results, opened, seconds = [], [], []
        for words in chain.commands(home):
            ran = run(given := _with_submission(words, home), place=out)
            if ran.code != 0:
                raise SystemExit(f"{shlex.join(given)}: {ran.err}")
            results.append(_results(given, ran, home))
            own = [Path(n) for n in ran.opened if Path(n).is_relative_to(home)]
            opened.append(
                frozenset(str(p.relative_to(home)) for p in own if p.is_relative_to(home))
            )
            seconds.append(f"{words[0]} {ran.seconds:.1f} s")
        print(f"whole workspace, time {number + 1}: {', '.join(seconds)}", flush=True)
        found.append(results)
    once, again = found
    agreed = []
    for words, a, b, names in zip(chain.commands(whole), once, again, opened, strict=True):
        same = {key: value for key, value in a.items() if b.get(key) == value}
        agreed.append(Clean(words=words, results=same, opened=names))
        if dropped := {*a} - {*same}:
            print(f"{words[0]}: not the same twice, not looked at: {sorted(dropped)}", flush=True)
    return agreed


def chosen_cases(files: Sequence[Path], *, n: int, seed: int) -> list[tuple[Path, str]]:
    """So many pairs of a file and a kind of damage, spread evenly over the kinds."""
    every = [(path, kind) for path in files for kind in KINDS]
    if n <= 0 or n >= len(every):
        return every
    return random.Random(seed).sample(every, n)


def summary(rows: Iterable[Sequence[str]]) -> str:
    """Counts by kind of damage and by folder."""
    rows = list(rows)
    out = io.StringIO()
    for title, of in (("damage", 1), ("folder", None)):
        keys = [row[of] if of is not None else row[0].partition("/")[0] for row in rows]
        counts = Counter((key, row[2]) for key, row in zip(keys, rows, strict=True))
        names = [*dict.fromkeys(keys)]
        print("| " + " | ".join([title, "cases", *OUTCOMES]) + " |", file=out)
        print("| :-- |" + " --: |" * (len(OUTCOMES) + 1), file=out)
        for name in names:
            cells = [str(counts[name, outcome]) for outcome in OUTCOMES]
            print(f"| {name} | {keys.count(name)} | " + " | ".join(cells) + " |", file=out)
        totals = [str(sum(row[2] == outcome for row in rows)) for outcome in OUTCOMES]
        print(f"| all | {len(rows)} | " + " | ".join(totals) + " |\n", file=out)
    return out.getvalue()


def warm() -> None:
    """Import what the commands import, so that forked processes need not."""
    for name in _IMPORTED:
        with contextlib.suppress(ModuleNotFoundError):  # of packages that need not be there
            importlib.import_module(name)
    import torch

    torch.set_num_threads(1)


_IMPORTED = (
    *("cli", "backbones.detectors.ray", "backbones.reproduce", "corpus.duplicates.search"),
    *("ensembles.ensemble", "fusion.fuse", "inference.bundle.bundle", "inference.predict"),
    *("reports.ensemble.page", "reports.fusion", "reports.statistics.page", "timm", "numba"),
    *("lightgbm", "matplotlib.pyplot", "sklearn.linear_model", "scipy.optimize"),
)


def main() -> int:
    """Run the cases; 1 where any is a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for all of it")
    parser.add_argument("--cases", type=int, default=768, help="how many; 0 for every one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of a file's path")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many")
    given = parser.parse_args()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    warm()
    chain, whole = make_workspace(out)
    clean = clean_results(chain, whole, out)
    files = files_of(whole)
    print(f"{len(files)} files", flush=True)
    cases = chosen_cases(files, n=given.cases, seed=given.seed)
    table = out / "cases.csv"
    rows: list[list[str]] = []
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    done = {(row[0], row[1]) for row in rows}
    started = time.monotonic()
    seen: set[tuple[str, ...]] = set()
    for number, (name, kind) in enumerate(cases, 1):
        if (str(name), kind) in done or given.only not in str(name):
            continue
        if time.monotonic() - started > 60 * given.minutes:
            break
        home = out / "case" / "runs"
        clone(whole, home)
        KINDS[kind](home / name)
        ended = try_case(chain, home, name, clean, place=out, seen=seen)
        row = [str(name), kind, ended.outcome, ended.command, ended.line.replace("\n", " / ")]
        rows.append(row)
        with table.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(row)
        if ended.outcome in FAULTS:
            told = f"{ended.outcome}, {ended.command}: {row[4][:300]}"
            print(f"{number}: {kind} {name}: {told}", flush=True)
    print(summary(rows))
    return int(any(row[2] in FAULTS for row in rows))


if __name__ == "__main__":
    sys.exit(main())
