"""Bundles that were changed or made to harm: each is refused in one line that names the file."""

import json
import multiprocessing
import os
import pickle
import shutil
import stat
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from core.errors import BundleError
from inference.bundle.bundle import bundle_identity, read_bundle
from inference.bundle.checks import check_forest
from inference.bundle.files import parse_sums, write_sums
from inference.bundle.tensors import BundleFiles
from inference.bundle.typed import parse_json
from inference.bundle.zips import write_zip


@pytest.fixture
def bundle(bundled: Path, tmp_path: Path) -> Path:
    """A bundle that may be spoilt."""
    return Path(shutil.copytree(bundled, tmp_path / "b"))


def refused(place: Path, reason: str) -> None:
    with pytest.raises(BundleError, match=reason) as refusal:
        read_bundle(place)
    assert len(str(refusal.value).splitlines()) == 1
    assert str(place) in str(refusal.value)


def named(bundle: Path, pattern: str) -> Path:
    return sorted(bundle.glob(pattern))[0]


def test_a_changed_byte_is_found_wherever_it_is(bundle: Path) -> None:
    for path in sorted(p for p in bundle.rglob("*") if p.is_file()):
        data = path.read_bytes()
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        refused(bundle, r"\w" if path.name == "SHA256SUMS" else rf"{path.name}: was changed since")
        path.write_bytes(data)
    path.write_bytes(data[:-1])
    refused(bundle, rf"{path.name}: was changed since it was written; copy or make")


def test_files_missing_too_many_or_of_a_strange_kind(bundle: Path, tmp_path: Path) -> None:
    (bundle / "labels.txt").rename(tmp_path / "labels.txt")
    refused(bundle, r"b/labels.txt: missing from the bundle; copy or make the bundle again")
    shutil.copy(tmp_path / "labels.txt", bundle)
    for name, reason in {
        "notes.txt": r"b/notes.txt: no part of the bundle; remove it",
        "model.pkl": r"'model.pkl' is of a kind that no bundle has",
        "run.pt": r"'run.pt' is of a kind that no bundle has",
        ".hidden.txt": r"'.hidden.txt' is no name of a bundle's file",
    }.items():
        (bundle / name).write_bytes(b"x")
        refused(bundle, reason)
        (bundle / name).unlink()
    (bundle / "labels.txt").unlink()
    (bundle / "labels.txt").symlink_to(tmp_path / "labels.txt")
    refused(bundle, r"b/labels.txt: is a link; a bundle holds plain files alone")


def test_what_is_no_bundle(bundle: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "no such folder or zip; name a bundle")
    refused(tmp_path, r"no bundle.json in it, so it is no bundle")
    (tmp_path / "text.zip").write_text("no zip")
    refused(tmp_path / "text.zip", "not a zip that can be read")
    (bundle / "SHA256SUMS").unlink()
    refused(bundle, "SHA256SUMS: missing from the bundle")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("../labels.txt", r"'../labels.txt' leaves the bundle's folder; do not use it"),
        ("/etc/passwd", "'/etc/passwd' leaves the bundle's folder"),
        ("C:/labels.txt", "'C:/labels.txt' leaves the bundle's folder"),
        ("parts/../../x.txt", "leaves the bundle's folder"),
        ("a/b/c.txt", "is no name of a bundle's file"),
        ("model.pkl", "of a kind that no bundle has"),
        ("Labels.txt", "a name stands twice"),
    ],
)
def test_a_list_of_checksums_names_files_of_the_bundle_alone(line: str, reason: str) -> None:
    digest = "0" * 64
    data = f"{digest}  bundle.json\n{digest}  labels.txt\n{digest}  {line}\n".encode()
    with pytest.raises(BundleError, match=reason):
        parse_sums(data, where="SHA256SUMS")


def test_a_list_of_checksums_is_whole() -> None:
    for data, reason in {
        b"\xff": "not a list of checksums",
        b"abc  labels.txt\n": "line 1 is no checksum and name",
        b"0" * 64 + b"  labels.txt\n": "does not name bundle.json",
        b"0" * 64 + b"  bundle.json": "the end is missing",
    }.items():
        with pytest.raises(BundleError, match=reason):
            parse_sums(data, where="SHA256SUMS")


def change(bundle: Path, edit: Callable[[Any], object], name: str = "bundle.json") -> None:
    """Change JSON as somebody would who writes the checksums anew."""
    value = json.loads((bundle / name).read_text(encoding="utf-8"))
    edit(value)
    (bundle / name).write_text(json.dumps(value), encoding="utf-8")
    write_sums(bundle)


def network(graph: Any) -> Any:
    return next(iter(graph["networks"].values()))


