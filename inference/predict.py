"""The body of `predict`: places to images, images to decisions, decisions to a table."""

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError, CorpusError, first_few
from core.progress import progress, say
from core.storage.folders import provenance
from core.storage.text import visible
from inference.archive.engine import Here, UnitEngine
from inference.archive.join import TableTarget
from inference.archive.units import UnitFolder, UnitReport, UnitSizes, joined_reports, shared_units
from inference.archive.work import UnitWork
from inference.images import ImageList, find_images
from inference.place import EnsemblePlace
from inference.stream import DecidedBlock
from inference.tables import check_format, head_of, text_of

if TYPE_CHECKING:
    from backbones.detectors.ray import Cluster

_SHOWN = 20  # lines of what could not be read; the rest is counted

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_LAYOUT = 1
"""Of what is kept of a unit; raised where a later version could not go on with it."""


def predict_places(
    places: Sequence[str],
    place: EnsemblePlace,
    *,
    category: str | None,
    out: Path | None,
    form: str,
    top: int,
    edition: int | None,
    device: str,
    cluster: "Cluster | None" = None,
    sizes: UnitSizes | None = None,
) -> bool:
    """Decide all images in some places and write a table of it.

    With a file to write, what is done is kept in units: the same call goes on where one was
    killed, and several processes with the same call share the work.

    Args:
        places: see `inference.images.find_images`.
        place: of the ensemble.
        category: of all images; None to look, and to guess where nothing tells.
        out: the file, or for parquet a folder of parts; None for stdout.
        form: one of `inference.tables.FORMATS`.
        top: candidates of an image beside what is decided.
        edition: year of a submission's format; None for the corpus' own.
        device: cpu, cuda or auto.
        cluster: of Ray, whose nodes do the units; None to do them here.
        sizes: how the images are divided; None as usual.

    Returns:
        Whether an image had to be left out.

    Raises:
        ConfigError: the table cannot be written, or another process writes another one there.
        CorpusError: no image could be read.
        ConceptError: of what is read: see `find_images`, `EnsemblePlace.read`.
    """
    check_format(form, out=out, edition=edition, top=top)
    target = None if out is None else TableTarget(out=out, form=form)
    if target is not None:
        target.check(places)
    elif cluster is not None or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("several processes cannot share stdout; name a file with --out")
    found = find_images(places, category=category)
    for note in found.notes:
        say(f"note: {note.text}")
    n, sizes = len(found.images), sizes or UnitSizes()
    say(f"found: {n:,} {'image' if n == 1 else 'images'}")
    work = UnitWork(form=form, top=top, headers=not found.told, n_at_once=sizes.block)
    grave = any(note.grave for note in found.notes)
    if target is None:
        report = _to_stdout(Here(place=place, device=device), found.images, work, sizes)
    else:
        with _full_disk_named(out), _engine(place, device, cluster) as engine:
            request = _request(engine, found.images, form=form, top=top, edition=edition)
            with shared_units(
                target.out, request, n_images=n, sizes=sizes, threads=engine.threads,
                anew=target.begin,
            ) as units:  # fmt: skip
                report = _to_file(units, engine, found.images, work, target, edition)
    return bool(report.skipped or report.notes) or grave


