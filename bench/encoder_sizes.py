"""Sizes and seconds of real image towers of keras-hub, built from their configurations with random weights.

    python -m bench.encoder_sizes [NAME ...]

A tower's time hangs on its shapes, not its weights. Each photo is computed alone, in ``float32``, by one thread, with
the taps, the colours and the head of a version. Multiplications of transformers are counted by their shapes: of each
block 4 d^2 n for the projections, 2 n^2 d for the attention and 2 d m n for the rest, of n tokens of d numbers.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# patch, d, blocks, heads, m
_S, _B, _L = (384, 12, 6, 1536), (768, 12, 12, 3072), (1024, 24, 16, 4096)
_SO = (1152, 27, 16, 4304)
TRANSFORMERS = {
    "dinov2_small": ("DINOV2Backbone", 14, _S, (224, 518)),
    "dinov2_base": ("DINOV2Backbone", 14, _B, (224, 518)),
    "dinov2_large": ("DINOV2Backbone", 14, _L, (224,)),
    "clip_vit_base_patch32": ("CLIPVisionEncoder", 32, _B, (224,)),
    "clip_vit_base_patch16": ("CLIPVisionEncoder", 16, _B, (224,)),
    "clip_vit_large_patch14": ("CLIPVisionEncoder", 14, _L, (224,)),
    "siglip_base_patch16_224": ("SigLIPVisionEncoder", 16, _B, (224,)),
    "siglip_so400m_patch14_384": ("SigLIPVisionEncoder", 14, _SO, (384,)),
}
RESNET_50 = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 128, 256, 512],
    "stackwise_num_blocks": [3, 4, 6, 3],
    "stackwise_num_strides": [1, 2, 2, 2],
    "block_type": "bottleneck_block",
}


def main() -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from keras_hub import models

    from shop_similarity.training.heads.recipe import RECIPES
    from shop_similarity.training.networks.architectures import build
    from shop_similarity.training.networks.encoders import Preprocessing

    print("| tower | photo | tokens | parameters | MB | milliards of multiplications | features | s a photo | x lite |")
    print("|---|---|---|---|---|---|---|---|---|")
    lite = build("mildnet-lite", RECIPES["mildnet-lite"].config, Preprocessing())
    base = _seconds(lite, 224)
    print(f"| mildnet-lite | 224 | – | {_millions(lite)} | – | .39 | 2262 | {base:.3f} | 1 |", flush=True)
    chosen = sys.argv[1:] or [*TRANSFORMERS, "resnet_50_imagenet"]
    for name, (kind, patch, (d, blocks, heads, m), sizes) in TRANSFORMERS.items():
        if name not in chosen:
            continue
        for size in sizes:
            options = {"patch_size": patch, "num_layers": blocks, "hidden_dim": d, "num_heads": heads}
            options |= {"intermediate_dim": m, "image_shape": (size, size, 3)}
            if kind == "DINOV2Backbone":
                options |= {"position_embedding_shape": (518, 518, 3)}
            tokens = (size // patch) ** 2 + (kind != "SigLIPVisionEncoder")
            each = 4 * d * d * tokens + 2 * tokens**2 * d + 2 * d * m * tokens
            count = (blocks * each + 3 * patch**2 * d * tokens) / 1e9
            _row(name, getattr(models, kind)(**options), size, str(tokens), f"{count:.1f}", base)
    if "resnet_50_imagenet" in chosen:
        _row("resnet_50_imagenet", models.ResNetBackbone(**RESNET_50, image_shape=(224, 224, 3)), 224, "–", "4.1", base)


def _row(name: str, tower, size: int, tokens: str, multiplications: str, base: float) -> None:
    import keras

    from shop_similarity.training.heads.recipe import RECIPES
    from shop_similarity.training.networks.architectures import build, full_config
    from shop_similarity.training.networks.encoders import EncoderSpec, Preprocessing
    from shop_similarity.training.networks.encoders.keras_hub_towers import encoder_of, options_of

    encoder = encoder_of(tower, Preprocessing(size=size), "", "")
    taps = tuple((tap, tensor.shape[-1]) for tap, tensor in encoder.taps.items())
    spec = EncoderSpec("keras-hub", type(tower).__name__, taps, options_of(tower), "", "")
    parameters = tower.count_params()
    del encoder, tower
    gc.collect()
    config = full_config("mildnet-encoder", {**RECIPES["mildnet-encoder"].config, "encoder": spec.to_dict()})
    model = build("mildnet-encoder", config.to_dict(), Preprocessing(size=size))
    seconds = _seconds(model, size)
    stored = 4 * model.count_params() / 1e6
    print(
        f"| {name} | {size} | {tokens} | {parameters / 1e6:.0f} M | {stored:.0f} | {multiplications} | "
        f"{config.feature_dim} | {seconds:.3f} | {seconds / base:.0f} |",
        flush=True,
    )
    del model
    keras.backend.clear_session()
    gc.collect()


def _millions(model) -> str:
    return f"{model.count_params() / 1e6:.1f} M"


def _seconds(model, size: int) -> float:
    """The median of five photos, each alone, behind a first one that compiles."""
    import numpy as np

    from shop_similarity.training.networks.runner import inference

    step = inference(model, 1)
    photo = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    times = []
    for _ in range(6):
        began = time.perf_counter()
        step(photo)
        times.append(time.perf_counter() - began)
    return sorted(times[1:])[2]


if __name__ == "__main__":
    main()
