"""Files of weights as people have them: read whole, refused in one line, and never run."""

import argparse
import builtins
import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from backbones.networks.checkpoint_files import (
    checkpoint_in,
    checkpoint_sha256,
    holds_checkpoint,
    read_checkpoint,
)
from core.errors import ConfigError

Save = Callable[[Any, Path], None]


def tensors() -> dict[str, Tensor]:
    """Of several types, one of them a view that starts within its storage, one with no axis."""
    drawn = torch.arange(24, dtype=torch.float32).view(4, 6)
    return {
        "stem.weight": drawn[1:3, ::2],
        "stem.bias": drawn[3],
        "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "count": torch.tensor(7),
        "flags": torch.tensor([True, False]),
        "empty": torch.empty(0, 3),
        "turned": torch.arange(6.0).view(2, 3).T,
    }


def zipped(value: Any, path: Path) -> None:
    torch.save(value, path)


def streamed(value: Any, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def assert_whole(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("save", [zipped, streamed])
def test_torch_files_hold_what_torch_loads(tmp_path: Path, save: Save) -> None:
    save(tensors(), tmp_path / "plain.pth")
    file = read_checkpoint(tmp_path / "plain.pth")
    assert_whole(file.tensors, torch.load(tmp_path / "plain.pth", weights_only=True))
    assert_whole(file.tensors, tensors())
    assert (file.part, file.passed_over, file.arch) == ("", (), "")


def test_parameters_and_tensors_of_the_graph_are_tensors(tmp_path: Path) -> None:
    torch.save(
        {"w": nn.Parameter(torch.ones(2)), "v": torch.ones(2).requires_grad_()}, tmp_path / "p"
    )
    assert_whole(read_checkpoint(tmp_path / "p").tensors, {"w": torch.ones(2), "v": torch.ones(2)})


def test_a_tensor_that_starts_at_an_odd_byte_is_read(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(5.0)}, tmp_path / "even.pth")
    with (
        zipfile.ZipFile(tmp_path / "even.pth") as whole,
        zipfile.ZipFile(tmp_path / "o", "w") as odd,
    ):
        for name in whole.namelist():
            odd.writestr(f"{name}", whole.read(name))
    assert_whole(read_checkpoint(tmp_path / "o").tensors, {"w": torch.arange(5.0)})


def test_only_what_is_taken_is_mapped_from_disk(tmp_path: Path) -> None:
    """A storage that nobody asks for may be missing."""
    state = {"model": {"w": torch.ones(3)}, "optimizer": {"state": {0: torch.ones(1000)}}}
    torch.save(state, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as whole,
        zipfile.ZipFile(tmp_path / "b.pth", "w") as less,
    ):
        for info in whole.infolist():
            if info.file_size != 4000:
                less.writestr(info, whole.read(info))
    assert_whole(read_checkpoint(tmp_path / "b.pth").tensors, {"w": torch.ones(3)})


def write_first_form(state: dict[str, Tensor], path: Path) -> None:
    """Torch's tar files of 2016, which nothing writes any more."""
    storages, described = io.BytesIO(), io.BytesIO()
    pickle.dump(len(state), storages, protocol=2)
    pickle.dump(len(state), described, protocol=2)
    for key, tensor in enumerate(state.values()):
        pickle.dump((key, "cpu", torch.FloatStorage), storages, protocol=2)
        storages.write(struct.pack("<q", tensor.numel()) + tensor.numpy().tobytes())
        pickle.dump((100 + key, key, torch.FloatTensor), described, protocol=2)
        described.write(struct.pack("<ii", tensor.ndim, 0))
        numbers = (*tensor.shape, *tensor.stride(), 0)
        described.write(struct.pack(f"<{len(numbers)}q", *numbers))
    pickle.dump([], storages, protocol=2)

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> int | None:
            return next((100 + k for k, t in enumerate(state.values()) if t is obj), None)

    names = io.BytesIO()
    Pickler(names, protocol=2).dump(state)
    with tarfile.open(path, "w") as archive:
        for name, held in (("storages", storages), ("tensors", described), ("pickle", names)):
            member = tarfile.TarInfo(name)
            member.size = held.tell()
            held.seek(0)
            archive.addfile(member, held)


@pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")  # of torch's own reader
def test_the_first_form_of_torch_files_is_read(tmp_path: Path) -> None:
    state = {"w": torch.arange(6.0).view(2, 3), "b": torch.ones(2)}
    write_first_form(state, tmp_path / "old.pth.tar")
    assert_whole(read_checkpoint(tmp_path / "old.pth.tar").tensors, state)
    assert_whole(torch.load(tmp_path / "old.pth.tar", weights_only=False), state)


def sharded(folder: Path, *, safe: bool) -> dict[str, Tensor]:
    from huggingface_hub import save_torch_state_dict

    folder.mkdir()
    state = {f"layer{i}.weight": torch.full((100, 10), float(i)) for i in range(3)}
    save_torch_state_dict(state, folder, max_shard_size="5KB", safe_serialization=safe)
    return state


@pytest.mark.parametrize(
    ("safe", "index"),
    [(True, "model.safetensors.index.json"), (False, "pytorch_model.bin.index.json")],
)
def test_files_in_parts_are_read_by_their_folder_or_index(
    tmp_path: Path, safe: bool, index: str
) -> None:
    folder = tmp_path / "parts"
    state = sharded(folder, safe=safe)
    assert len(list(folder.iterdir())) == 4
    for path in (folder, folder / index):
        assert_whole(read_checkpoint(path).tensors, state)
        assert read_checkpoint(path).path == path
    assert checkpoint_in(folder).name == index
    before = checkpoint_sha256(folder)
    part = next(p for p in sorted(folder.iterdir()) if p.name != index)
    held = part.read_bytes()
    part.write_bytes(held[:-1] + b"\x01")
    assert checkpoint_sha256(folder / index) != before
    part.unlink()
    with pytest.raises(
        ConfigError, match=rf"index\.json: names {part.name}, which does not lie be"
    ):
        read_checkpoint(folder)
    save_file({"other": torch.ones(1)}, part)
    with pytest.raises(ConfigError, match=rf"{part.name}: has no tensor 'layer\d\.weight', which"):
        read_checkpoint(folder)


@pytest.mark.parametrize("name", ["../evil.bin", "/etc/passwd", "a/b.bin", "x.index.json"])
def test_an_index_that_points_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "m.index.json").write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(ConfigError, match="; expected files of its own folder"):
        read_checkpoint(tmp_path / "m.index.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', "[" * 100_000])
def test_an_index_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.index.json").write_text(text)
    with pytest.raises(ConfigError, match=r"cannot be read as weights \(no `weight_map` of names"):
        read_checkpoint(tmp_path / "m.index.json")


def test_a_folder_is_taken_for_the_one_file_in_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no weights file lies in this folder"):
        read_checkpoint(tmp_path)
    assert not holds_checkpoint(tmp_path)
    torch.save(tensors(), tmp_path / "best.pth")
    assert_whole(read_checkpoint(tmp_path).tensors, tensors())
    assert holds_checkpoint(tmp_path)
    torch.save(tensors(), tmp_path / "last.pth")
    with pytest.raises(
        ConfigError, match=r"2 weights files \(best\.pth, last\.pth\); name the one"
    ):
        read_checkpoint(tmp_path)
    save_file({"w": torch.ones(1)}, tmp_path / "model.safetensors")
    assert read_checkpoint(tmp_path).tensors.keys() == {"w"}


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.pth", tmp_path / "gone.index.json"):
        with pytest.raises(ConfigError, match=rf"{path.name}: no such weights file"):
            read_checkpoint(path)
        with pytest.raises(ConfigError, match=rf"{path.name}: no such weights file"):
            checkpoint_sha256(path)


STATE = {"w": torch.ones(2)}
MEAN = {"w": torch.zeros(2)}


@pytest.mark.parametrize(
    ("held", "part", "note", "value"),
    [
        ({"model": STATE, "optimizer": {"state": STATE}}, "model", "", 1),
        ({"model_state_dict": STATE, "epoch": torch.tensor(3)}, "model_state_dict", "", 1),
        ({"state_dict": STATE, "state_dict_ema": MEAN}, "state_dict_ema", "its running mean", 0),
        ({"model": STATE, "model_ema": MEAN}, "model_ema", "its running mean", 0),
        ({"model": STATE, "ema": None}, "model", "", 1),
        (
            {"model": {**STATE, "b": STATE["w"]}, "ema": MEAN},
            "model",
            "its running mean, ema, lacks some of them and is left",
            1,
        ),
        ({"student": STATE, "teacher": MEAN}, "teacher", "the running mean of `student`", 0),
        ({"model": {"state_dict": STATE}, "args": {"lr": 1}}, "model.state_dict", "", 1),
        ({"backbone": STATE, "head": MEAN}, "backbone", "", 1),
        ({"my_net": STATE, "optimizer": {"state": MEAN}}, "my_net", "", 1),
        (
            {
                "state_dict": MEAN,
                "ema_state_dict": {"module.w": STATE["w"]},
                "meta": {"mmengine_version": "0.10.4"},
            },
            "state_dict",
            "its running mean, as MMEngine keeps it",
            0,
        ),
        (
            {"state_dict": STATE, "ema_state_dict": MEAN, "meta": {}},
            "ema_state_dict",
            "its running mean",
            0,
        ),
    ],
)
def test_the_network_is_found_among_what_a_trainer_saves(
    tmp_path: Path, held: Any, part: str, note: str, value: int
) -> None:
    torch.save(held, tmp_path / "run.pth")
    file = read_checkpoint(tmp_path / "run.pth")
    assert (file.part, file.note) == (part, note)
    assert file.tensors["w"].tolist() == [value] * 2


def test_several_networks_of_unknown_names_are_refused(tmp_path: Path) -> None:
    torch.save({"generator": STATE, "critic": MEAN}, tmp_path / "gan.pth")
    with pytest.raises(ConfigError, match=r"gan\.pth: holds 2 sets of tensors \(generator, critic"):
        read_checkpoint(tmp_path / "gan.pth")


@pytest.mark.parametrize("save", [zipped, streamed])
def test_a_module_that_was_saved_whole_gives_its_tensors(tmp_path: Path, save: Save) -> None:
    whole = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4)))
    save({"model": whole, "ema": None}, tmp_path / "whole.pt")
    file = read_checkpoint(tmp_path / "whole.pt")
    assert_whole(file.tensors, dict(whole.state_dict()))
    assert file.note == "a whole module, whose code is not run"
    assert "torch.nn.modules.conv.Conv2d" in file.passed_over


