"""What an alignment is worth, measured without folding anything."""
