"""The head of a first model, set in closed form from the features of a shop's photos. No Django."""
