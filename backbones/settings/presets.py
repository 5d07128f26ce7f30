"""Named settings of detectors, with what they cost and reach.

Costs of the GPU presets are counted, not timed: multiplications of a forward pass (training takes
three times as many), the work of ten epochs of the task's 65,000 images, and activations in bf16.
They take their weights from their library's hub, or from a file by `--weights FILE`.

Recipes of the task's winners are as their authors published them, but for what this program does in
its own way: networks are cross-fitted and train their full length, and what they say is decided by
the second stage. Where that changes a setting, it is said beside the preset.
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

# Six ImageNet CNNs with generalised-mean pooling, cross-entropy alone, no augmentation. Published:
# torchvision's weights, at most 30 epochs, the rate halved after an epoch without gain, the end
# after three; EfficientNet-B0 was best after its fifth of 90,359 images. No image stops a
# cross-fitted network: six epochs here, under a rate that falls. Seeds 40 to 43: `--seeds 4`.
# Source: github.com/dboutzounis/imageclef2026, Concept Detection/{models,train,dataset}.py and the
# notebook beside them; GeM and cross-entropy also in nlpaueb/imageclef2025, CNN-FFNN/main.py.
_AUEB = BackboneConfig(
    weights="hub",
    image_sizes=(224,),
    pooling="gem",
    regime="full",
    hidden=(),
    input_dropout=0.0,
    loss="bce",
    learning_rate=1e-4,
    weight_decay=0.01,
    schedule="cosine",
    batch_size=16,
    epochs=6,
    patience=3,
    n_members=1,
)

_AUEB_NETWORKS = {
    "aueb-efficientnet-b0": "efficientnet_b0",
    "aueb-efficientnetv2-s": "efficientnet_v2_s",
    "aueb-efficientnetv2-m": "efficientnet_v2_m",
    "aueb-densenet121": "densenet121",
    "aueb-convnext-tiny": "convnext_tiny",
    "aueb-resnet50": "resnet50",
}

GROUPS: dict[str, tuple[str, ...]] = {"aueb": tuple(_AUEB_NETWORKS)}
"""Names that `--preset` takes for several presets."""

PRESETS: dict[str, BackboneConfig] = {
    # Two cores, 5,454 images: features once in 3 1/2 minutes, the eight detectors in 1 1/2; reaches
    # 0.793 (global) and 0.797 (routed) on radbench, see reports/published/.
    "quick": BackboneConfig(),
    # All of the same network: 3.4 M weights, 0.28 G multiplications, 31 MB an image. Two cores,
    # 5,454 images: 24 minutes for the global detector; reaches 0.794 on radbench, one network.
    "finetune": _FINETUNE,
    # The same, its first three stages left as they are: twice as fast, 56 images/s on two cores in
    # bf16 beside 30. Five networks, 4,289 labelled images: 41 minutes and 3 for their features;
    # 0.795 alone, and with three ways of fusion on its features +0.008 for the default chain.
    "finetune-strong": replace(_FINETUNE, regime="last", n_stages=5, epochs=8, patience=8),
    # 27.8 M weights, 4.5 G multiplications (17 PFLOP), 70 MB an image.
    "convnext": replace(_ON_A_GPU, backbone="convnext_tiny.fb_in22k"),
    # 20.2 M weights, 5.3 G multiplications (21 PFLOP), 155 MB an image.
    "efficientnetv2": replace(
        _ON_A_GPU, backbone="tf_efficientnetv2_s.in21k_ft_in1k", image_sizes=(300,)
    ),
    # 7.0 M weights, 2.8 G multiplications (11 PFLOP), 70 MB an image. The third place of 2026 (F1
    # 0.5725), github.com/nhanbui246/ImageCLEFmedical-2026-UIT-Worker: asymmetric loss 4, 1, 0.05,
    # six epochs of all 116,604 labelled images, decided at 0.60. There the gradient flows through
    # the powers of the loss as well; the threshold is the second stage's here.
    "densenet": replace(
        _ON_A_GPU,
        backbone="densenet121.ra_in1k",
        mirror=False,
        loss="asymmetric",
        input_dropout=0.2,
        learning_rate=2e-4,
        layer_decay=1.0,
        weight_decay=1e-4,
        warmup=0.0,
        clip_norm=0.0,
        ema=0.0,
        batch_size=32,
        epochs=6,
        patience=6,
    ),
    # 86.7 M weights, 15.4 G multiplications (150 PFLOP for 25 epochs), 113 MB an image. The fourth
    # place of 2026 (F1 0.5725), github.com/BasharDerar/ImageCLEFmed-2026-Concept-Detection: a layer
    # of 256 with GELU and one head for each of four bands of frequency, whose losses weigh 4, 2,
    # 1.5 and 1; the network at a fifth of the head's rate; three folds (`prepare --set folds=3`).
    # Here one head with a rectifier, and rates that fall block by block.
    "swin-b": replace(
        _ON_A_GPU,
        backbone="swin_base_patch4_window7_224.ms_in22k_ft_in1k",
        mirror=False,
        hidden=(256,),
        dropout=0.1,
        input_dropout=0.0,
        loss="asymmetric",
        gamma_neg=2.0,
        gamma_pos=1.0,
        loss_margin=0.0,
        sampling="rare",
        learning_rate=1e-4,
        layer_decay=0.9,
        weight_decay=1e-4,
        warmup=2.0,
        epochs=25,
        patience=6,
    ),
    # The second place of 2026 (F1 0.5781), see above; 4.0, 20.2, 52.9, 7.0, 27.8 and 23.5 M
    # weights, 0.4, 2.9, 5.4, 2.8, 4.5 and 4.1 G multiplications (six epochs: 47 PFLOP together),
    # 44, 77, 126, 65, 55 and 42 MB an image.
    **{
        name: replace(_AUEB, backbone=f"torchvision:{network}.IMAGENET1K_V1")
        for name, network in _AUEB_NETWORKS.items()
    },
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
