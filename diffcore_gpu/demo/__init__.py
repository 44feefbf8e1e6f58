"""What `diffcore demo` shows: from a folder of real images to accuracies with and without counterparts, in a minute."""
