"""What is known of the licences of keras-hub's own presets; ``docs/encoders.md`` says where each is stated."""

from __future__ import annotations

UNKNOWN = "not stated"

# By what the presets' names begin with; the longest that fits holds.
_LICENCES = {
    "clip_vit_": "MIT",
    "deit_": "Apache-2.0",
    "dinov2_": "Apache-2.0",
    "dinov3_": "DINOv3 License",
    "metaclip_2_": "CC-BY-NC-4.0",
    "medsiglip_": "Health AI Developer Foundations terms of use",
    "siglip": "Apache-2.0",
    "vit_": "Apache-2.0",
}

_KAGGLE = "kaggle://keras/"


def licence_of_preset(name: str) -> str | None:
    """The licence of one of keras-hub's presets by its name, as far as it is known."""
    if name.startswith(_KAGGLE):
        # kaggle://keras/MODEL/keras/PRESET/NUMBER
        name = [*name.removeprefix(_KAGGLE).split("/"), "", ""][2]
    known = [prefix for prefix in _LICENCES if name.startswith(prefix)]
    return _LICENCES[max(known, key=len)] if known else None
