from pathlib import Path

import numpy as np
import pytest

from core.errors import AlignmentError, PredictionsError
from ensembles.stacking.candidates import Candidates
from ensembles.stacking.stacker import check_features, check_targets, read_header


def candidates(features: list[list[float]], names: tuple[str, ...]) -> Candidates:
    n = len(features)
    return Candidates(
        rows=np.arange(n, dtype=np.int32),
        columns=np.zeros(n, dtype=np.int32),
        shape=(n, 1),
        features=np.array(features, dtype=np.float32),
        feature_names=names,
    )


def test_targets_of_one_kind_are_refused() -> None:
    pairs = candidates([[1], [2]], ("mean logit",))
    with pytest.raises(
        PredictionsError,
        match="0 of 2 candidate pairs are true; it takes concepts that some images have",
    ):
        check_targets(pairs, np.zeros(2, dtype=np.bool_))
    with pytest.raises(PredictionsError, match="2 of 2 candidate pairs are true"):
        check_targets(pairs, np.ones(2, dtype=np.bool_))


def test_other_features_than_those_of_the_fit_are_refused() -> None:
    pairs = candidates([[1, 2]], ("logit a", "mean logit"))
    check_features(pairs, ("logit a", "mean logit"))
    with pytest.raises(AlignmentError, match=r"on 1 features, these are 2; different: \['logit a"):
        check_features(pairs, ("mean logit",))
    with pytest.raises(AlignmentError, match=r"different: \['logit a', 'mean logit'\]"):
        check_features(pairs, ("mean logit", "logit a"))


@pytest.mark.parametrize(
    ("text", "message"), [(None, "no such file"), ("{", "not JSON"), ("[1]", "found list")]
)
def test_a_folder_without_a_stacker_is_refused(
    text: str | None, message: str, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "stacker.json").write_text(text, encoding="utf-8")
    with pytest.raises(PredictionsError, match=rf"stacker\.json: .*{message}"):
        read_header(tmp_path)
