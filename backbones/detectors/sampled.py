"""Which of its training images a network learns from, where they are chosen.

The choice is made among the images that the network would learn from: none of those that it holds
out or stops on has a say in it, by label or by feature. It is kept with the network, so that a
training that was interrupted resumes with the same images.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from backbones.detectors.inputs import TrainingInputs
from backbones.detectors.plan import DetectorPlan
from core.errors import PredictionsError
from core.progress import say
from core.storage.drafts import draft_file
from core.storage.tables import read_rows, write_rows
from corpus.sampling.candidates import CandidateImages
from corpus.sampling.choose import Choice, choose
from corpus.sampling.counts import choice_rows
from training.members import Mask, MemberPlan

SAMPLE = "sample.csv"
"""What was kept and left out, a row an image; of a detector a row a network and image."""


def learnt_by(plan: DetectorPlan, member: MemberPlan, *, inputs: TrainingInputs) -> Mask:
    """(n,) the images of a plan that a network learns from.

    Where images are chosen, `sample.csv` in the network's folder says which; one that is there is
    taken as it is.
    """
    config = plan.config.sampled
    if config.keeps_all:
        return member.learnt
    world = inputs.compute.world
    path = plan.member_home(member) / SAMPLE
    is_there = world.everyone(path.is_file())[0]
    if not is_there:
        features = inputs.pooled() if config.needs_features else None  # by all processes together
        table = plan.table.take(member.learnt)
        values = None if features is None else features.rows(table.image_ids).values
        candidates = CandidateImages.of(table, plan.labels, features=values)
        world.in_turn(partial(_make, path, plan, member, candidates))
    return _read(path, plan)


def _make(path: Path, plan: DetectorPlan, member: MemberPlan, candidates: CandidateImages) -> None:
    """Choose and write; what another process wrote meanwhile is left."""
    if path.is_file():
        return
    choice = choose(candidates, plan.config.sampled, seed=member.seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with draft_file(path) as draft:
        write_rows(draft, choice_rows(candidates, choice))
    say(_told(plan, member, choice))


def _told(plan: DetectorPlan, member: MemberPlan, choice: Choice) -> str:
    n, kept, rare = len(choice.kept), int(choice.kept.sum()), int(choice.protected.sum())
    more = ", more than asked for" if kept > np.ceil(plan.config.keep * n) else ""
    return (
        f"{plan.category}, network {member.number + 1}: {kept:,} of {n:,} images kept by"
        f" {plan.config.sample}, {rare:,} of them for rare concepts{more}"
    )


def _read(path: Path, plan: DetectorPlan) -> Mask:
    kept = np.zeros(len(plan.table), dtype=np.bool_)
    for image_id, _, state, *_ in read_rows(path)[1:]:
        if image_id not in plan.table.row_of:
            raise PredictionsError(f"{path}: {image_id} is no training image of this detector")
        kept[plan.table.row_of[image_id]] = state == "kept"
    return kept


def join_samples(path: Path, folders: Sequence[Path]) -> None:
    """Write what the networks in these folders kept into one table."""
    tables = [read_rows(folder / SAMPLE) for folder in folders]
    rows = [["network", *tables[0][0]]]
    for number, table in enumerate(tables):
        rows += [[str(number), *row] for row in table[1:]]
    write_rows(path, rows)


def n_sampled(plan: DetectorPlan) -> list[int]:
    """Images that each network kept, where they were chosen."""
    if plan.config.sampled.keeps_all:
        return []
    folders = [plan.member_home(member) for member in plan.members]
    return [sum(row[2] == "kept" for row in read_rows(f / SAMPLE)[1:]) for f in folders]
