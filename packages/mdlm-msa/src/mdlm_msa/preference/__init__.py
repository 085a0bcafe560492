"""Preferences between alignments: pairs, what makes a winner, learning from them."""
