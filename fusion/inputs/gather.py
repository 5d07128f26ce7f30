"""What fusion starts from: pooled features, metadata, detectors and the corpus, lined up."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from core.categories import CATEGORIES, UNKNOWN
from core.embeddings import Embeddings, join
from core.errors import MissingStageError
from core.images import ImageTable
from core.predictions import row_numbers
from core.progress import say
from core.runs.detectors import DetectorRun, find_runs, newest_of_each_category
from core.runs.out_of_fold import names_of_fold
from core.runs.workspace import Corpus, Workspace
from fusion.inputs.category import Guess, guess_categories, one_hot
from fusion.inputs.metadata import MetadataEncoder
from fusion.inputs.named_features import features_named
from fusion.inputs.tensors import NetworkInputs
from training.predict import Rows

SPLITS = ("valid", "test")
"""What strategies predict that are fitted on train."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FusionInputs:
    """Everything a strategy may use; two are the same only if they are one.

    Attributes:
        corpus: the prepared corpus.
        workspace: where it lies.
        embeddings: pooled features of the readable images.
        names: of the embedding folders that they were joined from. Those of a fine-tuned network
            are of a fold each (`-1of5`); each view then has its own, and the whole those of the
            first, from which nothing is learnt.
        detectors: the newest finished run of each category and of the global detector.
        encoder: of the metadata columns that take part.
        network_inputs: the images in the order of the embeddings, a guess where no category is
            given: of training images too whose concepts tell it, so that networks learn from such
            guesses as they will be asked with.
        guess: what the features say of the category; None where it cannot be guessed.
        device: where to compute.
        stops: whether networks hold out a fold of train that chooses their epoch; else they train
            their full length.
    """

    corpus: Corpus
    workspace: Workspace
    embeddings: Embeddings
    names: tuple[str, ...]
    detectors: tuple[DetectorRun, ...]
    encoder: MetadataEncoder
    network_inputs: NetworkInputs
    guess: Guess | None
    device: str
    stops: bool = True

    @property
    def splits(self) -> tuple[str, ...]:
        """What there are predictions of: what a second stage is fitted on, and test."""
        return self.corpus.scored, "test"

    @property
    def columns(self) -> list[tuple[str, ...]]:
        """Metadata columns that take part, as the image table has them."""
        return [self.corpus.table.metadata[column.name] for column in self.encoder.columns]

    def training_images(self) -> ImageTable:
        """The readable, labelled images that are learnt from, with what their concepts tell."""
        return self.corpus.training_images()

    def rows(self, images: ImageTable) -> Rows:
        """Rows of these images in `network_inputs`."""
        return row_numbers("pooled features", self.embeddings.image_ids, wanted=images.image_ids)

    def known_category(self, rows: Rows) -> Tensor:
        """(n, 7) category of training images to count concepts by: given, told, else the guess.

        Args:
            rows: of training images in `network_inputs`.
        """
        train = self.training_images()
        number_of = np.full(len(self.network_inputs.features), -1)
        number_of[self.rows(train)] = np.arange(len(train))
        known = torch.from_numpy(one_hot(train.take(number_of[rows]).categories))
        guessed = self.network_inputs.category[torch.from_numpy(rows)]
        return torch.where(known.any(dim=1, keepdim=True), known, guessed)

    @cached_property
    def without_category(self) -> NetworkInputs | None:
        """What networks see if no image has a category.

        None where none can be guessed, and where none is given, so that it makes no difference.
        """
        if self.guess is None or set(self.corpus.table.categories) == {UNKNOWN}:
            return None
        return replace(self.network_inputs, category=torch.tensor(self.guess.posterior))

    def likely(
        self, images: ImageTable, *, without_category: bool = False
    ) -> npt.NDArray[np.float32]:
        """(n, 7) certainty of each category of some images: 1 where it is given, else the guess.

        Zeros where nothing can be said. An image without features has its given category at most.

        Args:
            images: any n images of the corpus.
            without_category: ignore the categories of the corpus; there must be a guess then.
        """
        network_inputs = self.without_category if without_category else self.network_inputs
        if network_inputs is None:
            raise ValueError("a category can be withheld only where it can be guessed")
        found = np.zeros((len(images), len(CATEGORIES)), dtype=np.float32)
        if not without_category:
            found[:] = one_hot(images.categories)
        known = np.isin(images.image_ids, self.embeddings.image_ids)
        if known.any():
            rows = torch.from_numpy(self.rows(images.take(known)))
            found[known] = network_inputs.category[rows].numpy()
        return found

    def metadata(self, images: ImageTable) -> npt.NDArray[np.float32]:
        """(n, M) further columns of some images as numbers."""
        values: npt.NDArray[np.float32] = self.network_inputs.metadata[
            torch.from_numpy(self.rows(images))
        ].numpy()
        return values

    def with_guesses(self, views: "Sequence[FusionInputs]") -> "FusionInputs":
        """These with what the views guess: an image by the view that holds it out, test by all.

        Nothing is fitted on such inputs, only answers are combined.
        """
        posteriors = [view.guess.posterior for view in views if view.guess is not None]
        if len(posteriors) < len(views):
            return self
        table = self.corpus.table.take(self.corpus.table.row_numbers(self.embeddings.image_ids))
        posterior: npt.NDArray[np.float32] = np.stack(posteriors).mean(axis=0, dtype=np.float32)
        known = table.labelled & (np.array(table.splits, dtype=np.str_) != "test")
        for fold, of_view in enumerate(posteriors):
            held_out = known & (table.folds == fold)
            posterior[held_out] = of_view[held_out]
        category = one_hot(table.categories)
        unknown = np.array(table.categories, dtype=np.str_) == UNKNOWN
        category[unknown] = posterior[unknown]
        assert views[0].guess is not None
        return replace(
            self,
            network_inputs=replace(self.network_inputs, category=torch.tensor(category)),
            guess=replace(views[0].guess, posterior=posterior),
        )

    def of_view(self, number: int, metadata: Sequence[str]) -> "FusionInputs":
        """What a view of a cross-fitted corpus starts from.

        Features of frozen networks are those of all; of fine-tuned ones, those by the network that
        has not met the view's valid. Metadata and categories are encoded and guessed by what its
        own train teaches. It is given no detector, for those have met its valid.

        Args:
            number: of the view.
            metadata: columns of the image table that take part beside the category.
        """
        view, tell = self.corpus.views[number], number == 0  # oddities of one are those of all
        names, embeddings = names_of_fold(self.names, number), self.embeddings
        features = self.network_inputs.features
        if names != names_of_fold(self.names, 0):
            embeddings = _joined(self.workspace, names).rows(embeddings.image_ids)
            features = torch.tensor(embeddings.values)
        encoder = MetadataEncoder.fitted(view.labelled_images("train"), metadata)
        guess = guess_categories(
            view, self.workspace, embeddings=embeddings, names=names, tell=tell
        )
        network_inputs = _network_inputs(view, embeddings, encoder, guess, features, tell=tell)
        return replace(
            self,
            corpus=view,
            embeddings=embeddings,
            names=names,
            detectors=(),
            encoder=encoder,
            network_inputs=network_inputs,
            guess=guess,
            stops=False,
        )


