"""log p(text | class) by draws of masks, and when to stop drawing."""
