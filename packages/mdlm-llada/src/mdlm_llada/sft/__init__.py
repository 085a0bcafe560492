"""Supervised fine-tuning: its losses, and the densities that times come from."""
