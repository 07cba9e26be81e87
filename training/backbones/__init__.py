"""Convolutional backbones and their pretrained weights."""
