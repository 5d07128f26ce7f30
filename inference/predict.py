"""The body of `predict`: places to images, images to decisions, decisions to a table."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from core.categories import UNKNOWN
from core.errors import CorpusError, first_few
from core.progress import progress, say
from inference.images import NewImage, find_images
from inference.loaded.ensemble import LoadedEnsemble
from inference.place import EnsemblePlace
from inference.stream import DecidedBlock, Skipped, decide_images
from inference.tables import writing
from training.devices.device import find_device, keep_memory

_SHOWN = 20  # lines of what could not be read; the rest is counted


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
) -> bool:
    """Decide all images in some places and write a table of it.

    Args:
        places: see `inference.images.find_images`.
        place: of the ensemble.
        category: of all images; None to look, and to guess where nothing tells.
        out: the file; None for stdout.
        form: one of `inference.tables.FORMATS`.
        top: candidates of an image beside what is decided.
        edition: year of a submission's format; None for the corpus' own.
        device: cpu, cuda or auto.

    Returns:
        Whether an image had to be left out.

    Raises:
        CorpusError: no image could be read.
        ConceptError: of what is read: see `find_images`, `EnsemblePlace.read`, `writing`.
    """
    keep_memory()  # networks run a fifth faster
    found = find_images(places, category=category)
    for note in found.notes:
        say(f"note: {note.text}")
    ensemble = place.read(find_device(device))
    if ensemble.guess and any(image.category == UNKNOWN for image in found.images):
        ensemble.guess.require()  # before anything is written
    _say_columns(ensemble, found.images)
    skipped, told = Skipped(), Counter[str]()
    with (
        writing(out, form=form, top=top, edition=edition or ensemble.edition) as writer,
        progress("deciding", total=len(found.images), unit="images") as advance,
    ):
        for block in decide_images(ensemble, found.images, skipped=skipped):
            writer.take(block)
            told.update(_ways(block))
            advance(len(block.images))
        if not skipped.n_decided:
            raise CorpusError(
                f"none of {len(found.images):,} images could be read, first"
                f" {first_few(list(skipped.reasons.values())[:1])}"
            )
    ways = ", ".join(f"{way} {n:,}" for way, n in told.most_common())
    images = "image" if skipped.n_decided == 1 else "images"
    say(f"decided: {skipped.n_decided:,} {images}; category: {ways}")
    for reason in list(skipped.reasons.values())[:_SHOWN]:
        say(f"not read: {reason}")
    if skipped.reasons:
        n_more = len(skipped.reasons) - _SHOWN
        more = f", {n_more:,} of them not listed" if n_more > 0 else ""
        say(f"not read: {len(skipped.reasons):,} of {len(found.images):,} images{more}")
    return bool(skipped.reasons) or any(note.grave for note in found.notes)


def _ways(block: DecidedBlock) -> Iterable[str]:
    """How the category of each image is known."""
    decisions = block.decisions
    for row, image in enumerate(block.images):
        if decisions.guessed[row]:
            yield "guessed from the features"
        else:
            yield "unknown" if decisions.categories[row] == UNKNOWN else f"by {image.told_by}"


def _say_columns(ensemble: LoadedEnsemble, images: Sequence[NewImage]) -> None:
    """Say which further columns the heads take and no image has."""
    lacking = [c for c in ensemble.columns if not any(image.cells.get(c) for image in images)]
    if lacking:
        say(f"note: no image has {first_few(lacking)}, which the heads take: seen as missing")
