"""Texts with traits."""
