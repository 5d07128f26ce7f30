import copy
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from backbones.encoders.encoder import Normalisation
from backbones.encoders.timm_networks import TimmEncoder
from backbones.networks.batch_norm import folded
from backbones.networks.build import Backbone
from core.errors import ConfigError
from training.devices.device import computes_bf16
from training.devices.speed import (
    PLAIN,
    Speed,
    Workload,
    candidates,
    choose_speed,
    drawn_images,
    unprobed,
)

MEAN = (0.5, 0.5, 0.5)

LAST = Speed(channels_last=True)
BF16 = Speed(precision="bf16")
BF16_LAST = Speed(precision="bf16", channels_last=True)


def detector() -> nn.Module:
    network = timm.create_model("test_resnet", pretrained=False, num_classes=10)
    return Backbone(
        network,
        encoder=TimmEncoder("any"),
        normalisation=Normalisation(MEAN, (0.2, 0.2, 0.2)),
        size=32,
    )


class Choosy(nn.Module):
    """A convolution and a layer; what is done to its maps first is another's choice."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, 10)
        self.change = change

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.change(self.conv(images.float() / 255)).mean((2, 3)))
        return logits


def refuse_bf16(maps: Tensor) -> Tensor:
    if maps.dtype == torch.bfloat16:
        raise RuntimeError("no kernel for bfloat16\nand more")
    return maps


def spoil_bf16(maps: Tensor) -> Tensor:
    return 100 * maps if maps.dtype == torch.bfloat16 else maps


def choose(
    folder: Path, new_model: Callable[[], nn.Module] = detector, **changed: Any
) -> tuple[Speed, dict[str, Any]]:
    """The choice, and what was kept of it last."""
    settings: dict[str, Any] = {
        "name": "test_resnet",
        "size": 32,
        "batch_size": 4,
        "n_concepts": 10,
        "precision": "auto",
        "device": "cpu",
        "train": True,
    }
    speed = choose_speed(folder, new_model, **(settings | changed))
    newest = max(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return speed, json.loads(newest.read_text(encoding="utf-8"))


@pytest.fixture
def tries_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor with instructions for bf16."""
    monkeypatch.setattr("training.devices.speed.computes_bf16", lambda: True)


def never() -> nn.Module:
    raise AssertionError("measured again")


@pytest.mark.parametrize(
    ("speed", "text"),
    [
        (PLAIN, "fp32"),
        (LAST, "fp32, channels-last"),
        (BF16_LAST, "bf16, channels-last"),
        (Speed(precision="fp16", compiled=True), "fp16, compiled"),
    ],
)
def test_a_speed_says_what_it_is(speed: Speed, text: str) -> None:
    assert str(speed) == text


def test_autocast_computes_products_in_the_precision() -> None:
    layer, x = nn.Linear(3, 2), torch.ones(1, 3)
    for speed, dtype in ((PLAIN, torch.float32), (BF16, torch.bfloat16)):
        with speed.autocast("cpu"):
            assert layer(x).dtype == dtype
    assert isinstance(PLAIN.autocast("cpu"), nullcontext)


def test_models_and_images_are_put_into_the_format_and_back() -> None:
    conv, images = nn.Conv2d(3, 8, 3), torch.zeros(2, 3, 5, 5)
    for speed in (LAST, PLAIN, LAST):
        assert speed.place(conv) is conv
        for tensor in (conv.weight, speed.arrange(images), speed.arrange(LAST.arrange(images))):
            assert tensor.is_contiguous(memory_format=torch.channels_last) == speed.channels_last
            assert tensor.is_contiguous() != speed.channels_last
    features = torch.zeros(2, 3)
    assert LAST.arrange(features) is features


@pytest.mark.parametrize(
    ("precision", "kind", "expected"),
    [
        ("fp32", "cpu", [PLAIN, LAST]),
        ("bf16", "cpu", [BF16, BF16_LAST]),
        ("auto", "cpu", [PLAIN, LAST, *([BF16_LAST, BF16] if computes_bf16() else [])]),
        ("fp16", "cuda", [Speed(precision="fp16"), Speed(precision="fp16", channels_last=True)]),
    ],
)
def test_a_precision_that_is_set_leaves_the_memory_format_to_try(
    precision: str, kind: str, expected: list[Speed]
) -> None:
    assert candidates(precision, kind) == expected


def test_a_processor_that_would_emulate_bf16_tries_it_only_when_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("training.devices.speed.computes_bf16", lambda: False)
    assert candidates("auto", "cpu") == [PLAIN, LAST]
    assert candidates("bf16", "cpu") == [BF16, BF16_LAST]


def test_fp16_is_tried_on_a_gpu_and_refused_on_a_processor() -> None:
    assert {way.precision for way in candidates("auto", "cuda")} == {"fp32", "bf16", "fp16"}
    with pytest.raises(ConfigError, match="precision fp16: needs a CUDA device"):
        candidates("fp16", "cpu")


