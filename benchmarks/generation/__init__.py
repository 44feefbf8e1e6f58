"""Generation: its time and its discards."""
