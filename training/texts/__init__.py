"""Texts: `spaces` puts names of concepts into numbers."""
