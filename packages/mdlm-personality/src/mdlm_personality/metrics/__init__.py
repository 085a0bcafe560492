"""Numbers about disentanglement, flips, alignment and diversity."""
