"""Units on a real Ray cluster on this machine: the same bytes as here, also when a node is lost."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backbones.detectors.ray import Cluster
from core.errors import ConfigError, MissingStageError
from core.runs.workspace import Workspace
from inference.archive.ray import UnitJob, run_unit
from inference.archive.work import UnitWork
from inference.images import NewImage
from inference.place import EnsemblePlace
from tests.conftest import once
from tests.inference.archive.test_archives import names_in, skipped_of, units_in
from tests.inference.conftest import Predict

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'radfuse[cluster]'")
cluster_utils = pytest.importorskip("ray.cluster_utils")

SMALL = 80 * 2**20  # bytes; Ray's least is 75 MiB


@pytest.fixture
def two_nodes() -> Iterator[Any]:
    """A cluster of a head that takes no units and two nodes with a core each."""
    head = {"num_cpus": 0, "object_store_memory": SMALL, "include_dashboard": False}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=SMALL)
        yield cluster
    finally:
        cluster.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(600)  # on a busy machine the workers alone take minutes to start
def test_a_node_that_is_lost_changes_no_byte(
    undisturbed: Path, predict: Predict, two_nodes: Any, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "decided.csv"
    node, *_ = two_nodes.worker_nodes
    killer = once(
        lambda: len(units_in(out)) >= 2,
        lambda: two_nodes.remove_node(node, allow_graceful=False),
        patience_s=300,
    )
    assert predict(out, cluster=Cluster(address=two_nodes.address))
    killer.join()
    assert out.read_bytes() == undisturbed.read_bytes()
    assert skipped_of(out).read_bytes() == skipped_of(undisturbed).read_bytes()
    assert names_in(tmp_path) == {"decided.csv", "decided.csv.skipped.csv"}
    assert "lost with its process or node" in capsys.readouterr().err


def test_ray_needs_a_file(predict: Predict) -> None:
    with pytest.raises(ConfigError, match="name a file with --out"):
        predict(None, cluster=Cluster())


def test_a_machine_that_sees_other_things_does_nothing(whole: Workspace, tmp_path: Path) -> None:
    place = EnsemblePlace(workspace=whole.root)
    image = NewImage(image_id="a", path=tmp_path / "a.png")
    job = UnitJob(
        place=place, identity="another", device="cpu", threads=1,
        work=UnitWork(form="csv", top=0), number=0, images=(image,), seen=str(image.path),
    )  # fmt: skip
    with pytest.raises(MissingStageError, match="another ensemble is seen from"):
        run_unit(job)
    with pytest.raises(MissingStageError, match=r"a.png: not seen from .*; the images must lie"):
        run_unit(replace(job, identity=place.identity()))
