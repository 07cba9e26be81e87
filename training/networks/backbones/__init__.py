"""Convolutional backbones and their pretrained weights."""

from shop_similarity.training.networks.backbones.registry import BACKBONES, Backbone, get_backbone
from shop_similarity.training.networks.backbones.weights import BackboneWeights, WeightsUnavailable, find_weights

__all__ = ["BACKBONES", "Backbone", "BackboneWeights", "WeightsUnavailable", "find_weights", "get_backbone"]
