"""Data: invented persons, readers of texts with traits, rows by author."""
