"""What each member is worth."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.runs.ensemble import read_steps, write_steps
from core.runs.workspace import Corpus, Workspace
from ensembles.config import EnsembleConfig
from ensembles.leave_out import judge, leave_one_out
from ensembles.members import gather
from ensembles.second_stage import fit_second_stage

SaveRun = Callable[..., Path]

CONFIG = EnsembleConfig(stackers=("mean", "logistic"))


def test_the_member_that_knows_is_worth_most_and_the_score_is_that_of_the_others(
    generated: Corpus, workspace: Workspace, fused: SaveRun, tmp_path: Path
) -> None:
    fused("one-hot", noise=0.8)
    fused("retrieval", noise=4.0)
    valid = generated.table.of(split="valid")
    members = gather(generated, workspace)
    fitted = fit_second_stage(generated, members, valid, CONFIG, empty_truth="left out")
    steps = leave_one_out(generated, members, valid, CONFIG, fitted, empty_truth="left out")
    gains = {step.name: step.gain for step in steps if step.gain is not None}
    assert list(gains) == ["prior", "one-hot", "retrieval"]
    assert gains["one-hot"].low > 0.1
    assert gains["one-hot"].low > gains["retrieval"].value
    name = judge(fitted)
    assert name in CONFIG.stackers
    without = [member for member in members if member.name != "one-hot"]
    alone = fit_second_stage(generated, without, valid, CONFIG, empty_truth="left out")
    whole, part = (
        next(rung.mean for rung in stage.tried if rung.name == name) for stage in (fitted, alone)
    )
    assert steps[1].f1.value == pytest.approx(part)
    assert gains["one-hot"].value == pytest.approx(whole - part)
    write_steps(tmp_path / "members.csv", steps)
    assert read_steps(tmp_path / "members.csv") == steps
    quiet = replace(CONFIG, leave_one_out=False)
    assert not leave_one_out(generated, members, valid, quiet, fitted, empty_truth="left out")


def test_the_kept_stacker_judges_if_it_is_quick_and_else_the_best_quick_one(
    generated: Corpus, workspace: Workspace, fused: SaveRun
) -> None:
    fused("one-hot")
    valid = generated.table.of(split="valid")
    members = gather(generated, workspace)
    fitted = fit_second_stage(generated, members, valid, CONFIG, empty_truth="left out")
    assert judge(replace(fitted, stacker_name="logistic")) == "logistic"
    better = replace(fitted.tried[-1], image_f1=np.ones(len(valid)))  # of "logistic"
    tried = [*fitted.tried[:-1], better]
    assert judge(replace(fitted, stacker_name="lightgbm", tried=tried)) == "logistic"
    assert judge(replace(fitted, stacker_name="prior", tried=fitted.tried[:1])) is None
