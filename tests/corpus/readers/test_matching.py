from pathlib import Path

import pytest

from core.errors import CorpusError
from corpus.readers.annotations import annotate
from corpus.readers.concept_lists import ConceptList
from corpus.readers.files import FoundImage
from corpus.readers.matching import Matched, match_ids


def matched(ids: list[str], listed: list[str], *, rows: tuple[str, ...] = ()) -> Matched:
    said = annotate(
        Path("metadata.csv"),
        header=("image_id", "age"),
        rows={f"line {n}": {"image_id": i, "age": "40"} for n, i in enumerate(rows, start=2)},
        ignored=(),
    )
    return match_ids(
        [FoundImage(image_id=i, path=Path(f"{i}.jpg"), split="train") for i in ids],
        {"train": ConceptList(path=Path("list.txt"), concepts=dict.fromkeys(listed, ("C1",)))},
        annotations=[said],
        manual=dict.fromkeys(listed, ("C2",)),
    )


@pytest.mark.parametrize(
    "written", ["a_1.jpg", "A_1", "train/DRCT/a_1.jpg", "train\\a_1.PNG", "a_1.dcm", "a_1.jpg.jpg"]
)
def test_an_id_written_otherwise_means_the_image(written: str) -> None:
    found = matched(["a_1", "b"], [written, "b"], rows=(written,))
    assert dict(found.lists["train"].concepts) == {"a_1": ("C1",), "b": ("C1",)}
    assert dict(found.annotations[0].rows)["a_1"]["age"] == "40"
    assert found.manual.keys() == {"a_1", "b"}
    text = "1 id with an ending, a folder or in another case, taken for the image meant"
    assert [note.text for note in found.notes] == [
        f"{name}: {text}: [{f'{written} for a_1'!r}]" for name in ("list.txt", "metadata.csv")
    ]
    assert not any(note.grave for note in found.notes)


def test_ids_as_they_are_stay_and_nothing_is_said() -> None:
    found = matched(["a", "b"], ["b", "a", "unknown"])
    assert tuple(found.lists["train"].concepts) == ("b", "a", "unknown")
    assert found.notes == ()


def test_what_could_be_two_images_is_left_alone() -> None:
    found = matched(["a", "A"], ["a", "A", "a.jpg"])
    assert "a.jpg" in found.lists["train"].concepts
    # A line of its own counts; another spelling of the same image is a stranger.
    assert tuple(matched(["a"], ["a", "A"]).lists["train"].concepts) == ("a", "A")


def test_an_image_named_twice_in_other_ways_is_refused() -> None:
    with pytest.raises(
        CorpusError, match=r"list\.txt: image 'a' stands twice, as 'a\.jpg' and as 'A'; keep one"
    ):
        matched(["a"], ["a.jpg", "A"])
