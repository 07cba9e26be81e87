"""Convolutional backbones and their pretrained weights."""

from training.backbones.registry import BACKBONES, Backbone, get_backbone
from training.backbones.weights import BackboneWeights, WeightsUnavailable, find_weights

__all__ = ["BACKBONES", "Backbone", "BackboneWeights", "WeightsUnavailable", "find_weights", "get_backbone"]
