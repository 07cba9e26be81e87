"""Convolutional backbones and their pretrained weights."""

from shop_similarity.training.networks.backbones.registry import BACKBONES, Backbone, get_backbone
from shop_similarity.training.networks.backbones.trunk import Trunk, get_trunk
from shop_similarity.training.networks.backbones.weights import (
    BackboneWeights,
    TrunkWeights,
    WeightsUnavailable,
    find_trunk_weights,
    find_weights,
)

__all__ = [
    "BACKBONES",
    "Backbone",
    "BackboneWeights",
    "Trunk",
    "TrunkWeights",
    "WeightsUnavailable",
    "find_trunk_weights",
    "find_weights",
    "get_backbone",
    "get_trunk",
]
