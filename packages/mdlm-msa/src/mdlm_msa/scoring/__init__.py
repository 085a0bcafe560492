"""Scores of rows: bits per residue, variants."""
