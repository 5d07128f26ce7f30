"""One network of each of timm's families: it builds and learns, at two sizes, or says why not."""

import pytest
import timm
import torch
from packaging.version import Version
from torch import nn

from backbones.networks.build import Backbone, Detector, build_backbone
from backbones.networks.weights import settled
from backbones.settings.config import BackboneConfig
from core.errors import ConfigError

# The smallest of those that say "tiny" or the like, by the module of timm 1.0.31 that they are in.
# fmt: off
SMALLEST = {
    "beit": "beit_base_patch16_224", "byoanet": "halonet_h1", "byobnet": "test_byobnet",
    "cait": "cait_xxs24_224", "coat": "coat_tiny", "convit": "convit_tiny",
    "convmixer": "convmixer_768_32", "convnext": "test_convnext", "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240", "csatv2": "csatv2", "cspnet": "cs3darknet_focus_s",
    "cspnext": "cspnext_tiny", "davit": "davit_tiny", "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224", "densenet": "densenet121", "dla": "dla46x_c", "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small", "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0", "efficientnet": "test_efficientnet",
    "efficientvim": "efficientvim_m1", "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0", "eva": "vit_tiny_patch16_dinov3_qkvb",
    "fasternet": "fasternet_t0", "fastvit": "fastvit_t8", "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny", "gemma4_vit": "gemma4_vit_167m", "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_b", "hgnet": "hgnetv2_b0", "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny", "hrnet": "hrnet_w18_small", "iformer": "iformer_t",
    "inception_next": "inception_next_atto", "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3", "inception_v4": "inception_v4", "lcnetv2": "lcnetv2_small",
    "levit": "levit_128s", "lowformer": "lowformer_b0", "mambaout": "test_mambaout",
    "maxxvit": "test_coatnet", "metaformer": "poolformerv2_s12", "mlp_mixer": "gmlp_ti16_224",
    "mobilenetv3": "lcnet_035", "mobilenetv5": "mobilenetv5_base", "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny", "naflexvit": "naflexvit_base_patch16_parfac_gap",
    "nasnet": "nasnetalarge", "nest": "nest_tiny", "nextvit": "nextvit_small",
    "nfnet": "test_nfnet", "pit": "pit_ti_224", "pnasnet": "pnasnet5large", "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m", "rdnet": "rdnet_tiny", "regnet": "regnetx_002",
    "repghost": "repghostnet_050", "repvit": "repvit_m1", "res2net": "res2next50",
    "resnest": "resnest14d", "resnet": "test_resnet", "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100", "selecsls": "selecsls42", "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s", "shvit": "shvit_s1", "sknet": "skresnet18",
    "starnet": "starnet_s050", "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window8_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224", "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224", "tresnet": "tresnet_m", "twins": "twins_svt_small",
    "vgg": "vgg11", "visformer": "visformer_tiny", "vision_transformer": "test_vit",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "test_vit_relpos",
    "vision_transformer_sam": "samvit_base_patch16_224", "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224", "vovnet": "ese_vovnet19b_slim_dw", "xception": "legacy_xception",
    "xception_aligned": "xception41p", "xcit": "xcit_nano_12_p8_224",
}
# fmt: on

MOST_WEIGHTS = {64: 100e6, None: 30e6}
"""At a small size and at a network's own, so that the sweep ends within ten minutes."""


def built(name: str, size: int | None) -> Backbone:
    sizes = () if size is None else (size,)
    config = BackboneConfig(
        backbone=name, weights="none", image_sizes=sizes, resample="own", regime="full"
    )
    torch.manual_seed(0)
    return build_backbone(settled(config))