@pytest.mark.parametrize(
    ("precision", "device", "expected"),
    [
        ("auto", "cpu", LAST),
        ("bf16", "cpu", BF16_LAST),
        ("fp16", "cuda:1", Speed(precision="fp16", channels_last=True)),
    ],
)
def test_without_a_probe_images_lie_channels_last(
    precision: str, device: str, expected: Speed
) -> None:
    assert unprobed(precision, device) == expected


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16"])
def test_the_choice_is_one_of_the_candidates_and_the_fastest_measured(
    tmp_path: Path, precision: str
) -> None:
    speed, kept = choose(tmp_path, precision=precision)
    ways = candidates(precision, "cpu")
    assert speed in ways
    assert Speed(**kept["chosen"]) == speed
    rates = kept["images_per_s"]
    assert max(rates.values()) <= 1.031 * rates[str(speed)]
    assert {*rates, *kept["dropped"]} == {str(way) for way in ways}


def test_a_choice_is_measured_once_and_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, kept = choose(tmp_path / "speed")
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"test_resnet at 32 px, train: {kept['summary']}\n"
    assert told.err.startswith(f"test_resnet at 32 px, train: {first} (")
    again, _ = choose(tmp_path / "speed", never)
    assert again == first
    assert capsys.readouterr().err.endswith(f"{kept['summary']}; measured before\n")


def test_without_time_the_safe_way_is_taken_and_the_haste_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speed, kept = choose(tmp_path, budget_s=0)
    assert speed == PLAIN
    assert kept["rounds"] == 1
    assert set(kept["dropped"].values()) == {"no time left to try it"}
    (path,) = tmp_path.iterdir()
    again, _ = choose(tmp_path, never)
    assert again == PLAIN
    told = capsys.readouterr().err.splitlines()
    assert [line.count(f"in a hurry, remove {path} to try again") for line in told] == [1, 1]


@pytest.mark.parametrize("kept", [Speed(channels_last=True, precision="bf16"), PLAIN])
def test_what_was_kept_is_taken_over(tmp_path: Path, kept: Speed) -> None:
    choose(tmp_path)
    (path,) = tmp_path.iterdir()
    chosen = {"channels_last": kept.channels_last, "precision": kept.precision}
    path.write_text(json.dumps({"chosen": chosen, "summary": "so"}), encoding="utf-8")
    assert choose(tmp_path, never)[0] == kept


@pytest.mark.parametrize("text", ["", "{", "{}", '{"chosen": {"warp": 9}, "summary": ""}'])
def test_what_cannot_be_read_is_measured_again(tmp_path: Path, text: str) -> None:
    choose(tmp_path, precision="fp32")
    (path,) = tmp_path.iterdir()
    path.write_text(text, encoding="utf-8")
    speed, kept = choose(tmp_path, precision="fp32")
    assert Speed(**kept["chosen"]) == speed
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "changed",
    [{"size": 48}, {"batch_size": 5}, {"name": "test_resnet2"}, {"train": False}],
)
def test_another_task_is_measured_anew(tmp_path: Path, changed: dict[str, Any]) -> None:
    choose(tmp_path, precision="fp32")
    with pytest.raises(AssertionError, match="measured again"):
        choose(tmp_path, never, **({"precision": "fp32"} | changed))


def test_another_number_of_threads_is_measured_anew(tmp_path: Path) -> None:
    choose(tmp_path, precision="fp32")
    n_threads = torch.get_num_threads()
    torch.set_num_threads(n_threads + 1)
    try:
        with pytest.raises(AssertionError, match="measured again"):
            choose(tmp_path, never, precision="fp32")
    finally:
        torch.set_num_threads(n_threads)


def test_batches_beyond_what_a_probe_takes_share_a_choice(tmp_path: Path) -> None:
    first, _ = choose(tmp_path, precision="fp32", batch_size=32)
    assert choose(tmp_path, never, precision="fp32", batch_size=64)[0] == first


@pytest.mark.parametrize("train", [True, False])
def test_a_precision_that_a_network_refuses_is_dropped(
    tmp_path: Path, tries_bf16: None, train: bool
) -> None:
    speed, kept = choose(tmp_path, lambda: Choosy(refuse_bf16), train=train)
    assert speed.precision == "fp32"
    assert kept["dropped"] == {str(way): "no kernel for bfloat16" for way in (BF16_LAST, BF16)}
    assert "bf16 not used: no kernel for bfloat16" in kept["summary"]


@pytest.mark.parametrize("train", [True, False])
def test_a_precision_that_changes_what_a_network_gives_is_dropped(
    tmp_path: Path, tries_bf16: None, train: bool
) -> None:
    speed, kept = choose(tmp_path, lambda: Choosy(spoil_bf16), train=train)
    assert speed.precision == "fp32"
    reasons = kept["dropped"]
    assert reasons.keys() == {str(BF16), str(BF16_LAST)}
    assert all("loss" in reason and "instead of" in reason for reason in reasons.values())