def test_a_module_within_itself_is_refused(tmp_path: Path) -> None:
    layer = nn.Sequential(nn.Linear(2, 2))
    layer._modules["again"] = layer
    torch.save(layer, tmp_path / "round.pt")
    with pytest.raises(ConfigError, match="a module of more layers than any network has"):
        read_checkpoint(tmp_path / "round.pt")


class Payload:
    """Unpickled, it would make a file by the function it is given."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.call


def payloads(made: Path) -> dict[str, Payload]:
    script = f"open({str(made)!r}, 'w').close()"
    return {
        "system": Payload(os.system, f"touch {made}"),
        "eval": Payload(builtins.eval, f"__import__('os').mkdir({str(made)!r})"),
        "exec": Payload(builtins.exec, script),
        "open": Payload(builtins.open, str(made), "w"),
        # Functions of torch itself: a pickle within the pickle, a rebuilder given another function.
        "nested": Payload(
            torch.storage._load_from_bytes,
            pickle.dumps(Payload(os.system, f"touch {made}"), protocol=2),
        ),
        "rebuilt": Payload(
            torch._tensor._rebuild_from_type_v2,
            *(os.system, torch.Tensor, (f"touch {made}",), None),
        ),
        "hooks": Payload(
            torch._utils._rebuild_parameter_with_state,
            *(torch.ones(1), False, {}, Payload(os.system, f"touch {made}")),
        ),
    }


def in_parts(value: Any, path: Path) -> None:
    torch.save(value, path.with_suffix(".bin"))
    index = {"weight_map": {"model.w": path.with_suffix(".bin").name}}
    path.write_text(json.dumps(index))


SAVES: dict[str, tuple[Save, str]] = {
    "zip": (zipped, "evil.pth"),
    "stream": (streamed, "evil.pth"),
    "part": (zipped, "pytorch_model.bin"),
}


@pytest.mark.parametrize("form", SAVES)
@pytest.mark.parametrize("kind", list(payloads(Path())))
def test_code_in_a_file_is_not_run_and_its_weights_are_read(
    tmp_path: Path, form: str, kind: str
) -> None:
    made = tmp_path / "made-by-the-file"
    payload = payloads(made)[kind]
    save, name = SAVES[form]
    held: dict[str, Any] = {"w": torch.ones(2), "z": payload}
    if form != "part":
        held = {"state_dict": held, "args": argparse.Namespace(lr=0.1, hook=payload)}
        held["hooks"] = {payload: 1}
    save(held, tmp_path / name)
    path = tmp_path / name
    if form == "part":
        path = tmp_path / "pytorch_model.bin.index.json"
        path.write_text(json.dumps({"weight_map": {"w": name}}))
    file = read_checkpoint(path)
    assert not made.exists()
    assert file.tensors["w"].tolist() == [1, 1]
    if kind != "hooks":  # which is a tensor, and brings what is around it to nothing
        assert file.tensors.keys() == {"w"}
    # `io.open` up to Python 3.11, then `_io.open`.
    named = {"eval": "builtins.eval", "exec": "builtins.exec", "open": f"{open.__module__}.open"}
    assert len(file.passed_over) >= 1
    if kind in named:
        assert named[kind] in {n.replace("__builtin__", "builtins") for n in file.passed_over}


def test_the_code_of_such_files_would_run_if_they_were_unpickled(tmp_path: Path) -> None:
    for kind in ("system", "eval", "exec", "nested", "rebuilt"):
        made = tmp_path / kind
        torch.save({"w": payloads(made)[kind]}, tmp_path / "evil.pth")
        with suppress(TypeError, AttributeError, RuntimeError):  # what it gives is no tensor
            torch.load(tmp_path / "evil.pth", weights_only=False)
        assert made.exists(), kind


def by_hand(program: bytes, path: Path) -> None:
    """A torch file with this pickle and no storage."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (b"", "pickle exhausted before seeing STOP"),
        (b"\x80\x02.", "broken pickle, STOP|pop from empty"),
        (b"\x80\x02R.", "broken pickle, REDUCE: "),
        (b"\x80\x02h\x05.", "broken pickle, BINGET: 5"),
        (b"\x80\x02\x82\x01.", "a pickle with EXT1"),
        (b"\x80\x02K\x01Q.", "it keeps objects elsewhere"),
        (b"\x80\x02}r\xff\xff\xff\xff.", "expected a state dict of named tensors"),  # memo at 2^32
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.", "expected .* bytes"),  # 2^63 bytes
        (b"\x80\x02" + b"(" * 20_000 + b"l" * 20_000 + b".", "expected a state dict of named"),
        (b"\x80\x02" + b")" + b"\x85" * 20_000 + b".", "expected a state dict of named tensors"),
        (
            b"\x80\x02}" + b")" + b"\x85" * 20_000 + b"K\x01s.",
            "objects passed over: 1, first a k",
        ),
    ],
)
def test_broken_pickles_are_refused_in_one_line(
    tmp_path: Path, program: bytes, reason: str
) -> None:
    by_hand(program, tmp_path / "broken.pth")
    with pytest.raises(ConfigError, match=rf"broken\.pth: .*{reason}") as raised:
        read_checkpoint(tmp_path / "broken.pth")
    assert "\n" not in str(raised.value)


