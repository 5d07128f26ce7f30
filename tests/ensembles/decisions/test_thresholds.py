import json

import numpy as np
import pytest

from core.errors import ConfigError, LabelSpaceError
from core.labels import LabelSpace
from ensembles.decisions.thresholds import Thresholds
from ensembles.pairs import Pairs
from ensembles.solvers.line_search import NEVER

LABELS = LabelSpace(("C1", "C2", "C3"))
THRESHOLDS = Thresholds(
    global_=0.3,
    by_category={"DRCT": 0.1},
    by_concept={"C3": float(np.float32(0.7)), "C1": NEVER},
    scores={"global": 0.5},
)


def test_the_concept_s_own_threshold_comes_before_the_category_s_and_the_global_one() -> None:
    probs = np.array([[0.9, 0.2, 0.6], [0.9, 0.2, 0.8]], dtype=np.float32)
    pairs = Pairs.of(probs, LABELS.encode([("C1",), ("C2",)]))
    decided = THRESHOLDS.decided(pairs, categories=["DRCT", "DRXR"], labels=LABELS)
    # CT: C1 never, C2 from .1, C3 from .7; X-ray: C1 never, C2 from .3, C3 from .7
    assert decided.reshape(2, 3).tolist() == [[False, True, False], [False, False, True]]


def test_images_of_other_categories_take_the_global_threshold() -> None:
    values = THRESHOLDS.of_images(["DRCT", "", "DRXR"])
    assert values.tolist() == pytest.approx([0.1, 0.3, 0.3])


def test_concepts_without_their_own_threshold_have_none() -> None:
    values = THRESHOLDS.of_concepts(LABELS)
    assert values[[0, 2]].tolist() == pytest.approx([NEVER, 0.7])
    assert np.isnan(values[1])


def test_a_concept_of_another_label_space_is_refused() -> None:
    with pytest.raises(LabelSpaceError, match="1 of 2 concepts are not in the label space"):
        THRESHOLDS.of_concepts(LabelSpace(("C1", "C2")))


def test_the_level_is_the_finest_one_with_thresholds_of_its_own() -> None:
    assert Thresholds(global_=0.3).level == "global"
    assert Thresholds(global_=0.3, by_category={"DRCT": 0.2}).level == "category"
    assert THRESHOLDS.level == "concept"


def test_thresholds_survive_json_to_the_last_bit() -> None:
    again = Thresholds.from_json(json.loads(json.dumps(THRESHOLDS.to_json())))
    assert again == THRESHOLDS


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_a_threshold_that_takes_everything_is_refused(bad: float) -> None:
    with pytest.raises(ConfigError, match=r"must be above 0; not so: \['C2'\]"):
        Thresholds(global_=0.2, by_concept={"C2": bad})
