"""Files from anywhere, broken at random: each is read, or refused in one line.

    python -m tests.robustness.fuzz_files --count 300000 --seed 1 --seconds 3600

Whole files of each kind are bent (bytes, pieces, lengths, words of their formats) and given to what
opens their kind. Counted are those that were read, those that were refused in a line of less than
1,100 characters, and faults: another exception, a warning, a longer line, an input that took longer
than 5 s or 512 MB. Faults are kept in the folder, with a traceback each; any makes the exit code 1.
"""

import argparse
import io
import json
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as save_tensors

from backbones.networks.checkpoint_files import read_checkpoint
from backbones.settings.config import BackboneConfig
from core.config import overlay
from core.editions import rules_of
from core.errors import ConceptError
from core.storage.arrays import load_array
from core.storage.documents import read_json, read_toml
from core.storage.packed import members, read_bytes
from corpus.prepare import PrepareConfig
from ensembles.config import EnsembleConfig
from ensembles.submission.check import parse_submission, read_submission
from fusion.config import FuseConfig
from inference.bundle.typed import parse_json as parse_of_bundle
from training.checkpoint import Checkpoint, read_tensors

_LONGEST_S, _MOST_MB, _LONGEST_LINE = 5.0, 512, 1100

_SUBMISSION = b"ID,CUIs\n" + b"".join(b"img_%d,C%07d;C0000001\n" % (k, k + 2) for k in range(40))

