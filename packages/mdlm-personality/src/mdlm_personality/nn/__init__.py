"""Backbones that are told a persona."""
