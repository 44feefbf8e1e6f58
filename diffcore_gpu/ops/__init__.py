"""Batched operators: they take images and a plan (per-sample arguments, as in DALI) and return images."""