@contextmanager
def _full_disk_named(out: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise ConfigError(
            f"{error.filename or f'--out {out}'}: {os.strerror(error.errno or 0).lower()}; what is"
            " finished stays there: make room, and the same command goes on"
        ) from None


def _engine(
    place: EnsemblePlace, device: str, cluster: "Cluster | None"
) -> AbstractContextManager[UnitEngine]:
    if cluster is None:
        return nullcontext(Here(place=place, device=device))
    from inference.archive.ray import units_on_ray

    return units_on_ray(cluster, place=place)


def _request(engine: UnitEngine, images: ImageList, **options: Any) -> dict[str, Any]:
    """All that decides the bytes of a table, by what it is called in a message."""
    versions = provenance()["packages"]
    if options["form"] == "parquet":
        import pyarrow as pa

        versions = {**versions, "pyarrow": pa.__version__}
    return {
        "images": {"n": len(images), "digest": images.digest()},
        "ensemble": engine.identity,
        **{f"--{name.replace('form', 'format')}": value for name, value in options.items()},
        "device": engine.device.partition(":")[0],
        "version": {"layout": _LAYOUT, **versions},
    }


def _to_file(
    units: UnitFolder,
    engine: UnitEngine,
    images: ImageList,
    work: UnitWork,
    target: TableTarget,
    edition: int | None,
) -> UnitReport:
    """The report of all units, which are joined by one process."""
    if units.n_before:
        say(f"{units.n_before:,} of {len(images):,} images were there already; going on")
    with progress("deciding", total=len(images), unit="images", done=units.n_before) as bar:
        engine.finish(units, images, work=work, target=target, bar=bar)
    report = units.reports()
    if not report.n_decided:
        units.end()
        raise _none_read(report)
    with units.joining() as mine:
        if n_others := len(images) - units.n_before - units.n_of(units.mine):
            own = units.n_of(units.mine)
            say(f"{own:,} images done here, {n_others:,} by other processes", each=True)
        if mine:
            target.join(units, skipped=report.skipped, edition=edition or report.edition)
            _say_report(report)
            if report.skipped:
                say(f"not read: all of them in {target.skipped}", each=True)
                if target.form == "submission":
                    say(
                        f"{target.out}: lacks the images that were not read; an evaluator takes it"
                        " with all images of its test set only",
                        each=True,
                    )
    return report


def _to_stdout(here: Here, images: ImageList, work: UnitWork, sizes: UnitSizes) -> UnitReport:
    """The table block by block."""
    ensemble = here.read(images)
    reports: list[UnitReport] = []
    pairs = ((n, images[sizes.images_of(n)]) for n in range(sizes.n_units(len(images))))
    with progress("deciding", total=len(images), unit="images") as bar:
        try:
            head = head_of(work.form)
            for _, found in work.decided(ensemble, pairs):
                if isinstance(found, DecidedBlock):
                    text = head + text_of(found, form=work.form, top=work.top)
                    sys.stdout.write(_for_terminal(text) if sys.stdout.isatty() else text)
                    sys.stdout.flush()
                    head = ""
                    bar(len(found.images))
                else:
                    reports.append(found)
                    bar(len(found.skipped))
        except BrokenPipeError:  # `| head` has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return joined_reports(reports)
    report = joined_reports(reports)
    if not report.n_decided:
        raise _none_read(report)
    _say_report(report)
    return report


def _for_terminal(table: str) -> str:
    """A table as somebody looks at it; who keeps it or pipes it on gets it exactly."""
    return "\n".join(map(visible, table.split("\n")))


def _none_read(report: UnitReport) -> CorpusError:
    first = first_few(reason for _, reason in report.skipped[:1])
    return CorpusError(f"none of {report.n_images:,} images could be read, first {first}")


def _say_report(report: UnitReport) -> None:
    """The summary, which one process tells of all."""
    for text in notes_of(report):
        say(f"note: {text}", each=True)
    ways = ", ".join(f"{way} {n:,}" for way, n in report.ways.items())
    images = "image" if report.n_decided == 1 else "images"
    say(f"decided: {report.n_decided:,} {images}; category: {ways}", each=True)
    for _, reason in report.skipped[:_SHOWN]:
        say(f"not read: {reason}", each=True)
    if n := len(report.skipped):
        more = f", {n - _SHOWN:,} of them not listed" if n > _SHOWN else ""
        say(f"not read: {n:,} of {report.n_images:,} images{more}", each=True)


def notes_of(report: UnitReport) -> Iterator[str]:
    """What was strange of the images, in words."""
    yield from report.notes
    if lacking := [name for name in report.wanted if name not in report.columns]:
        yield f"no image has {first_few(lacking)}, which the heads take: seen as missing"
    if report.n_headers and not report.notes:
        text = (
            f"DICOM: {report.n_headers:,} {'header' if report.n_headers == 1 else 'headers'} read"
        )
        if report.unread:
            text += f", {len(report.unread):,} cannot be: {first_few(report.unread)}"
        yield text
