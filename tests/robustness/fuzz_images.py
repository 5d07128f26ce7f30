"""Damaged images by the hundred thousand: counts how each of them ends.

    python -m tests.robustness.fuzz_images --count 100000 --seed 0 --budget-s 1800

Valid small files of every format are changed at random, whole structures and checksums among it,
and decoded by a process of its own that is watched from outside. Of each is said how it ended:

    read            a picture came out
    refused         one line that names the file
    traceback       anything else was raised, or the line is none
    words           something was written to the terminal
    over memory     the process grew by more than `--megabytes`
    over time       it took more than `--seconds` of a processor, or ten times that by the clock
    killed          the process was ended by a signal

Every input is a function of seed and number, so that `--only N` makes one of them again. Ends with
1 where anything but the first two happened; those inputs are kept in `--keep`.
"""

import argparse
import os
import resource
import signal
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

GOOD = ("read", "refused")
_SIDE = 24
_NOTICED = 32  # megabytes
_PNG = b"\x89PNG\r\n\x1a\n"
_TELLING = (0, 1, 2, 3, 4, 7, 8, 16, 24, 32, 64, 127, 128, 255)
_NUMBERS = (0, 1, 0x7F, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)


@dataclass(frozen=True)
class Base:
    """A valid file that others are made of."""

    kind: str
    content: bytes


def bases() -> list[Base]:
    """Valid files of every format that is read, as far as their writers are installed."""
    return [Base(kind, content) for make in (_pictures, _deep, _dicom) for kind, content in make()]


def _grey(dtype: str = "u1") -> Any:
    rows = np.arange(_SIDE)[:, None] * 5 + np.arange(_SIDE)[None] * 3
    return (rows % 256).astype(dtype)


def _saved(image: Image.Image, kind: str, **how: Any) -> bytes:
    file = BytesIO()
    if "append_images" in how:  # what a writer leaves in an image confuses the next one
        how["append_images"] = [further.copy() for further in how["append_images"]]
    image.copy().save(file, kind, **how)
    return file.getvalue()


def _pictures() -> Iterator[tuple[str, bytes]]:
    grey = Image.fromarray(_grey())
    rgb = Image.merge("RGB", [grey, grey.rotate(90), grey.rotate(180)])
    clear = rgb.copy()
    clear.putalpha(grey)
    exif = Image.Exif()
    exif[274], exif[270] = 6, "x" * 40
    modes = {
        "grey": grey,
        "RGB": rgb,
        "RGBA": clear,
        "palette": rgb.quantize(16),
        "1": grey.convert("1"),
    }
    for name, image in modes.items():
        yield f"PNG {name}", _saved(image, "PNG")
        yield (
            f"TIFF {name}",
            _saved(image, "TIFF", compression="tiff_deflate" if name != "1" else None),
        )
        if name != "RGBA":
            yield f"BMP {name}", _saved(image, "BMP")
    yield "PNG exif", _saved(rgb, "PNG", exif=exif, dpi=(70, 70), icc_profile=b"icc" * 60)
    more = [rgb.rotate(30 * n) for n in range(3)]
    yield "APNG", _saved(clear, "PNG", save_all=True, append_images=more)
    yield "JPEG grey", _saved(grey, "JPEG")
    yield "JPEG exif", _saved(rgb, "JPEG", exif=exif, icc_profile=b"icc" * 60, comment=b"c")
    yield "JPEG progressive", _saved(rgb, "JPEG", progressive=True)
    yield "JPEG CMYK", _saved(rgb.convert("CMYK"), "JPEG")
    yield "JPEG restart", _saved(rgb, "JPEG", restart_marker_rows=1)
    yield "MPO", _saved(rgb, "MPO", save_all=True, append_images=more)
    for how in ("raw", "tiff_lzw", "jpeg", "packbits", "group4"):
        image = grey.convert("1") if how == "group4" else rgb
        yield f"TIFF {how}", _saved(image, "TIFF", compression=how)
    yield "TIFF pages", _saved(rgb, "TIFF", save_all=True, append_images=more)
    yield "TIFF big", _saved(rgb, "TIFF", big_tiff=True)
    yield "GIF", _saved(rgb.quantize(16), "GIF", comment=b"c" * 300)
    yield "GIF frames", _saved(rgb, "GIF", save_all=True, append_images=more, duration=9)
    yield "WebP", _saved(rgb, "WEBP", exif=exif)
    yield "WebP lossless", _saved(clear, "WEBP", lossless=True)
    yield "WebP frames", _saved(clear, "WEBP", save_all=True, append_images=more)
    yield "JP2 grey", _saved(grey, "JPEG2000")
    yield "JP2 RGB", _saved(rgb, "JPEG2000", irreversible=True, quality_layers=[20, 10])
    yield "J2K RGBA", _saved(clear, "JPEG2000", no_jp2=True)
    yield "PPM", _saved(rgb, "PPM")
    yield "PGM words", b"P2 3 2 255\n# so\n1 2 3 4 5 6\n"
    yield "TGA", _saved(rgb, "TGA", compression="tga_rle")