def test_a_class_whose_state_the_file_sets_is_not_changed(tmp_path: Path) -> None:
    """BUILD on a class would change it for all that comes after."""
    program = b"\x80\x02ccollections\nOrderedDict\n}X\x04\x00\x00\x00evilK\x01sb."
    by_hand(program, tmp_path / "build.pth")
    with pytest.raises(ConfigError, match="expected a state dict of named tensors"):
        read_checkpoint(tmp_path / "build.pth")
    import collections

    assert not hasattr(collections.OrderedDict, "evil")


def rewritten(path: Path, old: Any, new: Any) -> None:
    """The pickle of a torch file with other numbers in it."""
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in held.items():
            if name.endswith("data.pkl"):
                assert old in content
                content = content.replace(old, new)
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        # K is a number of a byte, J one of four: a storage of 77 numbers, then a shape of 7 x 11
        (b"cpuq\x06KM", b"cpuq\x06J\xff\xff\xff\x7f", "storage 0 is shorter than it says"),
        (b"K\x07K\x0b", b"J\xff\xff\xff\x7fK\x0b", "a tensor is larger than its storage"),
        (b"K\x07K\x0b", b"J\xff\xff\xff\xffK\x0b", "a tensor of impossible shape"),
        (b"K\x0bK\x01", b"K\x0cK\x01", "a tensor is larger than its storage"),
        (b"K\x0bK\x01", b"J\xff\xff\xff\xffK\x01", "a tensor of impossible shape"),
        (b"FloatStorage", b"FlootStorage", "numbers of an unknown type, FlootStorage"),
        (b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x005", "storage 5 is missing"),
    ],
)
def test_a_tensor_that_claims_more_than_its_file_holds_is_refused(
    tmp_path: Path, old: bytes, new: bytes, reason: str
) -> None:
    path = tmp_path / "claims.pth"
    torch.save({"w": torch.ones(7, 11)}, path)
    rewritten(path, old, new)
    with pytest.raises(ConfigError, match=rf"claims\.pth: cannot be read as weights \({reason}"):
        read_checkpoint(path)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}." + b"\0" * 10_000)
    with pytest.raises(ConfigError, match=r"data\.pkl is compressed, which torch never does; save"):
        read_checkpoint(tmp_path / "z.pth")