def part(graph: Any, kind: str) -> Any:
    return next(entry for entry in graph["parts"] if entry["kind"] == kind)


def fine_tuned(graph: Any) -> Any:
    return next(entry for entry in graph["parts"] if entry.get("fine_tuned"))


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda g: g.update(format=5), r"of format '5'; this version reads 1, 2, 3 and 4"),
        (lambda g: g.update(format=True), r"of format 'True'"),
        (lambda g: g.update(edition="2020"), r"edition: expected a whole number, found 2020"),
        (lambda g: g.update(edition=10**400), "a number of 401 digits"),
        (lambda g: g.update(extra=1), r"unknown entry 'extra'; made by another version"),
        (lambda g: g.pop("members"), r"lacks 'members'; made by another version"),
        (lambda g: g["parts"][0].update(kind="code"), r"kind: expected one of detector, heads"),
        (lambda g: g.update(members=[]), "has no concepts, or no members"),
        (lambda g: g.update(guess=7), "there is no guess 7"),
        (lambda g: g.update(distance=["x"]), "distance: no network gives the features 'x'"),
        (lambda g: g.update(distance="x"), "distance: expected a list"),
        (lambda g: g.pop("distance"), "lacks 'distance'"),
        (lambda g: g.update(distance=[]), "no part of the bundle|is not asked for|distance"),
        (
            lambda g: g.update(distance=2 * g["distance"]),
            "distance: of other features than bundle.json says",
        ),
        (lambda g: g.update(reference=-1), "there is no reference -1"),
        (lambda g: part(g, "voted").update(network="voted"), "there is no part 'voted' before it"),
        (lambda g: part(g, "voted").update(share=2.0), "a share of 2.0"),
        (lambda g: part(g, "heads").update(strategy="eval"), "no strategy 'eval'"),
        (lambda g: part(g, "heads").update(hidden=[10**9]), "hidden: expected 1 to 65,536"),
        (lambda g: part(g, "heads").update(weights="../x.safetensors"), "leaves the bundle"),
        (lambda g: part(g, "heads").update(weights="x.safetensors"), "missing from the bundle"),
        (lambda g: part(g, "detector").update(features=["x"]), "no network gives the features"),
        (lambda g: part(g, "detector").update(category="EYE"), "a category that is none"),
        (lambda g: fine_tuned(g).update(head="words"), "the head words is given all places"),
        (lambda g: fine_tuned(g).update(head="x"), "head: expected one of 'layers', 'queries'"),
        (lambda g: part(g, "retrieval").update(k=[5]), "not as many of each thing"),
        (lambda g: part(g, "retrieval").update(references=[99] * 3), "there is no reference 99"),
        (lambda g: network(g).update(backbone="vgg16"), "not that of a vgg16"),
        (lambda g: network(g).update(backbone="x"), "timm has no network 'x'"),
        (lambda g: network(g).update(size=10**6), "images of 1000000 pixels"),
        (lambda g: g["candidates"].update(floor="a"), "floor: expected a number"),
        (lambda g: g["parts"].append(g["parts"][0]), "stands twice"),
        (lambda g: g["members"][0].update(category="EYE"), "no category 'EYE'"),
        (lambda g: g["members"].append(g["members"][0]), "a member stands twice"),
        (lambda g: g["guesses"][0]["models"].pop(), "more views than models"),
        (lambda g: network(g).update(n_features=7), "gives 256 features|expected|do not fit"),
        (lambda g: part(g, "retrieval").update(k=[0] * 3), "k or temperature below|as many"),
    ],
)  # fmt: skip
def test_a_graph_that_does_not_hold_is_refused(
    bundle: Path, edit: Callable[[Any], object], reason: str
) -> None:
    change(bundle, edit)
    refused(bundle, reason)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda r: r.update(kind="eval"), "unknown decision rule 'eval'"),
        (lambda r: r.update(floor=None), "floor: expected a number, found None"),
        (lambda r: r.update(max_concepts=0), "max_concepts of 0"),
        (lambda r: r["always"].update(EYE=[]), "no category 'EYE'"),
        (lambda r: r["always"].update(DRCT=["C7"]), "1 of .* are not in the label space"),
        (lambda r: r.update(thresholds=None), "needs thresholds"),
        (lambda r: r["calibration"].update(kind="magic"), "expected one of temperature"),
        (
            lambda r: r.update(
                calibration={
                    "kind": "isotonic",
                    "shared": {"before": [1, 0], "after": [0, 1]},
                    "by_concept": {},
                }
            ),
            "a calibration that does not rise",
        ),
    ],
)
def test_a_rule_that_does_not_hold_is_refused(
    bundle: Path, edit: Callable[[Any], object], reason: str
) -> None:
    change(bundle, edit, "decision.json")
    refused(bundle, reason)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"stacker": "pickle"}, "kind: expected one of mean, member, greedy"),
        ({"stacker": "member", "member": "nobody"}, "made of other members than the bundle's"),
        ({"stacker": "greedy", "feature_names": [], "weights": []}, "made of other members"),
        ({"stacker": "votes", "feature_names": [], "thresholds": []}, "made of other members"),
        ({"stacker": "lightgbm", "feature_names": [1]}, "feature_names: 0: expected text"),
        ([], "expected an object"),
    ],
)
def test_a_stacker_of_other_members_is_refused(bundle: Path, header: Any, reason: str) -> None:
    (bundle / "stacker" / "stacker.json").write_text(json.dumps(header))
    write_sums(bundle)
    refused(bundle, reason)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"[" * 100_000, "nests too deeply"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": 1, "a": 2}', "a key stands twice"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "not JSON"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_hostile_json_ends_in_one_line(data: bytes, reason: str) -> None:
    with pytest.raises(BundleError, match=reason):
        parse_json(data, where="x.json")