_WORDS: Mapping[str, Sequence[bytes]] = {
    "zip": (
        *(b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\7\x08", b"\1\0\x10\0"),
        *(b"../", b"/", b"\\", b"submission.csv", b"\xff\xff\xff\xff", b"\x63\0", b"\x0c\0", b"\0"),
    ),
    "npy": (
        *(b"'descr'", b"'|O'", b"'<f4'", b"'<U4'", b"'>i8'", b"[('a','<f4')]", b"(", b")", b"L"),
        *(b"-1", b"True", b"9" * 40, b"9" * 5000, b"'shape': (", b"{", b"}", b"#", b"\n", b"1e9"),
    ),
    "safetensors": (
        *(b"F32", b"F64", b"F8_E4M3", b"BF16", b"C64", b"F4", b"BOOL", b"U16", b"[]", b"-1"),
        *(b"18446744073709551615", b"__metadata__", b"data_offsets", b"{", b"}", b"\\ud800"),
    ),
    "pth": (
        *(
            b"ctorch._utils\n_rebuild_tensor_v2\n",
            b"ctorch\nFloatStorage\n",
            b"(",
            b"}",
            b"]",
            b".",
        ),
        *(b"\x85", b"R", b"b", b"u", b"s", b"0", b"2", b"Q", b"K\1", b"M\1\2", b"\x8a\xff", b"N"),
        *(b"cos\nsystem\n", b"ctorch\nComplexFloatStorage\n", b"ctorch\nQInt8Storage\n", b"I9\n"),
        *(b"c__builtin__\nset\n", b"ccollections\nOrderedDict\n", b"F1e999\n", b"X\3\0\0\0abc"),
    ),
    "json": (
        *(b"[", b"]", b"{", b"}", b'"', b":", b",", b"null", b"NaN", b"-Infinity", b"1e999"),
        *(b"9" * 400, b"9" * 5000, b"[" * 300, b"[" * 5000, b'{"a":' * 300, b"\\ud800", b"\0"),
    ),
    "toml": (
        *(b"[", b"]", b"{", b"}", b"=", b".", b"\n", b"nan", b"-inf", b"0x" + b"f" * 5000),
        *(b"9" * 5000, b"[" * 600, b"a." * 300, b"1979-05-27", b'"""', b"'", b"true", b"0o7", b"_"),
        *(b"seed", b"epochs", b"hidden", b"learning_rate", b"image_sizes", b"floor", b"k", b"1e9"),
    ),
}


def _zip(entries: Mapping[str, bytes], method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


def _saved(value: object, **how: bool) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **how)  # type: ignore[no-untyped-call, unused-ignore]
    return file.getvalue()


def _array(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _whole_files() -> dict[str, list[bytes]]:
    """Files of each kind that can be read."""
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    weights = {"fc.weight": torch.arange(12.0).reshape(3, 4), "n": torch.tensor(3)}
    odd = [
        *({**weights, "fc.weight": t} for t in (torch.ones(3, 4).to_sparse(), torch.ones(2) * 1j)),
        {0: torch.ones(2), "state_dict": weights, "epoch": 3, "args": {"lr": 0.1}},
        {"state_dict": weights, "state_dict_ema": weights, "optimizer": [1, (2, None)]},
    ]
    settings = (
        b'seed = 3\nimage_size = 64\nepochs = 3\nhidden = [8, 4]\nloss = "bce"\nfloor = 0.1\n'
    )
    meta = {"corpus": "abc", "n": 3, "x": [1.5, None, {"a": [True]}], "made": "2026-11-28"}
    return {
        "zip": [
            *(_zip({"submission.csv": _SUBMISSION}, method) for method in methods),
            *(_zip({"a/b.png": b"x" * 900, "c.jpg": b"\xff\xd8" * 50}, m) for m in methods[:2]),
        ],
        "npy": [
            *(_array(np.arange(12).astype(d).reshape(3, 4)) for d in ("<f4", ">i8", "|u1", "?")),
            _array(np.asfortranarray(np.ones((2, 3, 2)))),
            _array(np.array("text")),
        ],
        "safetensors": [save_tensors(weights), save_tensors({"a": torch.zeros(0)})],
        "pth": [
            *(_saved(one) for one in (weights, *odd)),
            *(_saved(one, _use_new_zipfile_serialization=False) for one in (weights, *odd[1:])),
        ],
        "json": [json.dumps(meta).encode(), json.dumps([meta] * 3, indent=1).encode(), b"[]"],
        "toml": [settings, settings.replace(b"\n", b"\r\n"), b'[a]\nb = {c = "d"}\n'],
    }


def _submission_or_images(path: Path) -> None:
    with suppress(ConceptError):
        data, shown = read_submission(path, rules_of(2025))
        parse_submission(data, path=shown, rules=rules_of(2025), expected_ids=["img_1"])
    for name in members(path):
        with suppress(ConceptError):
            read_bytes(path / name)
            read_bytes(path / name, n_first=132)


def _settings(path: Path) -> None:
    said = read_toml(path)
    for config in (PrepareConfig(), BackboneConfig(), FuseConfig(), EnsembleConfig()):
        for key, value in said.items():
            with suppress(ConceptError):
                overlay(config, {key: value})


def _json(path: Path) -> None:
    with suppress(ConceptError):
        parse_of_bundle(path.read_bytes(), where=path)
    read_json(path)


def _weights(path: Path) -> None:
    with suppress(ConceptError):
        state = Checkpoint(path.parent, every_s=1)
        (path.parent / state.path.name).write_bytes(path.read_bytes())
        state.load()
    read_checkpoint(path)


def _tensors(path: Path) -> None:
    with suppress(ConceptError):
        read_checkpoint(path)
    read_tensors(path)


TARGETS: dict[str, Callable[[Path], object]] = {
    "zip": _submission_or_images,
    "npy": load_array,
    "safetensors": _tensors,
    "pth": _weights,
    "json": _json,
    "toml": _settings,
}


def bent(data: bytes, words: Sequence[bytes], rng: random.Random) -> bytes:
    """The file with one to six changes."""
    bent = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        at = rng.randrange(len(bent) + 1)
        match rng.randrange(9):
            case 0 if bent:
                bent[at % len(bent)] = rng.randrange(256)
            case 1 if bent:
                bent[at % len(bent)] ^= 1 << rng.randrange(8)
            case 2:
                del bent[at : at + rng.choice((1, 2, 8, 64))]
            case 3:
                bent[at:at] = rng.choice(words)
            case 4:
                word = rng.choice(words)
                bent[at : at + len(word)] = word
            case 5:
                del bent[at:]
            case 6:
                piece = bent[at : at + rng.choice((4, 30, 200))]
                to = rng.randrange(len(bent) + 1)
                bent[to:to] = piece
            case 7:
                number = rng.choice(
                    (0, 1, 0x7F, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)
                )
                size = rng.choice("BHIQ")
                packed = struct.pack(f"<{size}", number & (256 ** struct.calcsize(size) - 1))
                bent[at : at + len(packed)] = packed
            case _:
                digits = [k for k, byte in enumerate(bent) if 48 <= byte <= 57]
                if digits:
                    bent[rng.choice(digits)] = rng.choice(b"0123456789-.")
    return bytes(bent)


def outcome(target: Callable[[Path], object], path: Path) -> str:
    """`read`, `refused`, or what is wrong."""
    try:
        target(path)
    except ConceptError as error:
        line = str(error)
        return "refused" if len(line) < _LONGEST_LINE and "\n" not in line else f"long: {line[:99]}"
    except Exception:  # noqa: BLE001 - it is what is looked for
        return traceback.format_exc()
    return "read"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="inputs of all kinds together")
    parser.add_argument("--seconds", type=float, default=3600, help="after which it stops")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(TARGETS), help="with commas between them")
    parser.add_argument(
        "--faults", type=Path, default=Path("runs/fuzz"), help="where they are kept"
    )
    asked = parser.parse_args(arguments)
    kinds, whole = asked.kinds.split(","), _whole_files()
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    n_faults, began, last = 0, time.monotonic(), time.monotonic()
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(asked.count):
            if time.monotonic() - began > asked.seconds:
                break
            kind = kinds[number % len(kinds)]
            rng = random.Random(f"{asked.seed}-{number}")
            path = Path(folder) / f"a.{kind}"
            path.write_bytes(bent(rng.choice(whole[kind]), _WORDS[kind], rng))
            started, before = time.process_time(), _peak_mb()  # others use the machine as well
            found = outcome(TARGETS[kind], path)
            if (took := time.process_time() - started) > _LONGEST_S:
                found = f"slow: {took:.0f} s"
            if (grown := _peak_mb() - before) > _MOST_MB:
                found = f"large: {grown:.0f} MB"
            counts[kind][found if found in ("read", "refused") else "fault"] += 1
            if found not in ("read", "refused"):
                n_faults += 1
                asked.faults.mkdir(parents=True, exist_ok=True)
                name = f"{asked.seed}-{number}.{kind}"
                (asked.faults / name).write_bytes(path.read_bytes())
                (asked.faults / f"{name}.txt").write_text(found)
                print(f"{name}: {found.splitlines()[-1]}", file=sys.stderr)
            if time.monotonic() - last > 60:
                last = time.monotonic()
                print(f"{number + 1:,} inputs, {n_faults} faults", file=sys.stderr)
    print("kind | read | refused | faults")
    for kind, own in counts.items():
        print(f"{kind} | {own['read']:,} | {own['refused']:,} | {own['fault']:,}")
    total = sum(map(Counter.total, counts.values()))
    spent = time.monotonic() - began
    print(f"{total:,} inputs, {n_faults} faults, {spent:,.0f} s, peak {_peak_mb():,.0f} MB")
    return int(n_faults > 0)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
