"""Mix every image of a batch with its counterpart (eqs. 6–8)."""
