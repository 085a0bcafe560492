"""Texts of a persona, and what they would be under another.

`personas` holds what rows are told and what interventions make of it, `views` how
strongly a text is drawn to it, `writing` fills canvases. `counterfactual` writes pairs
that share their noise, `edit` works out the noise behind a given text, `long` writes
window after window, `sweep` writes a grid, `changes` marks the words that differ.
"""
