"""Training: losses, what is sampled, one step, the loop, a whole run with its checkpoints."""
