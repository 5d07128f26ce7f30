"""Losses by name in `registry`, and the modules that hold them."""
