"""A finished ensemble, read again: its parts as values, and how a workspace gives them."""
