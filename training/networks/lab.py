"""The CIELAB colour space (D65) in bins, as colour histograms in numpy and inside a network have it."""

from __future__ import annotations

import numpy as np

# Lightness, a (green to red) and b (blue to yellow).
BINS = (6, 9, 9)
# Lightness 0..100; a and b of product photos rarely leave -54..54, what does falls into the outer bins.
LOW, HIGH = (0.0, -54.0, -54.0), (100.0, 54.0, 54.0)
# Rows to columns: linear red, green, blue to X, Y, Z.
RGB_TO_XYZ = np.array(
    [[0.4124564, 0.2126729, 0.0193339], [0.3575761, 0.7151522, 0.1191920], [0.1804375, 0.0721750, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])
# A colour so far from the background's counts in full, one like it in this part: the product may be white too.
FAR = 20.0
LEAST = 0.05
# Side in pixels of the square that colours are taken from.
SIDE = 48
