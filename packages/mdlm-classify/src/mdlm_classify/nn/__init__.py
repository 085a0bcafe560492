"""Backbones that are told the class."""
