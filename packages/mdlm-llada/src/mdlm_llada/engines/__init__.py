"""The engine under its original name."""