def _deep() -> Iterator[tuple[str, bytes]]:
    import imagecodecs

    deep = _grey("u2") * 200
    colours = np.dstack([deep, deep[::-1], deep.T])
    yield "PNG 16", bytes(imagecodecs.png_encode(deep))
    yield "PNG RGB 16", bytes(imagecodecs.png_encode(colours))
    yield "PNG RGBA 16", bytes(imagecodecs.png_encode(np.dstack([colours, deep])))
    yield "JP2 16", bytes(imagecodecs.jpeg2k_encode(deep, level=0))
    yield "JP2 RGB 16", bytes(imagecodecs.jpeg2k_encode(colours, level=0))
    yield "JPEG 12", bytes(imagecodecs.jpeg_encode(deep % 4096, bitspersample=12))
    yield "JPEG lossless", bytes(imagecodecs.ljpeg_encode(deep % 4096, bitspersample=12))
    yield "TIFF 16", _saved(Image.fromarray(deep), "TIFF", compression="tiff_deflate")
    yield "TIFF float", _saved(Image.fromarray(_grey("f4")), "TIFF")
    yield "PGM 16", b"P5 24 24 65535\n" + deep.astype(">u2").tobytes()
    yield "PPM words 16", b"P3 2 1 1000\n1 2 3 4 500 600\n"


def _dicom() -> Iterator[tuple[str, bytes]]:
    try:
        import imagecodecs
        from pydicom import uid
        from pydicom.dataset import Dataset
        from pydicom.encaps import encapsulate
    except ImportError:
        return
    from tests.corpus.dicom.made_files import made, written

    deep, grey = _grey("u2") * 10, _grey()
    item = Dataset()
    item.WindowCenter, item.WindowWidth = 300, 900
    group = Dataset()
    group.FrameVOILUTSequence = [item]
    plain: dict[str, Any] = {"WindowCenter": 300, "WindowWidth": 900, "PatientID": "7"}
    plain |= {"SharedFunctionalGroupsSequence": [group], "RescaleSlope": 2}
    yield "DICOM explicit", written(made(deep, **plain))
    for name, syntax in (
        ("implicit", uid.ImplicitVRLittleEndian),
        ("deflated", uid.DeflatedExplicitVRLittleEndian),
    ):
        dataset = made(deep, **plain)
        dataset.file_meta.TransferSyntaxUID = syntax
        file = BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        yield f"DICOM {name}", file.getvalue()
    coded: dict[str, tuple[Any, Any, bytes | bytearray]] = {
        "RLE": (uid.RLELossless, deep, b""),
        "JPEG": (uid.JPEGBaseline8Bit, grey, _saved(Image.fromarray(grey), "JPEG")),
        "lossless": (uid.JPEGLosslessSV1, deep, imagecodecs.ljpeg_encode(deep, bitspersample=16)),
        "JPEG-LS": (uid.JPEGLSLossless, deep, imagecodecs.jpegls_encode(deep)),
        "J2K": (
            uid.JPEG2000Lossless,
            deep,
            imagecodecs.jpeg2k_encode(deep, level=0, codecformat="j2k"),
        ),
    }
    for name, (syntax, values, frame) in coded.items():
        dataset = made(values, **plain)
        if frame:
            dataset.PixelData = encapsulate([bytes(frame)])
            dataset["PixelData"].VR = "OB"
            dataset["PixelData"].is_undefined_length = True
            dataset.file_meta.TransferSyntaxUID = syntax
        else:
            dataset.compress(syntax)
        file = BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        yield f"DICOM {name}", file.getvalue()


def damaged(files: Sequence[Base], *, seed: int, number: int) -> tuple[str, bytes]:
    """Kind and bytes of an input."""
    rng = np.random.default_rng((seed, number))
    base = files[number % len(files)]
    content = base.content
    is_png = content.startswith(_PNG)
    if is_png and rng.random() < 0.3:
        content = _inside_pixels(content, rng)
    else:
        for _ in range(int(rng.geometric(0.4))):
            way = _WAYS[int(rng.integers(len(_WAYS)))]
            content = way(content, rng, files)
    if is_png and rng.random() < 0.8:
        content = _summed(content)
    return base.kind, content


