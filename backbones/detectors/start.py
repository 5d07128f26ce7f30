"""A fine-tuned detector that another one starts from: which network from which, and what they met.

Under `crossfit` network k starts from a network that never met fold k either, so that a label of
fold k reaches nothing that predicts it.
"""

from dataclasses import dataclass
from pathlib import Path

from backbones.networks.weights import is_detector_run, weights_file
from backbones.settings.config import BackboneConfig
from core.errors import ConfigError, as_typed, first_few
from core.images import LABELLED
from core.runs.out_of_fold import fold_folders, fold_name
from core.runs.workspace import Corpus
from core.storage.folders import read_meta
from core.storage.tables import read_lines


@dataclass(frozen=True, kw_only=True)
class Start:
    """The run of a fine-tuned detector.

    Attributes:
        folder: its run folder.
        corpus: fingerprint of the corpus that it was trained on.
        n_networks: how many it consists of.
        n_folds: folds that its networks leave out in turn; 0 where it was not cross-fitted.
    """

    folder: Path
    corpus: str
    n_networks: int
    n_folds: int

    @classmethod
    def of(cls, config: BackboneConfig) -> "Start | None":
        """The detector that the config's networks start from; None for other weights.

        Raises:
            ConfigError: the folder is not a finished run of a fine-tuned detector.
            PredictionsError: its `meta.json` was made by another version.
        """
        if not is_detector_run(config.weights):
            return None
        folder = Path(config.weights)
        weights_file(folder)
        meta = read_meta(folder, "corpus", "best_epoch")
        folds = fold_folders(folder / "predictions", LABELLED)
        return cls(
            folder=folder,
            corpus=meta["corpus"],
            n_networks=len(meta["best_epoch"]),
            n_folds=len(folds) if folds[0].name != LABELLED else 0,
        )

    def network(self, number: int) -> int:
        """Which of its networks network `number` of a cross-fitted detector starts from.

        Both count fold by fold, then seed by seed: of several seeds it is the same one, or, where
        there are fewer, one that left out the same fold.
        """
        return number % self.n_networks

    def met(self, predictions: str) -> frozenset[str]:
        """Ids of all images that the networks met that made these predictions of the run.

        What those networks started from is among them.

        Raises:
            PredictionsError: the predictions are missing, and with them what is known of that.
        """
        folder = self.folder / "predictions" / predictions
        read_meta(folder)
        return frozenset(read_lines(folder / "fitted_on.txt"))

    def check(self, corpus: Corpus, config: BackboneConfig) -> None:
        """Refuse a start that has met what networks of a cross-fitted corpus hold out.

        Raises:
            ConfigError: it was trained on another corpus or by another protocol, with other folds,
                or met a fold that it is said to leave out; or the network stays frozen, whose
                features all networks share.
            PredictionsError: predictions that tell what it met are missing.
        """
        if not corpus.crossfit:
            self.met("test")  # must be there at the end
            return
        if self.corpus != corpus.fingerprint or not self.n_folds:
            command = as_typed("train-backbone --category global --preset finetune")
            raise ConfigError(
                f"weights: {self.folder} was not cross-fitted on {corpus.name} as it is prepared,"
                " so its networks may have met what is held out; start from one that was:"
                f" {command}"
            )
        if self.n_folds != corpus.n_folds or self.n_networks % self.n_folds:
            raise ConfigError(
                f"weights: {self.folder} has {self.n_networks} networks for {self.n_folds} folds,"
                f" {corpus.name} has {corpus.n_folds} folds; start from a detector of as many"
            )
        if config.regime == "frozen":
            raise ConfigError(
                f"weights: {self.folder} has learnt from images that the networks hold out, which"
                " all share the features of one frozen network; start from other weights, or take"
                " the regime last or full"
            )
        for fold in range(corpus.n_folds):
            name = fold_name(LABELLED, fold, n_parts=corpus.n_folds)
            held_out = corpus.table.take(corpus.table.folds == fold).image_ids
            met = self.met(name)
            if seen := [image_id for image_id in held_out if image_id in met]:
                raise ConfigError(
                    f"weights: {self.folder}: what predicts {name} has met {len(seen)} images of"
                    f" fold {fold + 1}: {first_few(seen)}; start from other weights"
                )
