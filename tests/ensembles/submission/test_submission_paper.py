"""The five submitted runs as files."""

import numpy as np
import pytest

from core.errors import CorpusError
from core.predictions import Predictions
from core.runs.workspace import Corpus, Workspace
from core.storage.folders import write_json
from ensembles.submission.paper import check_truth, score_paper_runs, write_paper_runs


def save(workspace: Workspace, corpus: Corpus, number: int) -> None:
    """A network stopped on val1, sure of the first concept of the first test image alone."""
    test = corpus.images("test")
    probs = np.full((len(test), len(corpus.labels)), 0.1, dtype=np.float32)
    probs[:, 2] = 0.4
    probs[0, 0] = 0.9
    folder = workspace.reproduced / "small" / f"paper-{number:02d}-val1-00000001"
    Predictions(
        source="global",
        image_ids=test.image_ids,
        labels=corpus.labels,
        probs=probs,
        fitted_on=frozenset({"train_00"}),
    ).save(folder / "predictions" / "test")
    write_json(folder / "meta.json", {"corpus": corpus.fingerprint, "made": "2026-01"})


def test_a_run_is_decided_at_one_half_and_nomissing_fills_what_is_empty(
    corpus: Corpus, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    save(workspace, corpus, 9)
    files = write_paper_runs(corpus, workspace, scale="small")
    assert list(files) == ["vgg16-f1-bce-nomissing", "vgg16-f1-bce"]
    filled, plain = (path.read_text().splitlines() for path in files.values())
    first, third = corpus.labels.cuis[0], corpus.labels.cuis[2]
    assert plain == [f"test_00\t{first}", *(f"test_{n:02d}\t" for n in range(1, 8))]
    assert filled == [f"test_00\t{first}", *(f"test_{n:02d}\t{third}" for n in range(1, 8))]
    said = capsys.readouterr().err
    assert "8 images, 0 without a concept" in said
    assert "8 images, 7 without a concept" in said


def test_runs_are_scored_where_the_truth_is_known(corpus: Corpus, workspace: Workspace) -> None:
    save(workspace, corpus, 5)
    files = write_paper_runs(corpus, workspace, scale="small")
    truth = workspace.root / "truth.txt"
    first = corpus.labels.cuis[0]
    truth.write_text("".join(f"test_{n:02d}\t{first}\n" for n in range(8)))
    scores = score_paper_runs(files, truth=truth, edition=2020)
    assert scores == {"resnet50": pytest.approx(1 / 8)}


def test_nothing_is_written_of_networks_that_are_not_trained(
    corpus: Corpus, workspace: Workspace
) -> None:
    assert write_paper_runs(corpus, workspace, scale="small") == {}


def test_a_truth_of_other_images_is_refused_beforehand(
    corpus: Corpus, workspace: Workspace
) -> None:
    workspace.root.mkdir(parents=True)
    truth = workspace.root / "truth.txt"
    truth.write_text("".join(f"test_{n:02d}\tC1\n" for n in range(8)))
    check_truth(corpus, truth)
    truth.write_text("test_00\tC1\nother\tC1\n")
    with pytest.raises(
        CorpusError, match=r"its 2 images are not the 8 test images of made: \['oth"
    ):
        check_truth(corpus, truth)