def _place(content: bytes, rng: np.random.Generator) -> int:
    """Anywhere, in the head more often."""
    most = min(len(content), 400) if rng.random() < 0.6 else len(content)
    return int(rng.integers(max(most, 1)))


def _bits(content: bytes, rng: np.random.Generator, _files: Sequence[Base]) -> bytes:
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        if changed:
            changed[_place(content, rng)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _byte(content: bytes, rng: np.random.Generator, _files: Sequence[Base]) -> bytes:
    place = _place(content, rng)
    return content[:place] + bytes([int(rng.choice(_TELLING))]) + content[place + 1 :]


def _number(content: bytes, rng: np.random.Generator, _files: Sequence[Base]) -> bytes:
    place, number = _place(content, rng), int(rng.choice(_NUMBERS))
    width = int(rng.choice((2, 3, 4, 8)))
    number = min(number, 256**width - 1)
    written: bytes = number.to_bytes(width, "little" if rng.random() < 0.5 else "big")
    return content[:place] + written + content[place + width :]


def _cut(content: bytes, rng: np.random.Generator, _files: Sequence[Base]) -> bytes:
    return content[: _place(content, rng)]


def _without(content: bytes, rng: np.random.Generator, _files: Sequence[Base]) -> bytes:
    place = _place(content, rng)
    return content[:place] + content[place + int(rng.integers(1, 40)) :]


def _twice(content: bytes, rng: np.random.Generator, _files: Sequence[Base]) -> bytes:
    place, length = _place(content, rng), int(rng.integers(1, 80))
    part = content[place : place + length] * int(rng.choice((1, 2, 50)))
    return content[:place] + part + content[place:]


def _junk(content: bytes, rng: np.random.Generator, _files: Sequence[Base]) -> bytes:
    place = _place(content, rng)
    return content[:place] + rng.bytes(int(rng.integers(1, 30))) + content[place:]


def _zeros(content: bytes, rng: np.random.Generator, _files: Sequence[Base]) -> bytes:
    place, length = _place(content, rng), int(rng.integers(1, 60))
    fill = bytes([0 if rng.random() < 0.5 else 255])
    return content[:place] + fill * min(length, len(content) - place) + content[place + length :]


def _spliced(content: bytes, rng: np.random.Generator, files: Sequence[Base]) -> bytes:
    other = files[int(rng.integers(len(files)))].content
    return content[: _place(content, rng)] + other[_place(other, rng) :]


_WAYS: tuple[Callable[[bytes, np.random.Generator, Sequence[Base]], bytes], ...] = (
    *(_bits, _byte, _number, _number, _cut, _without, _twice, _junk, _zeros, _spliced),
)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_PNG)
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        yield content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        place += 12 + length


def _summed(content: bytes) -> bytes:
    """A PNG with right checksums, so that more than those is tried."""
    if not content.startswith(_PNG):
        return content
    parts = [_PNG]
    for name, data in _chunks(content):
        parts += [
            struct.pack(">I", len(data)),
            name,
            data,
            struct.pack(">I", zlib.crc32(name + data)),
        ]
    return b"".join(parts)


def _inside_pixels(content: bytes, rng: np.random.Generator) -> bytes:
    """A PNG of which something within its deflated parts was changed."""
    parts = [_PNG]
    for name, data in _chunks(content):
        if name in (b"IDAT", b"iCCP", b"zTXt"):
            way = _WAYS[int(rng.integers(len(_WAYS) - 1))]
            with suppress(zlib.error):
                data = zlib.compress(way(zlib.decompress(data), rng, ()))
        parts += [struct.pack(">I", len(data)), name, data, bytes(4)]
    return _summed(b"".join(parts))


