"""Reading an answer out of a text. Light: imports nothing heavy."""
