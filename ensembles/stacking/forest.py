"""The stacker of boosted trees, over the pairs of all concepts."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from core.errors import ConfigError, PredictionsError
from core.storage.folders import write_json
from ensembles.compiled import in_blocks
from ensembles.pairs import Bools, Floats
from ensembles.solvers.features import FeatureRows
from ensembles.stacking.candidates import Candidates
from ensembles.stacking.stacker import FILE, check_features, check_targets, read_header


class LightGBMStacker:
    """One boosted forest for the pairs of all concepts; it corrects the mean of the log odds.

    Starting from the mean and holding back pays where images are few: on 1,015 images and six
    similar detectors (43,000 pairs, few of them independent), averaged over four ways to fold, the
    cross-fitted sample F1 at one threshold is 0.8016 with these settings, 0.7986 with 250 rounds of
    15 leaves that start from nothing, and 0.8009 for the plain mean. Ten times the images carry
    more rounds and leaves: see `large`.

    Args:
        n_rounds, learning_rate, num_leaves, min_data_in_leaf, feature_fraction, bagging_fraction,
            lambda_l2: LightGBM's settings of these names.
        seed: of the drawn features and rows.
        n_threads: threads; the result is the same with any number. One by default: OpenMP's threads
            wait for each other by spinning, and forests this small took twenty times as long on two
            cores that others use as well.
        max_pairs: the most pairs that it is grown on; of more, as many are drawn. Of 860,000
            pairs of simulated members, 300,000 change the sample F1 by -0.0001 +- 0.0002, 200,000
            by -0.0008 +- 0.0002; all of them take more than twice the time.
    """

    def __init__(
        self,
        *,
        n_rounds: int = 60,
        learning_rate: float = 0.05,
        num_leaves: int = 7,
        min_data_in_leaf: int = 200,
        feature_fraction: float = 0.7,
        bagging_fraction: float = 0.8,
        lambda_l2: float = 10.0,
        seed: int = 0,
        n_threads: int = 1,
        max_pairs: int = 300_000,
    ) -> None:
        self.n_rounds = n_rounds
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_data_in_leaf = min_data_in_leaf
        self.feature_fraction = feature_fraction
        self.bagging_fraction = bagging_fraction
        self.lambda_l2 = lambda_l2
        self.seed = seed
        self.n_threads = n_threads
        self.max_pairs = max_pairs

    @classmethod
    def large(cls) -> "LightGBMStacker":
        """More rounds and leaves, for a million pairs; a minute or two a fold."""
        return cls(n_rounds=200, num_leaves=31, min_data_in_leaf=100, max_pairs=1_000_000)

    def fit(self, candidates: Candidates, targets: Bools) -> "LightGBMStacker":
        """Grow the forest.

        Raises:
            PredictionsError: none of the pairs is true, or all are.
        """
        check_targets(candidates, targets)
        self.booster_: Any = grow(
            candidates,
            targets,
            start=candidates.feature("mean logit").astype(np.float64),
            chosen=self._drawn(len(candidates)),
            n_rounds=self.n_rounds,
            learning_rate=self.learning_rate,
            num_leaves=self.num_leaves,
            min_data_in_leaf=self.min_data_in_leaf,
            feature_fraction=self.feature_fraction,
            bagging_fraction=self.bagging_fraction,
            bagging_freq=1,
            lambda_l2=self.lambda_l2,
            seed=self.seed,
            num_threads=self.n_threads,
        )
        self.feature_names_ = candidates.feature_names
        return self

    def _drawn(self, n: int) -> npt.NDArray[np.integer]:
        """The pairs to grow on, in their order."""
        if n <= self.max_pairs:
            return np.arange(n)
        drawn = np.random.default_rng(self.seed).choice(n, self.max_pairs, replace=False)
        return np.sort(drawn)

    def predict(self, candidates: Candidates) -> Floats:
        """(n,) probability of each pair.

        Raises:
            AlignmentError: the features are not those of the fit.
        """
        check_features(candidates, self.feature_names_)
        added = raw_scores(self.booster_, candidates.features)
        return np.asarray(expit(candidates.feature("mean logit") + added), dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write the forest as LightGBM's text."""
        (folder / _FOREST).write_text(self.booster_.model_to_string(), encoding="utf-8")
        header = {"stacker": "lightgbm", "feature_names": self.feature_names_}
        write_json(folder / FILE, header)

    @classmethod
    def load(cls, folder: Path) -> "LightGBMStacker":
        """The stacker that `save` wrote, to predict with."""
        stacker = cls()
        stacker.feature_names_ = tuple(read_header(folder)["feature_names"])
        stacker.booster_ = load_forest(folder / _FOREST)
        return stacker


_FOREST = "lightgbm.txt"


def grow(
    candidates: Candidates,
    targets: Bools,
    *,
    start: npt.NDArray[np.float64],
    chosen: npt.NDArray[np.integer],
    n_rounds: int,
    **settings: float,
) -> Any:
    """A booster of some of the pairs, bit-equal in every run and with any number of threads.

    Args:
        start: (n,) log odds that the trees correct.
        chosen: numbers of the pairs.
        settings: LightGBM's.
    """
    fixed = {
        "objective": "binary",
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    lightgbm = import_lightgbm()
    data = lightgbm.Dataset(
        candidates.features[chosen],
        targets[chosen].astype(np.float32),
        init_score=start[chosen],
        params=fixed | settings,
    )
    return lightgbm.train(fixed | settings, data, num_boost_round=n_rounds)


def raw_scores(booster: Any, features: FeatureRows) -> npt.NDArray[np.float64]:
    """(n,) what the trees add, on all cores: one thread of LightGBM's a block of pairs."""
    added = np.zeros(len(features))

    def work(first: int, last: int) -> None:
        for start in range(first, last, _BLOCK):
            here = slice(start, min(start + _BLOCK, last))
            added[here] = booster.predict(features[here], raw_score=True, num_threads=1)

    in_blocks(len(features), work)
    return added


_BLOCK = 65_536


def load_forest(path: Path) -> Any:
    """The booster of a file.

    Raises:
        PredictionsError: it is missing or broken.
    """
    lightgbm = import_lightgbm()
    try:
        return lightgbm.Booster(model_file=str(path))
    except lightgbm.basic.LightGBMError as error:
        raise PredictionsError(f"{path}: not a forest ({error})") from None


def import_lightgbm() -> Any:
    """The package, which only forests need.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import lightgbm
    except ModuleNotFoundError:
        raise ConfigError(
            "stackers: lightgbm needs the package lightgbm, which is not installed; install it, or"
            " leave the forests out with --set stackers=mean,logistic"
        ) from None
    return lightgbm