def _answer(wire: Connection, seed: int, numbers: Sequence[int], limits: tuple[float, int]) -> None:
    """Decode one input after the other, and say how each ended; limits in seconds and megabytes."""
    seconds, megabytes = limits
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    words = os.open("/dev/shm" if Path("/dev/shm").is_dir() else "/tmp", os.O_TMPFILE | os.O_RDWR)
    os.dup2(words, 2)
    from core.errors import ImageError
    from corpus.dicom.headers import header_of
    from corpus.images.decode import decode_content

    files = bases()
    for base in files:  # libraries are loaded, and functions compiled, before anything is measured
        decode_content(base.content, Path("valid"), size=32, resample="bilinear")
        header_of(base.content)
    before = _peak()
    for number in numbers:
        _, content = damaged(files, seed=seed, number=number)
        wire.send((number, "begun", ""))
        told, start = os.lseek(words, 0, os.SEEK_END), time.process_time()
        reason = ""
        try:
            decode_content(content, Path("some/a.png"), size=32, resample="bilinear")
            how = "read"
        except ImageError as error:
            reason = str(error)
            is_line = (
                reason.startswith("some/a.png: ") and reason.isprintable() and len(reason) < 400
            )
            how = "refused" if is_line else "traceback"
        except BaseException as error:  # noqa: BLE001 - that is what is counted
            how, reason = "traceback", f"{type(error).__name__}: {error}"
        try:
            header_of(content)
        except BaseException as error:  # noqa: BLE001
            how, reason = "traceback", f"header: {type(error).__name__}: {error}"
        grown = (_peak() - before) >> 20
        if grown > _NOTICED:  # to measure from now on costs more than to decode
            Path("/proc/self/clear_refs").write_text("5")
            before = _peak()
        if grown > megabytes:
            how, reason = "over memory", f"{grown} MB; {how} {reason}"
        elif (taken := time.process_time() - start) > seconds:
            how, reason = "over time", f"{taken:.0f} s of a processor; {how} {reason}"
        elif how in GOOD and os.lseek(words, 0, os.SEEK_END) > told:
            how, reason = "words", os.pread(words, 300, told).decode(errors="replace")
        wire.send((number, how, reason))


def _peak() -> int:
    """Bytes that this process held at most since that was last asked for."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    return 0


def outcomes(
    numbers: Sequence[int], *, seed: int, seconds: float, megabytes: int, budget_s: float
) -> Iterator[tuple[int, str, str]]:
    """Number, outcome and reason of each input, until the budget is used up."""
    spawn, at, end = get_context("spawn"), 0, time.monotonic() + budget_s
    while at < len(numbers) and time.monotonic() < end:
        wire, other = spawn.Pipe()
        worker = spawn.Process(
            target=_answer, args=(other, seed, numbers[at:], (seconds, megabytes))
        )
        worker.start()
        other.close()
        patience = 600.0  # until the libraries are loaded
        try:
            while at < len(numbers) and time.monotonic() < end:
                if not wire.poll(patience):
                    yield numbers[at], "over time", f"no answer in {patience:.0f} s"
                    at += 1
                    break
                number, how, reason = wire.recv()
                patience = 10 * seconds
                if how != "begun":
                    yield number, how, reason
                    at += 1
        except EOFError:
            worker.join()
            code = worker.exitcode or 0
            yield numbers[at], "killed", signal.Signals(-code).name if code < 0 else f"exit {code}"
            at += 1
        finally:
            worker.kill()
            worker.join()
            wire.close()


def main(words: Sequence[str] | None = None) -> int:
    """Run, print a table of kinds and outcomes; 1 where there is a bad one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", type=int, help="one input, by its number")
    parser.add_argument("--budget-s", type=float, default=3600, help="seconds for all")
    parser.add_argument("--seconds", type=float, default=30, help="of a processor, for one input")
    parser.add_argument("--megabytes", type=int, default=4800, help="for one input")
    parser.add_argument("--keep", type=Path, help="folder for inputs that ended badly")
    asked = parser.parse_args(words)
    numbers = range(asked.first, asked.first + asked.count) if asked.only is None else [asked.only]
    files = bases()
    counts: dict[str, Counter[str]] = {}
    start = time.monotonic()
    for done, (number, how, reason) in enumerate(
        outcomes(
            numbers,
            seed=asked.seed,
            seconds=asked.seconds,
            megabytes=asked.megabytes,
            budget_s=asked.budget_s,
        ),
        start=1,
    ):
        kind, content = damaged(files, seed=asked.seed, number=number)
        counts.setdefault(kind.split()[0], Counter())[how] += 1
        if how not in GOOD or asked.only is not None:
            print(f"seed {asked.seed}, input {number}, {kind}: {how}: {reason}", flush=True)
            if asked.keep:
                asked.keep.mkdir(parents=True, exist_ok=True)
                (asked.keep / f"{asked.seed}-{number}").write_bytes(content)
        if done % 10_000 == 0:
            print(f"{done:,} inputs, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    total = sum(counts.values(), Counter[str]())
    kinds = (*GOOD, "traceback", "words", "over memory", "over time", "killed")
    print(f"{'':8}" + "".join(f"{how:>13}" for how in kinds))
    for name, found in (*sorted(counts.items()), ("all", total)):
        print(f"{name:8}" + "".join(f"{found[how]:>13,}" for how in kinds))
    print(f"{total.total():,} inputs, seed {asked.seed}, {time.monotonic() - start:.0f} s")
    return int(any(total[how] for how in kinds if how not in GOOD))


if __name__ == "__main__":
    sys.exit(main())
