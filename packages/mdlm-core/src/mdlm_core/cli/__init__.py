"""The `mdlm` command."""
