"""Heat maps as the pages ask for them, of a detector that was trained."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from backbones.settings.config import BackboneConfig
from backbones.train import train_backbones
from browser.library import Library
from browser.pages.app import new_app
from browser.state import State
from core.runs.workspace import Corpus
from tests.conftest import save_prepared
from training.devices.compute import Compute

TINY = BackboneConfig(
    backbone="test_resnet", weights="none", image_sizes=(64,), probe=False, hidden=(), epochs=1,
    batch_size=16, n_members=1,
)  # fmt: skip


@pytest.fixture
def state(crossfitted: Corpus, tmp_path: Path) -> State:
    torch.set_num_threads(1)
    workspace = save_prepared(crossfitted, tmp_path / "runs")
    train_backbones(
        crossfitted, workspace, names=["global"], config=TINY, preset="tiny", compute=Compute()
    )
    return State(library=Library.open(workspace))


def test_a_map_is_a_layer_with_its_probability_or_a_line_where_no_place_speaks(
    state: State,
) -> None:
    pages = TestClient(new_app(state))
    ids, mapper = state.library.image_ids, state._mapper
    n_shown = n_without = 0
    for row in range(0, len(ids), 4):
        found = mapper.maps_of(ids[row], concepts=mapper.labels.cuis)
        for cui, peak, prob in zip(found.concepts, found.peaks, found.probabilities, strict=True):
            answer = pages.get(f"/heat/{row}.png?cui={cui}")
            if peak:
                assert answer.status_code == 200
                assert float(answer.headers["x-probability"]) == pytest.approx(prob, abs=1e-4)
                assert np.asarray(Image.open(BytesIO(answer.content)))[..., 3].max() > 0
                n_shown += 1
            else:
                assert answer.status_code == 409
                name = state.library.name_of(cui)
                what = f"no place of this image speaks for {name}; the detector says {prob:.2f}"
                assert answer.text == f"heat map: {what}\n"
                n_without += 1
    assert n_shown
    assert n_without
