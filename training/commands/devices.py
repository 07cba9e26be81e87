"""What the command trains on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from shop_similarity.training.commands.console import Console

if TYPE_CHECKING:
    from shop_similarity.training.learning.distribution import Distribution


def choose_devices(options: Mapping[str, Any], console: Console) -> Distribution:
    """The devices that are named, or all GPUs; on the CPU, operations become deterministic.

    Raises:
        CommandError: there is no such device.
    """
    import tensorflow as tf

    from shop_similarity.training.learning.distribution import choose_distribution

    try:
        distribution = choose_distribution(options["devices"])
    except ValueError as error:
        raise CommandError(str(error)) from error
    if not tf.config.list_logical_devices("GPU"):
        # On a GPU some operations would be much slower, or have no such form at all.
        tf.config.experimental.enable_op_determinism()
    if distribution.replicas > 1:
        console.say(_("Training on %(count)d devices.") % {"count": distribution.replicas})
    return distribution
