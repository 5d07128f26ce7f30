"""The whole chain on a tiny drawn corpus, each command a process of its own that can be attacked.

Processes are forked from one that has imported everything, so that an hour holds many of them. A
process may be given a container of its own: it then is process 1 of a process id namespace, under
a host name, a boot id and locks of its own, as on another machine that shares the disk.
"""

import ctypes
import hashlib
import importlib
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

N_IMAGES = 60

_SUBMISSION = "submission-2020.txt"

_TINY = (
    *("--category", "global", "--device", "cpu"),
    *(f"--set={s}" for s in ("backbone=test_efficientnet", "weights=none", "image_sizes=32")),
    *(f"--set={s}" for s in ("epochs=2", "n_members=1", "probe=false", "hidden=8")),
)
_FUSED = tuple(f"--set={s}" for s in ("strategies=prior,one-hot", "epochs=2", "n_members=1"))

CHAIN: Mapping[str, tuple[str, ...]] = {
    "prepare": ("--set=image_size=32", "--set=folds=3", f"--set=phantom_images={N_IMAGES}"),
    "stats": (),
    "train-backbone": _TINY,
    "fuse": (*_FUSED, "--device", "cpu"),
    "ensemble": ("--submit", "--set=stackers=mean"),
    "report": (),
}
"""Commands in their order, with what they are given beside the workspace."""

_HEAVY = (
    *("torch", "timm", "safetensors.torch", "scipy.sparse", "sklearn.linear_model", "PIL.Image"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg"),
    *("backbones.request", "fusion.fuse", "ensembles.ensemble", "corpus.prepare"),
    *("reports.ensemble.page", "reports.statistics.page", "reports.fusion"),
)

_NEW_USER, _NEW_PID, _NEW_HOST, _NEW_MOUNTS = 0x10000000, 0x20000000, 0x04000000, 0x00020000
_PRIVATE, _BIND = 1 << 18 | 1 << 14, 1 << 12  # MS_PRIVATE | MS_REC, MS_BIND


@dataclass(frozen=True, kw_only=True)
class Container:
    """What a process is shut into.

    Attributes:
        host: its host name.
        user: whether it has a user namespace of its own.
        boot: its boot id, "" for the machine's: another one stands for another machine.
        locks: `shared` as on one machine; `local`, seen by nobody else, as on some network disks;
            `none`, refused by the file system.
        process: number of the command there.
    """

    host: str
    user: bool = False
    boot: str = ""
    locks: str = "shared"
    process: int = 1


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code, below 0 for a signal.
        said: all that it printed.
    """

    code: int
    said: str

    @property
    def is_bug(self) -> bool:
        """Whether it ended in a traceback."""
        return "Traceback (most recent call last)" in self.said

    @property
    def last(self) -> str:
        """The last line that it printed."""
        return (self.said.strip().splitlines() or [""])[-1]


def import_everything() -> None:
    """Import what the commands need, so that processes forked from this one need not."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in _HEAVY:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)


@dataclass(kw_only=True)
class Running:
    """A command at work.

    Attributes:
        pid: of the process that this one waits for.
        log: what it prints.
        is_contained: whether it is in a container, whose first process it is not itself.
    """

    pid: int
    log: Path
    is_contained: bool

    def end_by(self, number: int) -> None:
        """Send a signal to the command; it may have ended already."""
        pid = self.pid
        if self.is_contained:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            pid = int(children[0]) if children else pid
        os.kill(pid, number)

    def poll(self) -> bool:
        """Whether it has ended; it can then be waited for still."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait_for(self, seconds: float) -> bool:
        """Wait so long at most: whether it has ended by itself by then."""
        until = time.monotonic() + seconds
        while not self.poll():
            if time.monotonic() > until:
                return False
            time.sleep(0.002)
        return True

    def wait(self) -> Ended:
        """How it ends."""
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        said = self.log.read_text(errors="replace")
        return Ended(code=code, said=said)


def start(
    words: Sequence[str],
    *,
    log: Path,
    container: Container | None = None,
    before: Callable[[], object] | None = None,
) -> Running:
    """Start a command of radfuse.

    Args:
        words: command and arguments.
        log: gets what it prints.
        container: to shut it into; None for none.
        before: called in the new process first.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid == 0:
        _become(words, log, container, before)
    return Running(pid=pid, log=log, is_contained=container is not None)


def run(
    words: Sequence[str],
    *,
    log: Path,
    container: Container | None = None,
    before: Callable[[], object] | None = None,
) -> Ended:
    """Run a command to its end; arguments as of `start`."""
    return start(words, log=log, container=container, before=before).wait()


def command(name: str, workspace: Path) -> list[str]:
    """A command of the chain, on a workspace."""
    return [name, *CHAIN[name], "-w", str(workspace)]


def _become(
    words: Sequence[str],
    log: Path,
    container: Container | None,
    before: Callable[[], object] | None,
) -> NoReturn:
    code = 70
    try:
        out = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == 2 else signal.SIG_DFL)
        if container is not None:
            enter(container)
        if before is not None:
            before()
        code = _call(words)
    except BaseException:  # noqa: BLE001 - whatever it is, the process ends here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _call(words: Sequence[str]) -> int:
    import cli

    sys.argv = ["cli.py", *words]
    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return 130
    return 0


