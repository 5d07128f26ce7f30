"""Image evidence and metadata into one answer in the full label space."""