def test_names_in_a_file_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    by_hand(b"\x80\x04\x8c\x05\x1b[31m\x8c\x02\nx\x93)R.", tmp_path / "colour.pth")
    with pytest.raises(ConfigError, match=r"objects passed over: 1, first '\\x1b\[31m") as raised:
        read_checkpoint(tmp_path / "colour.pth")
    assert str(raised.value).isprintable()


def something_else(path: Path, kind: str) -> None:
    if kind == "images":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.png", b"\x89PNG")
    elif kind == "npz":
        with path.open("wb") as file:
            np.savez(file, a=np.ones(3))
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    elif kind == "numpy pickle":
        path.write_bytes(pickle.dumps({"w": np.ones(3)}))
    elif kind == "big":
        torch.save({"w": torch.ones(1)}, path)
        with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(f"{path.stem}/byteorder", b"big")
    else:
        path.write_bytes(OTHERS[kind])


OTHERS = {
    "empty": b"",
    "text": b"hello\n",
    "onnx": b"\x08\x07\x12\x07pytorch\x1a\x052.1.0",
    "cut zip": b"PK\x03\x04 the start of a zip archive",
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "web": b"<!DOCTYPE html><html>not found</html>",
    "keras": b"\x89HDF\r\n\x1a\n" + b"\0" * 64,
    "gzip": b"\x1f\x8b\x08\x00" + b"\0" * 32,
    "tar": b"notes.txt".ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"0" * 11 + b"\0"
    + b"0" * 11 + b"\0" + b"006613\0 0".ljust(109, b"\0") + b"ustar\x0000" + b"\0" * 247,
    "short": b"abc",
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "it is empty"),
        ("text", "neither a file of torch nor safetensors"),
        ("short", "neither a file of torch nor safetensors"),
        ("onnx", "neither a file of torch nor safetensors"),
        ("images", "a zip archive, not one of torch"),
        ("npz", "an archive of numpy's, not of torch"),
        ("npy", "an array of numpy; expected"),
        ("numpy pickle", "a plain pickle, which torch did not save"),
        ("cut zip", "File is not a zip file"),
        ("lfs", "a pointer of Git LFS, not the file itself; run `git lfs pull`"),
        ("web", "a web page, not the file itself"),
        ("keras", "an HDF5 file"),
        ("gzip", "compressed by gzip; unpack it first"),
        ("big", "its numbers have their bytes in reverse"),
    ],
)
def test_files_of_something_else_are_refused_in_one_line(
    tmp_path: Path, kind: str, reason: str
) -> None:
    path = tmp_path / "file.pth"
    something_else(path, kind)
    with pytest.raises(
        ConfigError, match=rf"file\.pth: cannot be read as weights \({reason}"
    ) as raised:
        read_checkpoint(path)
    assert "\n" not in str(raised.value)


