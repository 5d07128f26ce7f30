"""An archive in units of images: what is asked, what is done, who does what, and what was told.

How the list of images is divided depends on nothing but the list, so that a unit is the same bytes
whoever does it. Finished units lie in a hidden folder beside the file that is asked for until they
are joined; it is that folder by which processes share the work, and by which it goes on after a
kill.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import sleep
from typing import Any

from core.errors import ConfigError
from core.progress import say
from core.storage.claims import Claim, claim, claimed, is_claimed, keeps_others_out
from core.storage.documents import parse_json, read_object
from core.storage.drafts import draft_file
from core.storage.folders import write_json
from inference.stream import N_AT_ONCE, N_OF_UNIT

REQUEST = "request.json"

_POLL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class UnitSizes:
    """How a list of images is divided.

    Attributes:
        unit: images that are claimed and kept at once.
        part: units of a part of a table in parts.
        block: images that are decided at once; twice as many are claimed ahead.
    """

    unit: int = N_OF_UNIT
    part: int = 10
    block: int = N_AT_ONCE

    def n_units(self, n_images: int) -> int:
        """Units of so many images."""
        return -(-n_images // self.unit)

    def images_of(self, number: int) -> slice:
        """Where the images of a unit stand in the list."""
        return slice(number * self.unit, (number + 1) * self.unit)

    def parts(self, n_units: int) -> list[range]:
        """Numbers of the units of each part."""
        starts = range(0, n_units, self.part)
        return [range(start, min(start + self.part, n_units)) for start in starts]


@dataclass(frozen=True, kw_only=True)
class UnitReport:
    """What is told of some units beside their table.

    Attributes:
        n_images: images asked for.
        n_decided: images that could be read.
        ways: of knowing the category, counted by image.
        skipped: path and reason of each image that could not be read.
        wanted: further columns that heads take.
        columns: those of them in which an image has a value.
        edition: of the corpus that the ensemble was made for.
        n_headers: DICOM files.
        unread: ids of DICOM files whose header could not be read.
        notes: what was strange, each once.
    """

    n_images: int = 0
    n_decided: int = 0
    ways: Mapping[str, int] = field(default_factory=dict)
    skipped: tuple[tuple[str, str], ...] = ()
    wanted: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    edition: int = 0
    n_headers: int = 0
    unread: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def joined_reports(reports: Iterable[UnitReport]) -> UnitReport:
    """What is told of all of them, in their order."""
    ways = Counter[str]()
    wanted, columns, notes = dict[str, None](), dict[str, None](), dict[str, None]()
    skipped, unread = list[tuple[str, str]](), list[str]()
    n_images = n_decided = n_headers = edition = 0
    for report in reports:
        n_images += report.n_images
        n_decided += report.n_decided
        n_headers += report.n_headers
        edition = report.edition
        ways.update(report.ways)
        skipped += report.skipped
        unread += report.unread
        wanted |= dict.fromkeys(report.wanted)
        columns |= dict.fromkeys(report.columns)
        notes |= dict.fromkeys(report.notes)
    return UnitReport(
        n_images=n_images,
        n_decided=n_decided,
        ways=dict(ways.most_common()),
        skipped=tuple(skipped),
        wanted=tuple(wanted),
        columns=tuple(columns),
        edition=edition,
        n_headers=n_headers,
        unread=tuple(unread),
        notes=tuple(notes),
    )


class UnitFolder:
    """The finished units of a request, and claims on those that are not finished.

    Attributes:
        home: the folder.
        n_images: images of the request.
        sizes: how they are divided.
        numbers: of all units.
        left: numbers of units that were not finished when this process looked last.
        mine: numbers of units that this process has finished.
        n_before: images of units that were there when this process came.
        threads: that whoever began it computed with, and so all are to: sums may depend on it.
    """

    def __init__(self, home: Path, *, n_images: int, sizes: UnitSizes) -> None:
        """Look at a folder that this process shares; see `shared_units`."""
        self.home, self.n_images, self.sizes = home, n_images, sizes
        self.threads = int((_read_request(home) or {}).get(_THREADS, 1))
        self.numbers = range(sizes.n_units(n_images))
        self.mine: list[int] = []
        self._claims: dict[int, Claim] = {}
        self.left = list(self.numbers)
        self.n_before = self.look()

    def rows(self, number: int) -> Path:
        """The table of a finished unit."""
        return self.home / f"{number:06d}.rows"

    def report(self, number: int) -> UnitReport:
        """What was told of a finished unit."""
        told: dict[str, Any] = read_object(self._report(number))
        lists = {name: tuple(told[name]) for name in ("wanted", "columns", "unread", "notes")}
        skipped = tuple((path, reason) for path, reason in told["skipped"])
        return UnitReport(**{**told, **lists, "skipped": skipped})

    def _report(self, number: int) -> Path:
        return self.home / f"{number:06d}.json"

    def _lock(self, number: int) -> Path:
        return self.home / f"{number:06d}.lock"

    def is_done(self, number: int) -> bool:
        """Whether a unit is finished: its report comes last."""
        return self._report(number).is_file()

    def n_of(self, numbers: Iterable[int]) -> int:
        """Images of some units."""
        return sum(min(self.sizes.unit, self.n_images - n * self.sizes.unit) for n in numbers)

    def look(self) -> int:
        """Images of units that others have finished since this process looked last."""
        done = {number for number in self.left if self.is_done(number)}
        self.left = [number for number in self.left if number not in done]
        return self.n_of(done)

    def claimable(self) -> Iterator[int]:
        """Units that nobody has finished or claimed; each is claimed as it is given."""
        for number in list(self.left):
            if self.is_done(number) or number in self._claims:
                continue
            held = claim(self._lock(number))
            if held is None:
                continue
            if self.is_done(number):  # in the meantime
                held.release()
                continue
            self._claims[number] = held
            yield number

    def finish(self, number: int, rows: bytes, *, report: UnitReport) -> None:
        """Keep a claimed unit, and give its claim back."""
        with draft_file(self.rows(number)) as draft:
            draft.write_bytes(rows)
        write_json(self._report(number), asdict(report))
        self.mine.append(number)
        self.left.remove(number)
        self.give_back(number)

    def give_back(self, number: int) -> None:
        """Leave a unit to whoever claims it next."""
        self._claims.pop(number).release()

    def give_all_back(self) -> None:
        """Leave all units that were claimed and not finished."""
        for number in list(self._claims):
            self.give_back(number)

    def wait(self) -> None:
        """Until another process has ended a unit, or itself."""
        held = claim(self._lock(self.left[0]), wait=True)
        assert held is not None
        held.release()

    def reports(self) -> UnitReport:
        """What was told of all units, all of which are finished."""
        return joined_reports(map(self.report, self.numbers))

    @contextmanager
    def joining(self) -> Iterator[bool]:
        """For a block: whether the units are to be joined in it; others wait until it ends.

        Under torchrun its other processes are waited for, so that none comes late and begins anew.
        """
        with claimed(self.home / "join.lock"):
            mark = self.home / _JOINED
            if mark.is_file():
                yield False
                return
            _await_ranks(self.home)
            yield True
            self.end()

    def end(self) -> None:
        """Nothing more is wanted of the units: the folder goes with the last process in it."""
        (self.home / _JOINED).touch()


_PRESENT = "present.lock"
"""Shared by all processes that are in the folder."""

_JOINED = "joined"

_THREADS = "threads"


@contextmanager
def shared_units(
    out: Path,
    request: Mapping[str, Any],
    *,
    n_images: int,
    sizes: UnitSizes,
    threads: int,
    anew: Callable[[bool], None],
) -> Iterator[UnitFolder]:
    """The folder of units beside a file that is asked for, for the length of a block.

    Whoever leaves it last removes it, if the units were joined or there is none. Else it stays,
    and the same request goes on with it.

    Args:
        out: what is asked for.
        request: all that decides what is in it, in plain values, by what it is called.
        n_images: of the request.
        sizes: how they are divided.
        threads: that this process would compute with; see `UnitFolder`.
        anew: called before a request begins; with whether another one was begun before and not
            finished, whose units are dropped.

    Raises:
        ConfigError: another process is at another request for the same file.
    """
    whole_name = Path(os.path.abspath(out))  # noqa: PTH100 - links stay
    home = whole_name.with_name(f".{whole_name.name}.parts")
    whole = parse_json(json.dumps({**request, "sizes": asdict(sizes)}))
    present = _enter(home, {**whole, _THREADS: threads}, out=out, anew=anew)
    if not keeps_others_out(home / REQUEST):
        say(f"note: no locks of files in {whole_name.parent}; start no second process for {out}")
    ranks = claim(_rank(home, os.environ["RANK"]), wait=True) if _n_ranks() > 1 else None
    units = UnitFolder(home, n_images=n_images, sizes=sizes)
    try:
        yield units
    finally:
        units.give_all_back()
        if ranks is not None:
            ranks.release()
        is_last = present.alone()
        if is_last and ((home / _JOINED).is_file() or not any(map(units.is_done, units.numbers))):
            shutil.rmtree(home, ignore_errors=True)
        present.release()


def _enter(
    home: Path, request: Mapping[str, Any], *, out: Path, anew: Callable[[bool], None]
) -> Claim:
    """A share in the folder of a request, which is begun where it is not."""
    while True:
        home.mkdir(parents=True, exist_ok=True)
        try:
            held = claim(home / _PRESENT)
            if held is not None:
                try:
                    _begin(home, request, out=out, anew=anew)
                except BaseException:
                    if not (home / REQUEST).is_file():
                        shutil.rmtree(home, ignore_errors=True)
                    held.release()
                    raise
                held.share()
            else:
                held = claim(home / _PRESENT, shared=True, wait=True)
        except FileNotFoundError:  # whoever was in it has just finished and removed it
            continue
        assert held is not None
        found = _read_request(home)
        if found is not None and not _differing(found, request):
            return held
        held.release()
        if found is not None:
            raise ConfigError(
                f"--out {out}: another process is writing it, with other"
                f" {_differing(found, request)}; wait for it, or name another file"
            )


def _begin(
    home: Path, request: Mapping[str, Any], *, out: Path, anew: Callable[[bool], None]
) -> None:
    """Make the folder one of this request; nobody else is in it."""
    found = _read_request(home)
    if found is not None and not _differing(found, request):
        return
    anew(found is not None)
    if found is not None:
        n, other = sum(1 for _ in home.glob("[0-9]*.json")), _differing(found, request)
        say(f"{out}: begins anew; {n} units that were done with other {other} are dropped")
    for path in home.iterdir():
        if not path.name.startswith(_PRESENT):  # and the note that it is held
            path.unlink()
    write_json(home / REQUEST, request)


def _read_request(home: Path) -> dict[str, Any] | None:
    try:
        found = parse_json((home / REQUEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _differing(found: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    """Names of the entries in which two requests differ; "" where they do not."""
    names = [key for key in {**request, **found} if found.get(key) != request.get(key)]
    return " and ".join(name for name in names if name != _THREADS)


def _n_ranks() -> int:
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def _rank(home: Path, rank: int | str) -> Path:
    return home / f"rank-{rank}.lock"


def _await_ranks(home: Path) -> None:
    """Wait until all processes that torchrun starts are in the folder."""
    n = _n_ranks()
    if n == 1 or not is_claimed(_rank(home, os.environ["RANK"])):  # or there are no locks here
        return
    while not all(is_claimed(_rank(home, rank)) for rank in range(n)):
        sleep(_POLL_S)
