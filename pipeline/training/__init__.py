"""One training loop for every objective: batches, losses, checkpoints, steps."""
