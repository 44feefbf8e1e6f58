"""Accuracy runs by recipes: datasets, arms, the training loop, and its checkpoints."""
