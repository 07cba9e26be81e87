"""Encoders by a function of the shop's: ``encoder(pretrained) -> Encoder``, named by its dotted path.

A path that stands in a stored version is not imported unless the shop's settings name it in ``ENCODERS``: who can write
to the database must not choose which code a worker runs.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from shop_similarity.training.networks.encoders.encoder import Encoder, EncoderError

if TYPE_CHECKING:
    import keras

    from shop_similarity.training.networks.encoders.spec import EncoderSpec


def build(spec: EncoderSpec) -> keras.Model:
    """See :meth:`~shop_similarity.training.networks.encoders.spec.EncoderSpec.build`."""
    return call(spec.name, pretrained=False).tapped()


def call(path: str, *, pretrained: bool) -> Encoder:
    """The encoder that a function of the shop's makes.

    Args:
        path: of the function.
        pretrained: whether with its weights, or with any.

    Raises:
        EncoderError: the settings don't name the path, it can't be imported, it fails, or returns something else.
    """
    from shop_similarity.conf import get_settings

    if path not in (get_settings().encoders or ()):
        raise EncoderError(
            f'The encoder {path!r} is not one that the settings name. Add it to SHOP_SIMILARITY["ENCODERS"], here and '
            "where workers run."
        )
    try:
        module, _, name = path.rpartition(".")
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise EncoderError(
            f"The encoder {path!r} can't be imported here: {error}. Install its module where workers and commands run."
        ) from error
    if not callable(function) or "pretrained" not in _arguments(function):
        raise EncoderError(f"The encoder {path!r} must be a function with the argument pretrained.")
    try:
        encoder = function(pretrained=pretrained)
    # Whatever the shop's code raises.
    except Exception as error:
        raise EncoderError(f"The encoder {path!r} failed: {type(error).__name__}: {error}") from error
    if not isinstance(encoder, Encoder):
        raise EncoderError(f"The encoder {path!r} must return an Encoder, not {type(encoder).__name__}.")
    return encoder


def _arguments(function: Any) -> set[str]:
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return set()
