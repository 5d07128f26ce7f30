"""The commands as a user meets them: exit codes, one line on stderr, results on stdout."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.main import get_group

import cli

ROOT = Path(__file__).parents[1]

COMMANDS = sorted(get_group(cli.app).commands)

HOLDOUT = ("--protocol", "holdout", "--set", "train_folds=2", "--set", "valid_folds=2")

SMALL = (*HOLDOUT, "--set", "image_size=32")

N_IMAGES = {"train": 8, "valid": 6, "test": 4}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process, through the same door as a shell does."""

    def call(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["cli.py", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return Ended(int(end.value.code or 0), out, err)

    return call


def start(*arguments: str | Path, before: str = "") -> subprocess.Popen[str]:
    """A command in a process of its own, after a line of Python."""
    # Shells that put a job into the background have it ignore Ctrl-C.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{listen}\n{before}\nimport cli; cli.main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=120)
    return Ended(process.returncode, out, err)


def one_line(ended: Ended) -> str:
    """The line that a refused command leaves behind; nothing else is anywhere."""
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
    assert ended.err.endswith("\n")
    return ended.err


def write_corpus(folder: Path) -> Path:
    """A corpus of 2020 with grey squares: C1 on every image, C2 on every second one."""
    rng = np.random.default_rng(0)
    lists = {"train": "Training-Concepts.txt", "valid": "Validation-Concepts.txt"}
    for split, n_images in N_IMAGES.items():
        (folder / split / "DRCT").mkdir(parents=True)
        lines = []
        for number in range(n_images):
            pixels = rng.integers(0, 255, (40, 40), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / split / "DRCT" / f"{split}{number}.jpg")
            lines.append(f"{split}{number}\t{'C1;C2' if number % 2 else 'C1'}\n")
        if split in lists:
            (folder / lists[split]).write_text("".join(lines))
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "source")


def cut_short(path: Path) -> None:
    """Leave the first half of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


# Help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_all_but_deal_take_a_workspace(command: str, run: Run) -> None:
    ended = run(command, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert bool(re.search(r"-w, --workspace", ended.out)) == (command != "deal")


def test_the_stages_are_commands() -> None:
    stages = {"prepare", "train-backbone", "fuse", "ensemble", "score", "check", "report"}
    assert stages | {"reproduce"} <= {*COMMANDS}


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, cli\n"
        f"for command in [[], *([c] for c in {COMMANDS})]:\n"
        "    sys.argv = ['cli.py', *command, '--help']\n"
        "    try: cli.main()\n"
        "    except SystemExit: pass\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(re.findall(r"'(\w+)'", done.stderr))
    assert "typer" in loaded
    heavy = {"torch", "timm", "lightgbm", "numba", "sklearn", "scipy", "pandas", "numpy", "PIL"}
    assert not heavy & loaded


def test_without_a_command_there_is_help(run: Run) -> None:
    ended = run()
    assert "train-backbone" in ended.out + ended.err
    assert "Traceback" not in ended.err


# What the user can mend


@pytest.mark.parametrize("command", ["fuse", "ensemble", "report"])
def test_an_empty_workspace_names_the_command_to_run(
    command: str, run: Run, tmp_path: Path
) -> None:
    line = one_line(run(command, "-w", tmp_path / "runs"))
    assert line.startswith(f"MissingStageError: {tmp_path / 'runs'}: no such folder")
    assert "prepare SOURCE" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("command", "named"),
    [("fuse", "train-backbone"), ("ensemble", "train-backbone"), ("report", "ensemble")],
)
def test_a_stage_before_its_time_names_the_command_to_run(
    command: str, named: str, run: Run, source: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    assert run("prepare", source, "-w", runs, *SMALL).code == 0
    line = one_line(run(command, "-w", runs))
    assert line.startswith("MissingStageError: ")
    assert f"`python cli.py {named}" in line
    assert f"-w {runs}`" in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("train-backbone --category DRCX", "--category DRCX: expected global, each or one of DRAN"),
        ("train-backbone --preset fast", "--preset fast: expected one of auto, quick, "),
        ("fuse --preset fast -w {corpus}", "--preset fast: expected one of quick"),
        ("ensemble --preset fast -w {corpus}", "--preset fast: expected one of quick"),
        ("train-backbone --set epoch=3", "unknown setting 'epoch'; did you mean 'epochs'?"),
        ("fuse --set stratgies=prior -w {corpus}", "did you mean 'strategies'?"),
        ("ensemble --set stacker=mean -w {corpus}", "did you mean 'stackers'?"),
        ("prepare --set image_sise=64", "unknown setting 'image_sise'; did you mean 'image_size'?"),
        (
            "train-backbone --set epochs=many",
            "--set: epochs: expected a whole number, found 'many'",
        ),
        ("train-backbone --set epochs=0", "epochs: expected 1 to 100,000, found 0"),
        ("train-backbone --set epochs", "--set epochs: expected key=value"),
        ("train-backbone --weights none --start-from global", "--weights, --start-from: either"),
        ("train-backbone --device gpu", "--device gpu: expected cpu, cuda"),
        ("reproduce 11", "no experiment 11: the paper has 10"),
        ("reproduce --scale huge", "--scale huge: expected full or tiny or small"),
        ("reproduce --weights vgg16", "--weights vgg16: expected key=value"),
        ("reproduce --weights lenet=x", "--weights lenet=...: the experiments have densenet169"),
        ("reproduce --weights vgg16={tmp}/none", "none: no such weights file"),
        ("reproduce --device gpu", "--device gpu: expected cpu, cuda"),
        ("prepare --set train_folds=1", "train_folds: expected 2 to 1,000, found 1"),
        ("prepare --set seed=-1", "seed: expected 0 to 9,223,372,036,854,775,807, found -1"),
        ("prepare --set image_size=9999", "image_size: expected 32 to 4,096, found 9999"),
        ("prepare --set phantom_images=0", "phantom_images: expected 1 to 1,000,000, found 0"),
        ("prepare --config {tmp}/none.toml", "none.toml: no such file"),
        ("train-backbone --config {tmp}/none.toml", "none.toml: no such file"),
        ("prepare --config {tmp}/broken.toml", "broken.toml: not TOML"),
        ("prepare --config {tmp}/odd.toml", "odd.toml: unknown setting 'sede'; did you mean"),
        ("prepare {tmp}/nowhere", "nowhere: no such file or folder"),
        ("prepare {tmp}/empty", "empty: the folder is empty"),
        ("prepare {tmp}/broken.toml", "broken.toml: a manifest ends in .csv or .tsv"),
        ("prepare {tmp}/source --layout 2018", "no layout '2018'; known: 2020, 2021"),
        ("stats {tmp}/nowhere", "nowhere: no such file or folder"),
        ("stats {tmp}/empty", "empty: the folder is empty"),
        ("stats {tmp}/blank.txt", "blank.txt: empty; expected a concept list"),
        ("stats {tmp}/broken.toml", "broken.toml: not a concept list; expected lines like one of"),
        ("stats {tmp}/source --layout 2018", "no layout '2018'; known: 2020, 2021"),
        ("stats {tmp}/source --names {tmp}/none", "none: no such file"),
        ("ensemble --member {tmp}/nowhere -w {corpus}", "nowhere/valid: no such folder"),
        ("ensemble --edition 2021 -w {corpus}", "edition 2021: no public evaluator is known"),
        ("ensemble --edition 1999 -w {corpus}", "edition 1999: not known; expected one of 2017"),
        ("score {tmp}/none --truth {tmp}/none --edition 2020", "none: no such file"),
        ("check {tmp}/none --edition 2020", "SubmissionError: {tmp}/none: no such file"),
        ("check {tmp}/empty --edition 2020", "cannot be read (Is a directory)"),
        ("check {tmp}/broken.toml --edition 2016", "edition 2016: not known"),
        ("check {tmp}/broken.toml --edition 2020 -w {tmp}/runs", "{tmp}/runs: no such folder"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: str, expected: str, run: Run, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.toml").write_text("seed = = 1\n")
    (tmp_path / "odd.toml").write_text("sede = 1\n")
    (tmp_path / "blank.txt").write_text("\n")
    places = {"tmp": tmp_path, "corpus": tmp_path / "prepared"}
    if "{corpus}" in arguments:
        assert run("prepare", source, "-w", places["corpus"], *SMALL).code == 0
    given = [part.format(**places) for part in arguments.split()]
    if given[0] in ("prepare", "train-backbone", "reproduce", "stats"):
        given += ["-w", str(tmp_path / "runs")]
    line = one_line(run(*given))
    assert re.match(r"[A-Z]\w+Error: ", line)
    assert expected.format(**places) in line
    assert not (tmp_path / "runs").exists()  # refused before any work was done


def test_given_weights_win_over_those_of_a_settings_file(
    run: Run, source: Path, tmp_path: Path
) -> None:
    assert run("prepare", source, "-w", tmp_path / "runs", *SMALL).code == 0
    (tmp_path / "tiny.toml").write_text('backbone = "test_resnet"\nweights = "none"\n')
    train = ("train-backbone", "-w", tmp_path / "runs", "--config", tmp_path / "tiny.toml")
    line = one_line(run(*train, "--weights", tmp_path / "gone.pth"))
    assert "gone.pth: no such weights file; expected a file, the run folder" in line
    line = one_line(run(*train, "--weights", "package"))
    assert "no package carries test_resnet" in line


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (("predict", ""), "the argument after 'predict'"),
        (("prepare", "-w", ""), "the argument after '-w'"),
        (("stats", "--workspace="), "--workspace"),
    ],
)
def test_an_empty_argument_is_not_the_current_folder(
    arguments: tuple[str, ...],
    place: str,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run(*arguments)
    refusal = f"ConfigError: {place} is empty; is a variable of the shell not set?\n"
    assert (ended.code, ended.out, ended.err) == (2, "", refusal)
    assert not [*tmp_path.iterdir()]


def test_an_option_that_does_not_exist_is_exit_code_2(run: Run) -> None:
    ended = run("ensemble", "--epochs", "3")
    assert ended.code == 2
    assert "No such option" in ended.err
    assert "Traceback" not in ended.err


def test_a_wrong_separator_in_a_concept_list_is_named_with_file_and_line(
    run: Run, source: Path, tmp_path: Path
) -> None:
    path = source / "Training-Concepts.txt"
    path.write_text(path.read_text().replace("train3\tC1;C2", "train3,C1;C2"))
    line = one_line(run("prepare", source, "-w", tmp_path / "runs", *SMALL))
    assert f"{path}: line 4: expected ID<TAB>CUI;CUI, found 'train3,C1;C2'" in line


def test_an_image_in_two_splits_is_named(run: Run, source: Path, tmp_path: Path) -> None:
    image = source / "train" / "DRCT" / "train3.jpg"
    (source / "valid" / "DRCT" / "train3.jpg").write_bytes(image.read_bytes())
    line = one_line(run("prepare", source, "-w", tmp_path / "runs", *SMALL))
    assert "image 'train3' stands twice" in line
    assert "/train/DRCT/train3.jpg" in line
    assert "/valid/DRCT/train3.jpg" in line


@pytest.mark.parametrize("name", ["train/DRCT/train3.jpg", "test/DRCT/test1.jpg"])
def test_a_truncated_image_stops_a_strict_reading_and_is_counted_otherwise(
    name: str, run: Run, source: Path, tmp_path: Path
) -> None:
    cut_short(source / name)
    arguments = ("prepare", source, "-w", tmp_path / "runs", *SMALL)
    line = one_line(run(*arguments, "--strict"))
    assert line.startswith(f"ImageError: {source / name}: cannot be decoded")
    ended = run(*arguments)
    assert (ended.code, ended.err) == (0, "")
    assert "note: 1 images cannot be decoded and are left out of training" in ended.out
    assert str(source / name) in ended.out
    assert "test: 4 images" in ended.out


def test_names_that_no_file_can_hold_are_refused(run: Run, source: Path, tmp_path: Path) -> None:
    image = source / "train" / "DRCT" / "train3.jpg"
    image.rename(image.with_name("train\n3.jpg"))
    line = one_line(run("prepare", source, "-w", tmp_path / "runs", *SMALL))
    assert "1 image whose id or path is not UTF-8 or has control characters" in line


def test_a_workspace_below_a_file_is_one_line(run: Run, source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = one_line(run("prepare", source, "-w", tmp_path / "file" / "runs", *SMALL))
    assert line.endswith("Not a directory\n")
    assert str(tmp_path / "file") in line


def test_a_folder_of_the_user_is_never_replaced(run: Run, source: Path, tmp_path: Path) -> None:
    corpus = source.rename(tmp_path / "corpus")  # where the workspace would put its own
    line = one_line(run("prepare", corpus, "-w", tmp_path, *SMALL))
    assert f"{corpus}: would be replaced, but holds what `prepare` did not write" in line
    assert len(list(corpus.rglob("*.jpg"))) == sum(N_IMAGES.values())
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
    assert run("prepare", corpus, "-w", tmp_path / "runs", *SMALL).code == 0


# Statistics


def test_stats_of_a_prepared_corpus_and_of_its_source_are_the_same(
    run: Run, source: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    assert run("prepare", source, "-w", runs, *SMALL).code == 0
    prepared, lying = run("stats", "-w", runs), run("stats", source, "-w", runs)
    assert (prepared.code, prepared.err) == (lying.code, lying.err) == (0, "")
    [of_source] = (runs / "reports").glob("stats-source-*")
    folders = runs / "reports" / "stats", of_source
    for ended, folder in zip((prepared, lying), folders, strict=True):
        path, *lines = ended.out.splitlines()
        assert path == str(folder / "stats.md")
        # C1 on all 8 + 6 images, C2 on every second one: 21 / 14 = 1.5; 1.5 / 2 = 0.75
        assert (
            "  train and valid: 21 assignments of 2 concepts to 14 images, 1.50 concepts an image"
            " (label cardinality), 0.7500 of all concepts (label density)" in lines
        )
        assert (folder / "top-concepts-train.png").is_file()
    pages = [(folder / "stats.md").read_text() for folder in folders]
    assert pages[0] == pages[1]


def test_stats_of_a_concept_list_need_no_images(run: Run, source: Path, tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("C1\tchest\n")
    ended = run(
        "stats", source / "Validation-Concepts.txt", "-w", tmp_path / "runs",
        "--names", tmp_path / "names.csv",
    )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    assert "valid: 9 assignments of 2 concepts to 6 images" in ended.out
    [folder] = (tmp_path / "runs" / "reports").glob("stats-Validation-Concepts-*")
    assert "C1,chest,6,1\n" in (folder / "concepts.csv").read_text()
    assert not (tmp_path / "runs" / "corpus").exists()


def test_stats_without_a_corpus_are_those_of_the_phantom_corpus(run: Run, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert run("prepare", "-w", runs, *SMALL, "--set", "phantom_images=60").code == 0
    ended = run("stats", "-w", runs)
    assert (ended.code, ended.err) == (0, "")
    assert "phantom corpus" in ended.out


# Processes of their own


def test_a_real_process_ends_the_same_way(tmp_path: Path) -> None:
    line = one_line(finish(start("ensemble", "-w", tmp_path / "runs")))
    assert line.startswith("MissingStageError: ")


def test_without_a_terminal_there_is_neither_progress_nor_colour(
    source: Path, tmp_path: Path
) -> None:
    ended = finish(start("prepare", source, "-w", tmp_path / "runs", *SMALL))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("source (ImageCLEF 2019/20): 18 images, 2 concepts in train\n")
    assert ended.out.isascii()
    assert ended.out.replace("\n", "").isprintable()  # no escape codes, no carriage returns


def test_a_file_that_cannot_grow_is_named_in_one_line(source: Path, tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, 15_000))"
    # A plane of 18 images of 32 x 32 pixels is 18,432 bytes.
    ended = finish(start("prepare", source, "-w", tmp_path / "runs", *SMALL, before=limit))
    assert re.fullmatch(r"/\S+/first\.npy: File too large\n", one_line(ended))
    assert not list((tmp_path / "runs").rglob("*.npy"))


def drawing(workspace: Path) -> subprocess.Popen[str]:
    """A `prepare` that has begun to draw and will not be done for minutes."""
    process = start("prepare", "--set", "phantom_images=20000", "-w", workspace)
    deadline = time.monotonic() + 60
    while not any(path.is_file() for path in workspace.glob(".phantom.*/**/*.*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def test_an_interrupted_command_says_so_and_leaves_no_draft(tmp_path: Path) -> None:
    process = drawing(tmp_path / "runs")
    process.send_signal(signal.SIGINT)
    ended = finish(process)
    assert (ended.code, ended.out) == (130, "")
    assert ended.err == "interrupted; run the same command again to go on\n"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".prepare.lock"]


def test_an_interruption_that_a_library_took_for_its_own_error_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def draws() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            raise ValueError("Invalid bounding box") from None

    monkeypatch.setattr(cli, "app", draws)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert before[0] is signal.default_int_handler
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted; run the same command again to go on\n"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_what_a_killed_command_left_is_swept_by_the_next(run: Run, tmp_path: Path) -> None:
    process = drawing(tmp_path / "runs")
    process.kill()
    assert finish(process).code == -signal.SIGKILL
    assert len(list((tmp_path / "runs").glob(".phantom.*"))) == 1
    small = (*SMALL, "--set", "phantom_images=40")
    assert run("prepare", "-w", tmp_path / "runs", *small).code == 0
    made = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert made == [".prepare.lock", "cache", "corpus", "phantom", "prepared.json"]


# Submissions

GOOD = {
    2020: "a\tC1;C2\nb\tC3\nc\tC1\n",
    2022: "a|C1;C2\nb|C3\nc|C1\n",
    2023: "a|C1;C2\nb|C3\nc|C1\n",
    2025: "ID,CUIs\na,C1;C2\nb,C3\nc,C1\n",
    2026: "ID,CUIs\na,C1;C2\nb,C3\nc,C1\n",
}
SEPARATOR = {2020: "\t", 2022: "|", 2023: "|", 2025: ",", 2026: ","}
HEADER = {2020: "", 2022: "ID\tCUIs\n", 2023: "", 2025: "ID,CUIs\n", 2026: "ID,CUIs\n"}
TRUTH_SEPARATOR = {2020: "\t", 2022: "\t", 2023: "|", 2025: ",", 2026: ","}
YEARS = list(GOOD)


def write_truth(folder: Path, year: int) -> Path:
    path = folder / "truth.csv"
    rows = (("a", "C1;C2"), ("b", "C3"), ("c", "C1"))
    lines = [f"{TRUTH_SEPARATOR[year].join(row)}\n" for row in rows]
    path.write_text(HEADER[year] + "".join(lines))
    return path


@pytest.mark.parametrize("year", YEARS)
def test_a_good_submission_is_taken(year: int, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text(GOOD[year])
    truth = write_truth(tmp_path, year)
    ended = run("check", path, "--edition", str(year), "--truth", truth)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"{path}: the {year} evaluator would take it (all 3 images)\n"


MANY = ";".join(f"C{number}" for number in range(101))

FAULTS = {  # what to write for a line of image b, with the separator as |; and what is said of it
    "an image twice": ("b|C3\na|C1", 3, "image 'a' stands twice, first on line 1"),
    "an unknown image": ("b|C3\nz|C1", 3, "image 'z' is not in the test set"),
    "a missing image": ("", None, "1 of 3 images are missing: ['b']"),
    "a concept twice": ("b|C3;C3", 2, "concepts stand twice: ['C3']"),
    "101 concepts": (f"b|{MANY}", 2, "101 concepts; at most 100 are allowed"),
    "three columns": ("b|C3|C4", 2, "cells: 3; expected an id and its concepts"),
}


@pytest.mark.parametrize("year", YEARS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused_with_file_line_and_reason(
    fault: str, year: int, run: Run, tmp_path: Path
) -> None:
    written, line, reason = FAULTS[fault]
    mark = SEPARATOR[year]
    good = GOOD[year].replace(f"b{mark}C3\n", "{}")
    path = tmp_path / "run.csv"
    path.write_text(good.format(written.replace("|", mark) + "\n" if written else ""))
    ended = run("check", path, "--edition", str(year), "--truth", write_truth(tmp_path, year))
    n_before = int(year >= 2025)  # a header moves the lines, but not the first mention's number
    place = f"{path}:" if line is None else f"{path}:{line + n_before}:"
    reason = reason.replace("line 1", f"line {1 + n_before}")
    assert ended.code == 2
    assert any(told.startswith(f"{place} {reason}") for told in ended.out.splitlines())
    assert re.fullmatch(rf"SubmissionError: {re.escape(str(path))}: \d+ faults; .*\n", ended.err)


@pytest.mark.parametrize("year", YEARS)
def test_a_wrong_separator_is_refused_with_the_line_and_the_right_one(
    year: int, run: Run, tmp_path: Path
) -> None:
    wrong = "," if SEPARATOR[year] != "," else "\t"
    path = tmp_path / "run.csv"
    path.write_text(GOOD[year].replace(f"b{SEPARATOR[year]}C3", f"b{wrong}C3"))
    ended = run("check", path, "--edition", str(year), "--truth", write_truth(tmp_path, year))
    name = "','" if wrong == "," else "TAB"
    assert ended.code == 2
    assert f"{path}:{3 if year >= 2025 else 2}: " in ended.out
    assert f"{name} does not separate id and concepts here" in ended.out


@pytest.mark.parametrize(
    ("line", "written", "reason"),
    [
        (3, "c,C1\nb,C3\n", "images must stand in the order of the truth: 'c' where 'b' belongs"),
        (3, "\nb,C3\nc,C1\n", "blank line; remove it"),
        (3, "b, C3\nc,C1\n", "blanks around the concepts; remove them"),
        (3, "b ,C3\nc,C1\n", "image 'b ' is not in the test set; remove the blanks"),
        (3, "b\nc,C1\n", "cells: 1; expected an id and its concepts"),
        (3, "b,C3,\nc,C1\n", "cells: 3; expected an id and its concepts"),
        (3, "b,D3\nc,C1\n", "not C and digits: ['D3']"),
        (3, "b,c3\nc,C1\n", "not C and digits: ['c3']"),
        (3, "b,C3;\nc,C1\n", "empty concept; remove the surplus ';'"),
    ],
)
def test_2026_is_strict(line: int, written: str, reason: str, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text(f"ID,CUIs\na,C1;C2\n{written}")
    ended = run("check", path, "--edition", "2026", "--truth", write_truth(tmp_path, 2026))
    assert ended.code == 2
    assert f"{path}:{line}: {reason}" in ended.out


def test_2025_takes_any_order(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text("ID,CUIs\na,C1;C2\nc,C1\nb,C3\n")
    ended = run("check", path, "--edition", "2025", "--truth", write_truth(tmp_path, 2025))
    assert ended.code == 0


@pytest.mark.parametrize("year", YEARS)
def test_an_image_without_concepts_is_fine(year: int, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text(GOOD[year].replace(f"b{SEPARATOR[year]}C3", f"b{SEPARATOR[year]}"))
    ended = run("check", path, "--edition", str(year), "--truth", write_truth(tmp_path, year))
    assert ended.code == 0


def test_the_images_of_a_workspace_are_those_to_submit(
    run: Run, source: Path, tmp_path: Path
) -> None:
    assert run("prepare", source, "-w", tmp_path / "runs", *SMALL).code == 0
    path = tmp_path / "run.txt"
    path.write_text("".join(f"test{number}\tC1\n" for number in range(4)))
    ended = run("check", path, "--edition", "2020", "-w", tmp_path / "runs")
    assert "would take it (all 4 images)" in ended.out
    path.write_text("test0\tC1\n")
    ended = run("check", path, "--edition", "2020", "-w", tmp_path / "runs")
    assert ended.code == 2
    assert "3 of 4 images are missing: ['test1', 'test2', 'test3']" in ended.out


def test_a_score_as_json_is_that_and_nothing_else(run: Run, tmp_path: Path) -> None:
    truth = write_truth(tmp_path, 2020)
    path = tmp_path / "run.txt"
    path.write_text("a\tC1\nb\tC3\nc\tC2\n")
    ended = run("score", path, "--truth", truth, "--edition", "2020", "--json")
    # a: 2 * 1 / (2 + 1) = 2/3, b: 1, c: 0; (2/3 + 1 + 0) / 3 = 5/9
    f1 = (2 / 3 + 1.0 + 0.0) / 3
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f'{{"f1": {f1!r}, "n_images": 3}}\n'
    assert json.loads(ended.out) == {"f1": pytest.approx(5 / 9), "n_images": 3}


def test_a_score_for_people_says_how_many_images_and_which_rule(run: Run, tmp_path: Path) -> None:
    truth = write_truth(tmp_path, 2020)
    ended = run("score", truth, "--truth", truth, "--edition", "2020")
    assert ended.out == "F1 1.0 over 3 images (2020 rule)\n"


def test_the_secondary_score_needs_its_own_truth(run: Run, tmp_path: Path) -> None:
    # The manual list has the chest on b, which the other truth lacks: 1 and 1 against 1 and 2/3.
    both = {"truth": "C0040405", "manual": "C0040405;C0817096", "run": "C0040405;C0817096"}
    paths = {name: tmp_path / f"{name}.csv" for name in both}
    for name, text in both.items():
        paths[name].write_text(f"ID,CUIs\na,C0041618\nb,{text}\n", encoding="utf-8")
    asked = ("score", paths["run"], "--truth", paths["truth"], "--edition", "2026")
    alone = run(*asked).out.splitlines()
    assert alone == ["F1 0.8333333333333333 over 2 images (2026 rule)"]
    with_it = run(*asked, "--secondary-truth", paths["manual"]).out.splitlines()
    assert with_it == [*alone, "secondary F1 1.0 over 2 images"]
    numbers = json.loads(run(*asked, "--secondary-truth", paths["manual"], "--json").out)
    assert (numbers["secondary_f1"], numbers["n_secondary"]) == (1.0, 2)
    older = (*asked[:-1], "2020", "--secondary-truth", paths["manual"])
    assert "edition 2020: has no secondary score" in one_line(run(*older))


def test_a_refused_submission_has_no_score(run: Run, tmp_path: Path) -> None:
    truth = write_truth(tmp_path, 2020)
    path = tmp_path / "run.txt"
    path.write_text("a\tC1;C1\nb\tC3\nc\tC2\n")
    line = one_line(run("score", path, "--truth", truth, "--edition", "2020", "--json"))
    assert line == f"SubmissionError: {path}:1: concepts stand twice: ['C1']\n"
    lenient = run("score", path, "--truth", truth, "--edition", "2020", "--json", "--public-script")
    assert json.loads(lenient.out)["n_images"] == 3


def test_without_the_packages_one_line_says_how_to_install_them() -> None:
    ended = subprocess.run(
        [sys.executable, "-S", "cli.py", "fuse"],  # -S: no site-packages
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "make install" in ended.stderr
