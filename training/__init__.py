"""Networks, heads, triplets, photos, learning, evaluation, reports and their commands."""

if __name__ == "training":
    raise ImportError("This folder is installed and imported as shop_similarity.training, and under no other name.")