def test_a_tar_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    with tarfile.open(tmp_path / "file.pth.tar", "w") as archive:
        archive.add(tmp_path / "note.txt", "note.txt")
    with pytest.raises(ConfigError, match=r"a tar archive, not one of torch; unpack it first \(no"):
        read_checkpoint(tmp_path / "file.pth.tar")


def test_a_file_without_named_tensors_is_refused(tmp_path: Path) -> None:
    for held in ([torch.ones(1)], {"epoch": 3}, {0: torch.ones(1)}, torch.ones(3)):
        torch.save(held, tmp_path / "x.pth")
        with pytest.raises(ConfigError, match=r"x\.pth: expected a state dict of named tensors$"):
            read_checkpoint(tmp_path / "x.pth")


def forms(folder: Path) -> dict[str, bytes]:
    state = {"model": {"w": torch.ones(4, 4), "b": torch.ones(4)}, "args": argparse.Namespace(a=1)}
    zipped(state, folder / "zip")
    streamed(state, folder / "stream")
    write_first_form({"w": torch.ones(4, 4)}, folder / "tar")
    save_file({"w": torch.ones(4, 4)}, folder / "safetensors")
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("form", ["zip", "stream", "tar", "safetensors"])
def test_a_file_cut_short_anywhere_is_refused_in_one_line(tmp_path: Path, form: str) -> None:
    whole, path = forms(tmp_path)[form], tmp_path / "cut.pth"
    ends = 1024 if form == "tar" else 1  # a tar archive is padded, which nothing needs
    last = len(whole.rstrip(b"\0")) if form == "tar" else len(whole) - ends
    for length in range(0, last, 41):
        path.write_bytes(whole[:length])
        with pytest.raises(ConfigError, match=r"cut\.pth: ") as raised:
            read_checkpoint(path)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("form", ["zip", "stream", "tar", "safetensors"])
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path: Path, form: str) -> None:
    whole, path, rng = forms(tmp_path)[form], tmp_path / "bad.pth", random.Random(0)
    said = []
    for _ in range(100):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.randrange(min(len(whole), 900))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except ConfigError as error:
            said.append(str(error))
    assert said
    assert all(line.isprintable() for line in said)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*jit:FutureWarning")
def test_a_program_of_torchscript_gives_its_tensors(tmp_path: Path) -> None:
    whole = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4)))
    torch.jit.script(whole).save(str(tmp_path / "program.pt"))  # type: ignore[no-untyped-call]
    assert_whole(read_checkpoint(tmp_path / "program.pt").tensors, dict(whole.state_dict()))
