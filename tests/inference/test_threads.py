"""Forests of LightGBM and networks of torch in one process, asked from many threads."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from core.errors import ConfigError
from core.runs.workspace import Corpus, Workspace
from ensembles.config import EnsembleConfig
from ensembles.ensemble import ensemble
from ensembles.stacking.candidates import Candidates
from ensembles.stacking.forest import LightGBMStacker
from ensembles.stacking.stacker import Stacker
from inference.images import NewImage
from inference.loaded.ensemble import Decisions, LoadedEnsemble
from inference.loaded.workspace import read_ensemble
from inference.stream import decoded, new_block
from inference.threads import in_turn, use_threads
from tests.inference.conftest import test_images


@pytest.fixture(scope="module")
def images(crossfitted: Corpus) -> list[NewImage]:
    """All images of the corpus: enough pairs for more than one thread."""
    table = crossfitted.table
    rows = zip(table.image_ids, table.paths, table.categories, strict=True)
    return [NewImage(image_id=i, path=Path(p), category=c, told_by="folder") for i, p, c in rows]


class Remembering:
    """A stacker that keeps the pairs that it was asked about."""

    def __init__(self, stacker: Stacker) -> None:
        self.stacker = stacker
        self.asked: list[Candidates] = []

    def predict(self, candidates: Candidates) -> npt.NDArray[np.float32]:
        self.asked.append(candidates)
        return self.stacker.predict(candidates)


@pytest.fixture(scope="module")
def planted(whole: Workspace, images: list[NewImage]) -> LoadedEnsemble:
    """The small ensemble with a forest, which would not pay there, as its stacker."""
    loaded = read_ensemble(whole)
    keeping = Remembering(loaded.stacker)
    decisions(replace(loaded, stacker=keeping), images)  # type: ignore[arg-type]
    (pairs,) = keeping.asked
    targets = np.random.default_rng(0).random(len(pairs)) < 0.4
    forest = LightGBMStacker(min_data_in_leaf=2).fit(pairs, targets)
    return replace(loaded, stacker=forest)


def decisions(loaded: LoadedEnsemble, images: list[NewImage]) -> Decisions:
    pixels = [decoded(loaded, image) for image in images]
    return loaded.decide(new_block(loaded, images, pixels=pixels))


def same(one: Decisions, other: Decisions) -> bool:
    """To the bit."""
    pairs = (
        (one.probs, other.probs),
        (one.calibrated, other.calibrated),
        (one.decided.toarray(), other.decided.toarray()),
    )
    return all(np.array_equal(a, b) for a, b in pairs)


def test_many_threads_say_what_one_says(planted: LoadedEnsemble, images: list[NewImage]) -> None:
    alone = decisions(planted, images)
    n_torch = torch.get_num_threads()
    cpu = time.process_time()
    for _ in range(4):
        assert same(decisions(planted, images), alone)
    cpu_alone = (time.process_time() - cpu) / 4
    cpu = time.process_time()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: decisions(planted, images), range(16)))
    cpu_together = (time.process_time() - cpu) / 16
    assert all(same(one, alone) for one in found)
    print(f"CPU seconds each: {cpu_alone:.3f} alone, {cpu_together:.3f} of 8 threads")
    assert cpu_together < 2 * cpu_alone
    assert torch.get_num_threads() == n_torch


def test_an_ensemble_made_after_torch_and_before_is_the_same(
    whole: Workspace, crossfitted: Corpus, tmp_path: Path
) -> None:
    """`predict`, then `ensemble` with all its stackers, then `predict` in one process."""
    home = tmp_path / "runs"
    shutil.copytree(whole.root, home)
    workspace, config = Workspace(home), EnsembleConfig(leave_one_out=False)
    some = test_images(crossfitted)
    decisions(read_ensemble(workspace), some)
    said = []
    for _ in range(2):
        shutil.rmtree(workspace.ensembles)
        ensemble(crossfitted, workspace, config=config, submit=True)
        said.append(decisions(read_ensemble(workspace), some))
    assert same(*said)


def test_one_computes_at_a_time() -> None:
    inside: list[str] = []

    @in_turn
    def work(name: str) -> str:
        inside.append(name)
        assert inside == [name]
        time.sleep(0.002)
        if len(name) < 3:
            assert again() == 1  # the same thread may go further in
        inside.remove(name)
        return name

    @in_turn
    def again() -> int:
        return len(inside)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, map(str, range(40)))) == list(map(str, range(40)))


def test_a_failure_gives_the_turn_away() -> None:
    @in_turn
    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    done: list[int] = []

    @in_turn
    def work() -> None:
        done.append(1)

    other = threading.Thread(target=work)
    other.start()
    other.join(10)
    assert done == [1]


def test_a_number_of_threads_holds_for_every_library() -> None:
    before = torch.get_num_threads()
    use_threads(0)
    assert torch.get_num_threads() == before
    use_threads(1)
    assert torch.get_num_threads() == 1
    with pytest.raises(ConfigError, match="--threads -1: expected 1 or more"):
        use_threads(-1)
