"""Crop, resize, mirror and normalize raw images with arguments of each sample."""
