"""Checks that an installation works, under the original's names."""
