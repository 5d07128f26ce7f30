"""Folders whose links have no end, that are too deep for a path, or hold more than files."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from corpus.readers.files import files_below, image_files
from corpus.readers.tables.paths import ImageFinder
from inference.images import find_images

DEEP = 2100  # folders of a name of one letter: more than 4,096 bytes


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder in which others lie, deeper than a path can say, with an image in each hundredth."""
    home = Path.cwd()
    os.chdir(tmp_path)
    for number in range(DEEP):
        if number % 100 == 0:
            Path(f"a{number}.png").touch()
        Path("d").mkdir()
        os.chdir("d")
    try:
        yield tmp_path
    finally:
        for number in reversed(range(DEEP)):  # shutil.rmtree calls itself
            os.chdir("..")
            Path("d").rmdir()
            if number % 100 == 0:
                Path(f"a{number}.png").unlink()
        os.chdir(home)


@pytest.fixture
def looped(tmp_path: Path) -> Path:
    """A folder with an image and three links to itself: 3^40 ways before the system stops."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").touch()
    for name in ("x", "y", "z"):
        (tmp_path / "in" / name).symlink_to("..")
    return tmp_path


def test_what_no_path_can_say_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    for _ in range(18):
        Path("d" * 250).mkdir()
        os.chdir("d" * 250)
    Path("b.png").touch()
    (path,), (note,) = image_files(tmp_path)
    assert path == tmp_path / "a.png"
    assert note.grave
    assert "1 path of more than 4,096 bytes, left out: ['ddd" in note.text


@pytest.mark.slow
def test_deep_folders_are_read_as_far_as_a_path_goes(deep: Path) -> None:
    os.chdir(deep)
    paths, (note,) = image_files(deep)
    assert len(paths) == sum(len(str(deep)) + 2 * n + 9 < 4096 for n in range(0, DEEP, 100))
    assert note.grave
    assert "1 path of more than 4,096 bytes, left out: ['d']" in note.text
    assert ImageFinder(deep).find("a300.png", where="x") == deep / ("d/" * 300) / "a300.png"
    assert len(find_images([f"{deep}/**/a*.png"]).images) == len(paths)
    os.chdir(deep / ("d/" * 1000))
    for _ in range(DEEP - 1000):
        os.chdir("d")


def test_links_without_end_are_followed_once(looped: Path) -> None:
    assert [path.name for path in files_below(looped)] == ["a.png"]
    images = find_images([f"{looped}/**/*.png"]).images
    assert [image.path for image in images] == [looped / "in" / "a.png"]
    assert ImageFinder(looped).find("a.png", where="x") == looped / "in" / "a.png"
    paths, (note,) = image_files(looped)
    assert len(paths) == 1
    assert "3 links to a folder that was read already" in note.text


def test_what_is_no_file_is_counted_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    os.mkfifo(tmp_path / "b.png")
    os.mkfifo(tmp_path / "IM0001")
    (tmp_path / "null.png").symlink_to("/dev/null")
    paths, (note,) = image_files(tmp_path)
    assert [path.name for path in paths] == ["a.png"]
    assert note.grave
    assert note.text == (
        f"{tmp_path}: 3 entries other than a file (a pipe, a socket, a device), not opened:"
        " ['IM0001', 'b.png', 'null.png']"
    )


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**/*.png", ["a.png", "p/b.png", "p/q/c.png"]),
        ("p/**/*.png", ["p/b.png", "p/q/c.png"]),
        ("**/q/*", ["p/q/c.png"]),
        ("**", ["a.png", "p/b.png", "p/q/c.png"]),
        ("*/**/**/c.png", ["p/q/c.png"]),
    ],
)
def test_a_pattern_of_any_depth_fits_what_the_shell_would_fit(
    tmp_path: Path, pattern: str, expected: list[str]
) -> None:
    for name in ("a.png", "p/b.png", "p/q/c.png", ".h/d.png", "p/.e.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    images = find_images([f"{tmp_path}/{pattern}"]).images
    assert sorted(str(image.path.relative_to(tmp_path)) for image in images) == sorted(expected)
