"""Named settings of detectors, with what they cost and reach."""

from backbones.config import BackboneConfig

PRESETS: dict[str, BackboneConfig] = {
    # Two cores, 5,454 images: features once in 3 1/2 minutes, the eight detectors in 1 1/2; reaches
    # 0.793 (global) and 0.797 (routed) on radbench, see reports/published/.
    "quick": BackboneConfig(),
    # Fine-tunes the same network; meant for a GPU, and not tuned yet.
    "finetune": BackboneConfig(
        image_sizes=(192,),
        regime="full",
        hidden=(),
        learning_rate=5e-4,
        batch_size=32,
        epochs=8,
        patience=3,
        n_members=1,
        augment="hflip",
    ),
}
