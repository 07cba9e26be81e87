"""Presets of keras-hub of 32 pixels and two blocks, with seeded weights, saved as keras-hub saves them."""

from __future__ import annotations

from pathlib import Path

# Above 8-bit steps in either direction, and different by colour.
SCALE, OFFSET = [1 / 58.4, 1 / 57.1, 1 / 57.4], [-2.1, -2.0, -1.8]
_TOKENS = {"patch_size": 8, "hidden_dim": 16, "num_layers": 2, "num_heads": 2, "intermediate_dim": 32}
_VISION = {**_TOKENS, "image_shape": (32, 32, 3)}
_TEXT = {
    "vocabulary_size": 8,
    "embedding_dim": 16,
    "hidden_dim": 16,
    "num_layers": 1,
    "num_heads": 2,
    "intermediate_dim": 16,
    "max_sequence_length": 4,
}


def network(kind: str):
    """One of these networks."""
    from keras_hub import models

    if kind == "dinov2":
        return models.DINOV2Backbone(**_VISION, position_embedding_shape=(48, 48, 3), num_register_tokens=2)
    if kind == "dinov3":
        return models.DINOV3Backbone(**_VISION, num_register_tokens=2)
    if kind == "vit":
        return models.ViTBackbone((32, 32, 3), 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32)
    if kind == "clip":
        towers = models.CLIPVisionEncoder(**_VISION), models.CLIPTextEncoder(**_TEXT)
        return models.CLIPBackbone(*towers, projection_dim=8)
    if kind == "siglip":
        return models.SigLIPBackbone(models.SigLIPVisionEncoder(**_VISION), models.SigLIPTextEncoder(**_TEXT))
    if kind == "efficientnet":
        return models.EfficientNetBackbone(
            stackwise_kernel_sizes=[3, 3],
            stackwise_num_repeats=[1, 1],
            stackwise_input_filters=[8, 8],
            stackwise_output_filters=[8, 16],
            stackwise_expansion_ratios=[1, 2],
            stackwise_strides=[2, 2],
            stackwise_squeeze_and_excite_ratios=[0.25, 0.25],
            stackwise_block_types=["v1", "v1"],
            width_coefficient=1.0,
            depth_coefficient=1.0,
        )
    if kind == "densenet":
        return models.DenseNetBackbone(stackwise_num_repeats=[1, 1, 1], compression_ratio=0.5, growth_rate=8)
    if kind == "resnet":
        four = [64, 64, 64, 64]
        return models.ResNetBackbone([64], [7], four, [1, 1, 1, 1], [1, 2, 2, 2], "basic_block")
    raise ValueError(kind)


def save_preset(folder: Path, kind: str, licence: str | None = None, **converter: object) -> Path:
    """Save one as a preset, with its image converter and a card that states the licence."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(3)
    made = network(kind)
    made.save_to_preset(str(folder))
    named = {"dinov2": "DINOV2", "dinov3": "DINOV3", "vit": "ViT", "clip": "CLIP", "siglip": "SigLIP"}
    named |= {"efficientnet": "EfficientNet", "densenet": "DenseNet", "resnet": "ResNet"}
    options = {"image_size": (32, 32), "scale": SCALE, "offset": OFFSET, "interpolation": "bicubic", **converter}
    getattr(keras_hub.layers, f"{named[kind]}ImageConverter")(**options).save_to_preset(str(folder))
    card = folder / "README.md"
    card.write_text(f"---\nlibrary_name: keras-hub\nlicense: {licence}\n---\nA preset.\n" if licence else "A preset.\n")
    return folder