def test_a_precision_that_was_asked_for_is_not_judged_by_another(tmp_path: Path) -> None:
    speed, kept = choose(tmp_path, lambda: Choosy(spoil_bf16), precision="bf16")
    assert speed.precision == "bf16"
    assert kept["dropped"] == {}


def test_features_of_a_folded_network_keep_their_values_under_the_choice(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = Backbone(
        timm.create_model("test_resnet", pretrained=False, num_classes=0),
        encoder=TimmEncoder("any"),
        normalisation=Normalisation(MEAN, (0.2, 0.2, 0.2)),
        size=32,
    ).eval()
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    network = folded(backbone, images)
    with torch.inference_mode():
        expected = network(images)
    speed, _ = choose(tmp_path, lambda: network, train=False, n_concepts=0)
    assert not network.training
    with torch.inference_mode(), speed.autocast("cpu"):
        found = speed.place(network)(speed.arrange(images)).float()
    assert nn.functional.cosine_similarity(found, expected).min() > 0.999


def test_measuring_does_not_touch_the_random_state(tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    choose(tmp_path, precision="fp32")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_long_work_on_a_gpu_is_tried_compiled(tmp_path: Path) -> None:
    _, kept = choose(tmp_path, device="cuda", n_images=1_000_000)
    tried = {*kept["images_per_s"], *kept["dropped"]}
    assert [way for way in tried if way.endswith("compiled")]
    assert {way.partition(",")[0] for way in tried} == {"fp32", "bf16", "fp16"}


def network(name: str, n_outputs: int) -> Backbone:
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, num_classes=n_outputs, drop_rate=0.5)
    return Backbone(
        network,
        encoder=TimmEncoder("any"),
        normalisation=Normalisation(MEAN, MEAN),
        size=224,
    )


def learning(model: nn.Module) -> Workload:
    torch.manual_seed(0)
    return Workload(model, size=32, n_images=4, n_concepts=10, device="cpu")


def test_drawn_images_are_grey_and_differ_within_and_among_each_other() -> None:
    torch.manual_seed(0)
    images = drawn_images(6, 48)
    assert (images.dtype, images.shape) == (torch.uint8, (6, 3, 48, 48))
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])
    assert images[:, 0].flatten(1).float().std(dim=1).min() > 5
    assert len({tuple(image.flatten().tolist()) for image in images}) == 6


def test_a_step_gives_the_mean_cross_entropy_and_the_gradient_of_the_last_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), Half(), nn.Linear(3 * 32 * 32, 10))
    work = learning(model)
    found = work.gradients(model, work.images, context=nullcontext, scale=1.0)
    logits = model(work.images)
    p, y = torch.sigmoid(logits), work.targets
    loss = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    assert found.loss == pytest.approx(loss.item(), rel=1e-4)
    # d loss / d logit = (p - y) / (B L), times the features
    expected = ((p - y) / y.numel()).T @ model[:2](work.images)
    torch.testing.assert_close(found.direction, expected, rtol=1e-4, atol=1e-5)


class Half(nn.Module):
    """Pixels as numbers around zero."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.float() / 128 - 1


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_steps_repeat_to_the_bit_and_leave_the_weights_alone(name: str) -> None:
    model = network(name, 10)
    if name == "test_vit":
        model.network.set_input_size((32, 32))  # type: ignore[operator]  # a method of timm's
    before = copy.deepcopy(dict(model.named_parameters()))
    work = learning(model)
    first, second = (
        work.gradients(model, work.images, context=nullcontext, scale=1.0) for _ in "ab"
    )
    assert first.loss == second.loss  # dropout of one half would change it
    assert torch.equal(first.direction, second.direction)
    assert all(torch.equal(before[name], value) for name, value in model.named_parameters())


def test_the_scale_of_the_loss_scales_gradients_alone() -> None:
    work = learning(network("test_resnet", 10))
    once = work.gradients(work.model, work.images, context=nullcontext, scale=1.0)
    scaled = work.gradients(work.model, work.images, context=nullcontext, scale=8.0)
    assert scaled.loss == once.loss
    torch.testing.assert_close(scaled.direction, 8 * once.direction)


def test_normalisation_goes_by_the_batch_but_where_the_model_keeps_it() -> None:
    class Locked(nn.Sequential):
        def train(self, mode: bool = True) -> "Locked":
            super().train(mode)
            self[0].eval()
            return self

    model = Locked(nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.Dropout())
    learning(model)
    assert [module.training for module in model] == [False, True, False]


def test_features_are_centred_and_their_spread_is_the_loss() -> None:
    model = network("test_resnet", 0).eval()
    work = Workload(model, size=32, n_images=4, n_concepts=0, device="cpu")
    found = work.features(work.images, nullcontext)
    with torch.inference_mode():
        features = model(work.images)
    assert found.direction.mean(dim=0).abs().max() < 1e-5 * features.abs().max()
    assert found.loss == pytest.approx(features.std(dim=0, unbiased=False).square().mean().sqrt())
    direction = (features - features.mean(dim=0)).flatten()
    assert cosine_similarity(found.direction.flatten(), direction, dim=0) > 1 - 1e-6
