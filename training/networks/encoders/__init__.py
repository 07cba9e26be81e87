"""Encoders that a shop brings along, as backbones: image towers of keras-hub, and networks of its own.

An encoder is a network with taps at one or more depths, the preprocessing that it was trained with, and where it comes
from under which licence. A stored version keeps all of it as plain values (:class:`EncoderSpec`) beside the weights, so
that a worker builds the network by code that is installed there, and nothing that is stored is ever run.
"""

from shop_similarity.training.networks.encoders.encoder import Encoder, EncoderError
from shop_similarity.training.networks.encoders.sources import OpenedEncoder, open_encoder
from shop_similarity.training.networks.encoders.spec import EncoderSpec
from shop_similarity.training.networks.preprocessing import Preprocessing

__all__ = ["Encoder", "EncoderError", "EncoderSpec", "OpenedEncoder", "Preprocessing", "open_encoder"]
