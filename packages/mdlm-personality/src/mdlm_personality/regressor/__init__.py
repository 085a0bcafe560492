"""Traits from noised text, p(y | z_t), and guidance by that law."""
