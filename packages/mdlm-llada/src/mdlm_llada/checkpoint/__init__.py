"""Checkpoints in the published formats of the LLaDA family: read, written, made."""
