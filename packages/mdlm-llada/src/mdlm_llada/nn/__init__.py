"""The layers of the LLaDA family, without remote code."""
