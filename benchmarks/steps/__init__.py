"""A training step under every method: what it adds, how long a batch takes, and against accuracy."""