def answered(name: str, size: int | None) -> str:
    """What a network cannot, in one line each; all else is tried."""
    try:
        backbone = built(name, size).eval()
    except ConfigError as error:
        return str(error)
    size = size or settled(BackboneConfig(backbone=name, image_sizes=())).image_sizes[0]
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    refused = []
    with torch.inference_mode():
        features = backbone(images)
        assert features.shape == (2, backbone.n_features)
        assert features.isfinite().all()
        # of images one by one
        atol = 1e-3 * (1 + features.abs().max().item())
        torch.testing.assert_close(backbone(images[:1]), features[:1], atol=atol, rtol=1e-3)
        try:
            found = backbone.encoder.last_map(backbone.network, (images / 255).float())
            assert (found.places.ndim, len(found.places)) == (3, 2)
        except ConfigError as error:
            refused.append(str(error))
    detector = Detector(backbone, nn.Linear(backbone.n_features, 3)).train()
    try:
        distances = detector.head_distances()
        assert distances.keys() | {"head.weight", "head.bias"} == {
            name for name, _ in detector.named_parameters()
        }
    except ConfigError as error:
        refused.append(str(error))
    learns(detector, images)
    return "; ".join(refused)


def learns(detector: Detector, images: torch.Tensor) -> None:
    """A step in bf16, as a training takes it."""
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-3)
    before = {n: p.detach().clone() for n, p in detector.backbone.network.named_parameters()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = detector(images).float().sigmoid().mean()
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    parameters = detector.backbone.network.named_parameters()
    assert any((p != before[n]).any() for n, p in parameters)


@pytest.mark.slow
@pytest.mark.timeout(900)  # one of 1,024 px on a busy core
@pytest.mark.parametrize("size", [64, None], ids=["small", "own"])
@pytest.mark.parametrize("family", timm.list_modules())
def test_a_network_of_each_family_learns_or_says_why_not(family: str, size: int | None) -> None:
    names = timm.list_models(module=family)
    name = SMALLEST.get(family, min(names, key=len))
    with torch.device("meta"):
        n_weights = sum(p.numel() for p in timm.create_model(name).parameters())
    if n_weights > MOST_WEIGHTS[size]:
        pytest.skip(f"{name} has {n_weights / 1e6:.0f} million weights")
    refusal = answered(name, size)
    assert "\n" not in refusal
    assert size is not None or not refusal.startswith("backbone: " + name)  # its own size it takes


# Pooled after a further layer; by a gate; maps of 1 x 1; channels last; tokens; several sizes.
ODD = {
    "lcnet_035": 1280,
    "test_mambaout": 256,
    "efficientvit_m0": 192,
    "starnet_s050": 128,
    "test_vit_relpos": 96,
    "edgenext_xx_small": 168,
}


SINCE_1_0_31 = ("efficientvit_m0", "test_vit_relpos")
"""Before, timm had none of that name, or one of its own size alone, which is said in one line."""


@pytest.mark.parametrize(("name", "width"), ODD.items())
def test_odd_networks_learn_at_a_small_size(name: str, width: int) -> None:
    if name in SINCE_1_0_31 and Version(timm.__version__) < Version("1.0.31"):
        pytest.skip(f"{name} is of timm 1.0.31 or newer")
    assert answered(name, 64) == ""
    assert built(name, 64).n_features == width


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "levit_128s",
            r"^backbone: levit_128s does not take images of 64 pixels \(.*\); give other"
            r" image_sizes, or `--set image_sizes=` for its own$",
        ),
        ("convit_tiny", r"\(Input height \(64\) doesn't match model \(224\)\.\)"),
    ],
)
def test_a_network_of_one_size_says_so(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        built(name, 64)


def test_a_network_that_ends_in_several_maps_has_no_other_pooling_than_its_own() -> None:
    if not timm.is_model("efficientvim_m1"):
        pytest.skip("efficientvim_m1 is of timm 1.0.30 or newer")
    backbone = built("efficientvim_m1", 64).eval()
    with pytest.raises(
        ConfigError, match=r"of a EfficientViM gives several maps, not one; use own"
    ):
        backbone.encoder.last_map(backbone.network, torch.zeros(1, 3, 64, 64))
