"""What `diffcore demo` shows, in a few minutes: from real images to accuracies with and without counterparts."""
