"""The photos of a training: prepared, augmented, and the features that are computed of them once."""
