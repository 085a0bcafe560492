"""Families of proteins, as batches."""
