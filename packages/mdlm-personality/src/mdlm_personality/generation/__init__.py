"""Texts of a persona, and what they would be under another."""