def enter(container: Container) -> None:
    """Shut this process into a container; it goes on in a fork of itself, as the process asked for.

    Raises:
        OSError: the machine does not let it.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def must(result: int, what: str) -> None:
        if result:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), what)

    user, group = os.getuid(), os.getgid()
    kinds = _NEW_PID | _NEW_HOST | _NEW_MOUNTS | (_NEW_USER if container.user else 0)
    must(libc.unshare(kinds), "unshare")
    if container.user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    child = os.fork()
    if child:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(code)
    must(libc.mount(b"none", b"/", None, _PRIVATE, None), "mount /")
    must(libc.mount(b"proc", b"/proc", b"proc", 0, None), "mount /proc")
    name = container.host.encode()
    must(libc.sethostname(name, len(name)), "hostname")
    if container.boot:
        told = Path(f"/tmp/.boot-{container.boot}-{os.urandom(4).hex()}")
        told.write_text(f"{container.boot}\n")
        place = b"/proc/sys/kernel/random/boot_id"
        must(libc.mount(bytes(told), place, None, _BIND, None), "boot id")
        told.unlink()
    if container.locks != "shared":
        _change_locks(container.locks)
    while container.process > 1 and (child := os.fork()):
        _, status = os.waitpid(child, 0)
        if child == container.process:
            os._exit(abs(os.waitstatus_to_exitcode(status)))
    if 1 < os.getpid() < container.process:
        os._exit(0)


def _change_locks(kind: str) -> None:
    """Have the file system lock for nobody else, or not at all."""
    import errno
    import fcntl

    def flock(file: object, how: int) -> None:
        if kind == "none":
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.flock = flock


def try_containers(container: Container) -> str:
    """Why the machine has no containers of the kind; "" where it has."""
    pid = os.fork()
    if pid == 0:
        try:
            enter(container)
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return os.strerror(code) if code else ""


def drafts(workspace: Path) -> list[str]:
    """Drafts and backups that lie in a workspace."""
    found = [p for p in workspace.rglob(".*") if p.name.endswith((".tmp", ".old"))]
    return sorted(str(path.relative_to(workspace)) for path in found)


def fingerprints(folder: Path, pattern: str) -> dict[str, str]:
    """Checksum of each file below a folder that is called so, by its path there."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob(pattern))
        if path.is_file()
    }


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a whole chain leaves: checksums by name."""

    images: Mapping[str, str]
    table: Mapping[str, str]
    submission: Mapping[str, str]

    @classmethod
    def of(cls, workspace: Path) -> "Outcome":
        """What lies in a workspace."""
        table = workspace / "corpus" / "images.csv"
        text = table.read_text().replace(str(workspace), "") if table.is_file() else ""
        return cls(
            images=fingerprints(workspace / "phantom", "*.*"),
            table={"images.csv": hashlib.sha256(text.encode()).hexdigest()},
            submission={
                Path(path).name: text  # runs are named by when their members were made
                for path, text in fingerprints(workspace / "ensembles", _SUBMISSION).items()
            },
        )

    def differences(self, other: "Outcome") -> list[str]:
        """What differs, in words."""
        return [
            f"another {what}"
            for what in ("images", "table", "submission")
            if getattr(self, what) != getattr(other, what)
        ]


def reference(home: Path, names: Iterable[str] = CHAIN) -> tuple[Outcome, dict[str, float]]:
    """What the chain leaves where nothing disturbs it, and the seconds of each command.

    Args:
        home: gets a workspace for it, which goes.
        names: commands that are run.

    Raises:
        RuntimeError: a command does not end well.
    """
    workspace, seconds = home / "undisturbed", {}
    for name in names:
        began = time.monotonic()
        ended = run(command(name, workspace), log=home / "undisturbed.log")
        seconds[name] = time.monotonic() - began
        if ended.code:
            raise RuntimeError(f"{name}: {ended.code}\n{ended.said}")
    outcome = Outcome.of(workspace)
    shutil.rmtree(workspace)
    return outcome, seconds
