from dataclasses import replace
from itertools import islice

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from core.categories import CATEGORIES
from core.labels import LabelSpace
from corpus.phantom.draw import draw
from corpus.phantom.patients import scenes
from corpus.phantom.scenes import Anatomy, Finding, Look, Scene
from corpus.phantom.views import VIEWS

ANATOMY = Anatomy(wide=0.5, tall=0.5, fat=0.4, age=0.5, seed=11)
LOOK = Look(
    shape=(200, 200),
    tilt=0.0,
    dx=0.0,
    dy=0.0,
    zoom=1.0,
    level=0.0,
    window=0.5,
    grain=0.3,
    colour=False,
    seed=5,
)
PAIRS = [(name, kind) for name, view in VIEWS.items() for kind in view.findings]


def bare(view: str, *, window: float = 0.5) -> Scene:
    """A healthy person, seen in the middle of the view's aspects."""
    width = round(200 * sum(VIEWS[view].aspect) / 2)
    look = replace(LOOK, shape=(200, width), window=window)
    return Scene(
        view=view,
        anatomy=ANATOMY,
        look=look,
        findings={},
        concepts=frozenset(VIEWS[view].lists),
    )


def with_finding(scene: Scene, kind: str) -> Scene:
    finding = Finding(kind=kind, side=1, size=0.5, u=0.5, v=0.5)
    return replace(scene, findings={kind: finding})


@pytest.mark.parametrize(("view", "kind"), PAIRS)
def test_a_finding_changes_what_is_seen(view: str, kind: str) -> None:
    # Soft tissue first, then lung: a finding may hide in one of the windows.
    # 0.2 % of 200 x 200 pixels are 80: a spot of 10 pixels across.
    assert any(changed(view, kind, window=window) > 0.002 for window in (0.2, 0.7))


def changed(view: str, kind: str, *, window: float) -> float:
    """The part of the pixels that a finding makes clearly brighter, darker or of other colour."""
    healthy = bare(view, window=window)
    before = draw(healthy).pixels.astype(np.int16)
    after = draw(with_finding(healthy, kind)).pixels.astype(np.int16)
    if after.ndim > before.ndim:
        before = np.repeat(before[..., None], 3, axis=2)
    return float((np.abs(after - before) > 20).mean())


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_neither_black_nor_white_and_is_as_large_as_asked(view: str) -> None:
    scene = bare(view)
    pixels = draw(scene).pixels
    assert pixels.dtype == np.uint8
    height, width = scene.look.shape
    # Panels of equal width may leave a pixel over.
    assert pixels.shape[0] == height
    assert abs(pixels.shape[1] - width) <= 1
    assert 10 < pixels.mean() < 245
    assert pixels.std() > 20


def test_colour_is_kept_and_grey_may_be_stored_as_rgb() -> None:
    grey = bare("ct head")
    assert draw(grey).pixels.ndim == 2
    stored = draw(replace(grey, look=replace(grey.look, colour=True))).pixels
    assert stored.shape[2] == 3
    assert np.array_equal(stored[..., 0], stored[..., 2])
    pet = draw(bare("pet on ct")).pixels
    assert not np.array_equal(pet[..., 0], pet[..., 2])


def test_a_picture_lists_the_concepts_of_its_scene_as_sorted_identifiers() -> None:
    # Brain, magnetic resonance imaging, head and axial.
    assert draw(bare("mr brain")).concepts == ("C0006104", "C0018670", "C0024485", "C0205131")


def thumbnails(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Brightness on a grid of 24 x 24, less its mean, and the spread of colour."""
    rgb = Image.fromarray(pixels).convert("RGB")
    small = np.asarray(rgb.resize((24, 24), Image.Resampling.BOX), dtype=np.float64) / 255
    grey = small.mean(axis=2)
    return np.concatenate([(grey - grey.mean()).ravel(), [10 * small.std(axis=2).mean()]])


def test_concepts_can_be_learned_from_the_pixels_beyond_the_category() -> None:
    drawn = [(person, draw(image)) for person, image in islice(scenes(0), 300)]
    train = np.array([person.split == "train" for person, _ in drawn])
    categories = np.array([CATEGORIES.index(person.category) for person, _ in drawn])
    labels = LabelSpace.of(picture.concepts for _, picture in drawn)
    truth = labels.encode([picture.concepts for _, picture in drawn]).matrix.toarray()
    features = np.stack([thumbnails(picture.pixels) for _, picture in drawn])
    onehot = np.eye(len(CATEGORIES))[categories]
    probe = Ridge(alpha=30.0).fit(np.hstack([features, onehot])[train], truth[train])
    scores = probe.predict(np.hstack([features, onehot]))
    # Within a category, its prior is constant: an area under the curve of exactly 0.5.
    areas = []
    for column in np.flatnonzero(truth[train].sum(axis=0) >= 8):
        for category in range(len(CATEGORIES)):
            here = ~train & (categories == category)
            n_true = int(truth[here, column].sum())
            if 2 <= n_true <= here.sum() - 2:
                areas.append(roc_auc_score(truth[here, column], scores[here, column]))
    assert len(areas) > 40
    assert np.mean(areas) > 0.70
