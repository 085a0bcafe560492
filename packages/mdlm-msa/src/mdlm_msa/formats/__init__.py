"""Files of alignments: what users hold, and what structure prediction takes."""
