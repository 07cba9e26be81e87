"""Packages that only an extra brings: said in a sentence where they are missing, before any work is done.

A web process has none of them, and its virtual environment is where commands are tried first.
"""

from __future__ import annotations

from importlib.util import find_spec

from shop_similarity.training.errors import TrainingError

_EXTRAS = {
    "tensorflow": "worker",
    "tensorboard": "training",
    "matplotlib": "training",
    "openvino": "openvino",
    "nncf": "quantization",
    "keras_hub": "encoders",
}


class ExtraMissing(TrainingError, ImportError):
    """A package of an extra is not installed; the sentence says how to get it."""


def require(*packages: str) -> None:
    """Do nothing where the packages are installed. Nothing is imported.

    Raises:
        ExtraMissing: if one of them is missing.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        # All of them need what a worker needs.
        extra = ",".join(dict.fromkeys(["worker", *(_EXTRAS[package] for package in missing)]))
        names = " and ".join(missing)
        raise ExtraMissing(
            f"This needs {names}, which {'is' if len(missing) == 1 else 'are'} not installed here. Run it where the "
            f'workers run, or install what is missing, in the plugin\'s folder: pip install ".[{extra}]"'
        )
