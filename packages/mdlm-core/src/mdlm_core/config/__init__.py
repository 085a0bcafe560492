"""Settings: the schema, the layers they come from, and their rendering."""
