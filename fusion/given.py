"""What fusion starts from: pooled features, detectors and the corpus, lined up."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.detectors import DetectorRun, find_detectors
from core.embeddings import Embeddings, join
from core.errors import MissingStageError
from core.images import ImageTable
from core.progress import say
from core.runs import is_complete
from core.workspace import Corpus, Workspace


@dataclass(frozen=True, kw_only=True)
class Given:
    """Everything a strategy may use.

    Attributes:
        corpus: the prepared corpus.
        embeddings: pooled features of the readable images.
        names: of the embedding folders that they were joined from.
        detectors: the newest finished run of each category and of the global detector.
        device: where to compute.
    """

    corpus: Corpus
    embeddings: Embeddings
    names: tuple[str, ...]
    detectors: tuple[DetectorRun, ...]
    device: str

    def training_images(self) -> ImageTable:
        """The readable, labelled images of the training split."""
        return self.corpus.labelled_images("train")


def gather(
    corpus: Corpus, workspace: Workspace, *, embeddings: Sequence[str], device: str
) -> Given:
    """Detectors and pooled features of this corpus, as they lie in the workspace.

    Args:
        corpus: the prepared corpus.
        workspace: where to look.
        embeddings: folders to join; empty for those of the newest detector.
        device: where strategies compute.

    Raises:
        MissingStageError: there are no pooled features; the command that makes them is named.
    """
    detectors = tuple(find_detectors(workspace, corpus.fingerprint))
    names = tuple(embeddings) or _newest_embeddings(detectors)
    folders = [workspace.embeddings / name for name in names]
    missing = [folder.name for folder in folders if not is_complete(folder)]
    if missing or not folders:
        what = f"pooled features {missing[0]}" if missing else "pooled features of this corpus"
        raise MissingStageError(
            f"{what} not found in {workspace.embeddings}; run"
            f" `python cli.py train-backbone -w {workspace.root}` first"
        )
    joined = join([Embeddings.load(folder) for folder in folders])
    say(f"pooled features: {joined.source}, {joined.values.shape[1]:,} numbers an image")
    return Given(corpus=corpus, embeddings=joined, names=names, detectors=detectors, device=device)


def _newest_embeddings(detectors: Sequence[DetectorRun]) -> tuple[str, ...]:
    having = [run for run in detectors if run.embeddings]
    return max(having, key=lambda run: run.asked).embeddings if having else ()
