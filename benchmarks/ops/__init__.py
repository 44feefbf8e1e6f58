"""The ops alone: against other libraries, against a copy, on the host's side, and whether they are right."""
