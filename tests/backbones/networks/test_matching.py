"""Checkpoints of many libraries give their networks' features; what does not fit is told."""

import argparse
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from backbones.networks.build import build_backbone
from backbones.networks.checkpoint_files import WeightsFile, read_checkpoint
from backbones.networks.matching import Taken, fitted_tensors
from backbones.settings.config import BackboneConfig
from core.errors import ConfigError
from core.progress import overheard


def resnet(**arguments: Any) -> nn.Module:
    network: nn.Module = timm.create_model("test_resnet", num_classes=5, **arguments).eval()
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    return network


def prefixed(state: dict[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for prefix in prefixes for name, value in state.items()}


def by_timms_script(network: nn.Module, folder: Path) -> Path:
    from timm.utils import CheckpointSaver, ModelEmaV3

    raw = resnet()
    saver = CheckpointSaver(
        nn.DataParallel(raw),
        torch.optim.AdamW(raw.parameters()),
        args=argparse.Namespace(model="test_resnet", lr=0.1, output=Path("out")),
        model_ema=ModelEmaV3(network),
        checkpoint_dir=str(folder),
        recovery_dir=str(folder),
    )
    saver.save_checkpoint(3, metric=0.8)
    return folder / "model_best.pth.tar"


def saved(value: Any, folder: Path, name: str = "file.pth", **options: Any) -> Path:
    torch.save(value, folder / name, **options)
    return folder / name


def by_lightning(network: nn.Module, folder: Path) -> Path:
    held = {
        "epoch": 9,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {**prefixed(network.state_dict(), "model."), "loss.weight": torch.ones(5)},
        "callbacks": {"ModelCheckpoint": {"dirpath": Path("out"), "best": torch.tensor(0.8)}},
        "optimizer_states": [torch.optim.SGD(network.parameters()).state_dict()],
        "hyper_parameters": argparse.Namespace(encoder="resnet"),
    }
    return saved(held, folder, "last.ckpt")


def by_open_clip(network: nn.Module, folder: Path) -> Path:
    open_clip = pytest.importorskip("open_clip")
    model = open_clip.model.CustomTextCLIP(
        embed_dim=8,
        vision_cfg={"timm_model_name": "test_resnet", "timm_proj": "linear", "image_size": 64},
        text_cfg={"context_length": 4, "vocab_size": 9, "width": 8, "heads": 1, "layers": 1},
    )
    theirs = model.visual.trunk.state_dict()
    state = network.state_dict()
    model.visual.trunk.load_state_dict({name: state[name] for name in theirs})
    return saved(model.state_dict(), folder, "open_clip_pytorch_model.bin")


def by_the_hub(network: nn.Module, folder: Path, *, safe: bool) -> Path:
    from huggingface_hub import save_torch_state_dict

    save_torch_state_dict(
        network.state_dict(), folder, max_shard_size="300KB", safe_serialization=safe
    )
    assert len(list(folder.glob("*-of-*"))) > 1
    return folder


def in_safetensors(network: nn.Module, folder: Path) -> Path:
    save_file(network.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder / "model.safetensors"


def by_dino(network: nn.Module, folder: Path) -> Path:
    held = {
        "student": prefixed(resnet().state_dict(), "module.backbone."),
        "teacher": {
            **prefixed(network.state_dict(), "backbone."),
            "head.mlp.0.bias": torch.ones(2),
        },
        "args": argparse.Namespace(arch="resnet"),
        "dino_loss": {"center": torch.zeros(1, 5)},
    }
    return saved(held, folder)


def by_mmengine(network: nn.Module, folder: Path) -> Path:
    held = {
        "meta": {"mmengine_version": "0.10.4", "cfg": "model = dict()"},
        "state_dict": prefixed(network.state_dict(), "backbone."),
        "ema_state_dict": prefixed(resnet().state_dict(), "module.backbone."),
        "message_hub": argparse.Namespace(),
    }
    return saved(held, folder)


FORMS: dict[str, Callable[[nn.Module, Path], Path]] = {
    "timm's train script": by_timms_script,
    "model": lambda n, f: saved({"model": n.state_dict(), "scaler": {"scale": 1.0}}, f),
    "model_state_dict": lambda n, f: saved({"model_state_dict": n.state_dict(), "epoch": 3}, f),
    "DataParallel": lambda n, f: saved({"state_dict": nn.DataParallel(n).state_dict()}, f),
    "compiled": lambda n, f: saved(prefixed(n.state_dict(), "module._orig_mod."), f),
    "Lightning": by_lightning,
    "open_clip": by_open_clip,
    "safetensors": in_safetensors,
    "safetensors in parts": lambda n, f: by_the_hub(n, f, safe=True),
    "bin in parts": lambda n, f: by_the_hub(n, f, safe=False),
    "before 1.6": lambda n, f: saved(n.state_dict(), f, _use_new_zipfile_serialization=False),
    "DINO": by_dino,
    "MMEngine": by_mmengine,
    "averaged": lambda n, f: saved(torch.optim.swa_utils.AveragedModel(n).state_dict(), f),
    "whole module": lambda n, f: saved({"epoch": 1, "model": n}, f),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_checkpoint_gives_the_features_of_its_network(tmp_path: Path, form: str) -> None:
    network = resnet()
    path = FORMS[form](network, tmp_path)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    config = BackboneConfig(backbone="test_resnet", weights=str(path), image_sizes=(64,))
    with overheard() as lines:
        backbone = build_backbone(config).eval()
    with torch.inference_mode():
        found = backbone(images)
        network.reset_classifier(0)  # type: ignore[operator]  # timm's
        scaled = (images.float() - backbone.mean) / backbone.std
        torch.testing.assert_close(found, network(scaled), rtol=1e-5, atol=1e-5)
    assert len(lines) == 1
    assert re.match(rf"weights: {path.name}\b.*: 90 of 90 tensors of test_resnet taken", lines[0])
    assert ("passed over, not made" in lines[0]) == (
        form in ("timm's train script", "Lightning", "DINO", "MMEngine", "whole module")
    )


def taken(
    value: Any, network: nn.Module, folder: Path, *, name: str = "net", partial: bool = False
) -> Taken:
    file = read_checkpoint(saved(value, folder))
    return fitted_tensors(file, network, name=name, partial=partial)


def bare(**arguments: Any) -> nn.Module:
    network: nn.Module = timm.create_model("test_resnet", num_classes=0, **arguments)
    return network


def test_the_line_says_where_the_weights_lay_and_what_is_left(tmp_path: Path) -> None:
    state = resnet().state_dict()
    held = {
        "state_dict": state,
        "state_dict_ema": prefixed(state, "module."),
        "args": argparse.Namespace(lr=1),
    }
    found = taken(held, bare(), tmp_path, name="resnet50")
    assert found.line == (
        "weights: file.pth (state_dict_ema, its running mean; names after 'module.'): 90 of 90"
        " tensors of resnet50 taken, 2 left over (module.fc.weight, module.fc.bias), 1 object"
        " passed over, not made (argparse.Namespace)"
    ).replace("module.fc", "fc")
    assert not found.doubtful
    assert found.tensors.keys() == bare().state_dict().keys()


def test_of_two_networks_in_a_file_the_running_mean_is_taken_and_said(tmp_path: Path) -> None:
    student, teacher = resnet().state_dict(), resnet().state_dict()
    both = {**prefixed(student, "student.backbone."), **prefixed(teacher, "teacher.backbone.")}
    found = taken(both, bare(), tmp_path)
    assert torch.equal(found.tensors["conv1.0.weight"], teacher["conv1.0.weight"])
    assert "names after 'teacher.backbone.', as many are after 'student.backbone.'" in found.line


def test_a_deeper_transformer_in_a_shallower_one_counts_all_of_its_blocks(tmp_path: Path) -> None:
    small: dict[str, Any] = {"embed_dim": 32, "num_heads": 2, "img_size": 64, "num_classes": 3}
    deeper = timm.create_model("vit_tiny_patch16_224", depth=3, **small).state_dict()
    network = timm.create_model("vit_tiny_patch16_224", depth=2, **small | {"num_classes": 0})
    n = sum(name.startswith("blocks.2.") for name in deeper)
    line = taken(deeper, network, tmp_path).line
    assert f"BUT {n} OF THE FILE'S NETWORK ARE UNUSED, first blocks.2.norm1.weight" in line
    assert "2 left over (head.weight, head.bias)" in line


def test_a_deeper_network_in_a_shallower_one_says_what_is_unused(tmp_path: Path) -> None:
    deeper = bare(layers=(2, 1, 1, 1)).state_dict()
    assert deeper.keys() > bare().state_dict().keys()
    found = taken({"model": deeper, "arch": "deeper_resnet"}, bare(), tmp_path)
    n = len(deeper) - 90
    assert found.doubtful
    assert f"90 of 90 tensors of net taken, BUT {n} OF THE FILE'S NETWORK ARE UNUSED" in found.line
    assert "it is of a deeper or another network, deeper_resnet by its own words" in found.line


def test_a_shallower_network_is_refused_unless_a_part_is_asked_for(tmp_path: Path) -> None:
    deeper = bare(layers=(2, 1, 1, 1))
    held = {"model": resnet().state_dict(), "arch": "test_resnet"}
    with pytest.raises(
        ConfigError,
        match=r"file\.pth does not fit net: 10 of its 100 tensors are missing or of another shape"
        r" \(the file says it is of test_resnet\), first 'layer1\.1\.conv1\.weight'; give a file of"
        r" net, the --backbone that the file is of, or --set partial_weights=true to leave them ra",
    ):
        taken(held, deeper, tmp_path)
    found = taken(held, deeper, tmp_path, partial=True)
    assert found.doubtful
    assert "10 STAY RANDOM, first 'layer1.1.conv1.weight', 2 left over (fc.weight" in found.line
    assert len(found.tensors) == 90


def test_a_tensor_of_another_shape_is_named_with_both(tmp_path: Path) -> None:
    grey = bare(in_chans=1).state_dict()
    with pytest.raises(
        ConfigError, match=r"first 'conv1\.0\.weight', \d+ x 1 x 3 x 3 for \d+ x 3 x"
    ):
        taken(grey, bare(), tmp_path)


def test_weights_in_whole_numbers_are_not_taken_for_others(tmp_path: Path) -> None:
    state: dict[str, Any] = bare().state_dict()
    weight = state["conv1.0.weight"]
    state["conv1.0.weight"] = weight.to(torch.int8)
    with pytest.raises(ConfigError, match=r"1 of its 90 tensors .*'conv1\.0\.weight', quantised"):
        taken(state, bare(), tmp_path)
    state["conv1.0.weight"] = weight.to_sparse()
    with pytest.raises(
        ConfigError,
        match=r"first 'conv1\.0\.weight', and 1 object passed over, not made \(torch\._utils\._reb",
    ):
        taken(state, bare(), tmp_path)


@pytest.mark.parametrize("partial", [False, True])
def test_another_network_altogether_is_refused(tmp_path: Path, partial: bool) -> None:
    other = timm.create_model("test_vit").state_dict()
    with pytest.raises(
        ConfigError,
        match=r"75 of its 75 tensors .*; none fits; it holds \d+ tensors \(cls_token, pos_embed, .*"
        r", \.\.\.\): give a file of net$",
    ):
        taken(other, bare(), tmp_path, partial=partial)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, bad: float) -> None:
    state = resnet().state_dict()
    state["conv1.0.weight"][0, 0, 0, 0] = bad
    with pytest.raises(
        ConfigError, match=r"1 of its tensors hold numbers that are not finite, fir"
    ):
        taken(state, bare(), tmp_path)


def test_counters_and_indices_that_old_files_lack_do_not_count(tmp_path: Path) -> None:
    state = {n: t for n, t in resnet().state_dict().items() if "num_batches" not in n}
    assert ": 75 of 75 tensors of net taken, 2 left over" in taken(state, bare(), tmp_path).line
    relative = timm.create_model("vit_relpos_small_patch16_224", num_classes=0)
    state = relative.state_dict()
    state["blocks.0.attn.rel_pos.relative_position_index"] = torch.zeros(3, 3, dtype=torch.int64)
    found = taken(state, relative, tmp_path)
    assert not found.doubtful


def test_a_part_of_the_network_is_put_under_its_name(tmp_path: Path) -> None:
    whole = nn.Module()
    whole.vision_model = bare()
    found = taken(bare().state_dict(), whole, tmp_path)
    assert "(put under 'vision_model.'): 90 of 90" in found.line


def test_a_parameter_of_two_names_is_needed_once(tmp_path: Path) -> None:
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    state = {n: t.clone() for n, t in tied.state_dict().items() if n != "1.weight"}
    found = taken(state, tied, tmp_path)
    assert found.line.endswith(": 4 of 4 tensors of net taken")
    assert torch.equal(found.tensors["1.weight"], state["0.weight"])


def test_half_precision_is_taken(tmp_path: Path) -> None:
    state = {n: t.half() for n, t in resnet().state_dict().items()}
    network = bare()
    network.load_state_dict(taken(state, network, tmp_path).tensors, strict=False)
    assert network.state_dict()["layer1.0.conv1.weight"].dtype == torch.float32


# Published layouts, made by hand from timm's names or by the library itself, as timm reads them.


def agrees_with_timm(
    state: dict[str, Tensor], network: nn.Module, read: Any, folder: Path
) -> Taken:
    """What was taken, which is what timm's own loading gives the same network."""
    found = taken(state, network, folder)
    own = network.state_dict()
    given = dict(own, **read(dict(state), network))
    assert found.tensors.keys() >= {name for name, _ in network.named_parameters()}
    for name, value in found.tensors.items():
        torch.testing.assert_close(value, given[name], rtol=0, atol=0)
    return found


def test_positions_of_another_size_are_resampled_as_by_timm(tmp_path: Path) -> None:
    from timm.models.vision_transformer import checkpoint_filter_fn

    larger = timm.create_model("test_vit", img_size=224).state_dict()
    network = timm.create_model("test_vit", num_classes=0)
    assert larger["pos_embed"].shape != network.state_dict()["pos_embed"].shape
    found = agrees_with_timm(larger, network, checkpoint_filter_fn, tmp_path)
    assert "(as timm reads them): " in found.line
    wrapped = taken({"state_dict": prefixed(larger, "model.backbone.")}, network, tmp_path)
    assert "(state_dict; as timm reads them after 'model.backbone.'): " in wrapped.line
    assert torch.equal(wrapped.tensors["pos_embed"], found.tensors["pos_embed"])


def test_layer_scales_by_deits_names_are_read_as_by_timm(tmp_path: Path) -> None:
    small: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0}
    network = timm.create_model("deit3_small_patch16_224", **small)
    state = {re.sub(r"ls([12])\.gamma", r"gamma_\1", n): t for n, t in network.state_dict().items()}
    assert "blocks.0.gamma_1" in state
    found = taken(state, network, tmp_path)
    torch.testing.assert_close(dict(found.tensors), dict(network.state_dict()))


def test_dinov2s_names_are_read_as_by_timm(tmp_path: Path) -> None:
    from timm.models.vision_transformer import checkpoint_filter_fn

    small: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0}
    network = timm.create_model("vit_small_patch14_reg4_dinov2", img_size=56, **small)
    state = {n.replace("reg_token", "register_tokens"): t for n, t in network.state_dict().items()}
    state["pos_embed"] = torch.randn(1, 1 + 25, 32)  # DINOv2 has a place for the class token
    state["mask_token"] = torch.zeros(1, 32)
    for form in (state, prefixed(state, "backbone.")):
        found = taken({"teacher": form, "student": {}}, network, tmp_path)
        given = checkpoint_filter_fn(dict(state), network)
        assert all(torch.equal(found.tensors[name], given[name]) for name in found.tensors)
        assert found.tensors.keys() == network.state_dict().keys()


