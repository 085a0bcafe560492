"""Train the variants of a phase, score all by one bound, and tell the differences."""
