"""All that `stats` counts of a corpus, once."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from core.editions import empty_truth_rule
from core.metrics import Interval
from core.runs.workspace import Corpus
from reports.statistics.cooccurrence import ConceptPairs, count_pairs
from reports.statistics.drift import Drift, compare_splits
from reports.statistics.labels import ImageCounts, LabelledImages
from reports.statistics.relations import Relation, constant_f1, relate


@dataclass(frozen=True, kw_only=True)
class CorpusStatistics:
    """A corpus in numbers.

    Attributes:
        corpus: what was counted.
        images: its labelled images.
        image_counts: all images by split and category.
        relation: concepts and categories on the training images, or on those of the only labelled
            split; None with fewer than two categories.
        relation_split: which split that is.
        constant_f1: what the constant concepts alone score on valid; None where that has no
            meaning.
        pairs: concepts that stand together, on all labelled images.
        drift: valid beside train; None where one of them has no labels.
    """

    corpus: Corpus
    images: LabelledImages
    image_counts: ImageCounts
    relation: Relation | None
    relation_split: str
    constant_f1: Interval | None
    pairs: ConceptPairs
    drift: Drift | None

    @classmethod
    def of(cls, corpus: Corpus) -> "CorpusStatistics":
        """Count a corpus.

        Raises:
            CorpusError: no image of it has a concept.
        """
        images = LabelledImages.of(corpus.table)
        split = images.splits[0]
        relation = relate(images.split(split))
        score = None
        if relation and (split, "valid" in images.splits) == ("train", True):
            rule = empty_truth_rule(corpus.edition)
            score = constant_f1(relation, images.split("valid"), empty_truth=rule)
        return cls(
            corpus=corpus,
            images=images,
            image_counts=ImageCounts.of(corpus.table),
            relation=relation,
            relation_split=split,
            constant_f1=score,
            pairs=count_pairs(images),
            drift=compare_splits(images),
        )

    @cached_property
    def parts(self) -> Mapping[str, LabelledImages]:
        """The labelled images of each split, then of all together where there are several."""
        parts = {split: self.images.split(split) for split in self.images.splits}
        return {**parts, " and ".join(parts): self.images} if len(parts) > 1 else parts

    def cells(self, column: int) -> list[str]:
        """CUI and name of a concept; an empty name where none is known."""
        cui = self.images.labels.cuis[column]
        return [cui, self.corpus.names.get(cui, "")]

    def named(self, column: int) -> str:
        """CUI and, where it is known, the name."""
        return "  ".join(cell for cell in self.cells(column) if cell)
