"""How a photo of the shop becomes a row of the embeddings, and what still waits for that."""