def test_tensors_that_do_not_fit_are_refused(bundle: Path) -> None:
    heads = bundle / "parts" / "one-hot.safetensors"
    whole = heads.read_bytes()
    for data, reason in {
        struct.pack("<Q", 2**62) + whole[8:]: "cannot be read as tensors",
        whole[: len(whole) // 2]: "cannot be read as tensors",
        b"": "cannot be read as tensors",
        whole[:8] + b"{" * (len(whole) - 8): "cannot be read as tensors",
    }.items():
        heads.write_bytes(data)
        write_sums(bundle)
        refused(bundle, rf"one-hot.safetensors: {reason}")
    heads.write_bytes(whole)
    tensors = load_file(heads)
    name = min(tensors)
    for spoilt, reason in (
        (torch.full_like(tensors[name], torch.nan), "not finite"),
        (tensors[name].double(), "is of torch.float64"),
        (torch.zeros(1, 2, 3), "its tensors do not fit"),
    ):
        save_file({**tensors, name: spoilt}, heads)
        write_sums(bundle)
        refused(bundle, reason)


def test_features_are_plain_numbers(bundle: Path) -> None:
    path = named(bundle, "reference/*.npy")
    values = np.load(path)
    for spoilt, reason in (
        (np.array([{"a": 1}], dtype=object), "cannot be read as an array"),
        (values[:-1], "expected 56 x 256 of float16"),
        (values.astype(np.float64), "of float64"),
        (np.full_like(values, np.inf), "no features"),
    ):
        np.save(path, spoilt, allow_pickle=True)
        write_sums(bundle)
        refused(bundle, rf"{path.name}: .*{reason}")


def packed(bundle: Path, tmp_path: Path) -> Path:
    write_zip(bundle, tmp_path / "b.zip")
    return tmp_path / "b.zip"


@pytest.mark.parametrize(
    ("name", "mode", "reason"),
    [
        ("../evil.txt", 0, r"'../evil.txt' leaves the bundle's folder"),
        ("/evil.txt", 0, "leaves the bundle's folder"),
        ("..\\evil.txt", 0, "leaves the bundle's folder"),
        ("evil.txt", stat.S_IFLNK | 0o777, "'evil.txt' is a link; do not use it"),
        ("evil.txt", stat.S_IFIFO | 0o777, "is no plain file"),
        ("evil.txt", 0, "evil.txt: no part of the bundle"),
        ("evil.pkl", 0, "of a kind that no bundle has"),
    ],
)
def test_an_entry_of_a_zip_that_has_no_place_is_refused(
    bundle: Path, tmp_path: Path, name: str, mode: int, reason: str
) -> None:
    path = packed(bundle, tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        archive.writestr(entry, "/etc/passwd")
    refused(path, reason)
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zips_that_cheat_are_refused(bundle: Path, tmp_path: Path) -> None:
    path = packed(bundle, tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "C1\n")
    refused(path, "labels.txt: stands twice in the zip")
    (bundle / "labels.txt").write_bytes(bytes(2**20))
    refused(packed(bundle, tmp_path), r"labels.txt: 1,048,576 bytes, where the bundle says \d+;")
    change(bundle, lambda graph: graph["files"].update({"labels.txt": 2**27}))
    with (bundle / "labels.txt").open("wb") as file:
        file.truncate(2**27)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for own in sorted(p for p in bundle.rglob("*") if p.is_file()):
            archive.write(own, own.relative_to(bundle).as_posix())
    refused(path, r"would unpack to 1\d\d,\d+,\d+ bytes, \d+ times its own size; do not use it")


def test_an_encrypted_zip_is_refused(bundle: Path, tmp_path: Path) -> None:
    path = packed(bundle, tmp_path)
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    refused(path, "is encrypted; unpack it, and give the folder")


def test_a_zip_that_was_deflated_by_hand_is_read(bundle: Path, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "own"), "zip", bundle)
    assert len(read_bundle(tmp_path / "own.zip").members) > 1


def test_a_forest_that_leads_astray_is_refused(forest: Path) -> None:
    files = BundleFiles(forest.parents[1], {"stacker/lightgbm.txt"}, shown=Path("b"))
    path, text = forest, forest.read_text()
    path.write_text(text)
    check_forest(files, n_features=3)
    with pytest.raises(BundleError, match="its header is not of these features"):
        check_forest(files, n_features=4)
    line = next(line for line in text.splitlines() if line.startswith("left_child"))
    away = line.replace(line.split("=")[1].split(" ")[0], "0", 1)
    for old, new, reason in (
        (line, away.ljust(len(line)), "leads astray|reached twice|where it should be"),
        ("split_feature=0", "split_feature=9", "asks for a feature that there is not"),
        ("num_cat=0", "num_cat=1", "of a kind that is not ours"),
        ("leaf_value=", "leaf_valye=", "unknown entry leaf_valye"),
        ("end of trees\n", "end of trees\n\nparameters:\n[x 1]\n", "does not end where it should"),
    ):
        assert old in text, old
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(BundleError, match=reason):
            check_forest(files, n_features=3)


def test_what_is_no_plain_file_is_not_opened(bundle: Path, tmp_path: Path) -> None:
    sums = bundle / "SHA256SUMS"
    whole = sums.read_bytes()
    attempts: list[tuple[Callable[[], object], str]] = [
        (lambda: os.mkfifo(sums), "SHA256SUMS: is no plain file; remove it"),
        (sums.mkdir, "SHA256SUMS: is no plain file"),
        (lambda: sums.symlink_to("/dev/zero"), "SHA256SUMS: is a link; a bundle holds plain"),
        (lambda: sums.symlink_to(sums), "SHA256SUMS: is a link"),
    ]
    for make, reason in attempts:
        sums.unlink()
        make()
        refused(bundle, reason)
        with pytest.raises(BundleError, match=reason):
            bundle_identity(bundle)
        sums.rmdir() if sums.is_dir() else sums.unlink()
        sums.write_bytes(whole)
    os.mkfifo(tmp_path / "pipe.zip")
    refused(tmp_path / "pipe.zip", "no such folder or zip")


def as_somebody(read: Callable[[], object]) -> str:
    """What a user without rights is told; tests may run as root, who has all of them."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def ask() -> None:
        if os.getuid() == 0:
            os.setuid(65534)
        try:
            read()
        except BundleError as error:
            theirs.send(str(error))
        theirs.close()

    child = context.Process(target=ask)
    child.start()
    theirs.close()
    said: str = ours.recv()
    child.join()
    return said


def test_what_may_not_be_read_is_named(bundle: Path) -> None:
    # the checksums are read whatever pytest's own folders allow to others
    path = bundle / "SHA256SUMS"
    for parent in bundle.parents:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
        if parent.name.startswith("pytest-of-"):
            break
    path.chmod(0)
    assert as_somebody(lambda: bundle_identity(bundle)) == (
        f"{path}: cannot be read (Permission denied); copy or make the bundle again"
    )


def test_a_file_that_no_part_is_made_of_is_refused(bundle: Path) -> None:
    (bundle / "parts" / "more.npy").write_bytes(pickle.dumps(print))
    write_sums(bundle)
    refused(bundle, r"parts/more\.npy: no part of the bundle is made of it; do not use it")


def test_numbers_that_run_over_are_refused(bundle: Path) -> None:
    whole = (bundle / "forecast.json").read_text(encoding="utf-8")
    change(bundle, lambda r: r["head"].update(by_category={"DRCT": 1e308}), "forecast.json")
    refused(bundle, "forecast.json: a number of concepts that runs over")
    (bundle / "forecast.json").write_text(whole, encoding="utf-8")
    views = bundle / "reference" / "views.safetensors"
    tensors = load_file(views)
    for name, value in (("0.mean", -1e38), ("0.std", 1e-30), ("0.std", -1.0)):
        spoilt = torch.full_like(tensors[name], value)
        save_file({**tensors, name: spoilt}, views)
        write_sums(bundle)
        refused(bundle, rf"views.safetensors: reference 0: no {name[2:]} of features")


def test_a_zip_that_finds_no_room_says_where(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(bundle, tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    refused(path, r"cannot be unpacked among the temporary files \(.*\); name another place in")
