"""Crop, resize, mirror, normalize and mix raw images and counterparts in one pass."""
