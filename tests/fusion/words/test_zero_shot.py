"""Names scored by a pair of towers that was trained for it, on images that it never met."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from core.errors import ConfigError, MissingStageError
from core.runs.external import resources_of_fused
from core.runs.fused import FusedSource, newest_fused_members
from core.runs.workspace import Corpus, Workspace
from fusion.config import FuseConfig
from fusion.fuse import fuse
from fusion.inputs.gather import FusionInputs, gather_inputs
from fusion.strategies import in_order, settings_of
from fusion.words.calibration import NamedTraining, NameScorer
from fusion.words.zero_shot import NamedByPair, _points, zero_shot
from tests.fusion.words.conftest import pixels
from training.texts.spaces import named

open_clip = pytest.importorskip("open_clip")

Prepared = tuple[Corpus, Workspace]

PLAIN = FuseConfig(prompts=("{}",))


@pytest.fixture(scope="module")
def fusion_inputs(with_features: Prepared, pair: Path) -> FusionInputs:
    """What a view of the corpus starts from, the pair's features among it."""
    corpus, workspace = with_features
    whole = gather_inputs(corpus, workspace, embeddings=(f"open_clip:{pair}",), device="cpu")
    return whole.of_view(0, ())


def scores_of(pair: Path, corpus: Corpus, names: list[str]) -> npt.NDArray[np.float64]:
    """(N, L) scores of labelled images by open_clip alone."""
    model = open_clip.create_model(f"local-dir:{pair}").eval()
    table = corpus.table.take(corpus.table.labelled)
    tokens = open_clip.get_tokenizer(f"local-dir:{pair}")(names)
    with torch.no_grad():
        logits, _ = model.get_logits(pixels(table.paths), tokens)
    found: npt.NDArray[np.float64] = logits.double().numpy()
    return found


def recall_at(scores: npt.NDArray[np.floating], truth: npt.NDArray[np.bool_], *, k: int) -> float:
    """Share of the true pairs that are among the k concepts of their image that score best."""
    best = np.argsort(-scores, axis=1)[:, :k]
    return float(np.take_along_axis(truth, best, axis=1).sum() / truth.sum())


def test_names_are_told_on_images_that_the_pair_never_met(pair: Path, met_never: Prepared) -> None:
    corpus, _ = met_never
    scores = scores_of(pair, corpus, named(corpus))
    table = corpus.table.take(corpus.table.labelled)
    truth = table.targets(corpus.labels).matrix.toarray()
    chance = 10 / len(corpus.labels)
    assert recall_at(scores, truth, k=10) > 2.5 * chance
    rng = np.random.default_rng(0)
    exchanged = [
        recall_at(scores[:, rng.permutation(scores.shape[1])], truth, k=10) for _ in range(50)
    ]
    assert abs(np.mean(exchanged) - chance) < 0.25 * chance
    assert recall_at(scores, truth, k=10) > max(exchanged)


def test_scores_are_open_clips_before_they_are_calibrated(
    pair: Path, fusion_inputs: FusionInputs
) -> None:
    """A calibration that multiplies by 1 and adds nothing leaves the pair's own logits."""
    corpus = fusion_inputs.corpus
    images = NamedTraining("zero-shot", fusion_inputs, config=PLAIN, network=NamedByPair)
    points = _points(fusion_inputs, images.names, ("{}",))
    table = corpus.table.take(corpus.table.labelled)
    found = images.seen()[fusion_inputs.rows(table)] @ points.points.T * points.scale
    expected = scores_of(pair, corpus, named(corpus))
    # What is left are pixels: the cache scales images in another library.
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999
    assert abs(found - expected).max() < 0.02 * np.ptp(expected)


def exchanged(fusion_inputs: FusionInputs, *, seed: int) -> FusionInputs:
    """The same with the names of concepts exchanged."""
    corpus, rng = fusion_inputs.corpus, np.random.default_rng(seed)
    cuis = corpus.labels.cuis
    others = [cuis[k] for k in rng.permutation(len(cuis))]
    names = {cui: corpus.names[other] for cui, other in zip(cuis, others, strict=True)}
    return replace(fusion_inputs, corpus=replace(corpus, names=names))


