"""Concepts asked for by their names, which `training.texts` puts into numbers."""
