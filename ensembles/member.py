"""A source that takes part in an ensemble, with what it says of valid and of test."""

from dataclasses import dataclass, replace
from pathlib import Path

from core.images import ImageTable
from core.predictions import AnyPredictions
from core.runs.workspace import Corpus
from ensembles.stacking.sources import Source


@dataclass(frozen=True, kw_only=True)
class Member:
    """A source of the ensemble.

    Attributes:
        name: as a reader would call it; no two members share one.
        folder: where it lies, resolved; None for the prior.
        origin: run folder and when it was made; empty for the prior, which is counted afresh; a
            digest of what was made elsewhere.
        valid, test: its predictions.
    """

    name: str
    folder: Path | None
    origin: str
    valid: AnyPredictions
    test: AnyPredictions

    def source(self, split: str, table: ImageTable, corpus: Corpus) -> Source:
        """What it knows of these images of `valid` or `test`, under its own name."""
        predictions = self.valid if split == "valid" else self.test
        source = Source.of(predictions, image_ids=table.image_ids, labels=corpus.labels)
        return replace(source, name=self.name)
