"""Decoding of every kind of file, and the cache that goes on where it stopped."""

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from core.errors import ImageError, PredictionsError
from core.images import ImageTable
from core.runs.decoding import Decoding
from core.storage.claims import kernel
from corpus.images import cache as building
from corpus.images.cache import ImageCache, build_cache
from corpus.images.decode import decode
from corpus.images.scale import scaled
from tests.core.storage.unlisted import forget_files

GREEN = (20, 200, 90)
ROOT = Path(__file__).parents[3]


def noise(height: int, width: int, *channels: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, *channels), dtype=np.uint8)


def seen(cache: ImageCache) -> npt.NDArray[np.uint8]:
    """(N, S, S, 3) all images of a cache."""
    return cache.planes.pixels(np.arange(len(cache.image_ids)))


def table_of(paths: Sequence[Path], *, prefix: str = "") -> ImageTable:
    n = len(paths)
    return ImageTable(
        image_ids=tuple(f"{prefix}{path.name}" for path in paths),
        paths=tuple(map(str, paths)),
        categories=("",) * n,
        splits=("train",) * n,
        folds=np.full(n, -1, dtype=np.int16),
        groups=("",) * n,
        concepts=((),) * n,
    )


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    """Six readable images: grey, grey in three channels, and two of them in colour."""
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        channels = (3,) if number in (1, 4) else ()
        image = Image.fromarray(noise(20, 30, *channels, seed=number))
        (image.convert("RGB") if number == 2 else image).save(path)
    return table_of(paths)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "L", "LA", "1", "I;16", "I", "F"])
def test_every_mode_becomes_three_channels_of_8_bits(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (30, 20), GREEN)
    path = tmp_path / ("image.tif" if mode in ("CMYK", "I", "F") else "image.png")
    if mode == "P":
        image = image.convert("P", palette=Image.Palette.ADAPTIVE)
    elif mode in ("I;16", "I", "F"):
        dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        image = Image.fromarray(noise(20, 30).astype(dtype))
    else:
        image = image.convert(mode)
    assert image.mode == mode
    image.save(path)
    pixels = decode(path, size=16, resample="bilinear").pixels
    assert pixels.shape == (16, 16, 3)
    assert pixels.dtype == np.uint8
    if mode in ("RGB", "RGBA", "P", "CMYK"):
        assert np.abs(pixels.astype(int) - GREEN).max() <= 2
    else:
        assert (pixels[..., :1] == pixels).all()  # grey fills equal channels


