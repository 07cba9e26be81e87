"""Finding what stands out of a photo: U2-Net-p, its weights, and reading them."""