def test_convnexts_own_names_are_read_as_by_timm(tmp_path: Path) -> None:
    network = timm.create_model("test_convnext", num_classes=0)
    state = {}
    for name, value in network.state_dict().items():
        name = re.sub(r"^stem\.", "downsample_layers.0.", name)
        name = re.sub(r"^stages\.(\d+)\.downsample\.", r"downsample_layers.\1.", name)
        name = re.sub(r"^stages\.(\d+)\.blocks\.", r"stages.\1.", name)
        name = re.sub(r"\.mlp\.fc([12])\.", r".pwconv\1.", name).replace("conv_dw", "dwconv")
        state[name.replace("head.norm.", "norm.")] = value
    assert "stages.0.0.pwconv1.weight" in state
    found = taken({"model": state}, network, tmp_path)
    torch.testing.assert_close(dict(found.tensors), dict(network.state_dict()))


def test_swins_own_names_are_read_as_by_timm(tmp_path: Path) -> None:
    from timm.models.swin_transformer import SwinTransformer, checkpoint_filter_fn

    small: dict[str, Any] = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 1)}
    network = SwinTransformer(img_size=64, window_size=8, num_classes=0, **small)
    state = {}
    for name, value in network.state_dict().items():
        moved = re.sub(r"^layers\.1\.downsample", "layers.0.downsample", name)
        state[moved] = value
        if name.endswith("relative_position_bias_table"):
            stem = name.removesuffix("relative_position_bias_table")
            state[f"{stem}relative_position_index"] = torch.zeros(64, 64, dtype=torch.int64)
    state["layers.0.blocks.0.attn_mask"] = torch.zeros(4, 64, 64)
    state["head.weight"], state["head.bias"] = torch.ones(5, 16), torch.ones(5)
    found = agrees_with_timm(state, network, checkpoint_filter_fn, tmp_path)
    assert not found.doubtful


