"""Convolutional networks, in `build`, and where their weights come from, in `weights`."""
