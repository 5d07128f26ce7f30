import re
from collections import Counter, defaultdict
from itertools import islice

import numpy as np
import pytest

from core.categories import Category
from corpus.phantom.concepts import CONCEPTS, cuis, names
from corpus.phantom.patients import FEWEST_CONCEPTS, MISSED, MIX, patients, scene, scenes
from corpus.phantom.scenes import Patient, Scene
from corpus.phantom.views import CONSTANT, KINDS, NEVER_IN_TRAINING, VIEWS
from corpus.phantom.write import DRAWINGS

Images = list[tuple[Patient, Scene]]


@pytest.fixture(scope="module")
def images() -> Images:
    """The 600 images of the corpus with the default settings, before they are drawn."""
    return list(islice(scenes(0), 600))


def test_made_up_concepts_cannot_be_mistaken_for_real_ones() -> None:
    assert len(names()) == len(CONCEPTS)
    assert len(set(names().values())) == len(CONCEPTS)
    for cui, name in names().items():
        assert re.fullmatch(r"C\d{7}", cui)
        assert cui.startswith("C99") == name.startswith("phantom ")


def test_an_unknown_word_has_no_identifier() -> None:
    with pytest.raises(KeyError, match="unicorn"):
        cuis(["ct", "unicorn"])


def test_every_concept_belongs_to_a_view_or_a_finding_and_back() -> None:
    words = {word for view in VIEWS.values() for word in view.lists}
    words |= {word for kind in KINDS.values() for word in kind.lists}
    assert words | {"normal", "left", "right"} == set(CONCEPTS)


def test_views_and_findings_fit_together() -> None:
    kinds = {kind for view in VIEWS.values() for kind in view.findings}
    assert kinds == set(KINDS)
    assert kinds >= NEVER_IN_TRAINING
    for view in VIEWS.values():
        assert set(CONSTANT[view.category]) <= set(view.lists)
    assert {name for name, view in VIEWS.items() if not view.panels} == set(DRAWINGS)
    for category in Category:
        shares = [view.share for view in VIEWS.values() if view.category == category]
        assert sum(shares) == pytest.approx(1.0)


def test_each_block_of_patients_has_the_mix_of_categories() -> None:
    people = list(islice(patients(5), 75))
    assert [person.number for person in people] == list(range(75))
    for block in range(3):
        here = people[25 * block : 25 * (block + 1)]
        assert Counter(person.category for person in here) == MIX


def test_five_patients_of_a_category_are_three_one_and_one() -> None:
    splits = defaultdict(list)
    for person in islice(patients(5), 125):
        splits[person.category].append(person.split)
    # 125 patients are 5 blocks, so each category has 5 times its share: a multiple of five.
    for category, n in MIX.items():
        counts = Counter(splits[category])
        assert (counts["train"], counts["valid"], counts["test"]) == (3 * n, n, n)


def test_views_come_as_often_as_their_share() -> None:
    seen = Counter(person.view for person in islice(patients(1), 25 * 40))
    for name, view in VIEWS.items():
        n = 40 * MIX[view.category]
        assert seen[name] == pytest.approx(view.share * n, abs=2)


def test_images_of_a_patient_share_anatomy_and_findings(images: Images) -> None:
    for person, image in images:
        assert image.anatomy == person.anatomy
        assert set(image.findings.values()) <= set(person.findings)
    first, second = scene(images[0][0], 0, seed=0), scene(images[0][0], 1, seed=0)
    assert first.look != second.look
    assert first == images[0][1]


def test_constant_concepts_are_never_missed_and_others_sometimes(images: Images) -> None:
    n_listed = n_possible = 0
    for person, image in images:
        assert image.concepts >= set(CONSTANT[person.category])
        others = set(VIEWS[image.view].lists) - set(CONSTANT[person.category])
        n_possible += len(others)
        n_listed += len(others & image.concepts)
    # About 1700 chances; the standard error at 6 % is 0.006, and short lists are spared.
    assert 1 - n_listed / n_possible == pytest.approx(MISSED, abs=0.02)


def test_a_drawn_finding_is_listed_with_its_side_unless_missed(images: Images) -> None:
    n_right = n_drawn = 0
    for _, image in images:
        sides = {f.side for kind, f in image.findings.items() if KINDS[kind].sided}
        if sides == {-1}:
            n_drawn += 1
            n_right += "right" in image.concepts
            assert "left" not in image.concepts
    assert n_drawn > 50
    assert n_right / n_drawn > 0.85


def test_normal_patients_have_no_findings(images: Images) -> None:
    for person, image in images:
        if "normal" in image.concepts:
            assert all(KINDS[finding.kind].harmless for finding in person.findings)


def test_a_kind_that_would_be_hidden_does_not_occur_with_what_hides_it(images: Images) -> None:
    for person, _ in images:
        kinds = {finding.kind for finding in person.findings}
        assert not any(KINDS[kind].unless in kinds for kind in kinds)


def test_an_image_has_three_to_twelve_concepts_and_about_six(images: Images) -> None:
    sizes = np.array([len(image.concepts) for _, image in images])
    assert sizes.min() >= FEWEST_CONCEPTS == 3
    assert sizes.max() <= 12
    assert 5.0 < sizes.mean() < 6.6


def test_the_default_corpus_has_a_long_tail_and_surprises(images: Images) -> None:
    n_train: Counter[str] = Counter()
    elsewhere: set[str] = set()
    for person, image in images:
        if person.split == "train":
            n_train.update(image.concepts)
        else:
            elsewhere |= image.concepts
    assert 60 <= len(set(n_train) | elsewhere) <= 95
    assert len(elsewhere - set(n_train)) >= 3
    assert sum(1 <= n <= 5 for n in n_train.values()) >= 8
    assert sum(n >= 10 for n in n_train.values()) >= 35


def test_what_is_never_in_training_is_found_elsewhere() -> None:
    found = {
        (finding.kind, person.split)
        for person in islice(patients(0), 1000)
        for finding in person.findings
    }
    for kind in NEVER_IN_TRAINING:
        assert (kind, "train") not in found
        assert {(kind, "valid"), (kind, "test")} <= found


def test_the_default_corpus_is_split_60_20_20_with_all_categories(images: Images) -> None:
    splits = Counter(person.split for person, _ in images)
    assert splits["train"] / 600 == pytest.approx(0.6, abs=0.05)
    assert splits["valid"] / 600 == pytest.approx(0.2, abs=0.05)
    assert len({(person.split, person.category) for person, _ in images}) == 3 * len(Category)