def found_at_5(fusion_inputs: FusionInputs) -> float:
    """Recall of the member among the first five of valid images."""
    corpus = fusion_inputs.corpus
    probs = zero_shot(fusion_inputs, PLAIN, earlier={}).predictions["valid"].probs
    truth = corpus.images("valid").targets(corpus.labels).matrix.toarray()
    return recall_at(probs, truth, k=5)


def test_the_member_is_calibrated_and_out_of_sample(fusion_inputs: FusionInputs) -> None:
    fused = zero_shot(fusion_inputs, FuseConfig(), earlier={})
    assert set(fused.predictions) == set(fused.without_category) == {"valid", "test"}
    valid = fused.predictions["valid"]
    assert valid.out_of_sample
    assert valid.fitted_on == frozenset(fusion_inputs.training_images().image_ids)
    truth = fusion_inputs.corpus.images("valid").targets(fusion_inputs.corpus.labels).matrix
    assert valid.probs.sum() == pytest.approx(truth.sum(), rel=0.25)  # as sure as it is right
    again = zero_shot(fusion_inputs, FuseConfig(), earlier={})
    np.testing.assert_array_equal(again.predictions["valid"].probs, valid.probs)


def hidden_from_training(corpus: Corpus, cuis: list[str]) -> Corpus:
    """The corpus without these concepts on its training images."""
    table = corpus.table
    concepts = tuple(
        own if own is None or split != "train" else tuple(c for c in own if c not in cuis)
        for own, split in zip(table.concepts, table.splits, strict=True)
    )
    return replace(corpus, table=replace(table, concepts=concepts))


def test_concepts_without_training_images_are_ranked_by_their_names(
    fusion_inputs: FusionInputs,
) -> None:
    """A sixth of the concepts at a time is hidden, and ranked on the images that have some."""
    corpus = fusion_inputs.corpus
    train = fusion_inputs.training_images().targets(corpus.labels).matrix
    by_frequency = np.argsort(-np.asarray(train.sum(axis=0)).ravel())
    truth = corpus.images("valid").targets(corpus.labels).matrix.toarray()
    found, chance = [], []
    for start in range(6):
        columns = by_frequency[start::6]
        without = hidden_from_training(corpus, [corpus.labels.cuis[c] for c in columns])
        fused = zero_shot(replace(fusion_inputs, corpus=without), PLAIN, earlier={})
        probs = fused.predictions["valid"].probs[:, columns]
        assert probs.min() > 0
        assert probs.max() < 0.9  # none is made sure of
        some = truth[:, columns].any(axis=1)
        found.append(recall_at(probs[some], truth[some][:, columns], k=3))
        chance.append(3 / len(columns))
    assert np.mean(found) > 1.4 * np.mean(chance)


def test_exchanged_names_are_worth_less(fusion_inputs: FusionInputs) -> None:
    own = found_at_5(fusion_inputs)
    others = [found_at_5(exchanged(fusion_inputs, seed=seed)) for seed in range(3)]
    assert own > max(others)


def test_scores_that_say_nothing_leave_what_the_category_says(fusion_inputs: FusionInputs) -> None:
    """Where embeddings are noise, all that is left is how often a concept is in the category."""
    inputs = fusion_inputs.network_inputs
    torch.manual_seed(0)
    noise = replace(inputs, features=torch.randn_like(inputs.features))
    blind = replace(fusion_inputs, network_inputs=noise)
    images = NamedTraining("zero-shot", blind, config=PLAIN, network=NamedByPair)
    weights = np.eye(inputs.features.shape[1])[:, : len(images.names)]
    if weights.shape[1] < len(images.names):
        more = np.random.default_rng(0).normal(size=(len(weights), len(images.names)))
        weights = more / np.linalg.norm(more, axis=0)
    scorer = NameScorer(components=images.seen()[images.rows], weights=lambda chosen: weights)
    model = images.taught(scorer)
    rows = torch.from_numpy(blind.rows(blind.corpus.images("valid")))
    with torch.inference_mode():
        odds = model.odds(noise.category[rows])
        logits = model(noise.features[rows], noise.category[rows], noise.metadata[rows])
    assert float(model.slope) > 0.5
    assert np.corrcoef(odds.numpy().ravel(), logits.numpy().ravel())[0, 1] > 0.95


