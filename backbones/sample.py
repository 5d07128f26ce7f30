"""`sample`: what a strategy would keep of the training images, before anything is trained on it."""

from backbones.detectors.features import frozen_features
from backbones.detectors.plan import training_images
from backbones.settings.config import BackboneConfig
from core.config import fingerprint
from core.errors import ConfigError, MissingStageError
from core.images import ImageTable
from core.runs.detectors import GLOBAL
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import new_folder
from core.storage.tables import write_rows
from corpus.sampling.candidates import Candidates, Mask
from corpus.sampling.choose import choose
from corpus.sampling.counts import (
    by_category,
    by_frequency,
    choice_rows,
    concept_rows,
    counted_lines,
)
from corpus.sampling.sheet import SHEET, draw_sheet
from training.devices.compute import Compute


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
    candidates = candidates_of(corpus, workspace, table, config=config, compute=compute)
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
        concepts = concept_rows(candidates, choice.kept, corpus.labels, names=corpus.names)
        write_rows(draft / "concepts.csv", concepts, for_people=True)
        write_rows(draft / "categories.csv", _category_rows(candidates, choice.kept))
        write_rows(draft / "frequencies.csv", _frequency_rows(candidates, choice.kept))
        if with_sheet:
            draw_sheet(table, choice, draft / SHEET, decoding=corpus.decoding)
    named = GLOBAL if category == GLOBAL else f"specialist of {category}"
    head = f"{named}, {sampled.strategy}: "
    first, *lines = counted_lines(candidates, choice)
    return [head + first, *lines, str(folder)]


def candidates_of(
    corpus: Corpus,
    workspace: Workspace,
    table: ImageTable,
    *,
    config: BackboneConfig,
    compute: Compute,
) -> Candidates:
    """The images of a table, with the features of a frozen encoder where the strategy takes any."""
    values = None
    if config.sampled.needs_features:
        features = frozen_features(corpus, workspace, config=config, compute=compute)
        values = features.rows(table.image_ids).values
    return Candidates.of(table, corpus.labels, features=values)


def _category_rows(candidates: Candidates, kept: Mask) -> list[list[object]]:
    counts = by_category(candidates, kept)
    return [["category", "images", "kept"], *([name, *own] for name, own in counts.items())]


def _frequency_rows(candidates: Candidates, kept: Mask) -> list[list[object]]:
    header = ["images of a concept", "concepts", "with a kept image", "pairs", "pairs kept"]
    return [
        [*header, "least share of a concept"],
        *(
            [b.name, b.n_concepts, b.n_left, b.n_pairs, b.n_kept, b.fewest]
            for b in by_frequency(candidates, kept)
        ),
    ]
