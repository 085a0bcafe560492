"""Rows of a prompt and an answer: from tasks, and from files of token ids."""
