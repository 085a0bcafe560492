"""The laws, one module per kind; every public function in them is one law."""
