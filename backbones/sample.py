"""`sample`: what a strategy would keep of the training images, before anything is trained on it."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from backbones.detectors.features import frozen_features
from backbones.detectors.plan import training_images
from backbones.settings.config import BackboneConfig
from core.config import fingerprint
from core.errors import ConfigError, MissingStageError
from core.images import ImageTable
from core.runs.decoding import Decoding
from core.runs.detectors import GLOBAL
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import new_folder
from core.storage.tables import write_rows
from corpus.images.contact_sheet import draw_image, font_of, shortened
from corpus.sampling.candidates import CandidateImages, Mask, Rows
from corpus.sampling.choose import Choice, choose
from corpus.sampling.counts import (
    by_category,
    by_frequency,
    choice_rows,
    concept_rows,
    counted_lines,
)
from training.devices.compute import Compute

SHEET = "sheet.png"

_ACROSS, _DOWN, _SIDE = 8, 3, 128  # images of each kind; pixels of an image

_CAPTION, _TITLE, _GAP = 18, 26, 4


def show_sample(
    corpus: Corpus,
    workspace: Workspace,
    *,
    category: str,
    config: BackboneConfig,
    compute: Compute,
    with_sheet: bool = False,
) -> list[str]:
    """Choose among all training images of a detector, and write down what is kept.

    A network of `train-backbone` chooses anew, among those that it does not hold out.

    Args:
        corpus: a prepared corpus.
        workspace: where features are, and the folder goes: `reports/sample-...`.
        category: `global`, or a category for what its specialist would keep.
        config: the strategy, and of which encoder features are taken.
        compute: where features are made that are not there yet.
        with_sheet: whether images that are kept and left out are drawn.

    Returns:
        What is kept, in lines for a person, and the folder.

    Raises:
        ConfigError: no strategy is named, or there is no such category.
        MissingStageError: there are no training images.
    """
    sampled = config.sampled
    if sampled.keeps_all:
        raise ConfigError("sample: expected a --strategy and a share to --keep")
    table = training_images(corpus, category)
    if not len(table):
        raise MissingStageError(f"{corpus.name}: no training image of {category}")
    candidates = candidates_of(corpus, workspace, table=table, config=config, compute=compute)
    choice = choose(candidates, sampled, seed=config.seed)
    key = fingerprint(corpus.fingerprint, category, sampled, config.seed)
    folder = workspace.reports / f"sample-{category}-{sampled}-{key}"
    meta = {
        "corpus": corpus.fingerprint,
        "category": category,
        "strategy": sampled.strategy,
        "n_images": len(candidates),
        "n_kept": int(choice.kept.sum()),
        "n_rare": int(choice.protected.sum()),
    }
    with new_folder(folder, meta) as draft:
        write_rows(draft / "images.csv", choice_rows(candidates, choice), for_people=True)
        concepts = concept_rows(candidates, choice.kept, labels=corpus.labels, names=corpus.names)
        write_rows(draft / "concepts.csv", concepts, for_people=True)
        write_rows(draft / "categories.csv", _category_rows(candidates, choice.kept))
        write_rows(draft / "frequencies.csv", _frequency_rows(candidates, choice.kept))
        if with_sheet:
            _draw_sheet(table, choice, draft / SHEET, corpus.decoding)
    named = GLOBAL if category == GLOBAL else f"specialist of {category}"
    head = f"{named}, {sampled.strategy}: "
    first, *lines = counted_lines(candidates, choice)
    return [head + first, *lines, str(folder)]


def candidates_of(
    corpus: Corpus,
    workspace: Workspace,
    *,
    table: ImageTable,
    config: BackboneConfig,
    compute: Compute,
) -> CandidateImages:
    """The images of a table, with the features of a frozen encoder where the strategy takes any."""
    values = None
    if config.sampled.needs_features:
        features = frozen_features(corpus, workspace, config=config, compute=compute)
        values = features.rows(table.image_ids).values
    return CandidateImages.of(table, corpus.labels, features=values)


def _category_rows(candidates: CandidateImages, kept: Mask) -> list[list[object]]:
    counts = by_category(candidates, kept)
    return [["category", "images", "kept"], *([name, *own] for name, own in counts.items())]


def _frequency_rows(candidates: CandidateImages, kept: Mask) -> list[list[object]]:
    header = ["images of a concept", "concepts", "with a kept image", "pairs", "pairs kept"]
    return [
        [*header, "least share of a concept"],
        *(
            [b.name, b.n_concepts, b.n_left, b.n_pairs, b.n_kept, b.fewest]
            for b in by_frequency(candidates, kept)
        ),
    ]


def _draw_sheet(table: ImageTable, choice: Choice, path: Path, decoding: Decoding) -> None:
    """Draw the first images that were chosen above the first that are left out.

    Args:
        table: the images among which was chosen, in their order.
        choice: of them.
        path: a PNG.
        decoding: as the corpus is read.
    """
    chosen = np.flatnonzero(choice.kept & ~choice.protected)
    left_out = np.flatnonzero(~choice.kept)
    bands = [
        (f"chosen: {len(chosen):,} images, the first ones", chosen[_by_rank(choice, chosen)]),
        (f"left out: {len(left_out):,} images", left_out[_by_rank(choice, left_out)]),
    ]
    high = _SIDE + _CAPTION + _GAP
    band_high = _TITLE + _DOWN * high
    sheet = Image.new("RGB", (_ACROSS * (_SIDE + _GAP) + _GAP, len(bands) * band_high), "white")
    pen, small, large = ImageDraw.Draw(sheet), font_of(10), font_of(14)
    for number, (title, rows) in enumerate(bands):
        top = number * band_high
        pen.text((_GAP, top + 4), title, fill="black", font=large)
        for place, row in enumerate(rows[: _ACROSS * _DOWN].tolist()):
            left = _GAP + place % _ACROSS * (_SIDE + _GAP)
            at = top + _TITLE + place // _ACROSS * high
            image = Path(table.paths[row])
            draw_image(sheet, image, place=(left, at), side=_SIDE, decoding=decoding)
            text = f"{table.categories[row]} {shortened(table.image_ids[row])}"
            pen.text((left, at + _SIDE + 1), text[:22], fill="black", font=small)
    sheet.save(path)


def _by_rank(choice: Choice, rows: Rows) -> Rows:
    return np.argsort(choice.rank[rows], kind="stable")
