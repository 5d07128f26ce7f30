"""Concepts asked for by their names: `spaces` puts names into numbers, `queries` asks with them."""