def test_a_clip_tower_of_openais_names_is_read_as_by_timm(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    from timm.models.vision_transformer import checkpoint_filter_fn

    model = open_clip.model.CLIP(
        embed_dim=16,
        vision_cfg=open_clip.CLIPVisionCfg(
            layers=2, width=64, head_width=32, patch_size=32, image_size=64
        ),
        text_cfg=open_clip.CLIPTextCfg(context_length=4, vocab_size=9, width=8, heads=1, layers=1),
    )
    small: dict[str, Any] = {"embed_dim": 64, "depth": 2, "num_heads": 2, "img_size": 64}
    network = timm.create_model("vit_base_patch32_clip_224", num_classes=0, **small)
    state = model.state_dict()
    found = agrees_with_timm(state, network, checkpoint_filter_fn, tmp_path)
    assert re.search(r"\(as timm reads them, without \d+ others\): ", found.line)
    network.load_state_dict(found.tensors, strict=False)
    model.visual.proj = None
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(
            network.eval()(images), model.eval().visual(images), rtol=1e-4, atol=1e-4
        )


def test_a_file_of_no_tensor_under_any_known_name_says_what_it_holds() -> None:
    file = WeightsFile(Path("x.pth"), {"a\nb": torch.ones(1)})
    with pytest.raises(ConfigError, match=r"it holds 1 tensors \('a\\nb'\)") as raised:
        fitted_tensors(file, nn.Linear(1, 1), name="net", partial=False)
    assert "\n" not in str(raised.value)
    assert replace(file, part="x").part == "x"