def _joined(workspace: Workspace, names: Sequence[str]) -> Embeddings:
    return join([Embeddings.load(workspace.embeddings / name) for name in names])


def gather_inputs(
    corpus: Corpus,
    workspace: Workspace,
    *,
    embeddings: Sequence[str],
    metadata: Sequence[str] = (),
    device: str,
) -> FusionInputs:
    """Detectors and pooled features of this corpus, as they lie in the workspace.

    Of a cross-fitted corpus no category is guessed: its views do that, each from its own train.

    Args:
        corpus: the prepared corpus.
        workspace: where to look.
        embeddings: which to join, see `features_named`; empty for those of the newest detector.
        metadata: columns of the image table that take part beside the category.
        device: where strategies compute.

    Raises:
        MissingStageError: there are no such pooled features; the command that makes them is named.
        ConfigError: a metadata column cannot be used, or features are not named clearly.
        CorpusError: text in a numeric column.
    """
    runs = find_runs(workspace, corpus.fingerprint)
    detectors = newest_of_each_category(runs)
    # Specialists that were fine-tuned have none: those of the detectors before them are left.
    newest = _newest_embeddings(detectors) or _newest_embeddings(runs)
    names = features_named(embeddings, runs, workspace=workspace) if embeddings else newest
    folders = [workspace.embeddings / name for name in names]
    missing = [folder.name for folder in folders if not folder.is_dir()]
    if missing or not folders:
        what = f"pooled features {missing[0]}" if missing else "pooled features of this corpus"
        raise MissingStageError(
            f"{what} not found in {workspace.embeddings}; run"
            f" `{workspace.command('train-backbone')}` first"
        )
    joined = _joined(workspace, names_of_fold(names, 0))
    say(f"pooled features: {joined.source}, {joined.values.shape[1]:,} numbers an image")
    encoder = MetadataEncoder.fitted(corpus.labelled_images("train"), metadata)
    guess = (
        None
        if corpus.crossfit
        else guess_categories(corpus, workspace, embeddings=joined, names=names)
    )
    features, tell = torch.tensor(joined.values), not corpus.crossfit
    return FusionInputs(
        corpus=corpus,
        workspace=workspace,
        embeddings=joined,
        names=names,
        detectors=tuple(detectors),
        encoder=encoder,
        network_inputs=_network_inputs(corpus, joined, encoder, guess, features, tell=tell),
        guess=guess,
        device=device,
    )


def _network_inputs(
    corpus: Corpus,
    embeddings: Embeddings,
    encoder: MetadataEncoder,
    guess: Guess | None,
    features: Tensor,
    *,
    tell: bool,
) -> NetworkInputs:
    table = corpus.table.take(corpus.table.row_numbers(embeddings.image_ids))
    category = one_hot(table.categories)
    if guess is not None:
        unknown = np.array(table.categories, dtype=np.str_) == UNKNOWN
        category[unknown] = guess.posterior[unknown]
    encoded = encoder.encode(table)
    for note in (*encoder.notes, *encoded.notes) if tell else ():
        say(note)
    return NetworkInputs(
        features=features,
        category=torch.from_numpy(category),
        metadata=torch.from_numpy(encoded.values),
        widths=embeddings.widths,
    )


def _newest_embeddings(detectors: Sequence[DetectorRun]) -> tuple[str, ...]:
    having = [run for run in detectors if run.embeddings]
    return max(having, key=lambda run: run.asked).embeddings if having else ()
