"""What splits a model's similarities into colour, pattern and shape. No Django."""
