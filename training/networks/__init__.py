"""Networks as Keras models: architectures, backbones and their weights, preprocessing, running them. No Django."""
