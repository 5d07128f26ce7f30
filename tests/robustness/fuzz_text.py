"""Damaged tables, lists, submissions and settings by the hundred thousand: how each of them ends.

    python -m tests.robustness.fuzz_text --count 100000 --seed 0 --budget-s 1800

Valid small files of every kind that is read as text are changed at random and read by their own
reader. Of each is said how it ended:

    read            the reader took it
    refused         a `ConceptError` of one line
    traceback       anything else was raised, or the line is none

What was read as an image table, a list or a manifest is written again and read again: it must be
the same. Every input is a function of seed and number, so that `--only N` makes one of them again.
Ends with 1 where there was a traceback; those inputs are kept in `--keep`.
"""

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from backbones.settings.config import BackboneConfig
from core.config import configured
from core.editions import EDITIONS
from core.errors import ConceptError
from core.images import ImageTable
from core.labels import LabelSpace
from core.runs.ensemble import read_scores
from core.runs.ladder import read_steps
from core.storage.folders import META, read_meta
from core.storage.tables import read_lines, read_pairs, read_rows, write_rows
from core.storage.text import plain, visible
from corpus.images.cache import read_remarks
from corpus.prepare import PrepareConfig
from corpus.readers.annotations import read_annotations
from corpus.readers.concept_lists import (
    COMMA_LIST,
    ROCO_LIST,
    TAB_LIST,
    read_concept_list,
    read_names,
)
from corpus.readers.tables.images import read_images
from corpus.readers.tables.sheet import read_sheet
from corpus.readers.unprepared import read_bare_list
from ensembles.config import EnsembleConfig
from ensembles.decisions.rule import DecisionRule
from ensembles.submission.check import check_submission
from ensembles.submission.truth import read_truth

