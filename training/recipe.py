"""The recipe of the first model, chosen by measuring; ``docs/model.md`` tells how."""

from __future__ import annotations

from training.preprocessing import Preprocessing

ARCHITECTURE = "mildnet"
CONFIG = {"pooling": "avg", "tap_power": 0.8, "normalise_taps": True, "hidden": [], "embedding_dim": 4096}
PREPROCESSING = Preprocessing(size=224, resize="squash")
# Exponent of whitening: 0 centres only, 1 whitens.
WHITENING = 0.5
# Photos to calibrate on at most.
SAMPLE = 4_000
SEED = 20190304
# How far each tap is trusted where there are too few photos to learn it from.
TAP_TRUST = {"block1_pool": 0.25, "block2_pool": 0.3, "block3_pool": 0.4, "block4_pool": 0.6, "block5_pool": 1.0}