def test_16_bits_are_scaled_from_the_darkest_to_the_brightest(tmp_path: Path) -> None:
    values = np.array([[1000, 1200], [1400, 1500]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    pixels = decode(tmp_path / "deep.png", size=2, resample="nearest").pixels
    # (v - 1000) * 255 / 500, cut to whole numbers: 0, 102, 204, 255
    assert pixels[..., 0].tolist() == [[0, 102], [204, 255]]


def test_a_16_bit_image_of_one_value_is_black(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 30_000, dtype=np.uint16)).save(tmp_path / "flat.png")
    assert decode(tmp_path / "flat.png", size=4, resample="bilinear").pixels.max() == 0


def test_nothing_is_cropped_and_nearest_keeps_the_values(tmp_path: Path) -> None:
    Image.fromarray(np.array([[10, 20], [30, 40]], dtype=np.uint8)).save(tmp_path / "four.png")
    nearest = decode(tmp_path / "four.png", size=4, resample="nearest").pixels[..., 0]
    assert nearest.tolist() == [[10, 10, 20, 20]] * 2 + [[30, 30, 40, 40]] * 2
    bilinear = decode(tmp_path / "four.png", size=4, resample="bilinear").pixels[..., 0]
    # Centres of the first row lie at 0, 0.25, 0.75 and 1 of the way: 10, 12.5, 17.5, 20.
    assert bilinear[0].tolist() == pytest.approx([10, 12.5, 17.5, 20], abs=1)
    assert nearest.tolist() != bilinear.tolist()


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_large_jpeg_that_is_scaled_down_while_decoded_stays_what_it_was(
    tmp_path: Path, mode: str
) -> None:
    ramp = np.tile(np.linspace(0, 255, 512).astype(np.uint8), (256, 1))
    image = Image.fromarray(ramp).convert(mode)
    image.save(tmp_path / "ramp.jpg", quality=95)
    image.save(tmp_path / "ramp.png")
    from_jpeg = decode(tmp_path / "ramp.jpg", size=32, resample="bilinear").pixels.astype(int)
    from_png = decode(tmp_path / "ramp.png", size=32, resample="bilinear").pixels.astype(int)
    assert np.abs(from_jpeg - from_png).max() <= 4


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(("height", "width"), [(251, 320), (320, 251), (600, 690), (690, 600)])
def test_jpeg_images_are_what_pillow_makes_of_them(
    tmp_path: Path, mode: str, height: int, width: int
) -> None:
    image = Image.fromarray(noise(height, width, 3)).convert(mode)
    image.save(tmp_path / "image.jpg")
    with Image.open(tmp_path / "image.jpg") as opened:
        opened.draft("RGB", (224, 224))
        scaled = opened.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    found = decode(tmp_path / "image.jpg", size=224, resample="bilinear").pixels
    assert np.abs(found.astype(int) - np.asarray(scaled)).max() <= (height > width)


def test_files_that_cannot_be_decoded_are_named_in_one_line(tmp_path: Path) -> None:
    Image.fromarray(noise(64, 64)).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("no image\n")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    for name, message in {
        "cut.jpg": r"cut\.jpg: cannot be decoded \(cut short\)",
        "text.jpg": r"text\.jpg: not an image$",
        "empty.jpg": r"empty\.jpg: not an image$",
        "gone.jpg": r"gone\.jpg: no such file$",
        "folder.jpg": r"folder\.jpg: cannot be decoded \(.*directory",
    }.items():
        with pytest.raises(ImageError, match=message) as raised:
            decode(tmp_path / name, size=32, resample="bilinear")
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_a_file_cut_short_anywhere_is_decoded_or_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image"
    Image.fromarray(noise(24, 24, 3)).save(path, kind)
    content = path.read_bytes()
    refused = 0
    for length in range(0, len(content), 37):
        path.write_bytes(content[:length])
        try:
            decode(path, size=32, resample="bilinear")
        except ImageError:
            refused += 1
    assert refused > 3


def test_the_cache_holds_the_decoded_images_in_table_order(
    table: ImageTable, tmp_path: Path
) -> None:
    cache = build_cache(table, tmp_path / "cache", size=8)
    assert cache.image_ids == table.image_ids
    assert cache.errors == {}
    assert seen(cache).shape == (6, 8, 8, 3)
    for row, path in enumerate(table.paths):
        expected = decode(Path(path), size=8, resample="bilinear").pixels
        np.testing.assert_array_equal(seen(cache)[row], expected)


def test_sizes_and_ways_of_scaling_have_caches_of_their_own(
    table: ImageTable, tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    shapes = {seen(build_cache(table, folder, size=size)).shape for size in (8, 12)}
    nearest = build_cache(table, folder, size=8, resample="nearest")
    assert shapes == {(6, 8, 8, 3), (6, 12, 12, 3)}
    assert (seen(nearest) != seen(build_cache(table, folder, size=8))).any()
    assert len(list(folder.iterdir())) == 3


def test_a_finished_cache_is_read_and_not_made_again(table: ImageTable, tmp_path: Path) -> None:
    build_cache(table, tmp_path / "cache", size=8)
    (home,) = (tmp_path / "cache").iterdir()
    before = {path.name: path.stat().st_mtime_ns for path in home.iterdir()}
    build_cache(table, tmp_path / "cache", size=8)
    assert {path.name: path.stat().st_mtime_ns for path in home.iterdir()} == before


def test_an_interrupted_cache_goes_on_where_it_stopped(table: ImageTable, tmp_path: Path) -> None:
    whole = seen(build_cache(table, tmp_path / "cache", size=8))
    (home,) = (tmp_path / "cache").iterdir()
    (home / "meta.json").unlink()
    (home / "image_ids.txt").unlink()
    (home / "errors.csv").unlink()
    state: Any = np.lib.format.open_memmap(home / "state.npy", mode="r+")
    first: Any = np.lib.format.open_memmap(home / "first.npy", mode="r+")
    state[4:], first[4:], first[0] = 0, 0, 123  # the last two are to do; the first is marked
    state.flush()
    first.flush()
    again = build_cache(table, tmp_path / "cache", size=8)
    np.testing.assert_array_equal(seen(again)[1:], whole[1:])
    assert (seen(again)[0] == 123).all()  # done before, so not decoded again
    assert again.image_ids == table.image_ids


def spoil(table: ImageTable, row: int) -> None:
    Path(table.paths[row]).write_text("no image\n")


def test_images_that_cannot_be_decoded_are_counted_and_stay_black(
    table: ImageTable, tmp_path: Path
) -> None:
    spoil(table, 2)
    Path(table.paths[4]).unlink()
    cache = build_cache(table, tmp_path / "cache", size=8)
    assert set(cache.errors) == {"2.png", "4.png"}
    assert cache.errors["2.png"].endswith("2.png: not an image")
    assert cache.errors["4.png"].endswith("4.png: no such file")
    assert seen(cache)[[2, 4]].max() == 0
    again = build_cache(table, tmp_path / "cache", size=8)
    assert again.errors == cache.errors


def test_strict_stops_at_the_first_that_cannot_be_decoded(
    table: ImageTable, tmp_path: Path
) -> None:
    spoil(table, 2)
    with pytest.raises(ImageError, match=r"2\.png: not an image"):
        build_cache(table, tmp_path / "cache", size=8, strict=True)
    build_cache(table, tmp_path / "cache", size=8)  # finished now
    with pytest.raises(ImageError, match=r"2\.png: not an image"):
        build_cache(table, tmp_path / "cache", size=8, strict=True)


def test_an_unreadable_image_of_an_interrupted_cache_is_tried_again(
    table: ImageTable, tmp_path: Path
) -> None:
    spoil(table, 2)
    build_cache(table, tmp_path / "cache", size=8)
    (home,) = (tmp_path / "cache").iterdir()
    (home / "meta.json").unlink()
    assert set(build_cache(table, tmp_path / "cache", size=8).errors) == {"2.png"}


@pytest.mark.parametrize("change", ["time", "size"])
def test_a_changed_file_is_decoded_again(table: ImageTable, tmp_path: Path, change: str) -> None:
    before = build_cache(table, tmp_path / "cache", size=8)
    path = Path(table.paths[1])
    stat = path.stat()
    if change == "time":
        path.write_bytes(Path(table.paths[0]).read_bytes())
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    else:
        Image.fromarray(noise(40, 40, seed=9)).save(path)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = build_cache(table, tmp_path / "cache", size=8)
    np.testing.assert_array_equal(seen(after)[1], decode(path, size=8, resample="bilinear").pixels)
    assert (seen(after)[1] != seen(before)[1]).any()
    np.testing.assert_array_equal(seen(after)[2:], seen(before)[2:])


def test_a_mended_file_is_found_readable(table: ImageTable, tmp_path: Path) -> None:
    whole = Path(table.paths[2]).read_bytes()
    spoil(table, 2)
    assert build_cache(table, tmp_path / "cache", size=8).errors
    Path(table.paths[2]).write_bytes(whole)
    assert not build_cache(table, tmp_path / "cache", size=8).errors


def test_the_same_files_under_other_ids_are_not_mixed_up(table: ImageTable, tmp_path: Path) -> None:
    spoil(table, 2)
    build_cache(table, tmp_path / "cache", size=8)
    renamed = table_of([Path(path) for path in table.paths], prefix="new-")
    cache = build_cache(renamed, tmp_path / "cache", size=8)
    assert cache.image_ids == renamed.image_ids
    assert set(cache.errors) == {"new-2.png"}


def test_the_number_of_threads_does_not_change_the_bytes(table: ImageTable, tmp_path: Path) -> None:
    one = build_cache(table, tmp_path / "one", size=8, workers=1)
    four = build_cache(table, tmp_path / "four", size=8, workers=4)
    np.testing.assert_array_equal(seen(one), seen(four))


def test_more_images_than_a_thread_takes_at_a_time_keep_their_order(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(70)]
    for number, path in enumerate(paths):
        Image.new("L", (3, 3), 3 * number).save(path)
    paths[40].unlink()
    cache = build_cache(table_of(paths), tmp_path / "cache", size=2, workers=3)
    levels = [3 * number if number != 40 else 0 for number in range(70)]
    assert seen(cache)[:, 0, 0, 0].tolist() == levels
    assert set(cache.errors) == {"40.png"}


def deepen(table: ImageTable, row: int) -> None:
    """Store one of the images in 16 bits, which is remarked."""
    path = Path(table.paths[row])
    values = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 100
    values[0, 0] = 65535
    Image.fromarray(values).save(path)


def test_remarks_are_kept_and_survive_an_interruption(table: ImageTable, tmp_path: Path) -> None:
    deepen(table, 1)
    deepen(table, 3)
    cache = build_cache(table, tmp_path / "cache", size=8)
    assert set(cache.remarks) == {"1.png", "3.png"}
    assert cache.remarks["1.png"][0].startswith("16-bit values, windowed (black is ")
    assert build_cache(table, tmp_path / "cache", size=8).remarks == cache.remarks
    (home,) = (tmp_path / "cache").iterdir()
    for name in ("meta.json", "remarks.csv"):
        (home / name).unlink()
    with (home / "remarks-met.csv").open("a", encoding="utf-8") as file:
        file.write("3.png")  # killed in the middle of a line
    state: Any = np.lib.format.open_memmap(home / "state.npy", mode="r+")
    state[3:] = 0
    state.flush()
    assert build_cache(table, tmp_path / "cache", size=8).remarks == cache.remarks


def test_a_cache_of_an_earlier_version_is_passed_over(
    table: ImageTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = seen(build_cache(table, tmp_path / "cache", size=8))
    (home,) = (tmp_path / "cache").iterdir()
    assert capsys.readouterr().err == ""
    shutil.rmtree(home)
    old = home.with_name(home.name.replace("-planes", ""))
    old.mkdir()
    np.save(old / "pixels.npy", np.full((6, 8, 8, 3), 9, np.uint8))
    np.save(old / "state.npy", np.full(6, 3, np.uint8))
    for name in ("errors.csv", "remarks.csv", "meta.json"):
        (old / name).write_text("{}\n" if name == "meta.json" else "", encoding="utf-8")
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    np.testing.assert_array_equal(seen(build_cache(table, tmp_path / "cache", size=8)), made)
    said = f"{old}: of a version that kept three planes of every image; it can be removed\n"
    assert capsys.readouterr().err == said
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before
    build_cache(table, tmp_path / "cache", size=8)
    assert capsys.readouterr().err == ""  # once


def test_a_background_has_a_cache_of_its_own(table: ImageTable, tmp_path: Path) -> None:
    image = Image.open(table.paths[0]).convert("LA")
    image.putalpha(Image.fromarray(np.repeat([0, 255], 300).astype(np.uint8).reshape(20, 30)))
    image.save(table.paths[0])
    black, white = (
        build_cache(table, tmp_path / "cache", size=8, decoding=Decoding(background=background))
        for background in ("black", "white")
    )
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert seen(black)[0, :3].max() == 0
    assert seen(white)[0, :3].min() == 255
    np.testing.assert_array_equal(seen(black)[1:], seen(white)[1:])
    assert black.remarks["0.png"] == ("transparent pixels put on black",)


def start_building(
    table: ImageTable, folder: Path, *, locks: bool = True
) -> subprocess.Popen[bytes]:
    program = (
        "import sys, numpy as np; from pathlib import Path; from core.images import ImageTable;"
        "from core.storage import claims; from corpus.images.cache import build_cache;"
        " locks, folder, *paths = sys.argv[1:]; claims.fcntl = claims.fcntl if locks else None;"
        " n = len(paths); table = ImageTable("
        "image_ids=tuple(Path(p).name for p in paths), paths=tuple(paths),"
        " categories=('',) * n, splits=('train',) * n, folds=np.full(n, -1, dtype=np.int16),"
        " groups=('',) * n, concepts=((),) * n);"
        "build_cache(table, Path(folder), size=32, workers=1)"
    )
    told = ["locks" if locks else "", str(folder), *table.paths]
    return subprocess.Popen([sys.executable, "-c", program, *told], cwd=ROOT)


def n_done(folder: Path) -> int:
    states = list(folder.glob("*/state.npy"))
    return int((np.load(states[0], mmap_mode="r") != 0).sum()) if states else 0


def test_a_killed_build_is_finished_by_two_processes_at_once(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    for number, path in enumerate(paths):
        pixels = noise(300, 300, 3, seed=number) if number % 3 == 0 else noise(700, 700)
        Image.fromarray(pixels).save(path, compress_level=1)
    table, folder, unlocked = table_of(paths), tmp_path / "cache", tmp_path / "unlocked"
    killed = start_building(table, folder)
    while not n_done(folder):
        assert killed.poll() is None
        time.sleep(0.001)
    killed.kill()
    killed.wait()
    assert 0 < n_done(folder) < 40
    assert not list(folder.glob("*/meta.json"))
    shutil.copytree(folder, unlocked)
    both = [start_building(table, folder) for _ in range(2)]
    both += [start_building(table, unlocked, locks=False) for _ in range(2)]
    assert [process.wait() for process in both] == [0] * 4
    expected = seen(build_cache(table, tmp_path / "at once", size=32))
    for made in (folder, unlocked):
        np.testing.assert_array_equal(seen(build_cache(table, made, size=32)), expected)
        (home,) = made.iterdir()
        assert {path.name for path in home.iterdir()} == FILES | {"further.npy"}


FILES = {
    *(".lock", "first.npy", "places.npy", "state.npy"),
    *("image_ids.txt", "errors.csv", "remarks.csv", "meta.json"),
}
"""Of every finished cache."""


def stored(folder: Path) -> int:
    """Bytes of the disk that the planes of the one cache take."""
    (home,) = folder.iterdir()
    return sum(path.stat().st_blocks * 512 for path in home.glob("f*.npy"))


@pytest.mark.parametrize(
    ("colours", "n_planes", "file"),
    [
        ((), 6, None),
        ((4,), 8, "further.npy"),
        ((1, 3, 5), 12, "further.npy"),
        ((0, 1, 2, 5), 14, "further-by-row.npy"),
        ((0, 1, 2, 3, 4, 5), 18, "further-by-row.npy"),
    ],
)
def test_a_grey_image_takes_one_plane_and_another_three(
    tmp_path: Path, colours: tuple[int, ...], n_planes: int, file: str | None
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        pixels = noise(70, 90, *((3,) if number in colours else ()), seed=number)
        Image.fromarray(pixels).convert("RGB").save(path)
    cache = build_cache(table_of(paths), tmp_path / "cache", size=128)
    for row, path in enumerate(paths):
        expected = decode(path, size=128, resample="bilinear").pixels
        np.testing.assert_array_equal(seen(cache)[row], expected)
    (home,) = (tmp_path / "cache").iterdir()
    assert {path.name for path in home.iterdir()} == FILES | ({file} if file else set())
    plane = 128 * 128
    assert n_planes * plane <= stored(tmp_path / "cache") < (n_planes + 1) * plane
    apparent = sum(path.stat().st_size for path in home.glob("f*.npy"))
    assert apparent < (3 * 6 + 1) * plane
    copy = tmp_path / "copies" / home.name
    copy.parent.mkdir()
    shutil.copytree(home, copy)  # writes the holes: no more than three planes of each
    assert stored(copy.parent) < (3 * 6 + 1) * plane
    np.testing.assert_array_equal(
        seen(build_cache(table_of(paths), copy.parent, size=128)), seen(cache)
    )


class Stopped(BaseException):
    """As if the process were killed there, but that what it holds is let go."""


@pytest.mark.parametrize(
    ("stage", "n_colour"),
    [
        *product(("_write", "_move_together", "save_array", "write_lines", "finish"), (2, 5)),
        ("release", 2),  # while planes are moved together, which they are not if most have them
    ],
)
def test_a_build_goes_on_from_whatever_stage_it_stopped_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, n_colour: int
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for number, path in enumerate(paths):
        channels = (3,) if 7 - number <= n_colour else ()
        Image.fromarray(noise(20, 30, *channels, seed=number)).save(path)
    paths[1].write_text("no image\n")
    table = table_of(paths)
    monkeypatch.setattr(building, "_SHARE", 1)
    expected = build_cache(table, tmp_path / "at once", size=8)
    calls = iter(range(100))

    def stop(*args: Any, **named: Any) -> Any:
        if stage == "release" and next(calls) < 8:  # seven images, and the first that is moved
            return None
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(building, stage, stop)
        with pytest.raises(Stopped):
            build_cache(table, tmp_path / "cache", size=8, workers=1)
    (home,) = (tmp_path / "cache").iterdir()
    if n_colour == 2:  # what a process that is not there any more was moving together
        (left := home / f".further.{kernel()}-00000000.tmp").mkdir()
        (left / "0.npy").write_bytes(b"x")
    for _ in range(2):
        again = build_cache(table, tmp_path / "cache", size=8)
        np.testing.assert_array_equal(seen(again), seen(expected))
        assert again.errors == expected.errors
    finished = next((tmp_path / "at once").iterdir())
    assert {path.name for path in home.iterdir()} == {path.name for path in finished.iterdir()}


def test_what_a_process_that_was_killed_at_the_end_left_is_removed(
    table: ImageTable, tmp_path: Path
) -> None:
    cache = build_cache(table, tmp_path / "cache", size=8)
    (home,) = (tmp_path / "cache").iterdir()
    np.save(home / "further-by-row.npy", np.zeros((6, 2, 8, 8), np.uint8))
    np.testing.assert_array_equal(seen(build_cache(table, tmp_path / "cache", size=8)), seen(cache))
    assert not (home / "further-by-row.npy").exists()


def test_a_cache_whose_files_do_not_fit_together_is_refused(
    table: ImageTable, tmp_path: Path
) -> None:
    build_cache(table, tmp_path / "cache", size=8)
    (home,) = (tmp_path / "cache").iterdir()
    forget_files(home)
    np.save(home / "further.npy", np.zeros((1, 2, 8, 8), np.uint8))
    with pytest.raises(PredictionsError, match=r"do not fit together .*; remove the folder"):
        build_cache(table, tmp_path / "cache", size=8)


def test_a_disk_that_is_full_or_a_file_too_large_is_named(tmp_path: Path) -> None:
    planes = noise(2, 8, 8)
    with (
        open("/dev/full", "r+b", buffering=0) as file,  # noqa: PTH123
        pytest.raises(OSError, match="No space left on device: '/dev/full'"),
    ):
        building._write(file, planes, at=0)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (tmp_path / "short").open("w+b", buffering=0) as file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, most))
        try:
            with pytest.raises(OSError, match=r"No space left on device: '.*short'"):
                building._write(file, planes, at=0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def grey_noise(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)


def test_values_by_hand() -> None:
    four = np.array([[10, 20], [30, 40]], dtype=np.uint8)
    # Centres of four pixels lie at -0.25, 0.25, 0.75 and 1.25 of the way from the first of two to
    # the second; beyond either there is only the other: 10, 12.5, 17.5, 20. Halves go up: 13, 18.
    # Columns then: 10, 15, 25, 30 below 10; 13 and 33 give 18 and 28, 18 and 38 give 23 and 33.
    assert scaled(four, 4).tolist() == [
        [10, 13, 18, 20],
        [15, 18, 23, 25],
        [25, 28, 33, 35],
        [30, 33, 38, 40],
    ]
    # From four to two the triangle reaches 2 pixels either way of 1 and of 3: weights 3/4, 3/4 and
    # 1/4 of three pixels. 175 * 1/4 / (7/4) = 25 and 175 * 6/4 / (7/4) = 150.
    row = np.array([[0, 0, 175, 175]], dtype=np.uint8)
    assert scaled(row, 2).tolist() == [[25, 150]] * 2


@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (1, 5), (3, 2), (224, 224), (37, 300), (251, 320), (300, 345), (600, 690), (5, 2000)],
)
@pytest.mark.parametrize("size", [1, 7, 33, 224])
def test_wide_images_become_what_pillow_makes_of_them(height: int, width: int, size: int) -> None:
    pixels = grey_noise(height, width)
    expected = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
    # Pillow may round between the passes in the other order where an image is taller than wide.
    far = np.abs(scaled(pixels, size).astype(int) - expected).max()
    assert far <= (height > width)


@pytest.mark.parametrize(("height", "width"), [(2000, 5), (320, 251), (690, 600), (224, 3)])
def test_tall_images_differ_by_rounding_alone(height: int, width: int) -> None:
    pixels = grey_noise(height, width)
    expected = np.asarray(Image.fromarray(pixels).resize((224, 224), Image.Resampling.BILINEAR))
    assert np.abs(scaled(pixels, 224).astype(int) - expected).max() <= 1


def test_a_view_is_scaled_as_its_copy() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    pixels.flags.writeable = False
    for channel in range(3):
        view = pixels[..., channel]
        np.testing.assert_array_equal(scaled(view, 16), scaled(view.copy(), 16))


@pytest.mark.parametrize("value", [0, 1, 128, 255])
@pytest.mark.parametrize("shape", [(1, 1), (90, 7), (225, 226), (677, 911)])
def test_an_even_image_stays_even(value: int, shape: tuple[int, int]) -> None:
    for size in (1, 50, 224):
        assert (scaled(np.full(shape, value, np.uint8), size) == value).all()


def test_mirrored_images_are_scaled_to_the_mirror_image() -> None:
    pixels = grey_noise(50, 64)
    far = scaled(pixels[:, ::-1], 24).astype(int) - scaled(pixels, 24)[:, ::-1]
    assert np.abs(far).max() <= 1
