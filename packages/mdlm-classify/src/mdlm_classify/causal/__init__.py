"""One causal language model for each class: log p(text | class) is exact."""