def test_fuse_takes_the_pairs_features_for_it_and_the_newest_for_others(
    with_features: Prepared, pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, home = with_features
    workspace = Workspace(Path(shutil.copytree(home.root, tmp_path / "runs")))
    config = FuseConfig(
        strategies=("retrieval", "zero-shot"), contrastive=f"open_clip:{pair}", k=(5,)
    )
    runs = fuse(corpus, workspace, config=config, preset="quick", device="cpu")
    assert [run.strategy for run in runs] == ["zero-shot", "retrieval"]
    assert "may have met images of the task" in capsys.readouterr().err
    by_name = {run.strategy: FusedSource.read(run.folder) for run in runs}
    assert by_name["zero-shot"].meta["embeddings"][0].startswith("tiny-")
    assert by_name["retrieval"].meta["embeddings"][0].startswith("test_efficientnet-")
    labelled = by_name["zero-shot"].predictions("labelled")
    assert labelled.out_of_sample
    (resource,) = resources_of_fused(by_name["zero-shot"].meta, corpus, workspace=workspace)
    assert (resource.encoder, resource.source, resource.licence) == (
        "open_clip:local-dir:tiny", "tiny", "mit",
    )  # fmt: skip
    # Named by the features that it was made of, however they were told.
    by_encoder = replace(
        config, strategies=("zero-shot",), contrastive="", embeddings=(f"open_clip:{pair}",)
    )
    (again,) = fuse(corpus, workspace, config=by_encoder, preset="quick", device="cpu")
    assert again.folder == next(run.folder for run in runs if run.strategy == "zero-shot")
    assert set(newest_fused_members(workspace, corpus.fingerprint)) == {"zero-shot", "retrieval"}


def test_features_of_no_pair_are_refused_with_what_to_run(
    with_features: Prepared, pair: Path, tmp_path: Path
) -> None:
    corpus, workspace = with_features
    other = FuseConfig(strategies=("zero-shot",), contrastive="open_clip:ViT-B-32/openai")
    command = (
        r"run `python cli.py train-backbone --category global --preset quick --backbone"
        r" open_clip:ViT-B-32/openai -w .*` first"
    )
    with pytest.raises(MissingStageError, match=f"contrastive: no pooled features of .*{command}"):
        fuse(corpus, workspace, config=other, preset="quick", device="cpu")
    bare = replace(other, contrastive="ViT-B-32/openai")  # trained so, it would be no pair
    with pytest.raises(MissingStageError, match="pooled features ViT-B-32/openai not found"):
        fuse(corpus, workspace, config=bare, preset="quick", device="cpu")
    unnamed = FuseConfig(strategies=("zero-shot",))
    with pytest.raises(ConfigError, match="are of test_efficientnet, which reads no texts"):
        fuse(corpus, workspace, config=unnamed, preset="quick", device="cpu")
    both = replace(unnamed, embeddings=(f"open_clip:{pair}", "test_efficientnet"))
    with pytest.raises(ConfigError, match="zero-shot: takes one image embedding, found features"):
        fuse(corpus, workspace, config=both, preset="quick", device="cpu")


def test_all_strategies_are_all_that_take_no_further_weights() -> None:
    assert "zero-shot" not in in_order(("all",))
    assert "zero-shot" in in_order(("all", "zero-shot"))


def test_a_run_is_named_by_prompts_and_not_by_how_the_pair_was_told() -> None:
    one = settings_of("zero-shot", FuseConfig(contrastive="open_clip:here", batch_size=7))
    assert one == settings_of("zero-shot", FuseConfig(contrastive="open_clip:there"))
    assert one != settings_of("zero-shot", FuseConfig(prompts=("{} on a scan",)))


@pytest.mark.parametrize("prompts", [(), ("a scan",), ("{} and {}",)])
def test_prompts_without_a_place_for_the_name_are_refused(prompts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"prompts: expected sentences, each with \{\} where"):
        FuseConfig(prompts=prompts)
