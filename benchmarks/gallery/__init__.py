"""Pictures of a batch under every method."""
