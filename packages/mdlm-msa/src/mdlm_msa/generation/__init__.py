"""New rows of alignments: drawn, checked, scored, and marked as what they are."""
