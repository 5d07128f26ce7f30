"""Texts: `spaces` puts them into numbers, `teacher` has images learn to lie at their own."""
