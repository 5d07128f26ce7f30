"""Named settings of detectors, with what they cost and reach.

Costs of the GPU presets are counted, not timed: multiplications of a forward pass (training takes
three times as many), the work of ten epochs of the task's 65,000 images, and activations in bf16.
They take their weights from timm's hub, or from a file by `--weights FILE`.
"""

from dataclasses import replace

from backbones.settings.config import BackboneConfig
from backbones.settings.paper import EXPERIMENTS

_FINETUNE = BackboneConfig(
    image_sizes=(192,),
    mirror=True,
    regime="full",
    hidden=(),
    learning_rate=1e-3,
    layer_decay=0.85,
    weight_decay=0.05,
    schedule="cosine",
    warmup=0.5,
    ema=0.99,
    batch_size=32,
    epochs=16,
    patience=16,
    n_members=1,
    augment="light",
)

_ON_A_GPU = replace(
    _FINETUNE,
    weights="hub",
    image_sizes=(224,),
    learning_rate=5e-4,
    layer_decay=0.8,
    warmup=1.0,
    clip_norm=1.0,
    ema=0.999,
    batch_size=64,
    epochs=10,
    patience=10,
)

PRESETS: dict[str, BackboneConfig] = {
    # Two cores, 5,454 images: features once in 3 1/2 minutes, the eight detectors in 1 1/2; reaches
    # 0.793 (global) and 0.797 (routed) on radbench, see reports/published/.
    "quick": BackboneConfig(),
    # All of the same network: 3.4 M weights, 0.28 G multiplications, 31 MB an image. Two cores,
    # 5,454 images: 24 minutes for the global detector; reaches 0.794 on radbench, one network.
    "finetune": _FINETUNE,
    # 27.8 M weights, 4.5 G multiplications (17 PFLOP), 70 MB an image.
    "convnext": replace(_ON_A_GPU, backbone="convnext_tiny.fb_in22k"),
    # 20.2 M weights, 5.3 G multiplications (21 PFLOP), 155 MB an image.
    "efficientnetv2": replace(
        _ON_A_GPU, backbone="tf_efficientnetv2_s.in21k_ft_in1k", image_sizes=(300,)
    ),
    # 7.0 M weights, 2.8 G multiplications (11 PFLOP), 70 MB an image. Network, loss and length of
    # the third place of 2026 (F1 0.5725).
    "densenet": replace(
        _ON_A_GPU, backbone="densenet121.ra_in1k", loss="asymmetric", epochs=6, patience=6
    ),
    # 27.5 M weights, 4.5 G multiplications (18 PFLOP), 76 MB an image.
    "swin": replace(_ON_A_GPU, backbone="swin_tiny_patch4_window7_224.ms_in22k"),
    # 21.6 M weights, 6.1 G multiplications (24 PFLOP), 59 MB an image.
    "dinov2": replace(
        _ON_A_GPU, backbone="vit_small_patch14_dinov2.lvd142m", learning_rate=2e-4, layer_decay=0.7
    ),
    # The experiments of the iml paper, as `paper-1` to `paper-10`. VGG16 at 227 px with 3,047
    # concepts: 147 M weights, 16 G multiplications; the paper had a GPU of 24 GB.
    **{f"paper-{number}": config for number, config in EXPERIMENTS.items()},
}
