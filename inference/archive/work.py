"""Units decided: headers read, images decoded and decided, tables and reports made of that."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from core.categories import UNKNOWN
from core.storage.text import whole
from inference.archive.units import UnitReport
from inference.images import NewImage, with_headers
from inference.loaded.ensemble import LoadedEnsemble
from inference.stream import N_AT_ONCE, DecidedBlock, Unit, decide_units
from inference.tables import UnitTable


@dataclass(frozen=True, kw_only=True)
class UnitWork:
    """How units are done, in plain values that mean the same on every machine.

    Attributes:
        form: one of `inference.tables.FORMATS`.
        top: candidates of an image beside what is decided.
        headers: whether DICOM headers are asked for what nothing else tells.
        n_at_once: images of a block.
    """

    form: str
    top: int
    headers: bool = True
    n_at_once: int = N_AT_ONCE

    def done(
        self,
        ensemble: LoadedEnsemble,
        units: Iterable[tuple[int, Sequence[NewImage]]],
        *,
        advance: Callable[[int], None],
    ) -> Iterator[tuple[int, bytes, UnitReport]]:
        """Number, table and report of each unit, in their order.

        Args:
            ensemble: that decides.
            units: number and images of each.
            advance: told of so many more images that were looked at.

        Raises:
            MissingStageError: a category is to be guessed, and cannot be.
        """
        table = UnitTable(form=self.form, top=self.top)
        for number, found in self.decided(ensemble, units):
            if isinstance(found, DecidedBlock):
                table.take(found)
                advance(len(found.images))
            else:
                advance(len(found.skipped))
                yield number, table.end(), found
                table = UnitTable(form=self.form, top=self.top)

    def decided(
        self, ensemble: LoadedEnsemble, units: Iterable[tuple[int, Sequence[NewImage]]]
    ) -> Iterator[tuple[int, DecidedBlock | UnitReport]]:
        """The blocks of each unit, then its report."""
        begun: dict[int, UnitReport] = {}

        def prepared() -> Iterator[Unit]:
            for number, images in units:
                told, begun[number] = self._told(images, ensemble)
                if ensemble.guess and any(image.category == UNKNOWN for image in told):
                    ensemble.guess.require()  # before a part of the unit is done
                yield Unit(number=number, images=told)

        ways = Counter[str]()
        for unit, block in decide_units(ensemble, prepared(), n_at_once=self.n_at_once):
            if block is not None:
                ways.update(_ways(block))
                yield unit.number, block
                continue
            report = replace(
                begun.pop(unit.number),
                n_decided=unit.skipped.n_decided,
                ways=dict(ways),
                skipped=tuple(
                    (whole(path), whole(reason)) for path, reason in unit.skipped.reasons.items()
                ),
            )
            ways.clear()
            yield unit.number, report

    def _told(
        self, images: Sequence[NewImage], ensemble: LoadedEnsemble
    ) -> tuple[Sequence[NewImage], UnitReport]:
        """The images with what their headers tell, and what is to be said of that."""
        told, headers = with_headers(images) if self.headers else (images, None)
        wanted = ensemble.columns
        report = UnitReport(
            n_images=len(images),
            wanted=wanted,
            columns=tuple(n for n in wanted if any(image.cells.get(n) for image in told)),
            edition=ensemble.edition,
        )
        if headers is None:
            return told, report
        return told, replace(
            report,
            n_headers=len(headers.annotations.rows) + len(headers.unread),
            unread=headers.unread,
            notes=tuple(whole(note.text) for note in headers.notes if note.grave),
        )


def _ways(block: DecidedBlock) -> Iterator[str]:
    """How the category of each image is known."""
    decisions = block.decisions
    for row, image in enumerate(block.images):
        if decisions.guessed[row]:
            yield "guessed from the features"
        else:
            yield "unknown" if decisions.categories[row] == UNKNOWN else f"by {image.told_by}"
