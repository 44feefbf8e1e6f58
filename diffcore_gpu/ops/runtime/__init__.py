"""What the operators share: their arguments, normalization, memory, threads and launches."""
