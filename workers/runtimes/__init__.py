"""What computes the embedder's networks: TensorFlow, OpenVINO, or a shop's own; see :mod:`.interface`."""
