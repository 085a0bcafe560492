"""The network over alignments."""
