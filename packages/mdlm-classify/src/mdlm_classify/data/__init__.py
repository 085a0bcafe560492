"""Labelled text: files, labels, splits, rows."""