_ODD = (
    *("\0", "\r", "\n", "\r\n", "\t", "\x1b[31m", "\x85", "\u2028", "\ufeff", "\u202e", "\x1a"),
    *('"', '""', "'", ",", ";", "|", "\\", "#", "=", "=1+1", "@", "<script>", "![x](http://a/b)"),
    *("$x$", "%", "[", "]", "{", "}", "[[[[[[[[", "nan", "inf", "-1", "1e999", "9" * 400, "0x"),
    *("x" * 2000, "\U0001f600", "e\u0301", "ID", "C1;C1", "C0000000", "../..", "null", "true"),
)
_BYTES = (b"\xff", b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc0\x80", b"\xed\xa0\x80", b"\0\0")

_HEAD = "image_id,path,category,split,fold,group,labelled,concepts,age"
_RULE = """{"kind": "thresholds", "thresholds": {"global": 0.36, "by_category": {"DRCT": 0.2},
"by_concept": {}, "scores": {}}, "calibration": {"kind": "temperature", "temperature": 1.0,
"bias": 0.0}, "head": {"power": 1.0, "by_category": {}}, "always": {"DRAN": ["C1", "C2"]},
"adjustment": {"strength": 0.2, "shares": {"C1": 0.25, "C2": 0.01}, "shift": 0.0}}"""


@dataclass(frozen=True)
class Target:
    """A kind of file: a valid one, its name, and who reads it."""

    name: str
    text: str
    read: Callable[[Path], object]


def _twice(path: Path) -> None:
    """An image table that is read can be written, and is then the same."""
    table = ImageTable.load(path)
    again = path.with_name("again.csv")
    table.save(again)
    read = ImageTable.load(again)
    assert (read.image_ids, read.groups, read.concepts) == (
        table.image_ids,
        table.groups,
        table.concepts,
    )
    assert read.metadata == table.metadata


def _sheet(path: Path) -> None:
    sheet = read_sheet(path, known=("path", "split", "imageid", "concepts"))
    again = path.with_name("again.csv")
    rows = [["" if cell is None else cell for cell in row] for row in sheet.rows]
    write_rows(again, rows)
    assert not sheet.header or read_rows(again) == rows
    for note in sheet.notes:
        assert len(visible(note.text).splitlines()) <= 1
        plain(note.text)


def _list(form: object) -> Callable[[Path], object]:
    return lambda path: read_concept_list(path, form)  # type: ignore[arg-type]


def _settings(config: object) -> Callable[[Path], object]:
    return lambda path: configured(config, file=path, given=())


def _submission(year: int) -> Callable[[Path], object]:
    return lambda path: check_submission(path, edition=year, expected_ids=("a1", "a2"))


def _truth(year: int) -> Callable[[Path], object]:
    return lambda path: read_truth(path, edition=year)


def _in_folder(read: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda path: read(path.parent)


def targets() -> list[Target]:
    """Every kind of text that is read."""
    manifest = 'path,split,image_id,category,group,concepts,age\na.png,train,a1,DRCT,g1,"C1;C2",4\n'
    manifest += "b.png,test,a2,CT,g2,,\n"
    submissions = {
        year: "".join(
            f"{i}{rules.separator}{c}\n"
            for i, c in (*([rules.header] if rules.header else []), ("a1", "C1;C2"), ("a2", ""))
        )
        for year, rules in EDITIONS.items()
    }
    truths = {
        year: f"a1{rules.truth_separator}C1;C2\na2{rules.truth_separator}C3\n"
        for year, rules in EDITIONS.items()
    }
    steps = "name,f1,f1_low,f1_high,gain,gain_low,gain_high,n\nprior,0.5,0.4,0.6,0.1,0,0.2,30\n"
    return [
        Target("images.csv", f"{_HEAD}\na1,a.png,DRCT,train,0,g1,1,C1;C2,40\n", _twice),
        Target("manifest.csv", manifest, read_images),
        Target("sheet.csv", manifest, _sheet),
        Target("sheet.csv", manifest.replace(",", ";").replace("C1;C2", "C1,C2"), _sheet),
        Target("list.txt", "a1\tC1;C2\na2\t\n", _list(TAB_LIST)),
        Target("list.csv", 'ID,CUIs\na1,"C1;C2"\na2,C3\n', _list(COMMA_LIST)),
        Target("cuis.txt", "a1\t\tC1\tC2\na2\t\tC3\n", _list(ROCO_LIST)),
        Target("train.csv", "a1,C1;C2\na2,C3\n", read_bare_list),
        Target("names.csv", 'CUI\tname\nC1\t"a name"\nC2\tother\n', read_names),
        Target("groups.csv", "image_id,group,category,age\na1,g1,CT,4\n", _in_folder(
            read_annotations)),
        Target("names.csv", 'C1,one\nC2,"two, too"\n', read_pairs),
        Target("remarks.csv", "a1,turned\na2,grey\n", read_remarks),
        Target("rows.csv", 'a,b\n"c,d","e\nf"\n', read_rows),
        Target("lines.txt", "a1\na2\n", read_lines),
        Target("labels.txt", "C1\nC2\n", LabelSpace.load),
        Target("valid_f1.csv", "image_id,prior,mean\na1,0.5,1.0\na2,,0.25\n", read_scores),
        Target("members.csv", steps, read_steps),
        Target("decision.json", _RULE, DecisionRule.load),
        Target(META, '{"made": "2026", "corpus": "0a", "n": 3}', _in_folder(
            lambda folder: read_meta(folder, "made"))),
        Target("prepare.toml", 'seed = 3\nimage_size = 224\nframes = "first"\n',
               _settings(PrepareConfig())),
        Target("ensemble.toml", "margin = 1.0\n", _settings(EnsembleConfig())),
        Target("backbone.toml", 'backbone = "resnet50"\nlr = 0.001\nseeds = [1, 2]\n',
               _settings(BackboneConfig())),
        *(Target("submission.csv", text, _submission(y)) for y, text in submissions.items()),
        *(Target("truth.csv", text, _truth(y)) for y, text in truths.items()),
    ]  # fmt: skip


def changed(text: str, rng: random.Random) -> bytes:
    """The text with a few changes of letters, of lines or of bytes."""
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        at = rng.randrange(len(text) + 1)
        end = min(len(text), at + rng.choice((0, 1, 1, 3, 10)))
        lines = text.split("\n")
        how = rng.randrange(8)
        if how <= 2:
            text = text[:at] + rng.choice(_ODD) + text[end:]
        elif how == 3:
            text = text[:at] + text[end:]
        elif how == 4:
            lines.insert(rng.randrange(len(lines)), rng.choice(lines))
            text = "\n".join(lines)
        elif how == 5:
            quoted = rng.choice(_ODD).replace('"', '""')
            text = f'{text[:at]}"{quoted}"{text[end:]}'
        elif how == 6:
            text = text[:at] + chr(rng.randrange(0xD800)) + text[end:]
        else:
            old, new = rng.sample((",", ";", "\t", "|", "\n", "\r\n", "\r", " ", "=", ":"), 2)
            text = text.replace(old, new, rng.choice((1, -1)))
        if rng.random() < 0.003:
            text = text[:at] + rng.choice(("x", '"', "[", "9", ";", "C1;")) * 140_000 + text[end:]
    data = text.encode(rng.choice(("utf-8",) * 20 + ("utf-8-sig", "utf-16", "utf-16-le", "utf-32")))
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        at = rng.randrange(len(data) + 1)
        data = data[:at] + rng.choice((*_BYTES, bytes([rng.randrange(256)]))) + data[at:]
    return data[: rng.randrange(len(data) + 1)] if rng.random() < 0.05 else data


def outcome(target: Target, data: bytes, folder: Path) -> str:
    """How the reading of an input ends: read, refused, or what was raised."""
    path = folder / target.name
    path.write_bytes(data)
    try:
        target.read(path)
    except ConceptError as error:
        return "refused" if visible(str(error)).strip() else "no reason is given"
    except Exception:  # noqa: BLE001  # the point of it: whatever is raised
        return traceback.format_exc()
    return "read"


def fuzz(
    *, count: int, seed: int, budget_s: float, keep: Path | None = None, only: int | None = None
) -> Mapping[str, Counter[str]]:
    """Outcomes by kind of file.

    Args:
        count: inputs.
        seed: of all of them.
        budget_s: seconds after which no further input is begun.
        keep: where inputs go that ended in a traceback.
        only: the number of the single input to try.
    """
    kinds = targets()
    ended: dict[str, Counter[str]] = {}
    until = time.monotonic() + budget_s
    with tempfile.TemporaryDirectory() as made:
        for name in ("a.png", "b.png"):
            (Path(made) / name).touch()
        for number in range(count) if only is None else (only,):
            if time.monotonic() > until:
                break
            rng = random.Random(f"{seed} {number}")
            target = rng.choice(kinds)
            data = changed(target.text, rng)
            how = outcome(target, data, Path(made))
            kind = how if how in ("read", "refused") else "traceback"
            ended.setdefault(target.name, Counter())[kind] += 1
            if kind == "traceback":
                print(f"{number} {target.name}: {how}", flush=True)
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{seed}-{number}-{target.name}").write_bytes(data)
    return ended


def main() -> None:
    """Fuzz, and print a table."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--count", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--budget-s", type=float, default=600.0)
    options.add_argument("--keep", type=Path)
    options.add_argument("--only", type=int)
    ended = fuzz(**vars(options.parse_args()))
    total: Counter[str] = Counter()
    for name, counts in sorted(ended.items()):
        print(f"{name:<16}", *(f"{kind} {n:,}" for kind, n in sorted(counts.items())))
        total += counts
    print(f"{'all':<16}", *(f"{kind} {n:,}" for kind, n in sorted(total.items())))
    sys.exit(1 if total["traceback"] else 0)


if __name__ == "__main__":
    main()
